"""The store in Kubernetes: custom resources of one namespace, shared by several servers.

``cluster`` is the connection, ``api`` its requests, ``failures`` words what goes wrong, ``clock`` tells the
API server's time. ``mirror`` keeps a copy by list and watch. ``sources``, ``models`` and ``duties`` are the
ports; ``source_objects`` and ``model_objects`` turn their values into objects and back, ``names`` knows the
published layout. ``spill`` and ``configmaps`` hold what an object can't; ``claims`` judges when other
servers' claims end, ``fence`` counts them, ``runs`` keeps runs of eviction, ``heartbeats`` sends no more
than the API server takes. The custom resources are in ``charts/mx/crds``.
"""

from mx.store.kubernetes.cluster import Cluster
from mx.store.kubernetes.duties import KubernetesDuties
from mx.store.kubernetes.models import KubernetesModelStore
from mx.store.kubernetes.sources import KubernetesSourceStore
from mx.store.kubernetes.view import KubernetesView

__all__ = ["Cluster", "KubernetesDuties", "KubernetesModelStore", "KubernetesSourceStore", "KubernetesView"]
