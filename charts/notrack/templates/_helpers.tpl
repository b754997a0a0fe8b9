{{/* Names are fixed: the operator owns nodes and cluster-wide objects, of which there is one set. A second release meets
     the first one's objects, and Helm refuses it. */}}

{{- define "notrack.selector" -}}
app.kubernetes.io/name: notrack
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Labels of every object. Not of pod templates: a new chart alone must replace no pod. */}}
{{- define "notrack.labels" -}}
app.kubernetes.io/name: notrack
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "notrack.image" -}}
{{- with .root.Values.image.registry }}{{ . | trimSuffix "/" }}/{{ end }}
{{- .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The agents' container, but for what it runs: the test's pod has the same rights on another network. */}}
{{- define "notrack.agentSecurityContext" -}}
# NET_ADMIN is of use to root alone; nothing else of root's is left.
runAsUser: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL], add: [NET_ADMIN]}
{{- end }}

{{/* What would otherwise fail later, with a worse message. */}}
{{- define "notrack.checks" -}}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" ($namespace | default dict) }}
{{- if ne $level "privileged" }}
{{- fail (printf "Pod Security of namespace %s is %q, which refuses the agents: they share the node's network and have NET_ADMIN there. Run: kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged" .Release.Namespace $level .Release.Namespace) }}
{{- end }}
{{- if and .Values.podMonitor.enabled (hasPrefix "127." .Values.agent.listenAddress) }}
{{- fail "podMonitor.enabled needs agents that Prometheus can reach: set agent.listenAddress to 0.0.0.0 or [::]" }}
{{- end }}
{{- if and .Values.crds.enabled (not .Values.crds.keep) (not .Values.uninstall.withdraw) }}
{{- fail "crds.keep=false needs uninstall.withdraw: its job is what deletes the CRDs" }}
{{- end }}
{{- if and .Values.resourceQuota.enabled (not .Values.agent.priorityClassName) (not .Values.controller.priorityClassName) }}
{{- fail "resourceQuota.enabled needs a priorityClassName: its quota is for pods of these classes" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.controller.service.enabled) }}
{{- fail "serviceMonitor.enabled needs controller.service.enabled" }}
{{- end }}
{{- end }}
