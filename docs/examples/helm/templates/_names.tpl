{{/* Name of the release's objects: 50 characters at most, since suffixes follow. */}}
{{- define "stream-app.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of a component: (dict "root" $ "component" NAME). */}}
{{- define "stream-app.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object of a component: the same argument. */}}
{{- define "stream-app.labels" -}}
{{ include "stream-app.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "stream-app.configMap" -}}
{{- .Values.existingConfigMap | default (include "stream-app.name" .) -}}
{{- end -}}

{{- define "stream-app.workerKind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.worker.staticMembers -}}
{{- end -}}

{{- define "stream-app.workerAccount" -}}
{{- .Values.worker.serviceAccount.name | default (include "stream-app.name" .) -}}
{{- end -}}

{{- define "stream-app.inspectorName" -}}
{{- printf "%s-inspector" (include "stream-app.name" .) -}}
{{- end -}}

{{- define "stream-app.inspectorAccount" -}}
{{- .Values.inspector.serviceAccount.name | default (include "stream-app.inspectorName" .) -}}
{{- end -}}

{{- define "stream-app.inspectorSecret" -}}
{{- .Values.inspector.existingSecret | default (include "stream-app.inspectorName" .) -}}
{{- end -}}

{{- define "stream-app.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}
