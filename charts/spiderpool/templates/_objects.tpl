{{/* The objects that the values ask for, as a stream of documents. */}}
{{- define "spiderpool.objects" -}}
{{- $coordinator := .Values.coordinator -}}
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata:
  name: {{ $coordinator.name }}
spec:
  mode: {{ $coordinator.mode }}
  podCIDRType: {{ $coordinator.podCIDRType }}
  tunePodRoutes: {{ $coordinator.tunePodRoutes }}
  hijackCIDR: {{ toJson $coordinator.hijackCIDR }}
  {{- with $coordinator.policyRoutes }}
  policyRoutes: {{ toJson . }}
  {{- end }}
  {{- with $coordinator.vethLinkAddress }}
  vethLinkAddress: {{ . }}
  {{- end }}
  vethMTU: {{ $coordinator.vethMTU }}
{{- /* Where ENIs are discovered the controller makes their networks, and leaves one that exists as it is. */}}
{{- if not (include "spiderpool.discovers" .) }}
{{- with .Values.multus.multusCNI.defaultCniCRName }}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata:
  name: {{ . }}
  namespace: {{ $.Release.Namespace }}
spec:
  cniType: custom
  enableCoordinator: true
{{- end }}
{{- end }}
{{- if .Values.clusterDefaultPool.installIPv4IPPool }}
{{- include "spiderpool.pool" (dict "root" $ "version" "4") }}
{{- end }}
{{- if .Values.clusterDefaultPool.installIPv6IPPool }}
{{- include "spiderpool.pool" (dict "root" $ "version" "6") }}
{{- end }}
{{- end }}

{{/* Subnet and pool of one family. Arguments: root, version. */}}
{{- define "spiderpool.pool" -}}
{{- $values := .root.Values.clusterDefaultPool -}}
{{- $name := printf "ipv%s" .version -}}
{{- $ips := get $values (printf "%sIPRanges" $name) -}}
{{- $gateway := get $values (printf "%sGateway" $name) -}}
{{- if .root.Values.ipam.spiderSubnet.enable }}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata:
  name: {{ get $values (printf "%sSubnetName" $name) }}
spec:
  ipVersion: {{ .version }}
  subnet: {{ get $values (printf "%sSubnet" $name) }}
  ips: {{ toJson $ips }}
  {{- with $gateway }}
  gateway: {{ . | quote }}
  {{- end }}
{{- end }}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: {{ get $values (printf "%sIPPoolName" $name) }}
spec:
  default: true
  ipVersion: {{ .version }}
  subnet: {{ get $values (printf "%sSubnet" $name) }}
  ips: {{ toJson $ips }}
  {{- with $gateway }}
  gateway: {{ . | quote }}
  {{- end }}
{{- end }}
