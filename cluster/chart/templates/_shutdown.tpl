{{/*
How a pod ends, in seconds. Kubernetes tells all containers at once, after each one's preStop hook:

  quiet   Triton goes on answering: until no proxy and no gateway knows the pod, and its own gateway has drained
  back    the agent takes a change that is under way back, and proves what is live again, which it can only while
          Triton answers: two polls, two loads and the golden requests, as in compose.yaml
  grace   the longer one of the two, and Triton's own end
*/}}
{{- define "stack.quiet" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $own := int64 .Values.shutdown.endpointSeconds -}}
{{- if .Values.gateway.enabled }}{{ $own = add $own (int64 $s.EXIT_TIMEOUT_SECS) }}{{ end -}}
{{- max $own (int64 .Values.shutdown.dnsSeconds) -}}
{{- end -}}

{{- define "stack.back" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- add (mul 2 (int64 $s.POLL_SECS)) (mul 2 (int64 $s.LOAD_SECS)) 90 -}}
{{- end -}}

{{- define "stack.grace" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $longer := max (include "stack.quiet" . | int64) (include "stack.back" . | int64) -}}
{{- add $longer (int64 $s.STOP_GRACE_SECS) -}}
{{- end -}}

{{/* Triton's preStop hook. The agent holds the operations' lock from the flip until the proof or the way back has
ended; who waits for it may not hold it, so it is shared, and a read-only volume does. */}}
{{- define "stack.tritonStop" -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $quiet := include "stack.quiet" . | int64 -}}
{{- $rest := max 1 (sub (include "stack.back" . | int64) $quiet) -}}
sleep {{ $quiet }}
lock=/models/run/operation-{{ $s.COMPOSE_PROJECT_NAME }}.lock
[ ! -e "$lock" ] || flock --shared --wait {{ $rest }} 9 9<"$lock" || true
{{- end -}}

{{/* Of probes beside a preStop hook: the hook would wait in a server that hangs, too. */}}
{{- define "stack.hung" -}}
terminationGracePeriodSeconds: 10
{{- end -}}
