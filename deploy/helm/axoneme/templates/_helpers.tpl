{{/* The value at a dotted path of a map, as text of a ConfigMap; empty when there is none. */}}
{{- define "axoneme.dig" -}}
{{- $value := .values -}}
{{- range splitList "." .path -}}
{{- if and (kindIs "map" $value) (hasKey $value .) -}}
{{- $value = get $value . -}}
{{- else -}}
{{- $value = "" -}}
{{- end -}}
{{- end -}}
{{- if and (kindIs "slice" $value) $value (kindIs "map" (first $value)) -}}
{{- toJson $value -}}
{{- else if kindIs "slice" $value -}}
{{- join " " $value -}}
{{- else if kindIs "float64" $value -}}
{{- if eq (float64 (int64 $value)) $value -}}{{- int64 $value -}}{{- else -}}{{- $value -}}{{- end -}}
{{- else if not (or (kindIs "map" $value) (kindIs "invalid" $value)) -}}
{{- $value -}}
{{- end -}}
{{- end -}}

{{/* Where everything is installed. */}}
{{- define "axoneme.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* One image reference: a digest beats a tag, override beats both. */}}
{{- define "axoneme.image" -}}
{{- $image := .Values.image -}}
{{- if $image.override -}}
{{- $image.override -}}
{{- else if and $image.digest $image.useDigest -}}
{{- printf "%s:%s@%s" $image.repository (default .Chart.AppVersion $image.tag) $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "axoneme.labels" -}}
app.kubernetes.io/part-of: axoneme
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "axoneme.agentLabels" -}}
k8s-app: axoneme
app.kubernetes.io/name: axoneme-agent
{{- end -}}

{{- define "axoneme.operatorLabels" -}}
io.cilium/app: operator
name: axoneme-operator
app.kubernetes.io/name: axoneme-operator
{{- end -}}

{{/* Where the API server is, when services are not there yet to lead to it. */}}
{{- define "axoneme.apiServerEnv" -}}
{{- with .Values.k8sServiceHost }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ default 443 $.Values.k8sServicePort | quote }}
{{- end }}
{{- end -}}

{{/* What changes when the configuration changes, for roll-outs that should follow it. */}}
{{- define "axoneme.configChecksum" -}}
{{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
{{- end -}}

{{/* Third-party plugins: a container that installs them, its mounts, and the path they are found by. */}}
{{- define "axoneme.pluginContainers" -}}
{{- range .Values.plugins }}
{{- if .image }}
- name: plugin-{{ .name }}
  image: {{ .image | quote }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  command: ["cp", "-r", "{{ default "/plugin" .path }}/.", "/plugins/"]
  volumeMounts:
  - name: plugins
    mountPath: /plugins
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
  terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
{{- end }}
{{- if include "axoneme.fetchesPlugins" . }}
- name: install-plugins
  image: {{ include "axoneme.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [axoneme, plugin, fetch, --list, /etc/axoneme-plugins/plugins.yaml, --wheels, /wheels, --target, /plugins]
  volumeMounts:
  - name: plugins
    mountPath: /plugins
  - name: plugin-list
    mountPath: /etc/axoneme-plugins
    readOnly: true
  {{- range .Values.plugins }}
  {{- if .wheel }}
  - name: wheel-{{ .name }}
    mountPath: /wheels/{{ .name }}
    readOnly: true
  {{- end }}
  {{- end }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
  terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
{{- end -}}

{{/* Not empty when there is a plugin to be installed by pip. */}}
{{- define "axoneme.fetchesPlugins" -}}
{{- range .Values.plugins }}{{ if or .pip .wheel }}yes{{ end }}{{ end }}
{{- end -}}

{{- define "axoneme.pluginVolumes" -}}
{{- if .Values.plugins }}
- name: plugins
  emptyDir: {}
{{- if include "axoneme.fetchesPlugins" . }}
- name: plugin-list
  configMap:
    name: axoneme-plugins
{{- end }}
{{- range .Values.plugins }}
{{- if .wheel }}
- name: wheel-{{ .name }}
  configMap:
    name: {{ .wheel.configMap }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "axoneme.agentProbe" -}}
httpGet:
  host: 127.0.0.1
  path: /healthz
  port: {{ .Values.healthPort }}
  scheme: HTTP
{{- end -}}
