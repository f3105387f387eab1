"""Values that the chart is tried with: the ready-made files, and each way to keep records and files."""

from __future__ import annotations

from typing import Any

from chart_rendering import READY_MADE, values_of

_EXISTING_REDIS = {"store": {"backend": "redis"}, "redis": {"urlSecret": {"name": "redis-url"}}}

VARIANTS: dict[str, dict[str, Any]] = {
    **{file: values_of(file) for file in READY_MADE},
    "memory": {"store": {"backend": "memory"}, "persistence": {"enabled": False}},
    "kubernetes, shared": {
        "replicaCount": 3,
        "store": {"backend": "kubernetes", "namespace": "records"},
        "persistence": {"accessMode": "ReadWriteMany", "storageClass": "nfs"},
    },
    "kubernetes, own volumes": {
        "replicaCount": 3,
        "store": {"backend": "kubernetes"},
        "persistence": {"mode": "perReplica", "annotations": {"team": "inference"}},
    },
    "redis there, no volumes": {**_EXISTING_REDIS, "replicaCount": 2, "persistence": {"enabled": False}},
    "redis by url": {"store": {"backend": "redis"}, "redis": {"url": "rediss://redis.data:6380/1"}},
    "everything": values_of(
        "values-production.yaml",
        {
            "imagePullSecrets": [{"name": "registry"}],
            "persistence": {"existingClaim": "models"},
            "redis": {"auth": {"existingSecret": "redis"}},
            "config": {"cache": {"parallel_files": 4, "eviction": {"check_interval": "10m"}}},
            "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
            "extraEnvFrom": [{"secretRef": {"name": "s3"}}],
            "extraArgs": ["--log-level", "warn"],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "service": {"type": "LoadBalancer", "annotations": {"lb": "internal"}, "sessionAffinity": "None"},
            "metrics": {
                "port": 9402,
                "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            },
            "autoscaling": {"enabled": True, "targetMemoryUtilizationPercentage": 80},
            "podDisruptionBudget": {"maxUnavailable": "30%"},
            "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/mx"}},
            "ingress": {
                "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "60"},
                "tls": [{"secretName": "mx-tls", "hosts": ["mx.example.com"]}],
            },
            "networkPolicy": {
                "clients": [{"namespaceSelector": {"matchLabels": {"mx": "yes"}}}],
                "scrapers": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
                "extraEgress": [{"ports": [{"port": 8080}]}],
                "workers": {"enabled": True, "clients": [{"podSelector": {}}]},
            },
            "podAnnotations": {"note": "x"},
            "podLabels": {"team": "inference"},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "mx"}},
                }
            ],
            "priorityClassName": "high",
        },
    ),
}
