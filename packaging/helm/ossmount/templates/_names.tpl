{{- define "ossmount.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ossmount.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ossmount.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ossmount.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ossmount.labels" -}}
{{ include "ossmount.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The companions speak over a socket that root owns, and need nothing else. */ -}}
{{- define "ossmount.companion" -}}
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{- /* A value as text. Every number of a file of values is a float, and a large one would get an exponent. */ -}}
{{- define "ossmount.text" -}}
{{- $value := . -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) -}}
{{- $value = int64 . -}}
{{- end -}}
{{- end -}}
{{- toString $value -}}
{{- end -}}
