{{/*
What all pods have in common, in three parts that stand at the indentation of a pod's template, of its
`spec` and of a container. Each takes (dict "root" $ "component" NAME).
*/}}
{{- define "stream-app.podMetadata" -}}
metadata:
  labels:
    {{- include "stream-app.selector" . | nindent 4 }}
    {{- with .root.Values.pod.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.pod.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "stream-app.podSpec" -}}
# No pod asks the API of Kubernetes.
automountServiceAccountToken: false
# A Service named stream-app-kafka would set variables that look like settings.
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "stream-app.volumes" -}}
- name: configuration
  configMap:
    name: {{ include "stream-app.configMap" .root }}
- name: tmp
  emptyDir: {}
{{- with .root.Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stream-app.container" -}}
image: {{ include "stream-app.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with .root.Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stream-app.env" -}}
- name: STREAM_APP_CONFIG
  value: /etc/stream-app/stream_app.toml
{{- with .root.Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stream-app.volumeMounts" -}}
# A directory, not a `subPath`: a `subPath` mount is never updated.
- name: configuration
  mountPath: /etc/stream-app
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- with .root.Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
