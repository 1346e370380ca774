{{/* What every object's name begins with. 40: "-servers" and a pod's number still fit into a DNS label. */}}
{{- define "stack.name" -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "stack.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stack.labels" -}}
{{ include "stack.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* An image's name; (root, image, tag where none is given). */}}
{{- define "stack.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end -}}

{{/* The tag that Compose gives to the images which differ by device. */}}
{{- define "stack.deviceTag" -}}
{{- if eq .Values.device "cpu" }}cpu{{ else }}{{ (include "stack.settings" . | fromJson).NGC_TAG }}{{ end -}}
{{- end -}}

{{/* The name in DNS of all pods that are ready. */}}
{{- define "stack.servers" -}}
{{ include "stack.name" . }}-servers
{{- end -}}
