{{/* What a schema cannot say: everything that is wrong, at once. */}}
{{- define "stack.check" -}}
{{- $v := .Values -}}
{{- $s := include "stack.settings" . | fromJson -}}
{{- $wrong := list -}}
{{- if not $s.POLL_SECS -}}
{{- $wrong = append $wrong "files/env: found no settings\n  allowed: the stack's .env\n  next: install the chart from the whole checkout, where this is a link to .env, or a package made from it" -}}
{{- end -}}
{{- if and $v.monitoring.rules.enabled (not (.Files.Glob "files/rules/*.yml")) -}}
{{- $wrong = append $wrong "files/rules: found no rules, with monitoring.rules.enabled\n  allowed: the files of monitoring/prometheus/rules\n  next: install the chart from the whole checkout, or a package made from it" -}}
{{- end -}}
{{- $images := dict "triton" $v.triton.image "agent" $v.agent.image -}}
{{- if $v.gateway.enabled }}{{ $_ := set $images "gateway" $v.gateway.image }}{{ end -}}
{{- if or $v.pictures.enabled $v.shadow.enabled }}{{ $_ := set $images "client" $v.client.image }}{{ end -}}
{{- if $v.monitoring.exporter.enabled }}{{ $_ := set $images "monitoring.exporter" $v.monitoring.exporter.image }}{{ end -}}
{{- range $part, $image := $images -}}
{{- if not $image.repository -}}
{{- $wrong = append $wrong (printf "%s.image.repository: found nothing\n  allowed: host[:port]/path/name of an image in your registry, without a tag\n  next: build the images and push them (docs/kubernetes.md), then --set %s.image.repository=..." $part $part) -}}
{{- end -}}
{{- end -}}
{{- if not $v.models -}}
{{- $wrong = append $wrong "models: found none\n  allowed: the names of the models that the pods serve\n  next: --set models={NAME}, with a name that ./scripts/push has pushed" -}}
{{- end -}}
{{- if not (include "stack.registry" .) -}}
{{- $wrong = append $wrong "registry.address: found nothing\n  allowed: host[:port][/path], without http:// or https://\n  next: --set registry.address=..., the REGISTRY that ./scripts/push uses" -}}
{{- end -}}
{{- if $v.gateway.enabled -}}
{{- if not $v.gateway.keysSecret -}}
{{- $wrong = append $wrong "gateway.keysSecret: found nothing\n  allowed: a Secret with the key `keys`: without API keys the gateway lets nobody in\n  next: ./scripts/keys add NAME; kubectl create secret generic gateway-keys --from-file=keys=secrets/keys" -}}
{{- end -}}
{{- if not $v.gateway.certificateSecret -}}
{{- $wrong = append $wrong "gateway.certificateSecret: found nothing\n  allowed: a Secret of type kubernetes.io/tls: each pod would sign a certificate of its own, and clients could trust none\n  next: kubectl create secret tls gateway-certificate --cert=tls.crt --key=tls.key" -}}
{{- end -}}
{{- end -}}
{{- range $part := list "pictures" "shadow" -}}
{{- if and (index $v $part).enabled (not $v.gateway.enabled) -}}
{{- $wrong = append $wrong (printf "%s.enabled: found true without the gateway, and nobody else may reach that service\n  allowed: true only with gateway.enabled\n  next: --set gateway.enabled=true, or %s.enabled=false" $part $part) -}}
{{- end -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- if eq $v.kind "DaemonSet" -}}
{{- $wrong = append $wrong "autoscaling.enabled: found true with kind DaemonSet, which has a pod on each node\n  allowed: true with kind StatefulSet only\n  next: --set kind=StatefulSet, or autoscaling.enabled=false" -}}
{{- end -}}
{{- if gt (int64 $v.autoscaling.minReplicas) (int64 $v.autoscaling.maxReplicas) -}}
{{- $wrong = append $wrong (printf "autoscaling.minReplicas: found %d, with maxReplicas %d\n  allowed: minReplicas is at most maxReplicas\n  next: raise maxReplicas, or lower minReplicas" (int64 $v.autoscaling.minReplicas) (int64 $v.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.device "gpu") (eq $v.gpu.allocation "dra") (not (semverCompare ">=1.34.0-0" .Capabilities.KubeVersion.Version)) -}}
{{- $wrong = append $wrong (printf "gpu.allocation: found dra on Kubernetes %s\n  allowed: dra from Kubernetes 1.34 on\n  next: --set gpu.allocation=devicePlugin" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if le (int64 $s.STOP_GRACE_SECS) (int64 $s.EXIT_TIMEOUT_SECS) -}}
{{- $wrong = append $wrong (printf "settings.STOP_GRACE_SECS: found %s, with EXIT_TIMEOUT_SECS %s: Triton would be killed with requests in hand\n  allowed: more than EXIT_TIMEOUT_SECS\n  next: raise STOP_GRACE_SECS" $s.STOP_GRACE_SECS $s.EXIT_TIMEOUT_SECS) -}}
{{- end -}}
{{- $patience := mul 3 (int64 $s.UNHEALTHY_AFTER) -}}
{{- if le $patience (add (int64 $s.POLL_SECS) (int64 $s.LOAD_SECS)) -}}
{{- $wrong = append $wrong (printf "settings.UNHEALTHY_AFTER: found %s, which is %d s, with POLL_SECS %s and LOAD_SECS %s: each new release would take its pod out of service\n  allowed: 3 x UNHEALTHY_AFTER is more than both together\n  next: raise UNHEALTHY_AFTER" $s.UNHEALTHY_AFTER $patience $s.POLL_SECS $s.LOAD_SECS) -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n%s" (join "\n" $wrong)) -}}
{{- end -}}
{{- end -}}

{{- define "stack.registry" -}}
{{ .Values.registry.address | default (include "stack.settings" . | fromJson).REGISTRY }}
{{- end -}}
