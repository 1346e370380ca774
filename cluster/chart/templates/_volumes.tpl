{{/* Folders in memory have the sizes of compose.yaml's tmpfs. */}}
{{- define "stack.memory" -}}
- name: {{ .name }}
  emptyDir: {medium: Memory, sizeLimit: {{ .size }}}
{{- end -}}

{{- define "stack.volumes" -}}
{{- $v := .Values -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $shm := include "stack.size" (dict "name" "TRITON_SHM" "settings" $s) -}}
{{ include "stack.memory" (dict "name" "triton-tmp" "size" "256Mi") }}
{{ include "stack.memory" (dict "name" "triton-shm" "size" ($v.triton.sharedMemory | default $shm)) }}
{{- if eq $v.device "cpu" }}
{{ include "stack.memory" (dict "name" "triton-run" "size" "64Mi") }}
{{- end }}
{{ include "stack.memory" (dict "name" "agent-tmp" "size" "2Gi") }}
- name: settings
  configMap: {name: {{ include "stack.name" . }}}
{{- with $v.registry.credentialsSecret }}
- name: registry-credentials
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    # As Docker calls it.
    items: [{key: .dockerconfigjson, path: config.json}]
{{- end }}
{{- with $v.registry.caSecret }}
- name: registry-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with $v.registry.publicKeySecret }}
- name: release-public-key
  secret: {secretName: {{ . }}, items: [{key: cosign.pub, path: cosign.pub}]}
{{- end }}
{{- if $v.gateway.enabled }}
{{ include "stack.memory" (dict "name" "gateway-tmp" "size" "64Mi") }}
# Whole folders: a file that is mounted by subPath would never change again.
- name: gateway-keys
  secret: {secretName: {{ $v.gateway.keysSecret }}, defaultMode: 0440, items: [{key: keys, path: keys}]}
- name: gateway-certificate
  secret: {secretName: {{ $v.gateway.certificateSecret }}, defaultMode: 0440}
{{- end }}
{{- if $v.pictures.enabled }}
{{ include "stack.memory" (dict "name" "pictures-tmp" "size" "64Mi") }}
{{- end }}
{{- if $v.shadow.enabled }}
{{ include "stack.memory" (dict "name" "shadow-tmp" "size" "64Mi") }}
{{- end }}
{{- if $v.monitoring.exporter.enabled }}
{{ include "stack.memory" (dict "name" "exporter-tmp" "size" "64Mi") }}
{{- end }}
{{- if eq $v.kind "DaemonSet" }}
- name: models
  # Directory: a folder that Kubernetes makes belongs to root.
  hostPath: {path: {{ $v.persistence.hostPath }}, type: Directory}
{{- end }}
{{- end -}}
