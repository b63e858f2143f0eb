{{- define "jackfield.labels" -}}
app.kubernetes.io/name: jackfield
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
