{{/* The pod of a StatefulSet and of a DaemonSet. */}}
{{- define "stack.pod" -}}
{{- include "stack.check" . -}}
{{- $v := .Values -}}
metadata:
  # Without the chart's version: another one does not restart pods by itself.
  labels:
    {{- include "stack.selector" . | nindent 4 }}
  annotations:
    # A changed setting is a changed pod.
    checksum/settings: {{ include "stack.settingsFile" . | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "stack.name" . }}
  # Nobody in the pod speaks to Kubernetes.
  automountServiceAccountToken: false
  # A Service called gateway or prometheus would set GATEWAY_PORT and PROMETHEUS_PORT, which are settings of ours.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "stack.grace" . }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ int64 $v.user }}
    runAsGroup: {{ int64 $v.user }}
    fsGroup: {{ int64 $v.user }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if and (eq $v.device "gpu") $v.gpu.runtimeClassName }}
  runtimeClassName: {{ $v.gpu.runtimeClassName }}
  {{- end }}
  {{- if and (eq $v.device "gpu") (eq $v.gpu.allocation "dra") }}
  resourceClaims:
    - name: gpu
      resourceClaimTemplateName: {{ include "stack.name" . }}
  {{- end }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  initContainers:
    {{- include "stack.initContainer" . | nindent 4 }}
  containers:
    {{- include "stack.triton" . | nindent 4 }}
    {{- include "stack.agent" . | nindent 4 }}
    {{- if $v.gateway.enabled }}
    {{- include "stack.gateway" . | nindent 4 }}
    {{- end }}
    {{- if $v.pictures.enabled }}
    {{- include "stack.pictures" . | nindent 4 }}
    {{- end }}
    {{- if $v.shadow.enabled }}
    {{- include "stack.shadow" . | nindent 4 }}
    {{- end }}
    {{- if $v.monitoring.exporter.enabled }}
    {{- include "stack.exporter" . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "stack.volumes" . | nindent 4 }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $v $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if eq $v.kind "StatefulSet" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "stack.selector" . | nindent 10 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end -}}

{{/* What every container may do: as in compose.yaml. */}}
{{- define "stack.hardened" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Triton never finds a repository that was not there when it started, and a new volume is empty. */}}
{{- define "stack.initContainer" -}}
- name: models-volume
  image: {{ include "stack.image" (dict "image" .Values.triton.image "tag" (include "stack.deviceTag" .)) }}
  imagePullPolicy: {{ .Values.imagePullPolicy }}
  command:
    - /bin/sh
    - -c
    - |
      mkdir -p /models/repository && [ -w /models ] && exit 0
      echo "the models volume cannot be written by user $(id -u)" >&2
      echo "  next: give its folder on the node to that user: chown {{ int64 .Values.user }}:{{ int64 .Values.user }} FOLDER" >&2
      exit 1
  env:
    # NVIDIA's images ask for every GPU of the node, and its runtime would give them.
    - name: NVIDIA_VISIBLE_DEVICES
      value: void
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 64Mi}
  securityContext:
    {{- include "stack.hardened" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models}
{{- end -}}
