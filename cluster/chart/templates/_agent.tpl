{{- define "stack.agent" -}}
{{- $v := .Values -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $gpu := eq $v.device "gpu" -}}
- name: agent
  image: {{ include "stack.image" (dict "image" $v.agent.image "tag" (include "stack.deviceTag" .)) }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  command: [python3, -m, cluster, agent]
  env:
    {{- include "stack.nodeEnv" . | nindent 4 }}
    {{- $env := dict
      "AGENT_MODELS" (join " " $v.models)
      "ENGINE" ($gpu | ternary "tensorrt" "onnxruntime")
      "NGC_TAG" ($gpu | ternary $s.NGC_TAG "")
      "NODE_NAME" (include "stack.node" .)
      "REGISTRY" (include "stack.registry" .)
      "REGISTRY_INSECURE" ($v.registry.insecure | ternary "1" "")
      "TRITON_ID" (include "stack.node" .)
      "TRITON_SERVERS" "127.0.0.1:8000:8001:8002" }}
    {{- if $v.registry.credentialsSecret }}{{ $_ := set $env "DOCKER_CONFIG" "/run/secrets/registry" }}{{ end }}
    {{- if $v.registry.caSecret }}{{ $_ := set $env "REGISTRY_CA" "/run/secrets/registry-ca/ca.crt" }}{{ end }}
    {{- if $v.registry.publicKeySecret }}{{ $_ := set $env "RELEASE_PUBLIC_KEY" "/run/secrets/release/cosign.pub" }}{{ end }}
    {{- $_ := merge $env (pick $s "BUILD_SECS" "AGENT_SECS" "REPORT_SECS" "POLL_SECS" "LOAD_SECS") }}
    {{- include "stack.env" $env | trim | nindent 4 }}
  # Only against an agent that hangs. It shows itself after each look, and a look at a new release may hold a build
  # and its run, BUILD_SECS each, for every model; 600 s are its own patience (cluster/agent/run.py).
  livenessProbe:
    exec: {command: [python3, -m, cluster, agent, --healthy]}
    periodSeconds: 60
    timeoutSeconds: 30
    failureThreshold: {{ div (mul (len $v.models | max 1) (add (mul 2 (int64 $s.BUILD_SECS)) 600)) 60 }}
  resources:
    {{- $memory := include "stack.size" (dict "name" "BUILDER_MEMORY" "settings" $s) }}
    {{- include "stack.resources" (dict "root" . "own" $v.agent.resources "memory" $memory "gpu" true) | nindent 4 }}
  securityContext:
    {{- include "stack.hardened" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models}
    - {name: agent-tmp, mountPath: /tmp}
    - {name: settings, mountPath: /app/.env, subPath: .env, readOnly: true}
    {{- if $v.registry.credentialsSecret }}
    - {name: registry-credentials, mountPath: /run/secrets/registry, readOnly: true}
    {{- end }}
    {{- if $v.registry.caSecret }}
    - {name: registry-ca, mountPath: /run/secrets/registry-ca, readOnly: true}
    {{- end }}
    {{- if $v.registry.publicKeySecret }}
    - {name: release-public-key, mountPath: /run/secrets/release, readOnly: true}
    {{- end }}
{{- end -}}
