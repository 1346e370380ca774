{{/* The settings as JSON, all of them texts: .env's, and those of the values over them. */}}
{{- define "stack.settings" -}}
{{- $found := dict -}}
{{- range $line := splitList "\n" (.Files.Get "files/env") -}}
{{- $text := regexReplaceAll " #.*$" $line "" | trim -}}
{{- if regexMatch "^[A-Z][A-Z0-9_]*=" $text -}}
{{- $pair := splitn "=" 2 $text -}}
{{- $_ := set $found $pair._0 ($pair._1 | trimAll "\"'") -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.settings -}}
{{- $_ := set $found $name (include "stack.text" $value) -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* A number or a text as text. Without int64, a million of a values file would be 1e+06. */}}
{{- define "stack.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end -}}
{{- end -}}

{{/* Variables of a container, from a dict; what is empty is left out. */}}
{{- define "stack.env" -}}
{{- range $name, $value := . }}
{{- if $value }}
- name: {{ $name }}
  value: {{ include "stack.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* NODE: what the node's name in the cluster is made of. */}}
{{- define "stack.nodeEnv" -}}
- name: NODE
  valueFrom:
    fieldRef:
      fieldPath: {{ eq .Values.kind "DaemonSet" | ternary "spec.nodeName" "metadata.name" }}
{{- end -}}

{{- define "stack.node" -}}
{{ .Values.nodeNamePrefix }}$(NODE)
{{- end -}}

{{/* A size of Docker (8g) as Kubernetes writes it (8Gi); (name, settings). */}}
{{- define "stack.size" -}}
{{- $size := index .settings .name | lower | trimSuffix "b" -}}
{{- if not (regexMatch "^[0-9]+[kmg]?$" $size) -}}
{{- fail (printf "\n%s: found %q\n  allowed: a whole number and k, m or g\n  next: correct %s in .env" .name $size .name) -}}
{{- end -}}
{{ $size | replace "k" "Ki" | replace "m" "Mi" | replace "g" "Gi" }}
{{- end -}}

{{/* requests and limits of a container; (root, own, memory, gpu). */}}
{{- define "stack.resources" -}}
{{- $limits := merge (deepCopy (.own.limits | default dict)) (dict "memory" .memory) -}}
{{- $all := merge (dict "limits" $limits) (deepCopy .own) -}}
{{- if and .gpu (eq .root.Values.device "gpu") -}}
{{- if eq .root.Values.gpu.allocation "dra" -}}
{{- $_ := set $all "claims" (list (dict "name" "gpu")) -}}
{{- else -}}
{{- $_ := set $limits .root.Values.gpu.resource "1" -}}
{{- end -}}
{{- end -}}
{{ toYaml $all }}
{{- end -}}

{{/* The .env of the agent, which reads one as every command of ./scripts does. Not all of this machine's: that may hold
credentials. Ports and folders are those of the images. */}}
{{- define "stack.settingsFile" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $fixed := dict "HTTP_PORT" "8000" "GRPC_PORT" "8001" "METRICS_PORT" "8002" "BIND_ADDRESS" "127.0.0.1" "MODELS_DIR" "/models" "GPU_ID" "0" "TRITON_COUNT" "1" -}}
{{- $named := pick $s "COMPOSE_PROJECT_NAME" "NGC_TAG" "MODELS" "POLL_SECS" "NATIVE_POLL_SECS" "LOAD_SECS" "BUILD_SECS" "EXIT_TIMEOUT_SECS" "GATEWAY_PORT" "GATEWAY_ADDRESS" "GATEWAY_METRICS_PORT" "KEYS_FILE" "PICTURES_PORT" "ACCESS_LOG_PORT" "SHADOW_PORT" "EXPORTER_PORT" "PROMETHEUS_PORT" "GRAFANA_PORT" -}}
{{- range $name, $value := merge $fixed $named }}
{{ $name }}={{ $value }}
{{- end }}
{{- end -}}
