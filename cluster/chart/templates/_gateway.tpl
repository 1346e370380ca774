{{- define "stack.gateway" -}}
{{- $v := .Values -}}
{{- $s := include "stack.settings" . | fromJson -}}
- name: gateway
  image: {{ include "stack.image" (dict "image" $v.gateway.image "tag" "latest") }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  env:
    {{- $env := dict
      "GATEWAY_CERT" "/run/secrets/certificate"
      "GATEWAY_FOLDER" "/tmp/gateway"
      "GATEWAY_METRICS_ADDRESS" "0.0.0.0"
      "KEYS_FILE" "/run/secrets/keys/keys"
      "PICTURES_ADDRESS" (printf "127.0.0.1:%s" $s.PICTURES_PORT)
      "SHADOW_ADDRESS" (printf "127.0.0.1:%s" $s.SHADOW_PORT)
      "TRITON_SERVERS" (printf "dns:%s:8000:8001" (include "stack.servers" .)) }}
    {{- if $v.monitoring.exporter.enabled }}{{ $_ := set $env "ACCESS_LOG_ADDRESS" (printf "127.0.0.1:%s" $s.ACCESS_LOG_PORT) }}{{ end }}
    {{- $_ := merge $env (pick $s "GATEWAY_RATE" "GATEWAY_CONNECTIONS" "GATEWAY_BUFFER_KB" "GATEWAY_WAIT_SECS" "POLL_SECS" "LOAD_SECS" "EXIT_TIMEOUT_SECS") }}
    {{- include "stack.env" $env | trim | nindent 4 }}
  ports:
    - {name: gateway, containerPort: 8443}
    - {name: gateway-metrics, containerPort: 8404}
  startupProbe:
    httpGet: {path: /healthz, port: gateway-metrics}
    periodSeconds: 3
    timeoutSeconds: 5
    failureThreshold: 15
    {{ include "stack.hung" . }}
  livenessProbe:
    httpGet: {path: /healthz, port: gateway-metrics}
    periodSeconds: 3
    timeoutSeconds: 5
    failureThreshold: 5
    {{ include "stack.hung" . }}
  readinessProbe:
    httpGet: {path: /healthz, port: gateway-metrics}
    periodSeconds: 3
    timeoutSeconds: 5
    failureThreshold: 5
  lifecycle:
    preStop:
      # Until no proxy sends it new connections; then SIGTERM drains it.
      exec: {command: [sleep, {{ int64 $v.shutdown.endpointSeconds | quote }}]}
  resources:
    {{- $memory := include "stack.size" (dict "name" "GATEWAY_MEMORY" "settings" $s) }}
    {{- include "stack.resources" (dict "root" . "own" $v.gateway.resources "memory" $memory) | nindent 4 }}
  securityContext:
    {{- include "stack.hardened" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models, readOnly: true}
    - {name: gateway-tmp, mountPath: /tmp}
    - {name: gateway-keys, mountPath: /run/secrets/keys, readOnly: true}
    - {name: gateway-certificate, mountPath: /run/secrets/certificate, readOnly: true}
{{- end -}}
