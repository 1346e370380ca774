{{- define "stack.triton" -}}
{{- $v := .Values -}}
{{- $s := include "stack.settings" . | fromJson -}}
- name: triton
  image: {{ include "stack.image" (dict "image" $v.triton.image "tag" (include "stack.deviceTag" .)) }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  env:
    {{- include "stack.nodeEnv" . | nindent 4 }}
    {{- $env := dict "MODEL_REPOSITORY" "/models/repository" "TRITON_ID" (include "stack.node" .) }}
    {{- $_ := merge $env (pick $s "POLL_SECS" "EXIT_TIMEOUT_SECS" "GRPC_ALLOCATION_POOL" "PINNED_POOL_MB" "CUDA_POOL_MB" "HTTP_THREADS" "COPY_THREADS" "TRITON_ARGS") }}
    {{- include "stack.env" $env | trim | nindent 4 }}
  ports:
    - {name: http, containerPort: 8000}
    - {name: grpc, containerPort: 8001}
    - {name: metrics, containerPort: 8002}
  # Not /v2/health/ready, which stays 400 after one failed load (models_volume/readiness.py).
  startupProbe:
    httpGet: {path: /v2/health/live, port: http}
    periodSeconds: 3
    timeoutSeconds: 5
    failureThreshold: {{ div (add (int64 $s.START_SECS) 2) 3 }}
    {{ include "stack.hung" . }}
  livenessProbe:
    httpGet: {path: /v2/health/live, port: http}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
    {{ include "stack.hung" . }}
  # Each live model with its live version, and at least one: a new pod has none, and gets no requests. A release that
  # was just published is loaded only after the next poll; the former one answers until then.
  readinessProbe:
    exec: {command: [python3, /opt/triton/health.py]}
    periodSeconds: 3
    timeoutSeconds: 15
    failureThreshold: {{ int64 $s.UNHEALTHY_AFTER }}
  lifecycle:
    preStop:
      exec:
        command:
          - /bin/sh
          - -c
          - |
            {{- include "stack.tritonStop" . | nindent 12 }}
  resources:
    {{- $memory := include "stack.size" (dict "name" "TRITON_MEMORY" "settings" $s) }}
    {{- include "stack.resources" (dict "root" . "own" $v.triton.resources "memory" $memory "gpu" true) | nindent 4 }}
  securityContext:
    {{- include "stack.hardened" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models, readOnly: true}
    - {name: triton-tmp, mountPath: /tmp}
    - {name: triton-shm, mountPath: /dev/shm}
    {{- if eq $v.device "cpu" }}
    - {name: triton-run, mountPath: /run/triton}
    {{- end }}
{{- end -}}
