{{/* What the pods of the three programs have in common. */}}

{{/* The part of a pod beside its containers and volumes. */}}
{{- define "picopay.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:{{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.nodeSelector }}
nodeSelector:{{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:{{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The part of a container beside its name, command, ports and probes. */}}
{{- define "picopay.container" -}}
image: {{ include "picopay.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - { name: config, mountPath: /etc/picopay, readOnly: true }
{{- end }}

{{/* One folder with cluster.toml and all that it names. It changes as a whole, and the programs see that.
     Called with (dict "root" $ "more" list of further sources), and with "isBefore" where the databases of new shards may not be
     there yet. */}}
{{- define "picopay.config" -}}
- name: config
  projected:
    defaultMode: 0440
    sources:
      - configMap: { name: {{ .root.Release.Name }}-cluster }
      - secret:
          name: {{ .root.Values.secrets.internal }}
          items: [{ key: internal, path: internal }]
      - secret:
          name: {{ .root.Values.secrets.postgres }}
          items: [{ key: password, path: postgres }]
      # The operator of CloudNativePG makes these.
      {{- range .root.Values.shards }}
      - secret:
          name: {{ include "picopay.database" (dict "root" $.root "shard" .) }}-ca
          items: [{ key: ca.crt, path: {{ .name }}-ca.pem }]
          {{- if $.isBefore }}
          optional: true
          {{- end }}
      {{- end }}
      {{- if .root.Values.redis.enabled }}
      - secret:
          name: {{ .root.Values.secrets.redis }}
          items: [{ key: password, path: redis }]
      {{- end }}
      {{- if .root.Values.tls.enabled }}
      - secret:
          name: {{ .root.Values.tls.caller }}
          items:
            - { key: ca.crt, path: caller-ca.pem }
            - { key: tls.crt, path: caller.pem }
            - { key: tls.key, path: caller.key }
      {{- if .root.Values.redis.enabled }}
      - secret:
          name: {{ .root.Values.tls.redis }}
          items: [{ key: ca.crt, path: redis-ca.pem }]
      {{- end }}
      {{- end }}
      {{- range .more }}
      - {{ toYaml . | nindent 8 | trim }}
      {{- end }}
{{- end }}

{{/* Not two of a kind on one machine, if that can be. */}}
{{- define "picopay.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:{{ include "picopay.selector" . | nindent 8 }}
        {{- with .shard }}
        picopay/shard: {{ .name }}
        {{- end }}
{{- end }}
