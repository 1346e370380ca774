{{/* Services of the pod itself: what listens on 127.0.0.1 is asked by the gateway of the same pod alone. */}}
{{- define "stack.pictures" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $env := pick $s "PICTURES_PORT" "PICTURES_MAX_MB" "PICTURES_MAX_MEGAPIXELS" "PICTURES_QUEUE" "EXIT_TIMEOUT_SECS" -}}
{{- $memory := include "stack.size" (dict "name" "PICTURES_MEMORY" "settings" $s) -}}
{{- include "stack.client" (dict "root" . "name" "pictures" "env" $env "memory" $memory "quiet" (include "stack.quiet" .)) }}
{{- end -}}

{{- define "stack.shadow" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $memory := include "stack.size" (dict "name" "SHADOW_MEMORY" "settings" $s) -}}
{{- include "stack.client" (dict "root" . "name" "shadow" "env" (pick $s "SHADOW_PORT") "memory" $memory "quiet" "") }}
{{- end -}}

{{- define "stack.client" -}}
{{- $v := .root.Values -}}
- name: {{ .name }}
  image: {{ include "stack.image" (dict "image" $v.client.image "tag" "latest") }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  args: [{{ .name }}, --host, 127.0.0.1]
  env:
    {{- include "stack.env" (merge (dict "TRITON_HOST" "127.0.0.1") .env) | trim | nindent 4 }}
  livenessProbe:
    exec:
      command:
        - python3
        - -c
        - "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['{{ upper .name }}_PORT'] + '/healthz', timeout=3)"
    initialDelaySeconds: 30
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 5
    {{ include "stack.hung" . }}
  {{- with .quiet }}
  lifecycle:
    preStop:
      # It outlives the gateway.
      exec: {command: [sleep, {{ . | quote }}]}
  {{- end }}
  resources:
    {{- include "stack.resources" (dict "root" .root "own" (index $v .name).resources "memory" .memory) | nindent 4 }}
  securityContext:
    {{- include "stack.hardened" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models, readOnly: true}
    - {name: {{ .name }}-tmp, mountPath: /tmp}
{{- end -}}

{{/* No readiness: a pod whose metrics are away serves on. */}}
{{- define "stack.exporter" -}}
{{- $v := .Values -}}
{{- $s := include "stack.settings" . | fromJson -}}
- name: exporter
  image: {{ include "stack.image" (dict "image" $v.monitoring.exporter.image "tag" "latest") }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  args:
    - --host=0.0.0.0
    - --log-port={{ $s.ACCESS_LOG_PORT }}
    - --models-dir=/models
    - --triton=127.0.0.1:8000
    {{- if $v.gateway.enabled }}
    - --gateway=127.0.0.1:8443
    {{- end }}
  ports:
    - {name: exporter, containerPort: 9105}
  livenessProbe:
    exec: {command: [python3, -m, monitoring.exporter.health]}
    initialDelaySeconds: 30
    periodSeconds: 30
    timeoutSeconds: 10
    failureThreshold: 5
  resources:
    {{- include "stack.resources" (dict "root" . "own" $v.monitoring.exporter.resources "memory" "256Mi") | nindent 4 }}
  securityContext:
    {{- include "stack.hardened" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models, readOnly: true}
    - {name: exporter-tmp, mountPath: /tmp}
{{- end -}}
