{{/* Namespace of everything that is not cluster-wide. */}}
{{- define "spiderpool.namespace" -}}
{{ .Release.Namespace }}
{{- end }}

{{/* User name by which the API server knows a ServiceAccount of ours. Arguments: root, name. */}}
{{- define "spiderpool.user" -}}
system:serviceaccount:{{ include "spiderpool.namespace" .root }}:{{ .name }}
{{- end }}

{{/* Labels by which Deployments, Services and the DaemonSet find their pods; they never change. Arguments: root, component. */}}
{{- define "spiderpool.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* metadata of an object. Arguments: root, name; component, namespace (none: cluster-wide; text), annotations, labels. */}}
{{- define "spiderpool.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
{{- $labels := dict
  "app.kubernetes.io/name" (default "spiderpool" .root.Values.global.nameOverride)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- if .component }}
{{- $_ := set $labels "app.kubernetes.io/component" .component }}
{{- end }}
labels:
  {{- toYaml (merge (dict) $labels (.labels | default dict) .root.Values.global.commonLabels) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.global.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Reference of an image. Arguments: root, image. */}}
{{- define "spiderpool.image" -}}
{{- $registry := .root.Values.global.imageRegistryOverride | default .image.registry -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end }}{{ .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default (printf "v%s" .root.Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* imagePullSecrets of a pod. Arguments: root, image. */}}
{{- define "spiderpool.pullSecrets" -}}
{{- with concat .root.Values.global.imagePullSecrets (.image.imagePullSecrets | default list) | uniq }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a pod. Arguments: root, component, values. A change of conf.yml changes them: daemons read it at their start. */}}
{{- define "spiderpool.podMetadata" -}}
labels:
  {{- $fixed := include "spiderpool.selector" . | fromYaml }}
  {{- toYaml (merge (dict) $fixed .values.podLabels .root.Values.global.commonLabels) | nindent 2 }}
annotations:
  {{- $conf := dict "spiderpool.spidernet.io/configuration" (include "spiderpool.conf" .root | sha256sum | trunc 16) }}
  {{- toYaml (merge (dict) $conf .values.podAnnotations .root.Values.global.commonAnnotations) | nindent 2 }}
{{- end }}

{{/* securityContext of the container of a program that is neither root nor needs a capability. Arguments: values. */}}
{{- define "spiderpool.unprivileged" -}}
{{- $base := dict
  "privileged" false
  "allowPrivilegeEscalation" false
  "readOnlyRootFilesystem" true
  "runAsNonRoot" true
  "capabilities" (dict "drop" (list "ALL"))
  "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- toYaml (mergeOverwrite $base (deepCopy .values.securityContext)) }}
{{- end }}

{{/* Text if pods are admitted by SecurityContextConstraints, as on OpenShift, else none. */}}
{{- define "spiderpool.isOpenShift" -}}
{{- $served := .Capabilities.APIVersions.Has "security.openshift.io/v1/SecurityContextConstraints" -}}
{{- $wanted := .Values.global.securityContextConstraints -}}
{{- if or (eq $wanted "always") (and (eq $wanted "auto") $served) }}yes{{ end }}
{{- end }}

{{/* SELinux options of a container that works on the node's files; a container of its own type may not. */}}
{{- define "spiderpool.seLinux" -}}
{{- if include "spiderpool.isOpenShift" . }}
seLinuxOptions:
  type: spc_t
{{- end }}
{{- end }}

{{/* Users of the pods of such programs. */}}
{{- define "spiderpool.podUser" -}}
securityContext:
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
{{- end }}

{{/* The probes of a container. Arguments: port, startup (a path), host (none: that of the pod), values. */}}
{{- define "spiderpool.probes" -}}
{{- $all := . }}
{{- range $name := list "startup" "liveness" "readiness" }}
{{- $path := ternary $all.startup $name (eq $name "startup") }}
{{- $own := dict "httpGet" (dict "path" (printf "/v1/runtime/%s" $path) "port" (int $all.port)) }}
{{- with $all.host }}
{{- $_ := set $own.httpGet "host" . }}
{{- end }}
{{ $name }}Probe:
  {{- toYaml (merge $own (deepCopy (get $all.values.healthChecking (printf "%sProbe" $name)))) | nindent 2 }}
{{- end }}
{{- end }}

{{/* Host of the probes of a pod in the nodes' network: what listens on all addresses is asked where nobody else reaches it. */}}
{{- define "spiderpool.probeHost" -}}
{{ ternary "127.0.0.1" "::1" .Values.ipam.enableIPv4 }}
{{- end }}

{{/* Replicas in the nodes' network need a node each, for their ports. Arguments: root, component, values. */}}
{{- define "spiderpool.placement" -}}
{{- if .values.affinity }}
affinity:
  {{- toYaml .values.affinity | nindent 2 }}
{{- else if .values.hostnetwork }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "spiderpool.selector" . | nindent 10 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
{{- toYaml .values.topologySpreadConstraints | nindent 0 }}
{{- else }}
{{- $selector := include "spiderpool.selector" . }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
{{- end }}
{{- end }}
nodeSelector:
  {{- toYaml .values.nodeSelector | nindent 2 }}
tolerations:
{{- toYaml .values.tolerations | nindent 0 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* How a Deployment is updated: in the nodes' network a port is free only when the former pod of the node is gone. Arguments: values. */}}
{{- define "spiderpool.strategy" -}}
strategy:
  type: RollingUpdate
  rollingUpdate:
    {{- if .values.hostnetwork }}
    maxSurge: 0
    maxUnavailable: 1
    {{- else }}
    maxSurge: 1
    maxUnavailable: 0
    {{- end }}
{{- end }}

{{/* Environment of every daemon. */}}
{{- define "spiderpool.commonEnv" -}}
- name: SPIDERPOOL_CONFIG
  value: /etc/spiderpool/configuration/conf.yml
- name: SPIDERPOOL_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- with .Values.cloud.metadataEndpoint }}
- name: METADATA_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Text if pools and networks are made from what the servers' ENIs have, else none. */}}
{{- define "spiderpool.discovers" -}}
{{- if and .Values.cloud.provider .Values.cloud.discovery }}yes{{ end }}
{{- end }}

{{/* Identity of a replica in its leader election. */}}
{{- define "spiderpool.identityEnv" -}}
- name: SPIDERPOOL_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{/* Mounts of every daemon: conf.yml, and room for temporary files. */}}
{{- define "spiderpool.commonMounts" -}}
- name: configuration
  mountPath: /etc/spiderpool/configuration
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "spiderpool.commonVolumes" -}}
- name: configuration
  configMap:
    name: {{ .Values.global.configName }}
    items:
    - key: conf.yml
      path: conf.yml
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}

{{/* conf.yml */}}
{{- define "spiderpool.conf" -}}
ipamUnixSocketPath: {{ .Values.global.ipamUNIXSocketHostPath }}
enableIPv4: {{ .Values.ipam.enableIPv4 }}
enableIPv6: {{ .Values.ipam.enableIPv6 }}
enableStatefulSet: {{ .Values.ipam.enableStatefulSet }}
enableKubevirtStaticIP: {{ .Values.ipam.enableKubevirtStaticIP }}
enableSpiderSubnet: {{ .Values.ipam.spiderSubnet.enable }}
enableAutoPoolForApplication: {{ and .Values.ipam.spiderSubnet.enable .Values.ipam.spiderSubnet.autoPool.enable }}
clusterSubnetAutoPoolDefaultRedundantIPNumber: {{ .Values.ipam.spiderSubnet.autoPool.defaultRedundantIPNumber }}
enableIPConflictDetection: {{ .Values.ipam.enableIPConflictDetection }}
enableGatewayDetection: {{ .Values.ipam.enableGatewayDetection }}
enableValidatingResourcesDeletedWebhook: {{ .Values.spiderpoolController.enableValidatingResourcesDeletedWebhook }}
podResourceInject:
  {{- toYaml .Values.spiderpoolController.podResourceInject | nindent 2 }}
agent:
  networkResourcePlugin:
    enabled: {{ .Values.spiderpoolAgent.networkResourcePlugin.enabled }}
    resourceAdvertisement:
      {{- toYaml .Values.spiderpoolAgent.networkResourcePlugin.resourceAdvertisement | nindent 6 }}
metadataService:
  allowedNamespaces: {{ toJson .Values.cloud.metadataAllowedNamespaces }}
cloud:
  provider: {{ .Values.cloud.provider | quote }}
  discovery: {{ .Values.cloud.discovery }}
  primaryCard: {{ .Values.cloud.primaryCard }}
  region: {{ .Values.cloud.region | quote }}
  clusterID: {{ .Values.cloud.clusterID | quote }}
  internalEndpoints: {{ .Values.cloud.internalEndpoints }}
  credentials: {{ .Values.cloud.credentials.source }}
  alibaba:
    {{- toYaml .Values.cloud.alibaba | nindent 4 }}
  loadBalancers:
    {{- toYaml .Values.cloud.loadBalancers | nindent 4 }}
{{- end }}

{{/* URL of the webhooks, without a slash at its end, where the environment of the controller has one. */}}
{{- define "spiderpool.webhookURL" -}}
{{- range .Values.spiderpoolController.extraEnv }}
{{- if eq .name "SPIDERPOOL_WEBHOOK_URL" }}{{ trimSuffix "/" (.value | default "") }}{{ end }}
{{- end }}
{{- end }}

{{/* The folders of a node in which the agent installs, and that of its socket. */}}
{{/* Nodes that have an agent, as a nodeSelector. */}}
{{- define "spiderpool.agentNodes" -}}
{{- $nodes := deepCopy .Values.spiderpoolAgent.nodeSelector -}}
{{- if .Values.migration.agentsOnly }}{{ $_ := set $nodes "spiderpool.spidernet.io/migration" "new" }}{{ end -}}
{{- toYaml $nodes -}}
{{- end }}

{{- define "spiderpool.nodeFoldersEnv" -}}
- name: SPIDERPOOL_CNI_BIN_DIR
  value: /host/opt/cni/bin
- name: SPIDERPOOL_CNI_CONF_DIR
  value: /host/etc/cni/net.d
{{- end }}

{{- define "spiderpool.nodeFoldersMounts" -}}
- name: socket
  mountPath: {{ dir .Values.global.ipamUNIXSocketHostPath }}
- name: cni-executables
  mountPath: /host/opt/cni/bin
- name: cni-configuration
  mountPath: /host/etc/cni/net.d
{{- end }}

{{- define "spiderpool.nodeFoldersVolumes" -}}
- name: socket
  hostPath:
    path: {{ dir .Values.global.ipamUNIXSocketHostPath }}
    type: DirectoryOrCreate
- name: cni-executables
  hostPath:
    path: {{ .Values.global.cniBinHostPath }}
    type: DirectoryOrCreate
- name: cni-configuration
  hostPath:
    path: {{ .Values.global.cniConfHostPath }}
    type: DirectoryOrCreate
{{- end }}
