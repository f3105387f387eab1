{{/* The pod of the server, the same in a Deployment and a StatefulSet. */}}
{{- define "mx.podTemplate" -}}
metadata:
  annotations:
    checksum/config: {{ include "mx.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  # Nothing that changes with the chart's version: an upgrade that changes no pod restarts none.
  labels:
    {{- include "mx.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "mx.serviceAccountName" . }}
  # Only records in the Kubernetes API need the token.
  automountServiceAccountToken: {{ eq .Values.store.backend "kubernetes" }}
  # Variables like REDIS_PORT=tcp://… that Kubernetes makes for Services would only confuse.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add .Values.shutdown.delaySeconds .Values.shutdown.drainSeconds 10 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: server
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [mx]
      args:
        - server
        - start
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env: {{- include "mx.env" . | nindent 8 }}
      {{- with (include "mx.envFrom" . | trim) }}
      envFrom: {{- . | nindent 8 }}
      {{- end }}
      ports:
        - name: grpc
          containerPort: {{ .Values.service.port }}
        {{- if .Values.metrics.enabled }}
        - name: metrics
          containerPort: {{ .Values.metrics.port }}
        {{- end }}
      startupProbe: {{- include "mx.probe" (dict "root" . "asks" "liveness" "times" .Values.probes.startup) | nindent 8 }}
      livenessProbe: {{- include "mx.probe" (dict "root" . "asks" "liveness" "times" .Values.probes.liveness) | nindent 8 }}
      readinessProbe: {{- include "mx.probe" (dict "root" . "asks" "readiness" "times" .Values.probes.readiness) | nindent 8 }}
      {{- if .Values.shutdown.delaySeconds }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ .Values.shutdown.delaySeconds | quote }}]
      {{- end }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext: {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: settings
          mountPath: /etc/model-express
          readOnly: true
        - name: data
          mountPath: /var/lib/mx
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: settings
      configMap:
        name: {{ include "mx.fullname" . }}
    - name: tmp
      emptyDir:
        sizeLimit: {{ .Values.tmpSize }}
    {{- if not .Values.persistence.enabled }}
    - name: data
      emptyDir:
        sizeLimit: {{ .Values.persistence.size }}
    {{- else if not (include "mx.isStatefulSet" .) }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ include "mx.claimName" . }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with (include "mx.scheduling" . | trim) }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "mx.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
# Libraries keep their own files below it; the root file system is read-only.
- name: HOME
  value: /tmp
{{- if eq .Values.store.backend "kubernetes" }}
- name: MX_METADATA_NAMESPACE
  value: {{ include "mx.storeNamespace" . }}
{{- else if eq .Values.store.backend "redis" }}
{{- if .Values.redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "mx.redisSecretName" . }}
      key: {{ .Values.redis.auth.key }}
- name: REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "mx.redisName" . }}:6379
{{- else if .Values.redis.url }}
- name: REDIS_URL
  value: {{ .Values.redis.url | quote }}
{{- else }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.urlSecret.name }}
      key: {{ .Values.redis.urlSecret.key }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mx.envFrom" -}}
{{- range list .Values.credentials.huggingFace .Values.credentials.ngc }}
{{- if .secret }}
- secretRef:
    name: {{ .secret }}
    optional: {{ .optional }}
{{- end }}
{{- end }}
{{- with .Values.extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mx.scheduling" -}}
{{- if .Values.affinity }}
affinity: {{- toYaml .Values.affinity | nindent 2 }}
{{- else if ne .Values.antiAffinity.kind "none" }}
affinity:
  podAntiAffinity:
    {{- if eq .Values.antiAffinity.kind "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: {{ .Values.antiAffinity.topologyKey }}
        labelSelector:
          matchLabels: {{- include "mx.selectorLabels" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: {{ .Values.antiAffinity.topologyKey }}
          labelSelector:
            matchLabels: {{- include "mx.selectorLabels" . | nindent 14 }}
    {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
