{{/* Names. Shards, nodes and databases have prefixes, so that no shard's name collides with a part's. */}}

{{- define "picopay.gateway" -}}{{ .Release.Name }}-gateway{{- end }}
{{- define "picopay.redis" -}}{{ .Release.Name }}-redis{{- end }}

{{/* Called with (dict "root" $ "shard" shard). */}}
{{- define "picopay.node" -}}{{ .root.Release.Name }}-node-{{ .shard.name }}{{- end }}
{{- define "picopay.database" -}}{{ .root.Release.Name }}-db-{{ .shard.name }}{{- end }}

{{- define "picopay.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Which pods are whose: what selectors match. Called with (dict "root" $ "part" name). */}}
{{- define "picopay.selector" -}}
app.kubernetes.io/name: picopay
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "picopay.labels" -}}
{{ include "picopay.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The numbers of a shard's instances: CloudNativePG counts on when it makes one anew. */}}
{{- define "picopay.instanceNumbers" -}}
{{- if .shard.instanceNumbers -}}
{{ toJson .shard.instanceNumbers }}
{{- else -}}
{{ toJson (untilStep 1 (int (add1 .root.Values.postgres.instances)) 1) }}
{{- end -}}
{{- end }}

{{/* What a schema cannot say. */}}
{{- define "picopay.check" -}}
{{- $names := dict }}
{{- range .Values.shards }}
{{- if hasKey $names .name }}{{ fail (printf "shards: two are called %s" .name) }}{{ end }}
{{- $_ := set $names .name true }}
{{- $longest := printf "%s-node-%s" $.Release.Name .name }}
{{- if gt (len $longest) 45 }}{{ fail (printf "%s is longer than 45 letters: take a shorter name for the release or the shard" $longest) }}{{ end }}
{{- if .instanceNumbers }}{{ if ne (len .instanceNumbers) (int $.Values.postgres.instances) }}
{{- fail (printf "shards: instanceNumbers of %s are not postgres.instances (%v) numbers" .name $.Values.postgres.instances) }}{{ end }}{{ end }}
{{- end }}
{{- end }}
