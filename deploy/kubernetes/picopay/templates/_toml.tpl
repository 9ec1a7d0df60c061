{{/* The three files. Times and ports stand in them, so that what the pods promise can be compared. */}}

{{- define "picopay.cluster.toml" -}}
cluster_id = {{ .Values.clusterId | quote }}
internal_secret_file = "internal"
{{- if .Values.tls.enabled }}

[tls]
ca_file = "caller-ca.pem"
cert_file = "caller.pem"
key_file = "caller.key"
{{- end }}
{{- range $shard := .Values.shards }}
{{- $of := dict "root" $ "shard" $shard }}
{{- $node := include "picopay.node" $of }}
{{- $database := include "picopay.database" $of }}
{{- $nodes := list }}
{{- range $number := until (int ($shard.nodes | default $.Values.node.replicas)) }}
{{- $nodes = append $nodes (printf "%s://%s-%d.%s:7100" (ternary "https" "http" $.Values.tls.enabled) $node $number $node) }}
{{- end }}
{{- $instances := list }}
{{- range include "picopay.instanceNumbers" $of | fromJsonArray }}
{{- $instances = append $instances (printf "%s-%v" $database .) }}
{{- end }}
{{- $words := printf "dbname=picopay user=picopay sslmode=verify-full sslrootcert=%s-ca.pem channel_binding=require" $shard.name }}

[[shards]]
name = {{ $shard.name | quote }}
nodes = {{ toJson $nodes | replace "\",\"" "\", \"" }}
# All instances by name: a primary that was replaced and lives on is seen. The last is the operator's own Service, which leads
# to an instance under a new number too.
primary = "host={{ join "," $instances }},{{ $database }}-rw {{ $words }} target_session_attrs=read-write"
replicas = ["host={{ join "," $instances }} {{ $words }} target_session_attrs=read-only"]
password_file = "postgres"
durability = "replicated"
{{- if $.Values.redis.enabled }}
redis = "{{ ternary "rediss" "redis" $.Values.tls.enabled }}://{{ include "picopay.redis" $ }}:6379"
redis_user = "picopay"
redis_password_file = "redis"
{{- if $.Values.tls.enabled }}
redis_ca_file = "redis-ca.pem"
redis_cert_file = "caller.pem"
redis_key_file = "caller.key"
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a running gateway does not take over. */}}
{{- define "picopay.gateway.fixed" -}}
{{- $scheme := ternary "https" "http" .Values.tls.enabled -}}
{{- $port := int .Values.gateway.service.port -}}
{{- $usual := ternary 443 80 .Values.tls.enabled -}}
{{- $own := printf "%s://%s%s" $scheme (include "picopay.gateway" .) (ternary "" (printf ":%d" $port) (eq $port $usual)) -}}
listen = "{{ .Values.listen }}:8080"
public_url = {{ .Values.gateway.publicUrl | default $own | quote }}
drain = "{{ int .Values.gateway.drainSeconds }}s"

[admin]
listen = "{{ .Values.listen }}:9090"

[server]
shutdown_timeout = "{{ int .Values.gateway.shutdownSeconds }}s"

[shard_client]
request_timeout = "{{ int .Values.gateway.requestSeconds }}s"
{{- if .Values.tls.enabled }}

[tls]
cert_file = "gateway.pem"
key_file = "gateway.key"
{{- end }}
{{- end }}

{{- define "picopay.gateway.toml" -}}
{{ include "picopay.gateway.fixed" . }}
{{- range .Values.gateway.keys }}

[[keys]]
name = {{ .name | quote }}
digest = {{ .digest | quote }}
scopes = {{ toJson .scopes }}
{{- with .expiresAt }}
expires_at = {{ . | quote }}
{{- end }}
{{- with .ratePerSecond }}
rate_per_second = {{ int . }}
{{- end }}
{{- with .burst }}
burst = {{ int . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "picopay.node.toml" -}}
shard = {{ .shard.name | quote }}
listen = "{{ .root.Values.listen }}:7100"
drain = "{{ int .root.Values.node.drainSeconds }}s"
shutdown_timeout = "{{ int .root.Values.node.shutdownSeconds }}s"
{{- if .root.Values.tls.enabled }}

[tls]
cert_file = "node.pem"
key_file = "node.key"
client_ca_file = "node-ca.pem"
{{- end }}
{{- end }}
