{{- define "mx.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Kept to 52 characters, so that suffixes fit into the 63 of a name. */}}
{{- define "mx.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "mx.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mx.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mx.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "mx.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mx.labels" -}}
{{ include "mx.selectorLabels" . }}
{{ include "mx.commonLabels" . }}
{{- end -}}

{{- define "mx.redisSelectorLabels" -}}
app.kubernetes.io/name: {{ include "mx.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end -}}

{{- define "mx.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mx.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mx.storeNamespace" -}}
{{- default .Release.Namespace .Values.store.namespace -}}
{{- end -}}

{{/* "true" where there may be more than one server. */}}
{{- define "mx.several" -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.maxReplicas) 1 -}}true{{- end -}}
{{- else if gt (int .Values.replicaCount) 1 -}}true{{- end -}}
{{- end -}}

{{/* "true" where a server's disk is its own: then its model records are its own, too. */}}
{{- define "mx.ownDisk" -}}
{{- if or (not .Values.persistence.enabled) (eq .Values.persistence.mode "perReplica") -}}true{{- end -}}
{{- end -}}

{{- define "mx.isStatefulSet" -}}
{{- if and .Values.persistence.enabled (eq .Values.persistence.mode "perReplica") -}}true{{- end -}}
{{- end -}}

{{- define "mx.workloadKind" -}}
{{- if include "mx.isStatefulSet" . -}}StatefulSet{{- else -}}Deployment{{- end -}}
{{- end -}}

{{- define "mx.claimName" -}}
{{- default (printf "%s-data" (include "mx.fullname" .)) .Values.persistence.existingClaim -}}
{{- end -}}

{{- define "mx.redisName" -}}
{{- printf "%s-redis" (include "mx.fullname" .) -}}
{{- end -}}

{{- define "mx.redisSecretName" -}}
{{- default (include "mx.redisName" .) .Values.redis.auth.existingSecret -}}
{{- end -}}

{{/* grpc from Kubernetes 1.24 on, where the kubelet knows such probes. */}}
{{- define "mx.probeKind" -}}
{{- if ne .Values.probes.kind "auto" -}}
{{- .Values.probes.kind -}}
{{- else if semverCompare ">=1.24.0-0" .Capabilities.KubeVersion.Version -}}grpc
{{- else if .Values.metrics.enabled -}}http
{{- else -}}tcp
{{- end -}}
{{- end -}}

{{/* One probe: kind, what is asked (liveness or readiness), times. */}}
{{- define "mx.probe" -}}
{{- $kind := include "mx.probeKind" .root -}}
{{- if eq $kind "grpc" -}}
grpc:
  port: {{ .root.Values.service.port }}
  {{- if eq .asks "liveness" }}
  service: liveness
  {{- end }}
{{- else if eq $kind "http" -}}
httpGet:
  path: {{ eq .asks "liveness" | ternary "/healthz" "/readyz" }}
  port: metrics
{{- else -}}
tcpSocket:
  port: grpc
{{- end }}
{{ toYaml .times }}
{{- end -}}

{{- define "mx.sessionAffinity" -}}
{{- if ne .Values.service.sessionAffinity "auto" -}}
{{- .Values.service.sessionAffinity -}}
{{- else if and (include "mx.several" .) (include "mx.ownDisk" .) -}}ClientIP
{{- else -}}None
{{- end -}}
{{- end -}}

{{/* Nine tenths of a quantity, as a number of bytes: what is left is for partial files and the database. */}}
{{- define "mx.nineTenths" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "P" 1000000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $number := trimSuffix $unit . -}}
{{- mulf (float64 $number) (float64 (get $units $unit)) 0.9 | floor | int64 -}}
{{- end -}}

{{- define "mx.cacheLimit" -}}
{{- if ne .Values.cache.maxSize "auto" -}}
{{- .Values.cache.maxSize -}}
{{- else if .Values.persistence.existingClaim -}}none
{{- else -}}
{{- include "mx.nineTenths" .Values.persistence.size -}}
{{- end -}}
{{- end -}}

{{/* The settings file. The chart's own part; what it owns can't be set by config (templates/validate.yaml). */}}
{{- define "mx.settings" -}}
{{- $own := dict
  "server" (dict "port" (int .Values.service.port) "metrics_port" (.Values.metrics.enabled | ternary (int .Values.metrics.port) 0) "grace_s" (printf "%ds" (int .Values.shutdown.drainSeconds)))
  "metadata" (dict "backend" .Values.store.backend)
  "cache" (dict "directory" "/var/lib/mx/cache" "max_size_bytes" (include "mx.cacheLimit" .))
  "database" (dict "path" "/var/lib/mx/models.db")
  "logging" (dict "level" .Values.logging.level "format" .Values.logging.format)
-}}
{{- if and (include "mx.ownDisk" .) (has .Values.store.backend (list "redis" "kubernetes")) -}}
{{- $_ := set $own.database "backend" "sqlite" -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) -}}
{{- end -}}
