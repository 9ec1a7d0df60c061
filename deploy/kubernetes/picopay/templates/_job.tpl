{{/* The pod of a job that runs `picopay`. Called with (dict "root" $ "part" "operator" "arguments" list), and "isBefore"
     for one that runs before the rest of an upgrade. */}}
{{- define "picopay.job" -}}
# It tries again in the same pod, and then in another.
backoffLimit: 10
template:
  metadata:
    labels:{{ include "picopay.labels" . | nindent 6 }}
  spec:
    {{- include "picopay.pod" .root | nindent 4 }}
    restartPolicy: OnFailure
    containers:
      - name: picopay
        command: {{ toJson (concat (list "/usr/local/bin/picopay") .arguments (list "--cluster" "/etc/picopay/cluster.toml")) }}
        {{- include "picopay.container" .root | nindent 8 }}
        resources:
          requests: { cpu: 100m, memory: 64Mi }
          limits: { memory: 256Mi }
    volumes:{{ include "picopay.config" (dict "root" .root "more" list "isBefore" .isBefore) | nindent 6 }}
{{- end }}
