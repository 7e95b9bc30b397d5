{{/* The value at a path, as JSON; nothing if it is not set. Arguments: values, path. */}}
{{- define "spiderpool.valueAt" -}}
{{- $found := .values }}
{{- $isSet := true }}
{{- range splitList "." .path }}
{{- if not $isSet }}
{{- else if not (kindIs "map" $found) }}{{ $isSet = false }}
{{- else if not (hasKey $found .) }}{{ $isSet = false }}
{{- else }}{{ $found = get $found . }}
{{- end }}
{{- end }}
{{- if $isSet }}{{ toJson $found }}{{ end }}
{{- end }}

{{/* Sentences about values of compatibility.yaml, and about values that do not fit each other, as a JSON list. */}}
{{- define "spiderpool.faults" -}}
{{- $faults := list }}
{{- range (.Files.Get "compatibility.yaml" | fromYaml).refused }}
{{- $value := include "spiderpool.valueAt" (dict "values" $.Values "path" .value) }}
{{- $accepted := list }}
{{- range .accepts }}{{ $accepted = append $accepted (toJson .) }}{{ end }}
{{- if and $value (not (has $value $accepted)) }}
{{- $faults = append $faults (printf "%s is %s, which this chart does not serve: %s" .value $value .instead) }}
{{- end }}
{{- end }}
{{- $v := .Values }}
{{- if not (or $v.ipam.enableIPv4 $v.ipam.enableIPv6) }}
{{- $faults = append $faults "ipam.enableIPv4 and ipam.enableIPv6 are both false: pods would get no address; set at least one to true" }}
{{- end }}
{{- if and (not $v.ipam.enableIPv4) $v.clusterDefaultPool.installIPv4IPPool }}
{{- $faults = append $faults "clusterDefaultPool.installIPv4IPPool is true while ipam.enableIPv4 is false: set ipam.enableIPv4=true as well" }}
{{- end }}
{{- if and (not $v.ipam.enableIPv6) $v.clusterDefaultPool.installIPv6IPPool }}
{{- $faults = append $faults "clusterDefaultPool.installIPv6IPPool is true while ipam.enableIPv6 is false: set ipam.enableIPv6=true as well" }}
{{- end }}
{{- range list "4" "6" }}
{{- $installed := get $v.clusterDefaultPool (printf "installIPv%sIPPool" .) }}
{{- $subnet := printf "ipv%sSubnet" . }}
{{- if and $installed (not (get $v.clusterDefaultPool $subnet)) }}
{{- $faults = append $faults (printf "clusterDefaultPool.%s is empty while clusterDefaultPool.installIPv%sIPPool is true: write the subnet of the pool" $subnet .) }}
{{- end }}
{{- end }}
{{- with ($v.spiderpoolAgent.updateStrategy.rollingUpdate | default dict).maxSurge }}
{{- if ne (toString .) "0" }}
{{- $faults = append $faults (printf "spiderpoolAgent.updateStrategy.rollingUpdate.maxSurge is %v: two agents of a node cannot work at a time, so the new one would wait for ever; set maxUnavailable" .) }}
{{- end }}
{{- end }}
{{- range list "spiderpoolController" "spiderpoolCloud" }}
{{- $values := get $v . }}
{{- $budget := $values.podDisruptionBudget }}
{{- $wanted := toString $budget.minAvailable }}
{{- $replicas := int $values.replicas }}
{{- /* A percentage of the replicas is rounded up. */}}
{{- $needed := ternary (div (add (mul (int (trimSuffix "%" $wanted)) $replicas) 99) 100) (int64 $budget.minAvailable) (hasSuffix "%" $wanted) }}
{{- if and $budget.enabled (ge $needed (int64 $replicas)) }}
{{- $faults = append $faults (printf "%s.podDisruptionBudget.minAvailable is %s with %d replicas: no node that has one could be drained; set %s.replicas to more, or minAvailable to less" . $wanted $replicas .) }}
{{- end }}
{{- end }}
{{- range $v.spiderpoolController.extraEnv }}
{{- if and (eq .name "SPIDERPOOL_WEBHOOK_URL") (not .value) }}
{{- $faults = append $faults "SPIDERPOOL_WEBHOOK_URL in spiderpoolController.extraEnv has no value, such as with valueFrom: write the URL as its value, since an admission policy names it too" }}
{{- end }}
{{- end }}
{{- if and $v.cloud.enabled (not $v.cloud.provider) }}
{{- $faults = append $faults "cloud.enabled is true while cloud.provider is empty: set cloud.provider to alibaba" }}
{{- end }}
{{- with $v.cloud.loadBalancers.zoneMaps }}
{{- $zones := list }}
{{- range splitList "," . }}{{ $zones = append $zones (trim . | splitList ":" | first) }}{{ end }}
{{- if lt (len (uniq $zones)) (len $zones) }}
{{- $faults = append $faults (printf "cloud.loadBalancers.zoneMaps is %s, with a zone twice: a network load balancer has one vSwitch in a zone" .) }}
{{- end }}
{{- end }}
{{- if and $v.migration.agentsOnly $v.cloud.enabled }}
{{- $faults = append $faults "cloud.enabled is true while migration.agentsOnly is true: switch spiderpool-cloud on when the cluster is taken over" }}
{{- end }}
{{- if and $v.cloud.loadBalancers.injectReadinessGates (not (and $v.cloud.enabled $v.cloud.loadBalancers.enabled)) }}
{{- $faults = append $faults "cloud.loadBalancers.injectReadinessGates is true while cloud.enabled or cloud.loadBalancers.enabled is false: pods would wait for ever for gates that nobody opens; set both to true, or this to false" }}
{{- end }}
{{- if gt (int $v.cloud.alibaba.minFreeAddresses) (int $v.cloud.alibaba.maxFreeAddresses) }}
{{- $faults = append $faults (printf "cloud.alibaba.minFreeAddresses is %v and maxFreeAddresses %v: write a maximum that is not below the minimum" $v.cloud.alibaba.minFreeAddresses $v.cloud.alibaba.maxFreeAddresses) }}
{{- end }}
{{- $tls := $v.spiderpoolController.tls }}
{{- if and (eq $tls.method "certmanager") (not $tls.certmanager.issuerName) }}
{{- $faults = append $faults "spiderpoolController.tls.certmanager.issuerName is empty while spiderpoolController.tls.method is certmanager: name an issuer of cert-manager" }}
{{- end }}
{{- if and (ne $tls.method "auto") (not $tls.secretName) }}
{{- $faults = append $faults (printf "spiderpoolController.tls.secretName is empty while spiderpoolController.tls.method is %s: name the Secret with the certificate" $tls.method) }}
{{- end }}
{{- if and (eq $tls.method "certmanager") (include "spiderpool.webhookURL" .) }}
{{- $host := (urlParse (include "spiderpool.webhookURL" .)).hostname }}
{{- if not (has $host (concat $tls.certmanager.extraDnsNames $tls.certmanager.extraIPAddresses)) }}
{{- $faults = append $faults (printf "SPIDERPOOL_WEBHOOK_URL in spiderpoolController.extraEnv has the host %s, for which cert-manager would make no certificate: add it to spiderpoolController.tls.certmanager.extraDnsNames, or to extraIPAddresses" $host) }}
{{- end }}
{{- end }}
{{- range list "tlsCert" "tlsKey" "tlsCa" }}
{{- if hasPrefix "-----" (get $tls.provided .) }}
{{- $faults = append $faults (printf "spiderpoolController.tls.provided.%s is PEM: write it in base64" .) }}
{{- end }}
{{- end }}
{{- if and (ne $tls.method "auto") (eq $tls.secretName "spiderpool-webhook-certs") }}
{{- $faults = append $faults "spiderpoolController.tls.secretName is spiderpool-webhook-certs, which is the Secret of the controller's own certificates: name another one" }}
{{- end }}
{{- $given := list $tls.provided.tlsCert $tls.provided.tlsKey $tls.provided.tlsCa | compact | len }}
{{- if and (eq $tls.method "provided") (ne $given 0) (ne $given 3) }}
{{- $faults = append $faults "spiderpoolController.tls.provided has some of tlsCert, tlsKey and tlsCa: set all three, or none if the Secret exists" }}
{{- end }}
{{- $oidc := $v.cloud.credentials.oidc }}
{{- if ne (empty $oidc.roleARN) (empty $oidc.providerARN) }}
{{- $faults = append $faults "cloud.credentials.oidc has one of roleARN and providerARN: set both, or neither" }}
{{- end }}
{{- toJson $faults }}
{{- end }}

{{/* Ends the rendering if the values cannot be served, or if another release is installed. */}}
{{- define "spiderpool.check" -}}
{{- with include "spiderpool.faults" . | fromJsonArray }}
{{- fail (printf "\n\nThese values cannot be served:\n- %s\n" (join "\n- " .)) }}
{{- end }}
{{- with lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "spiderpool-agent" }}
{{- $owner := .metadata.annotations | default dict }}
{{- $release := get $owner "meta.helm.sh/release-name" }}
{{- $namespace := get $owner "meta.helm.sh/release-namespace" }}
{{- if and $release (or (ne $release $.Release.Name) (ne $namespace $.Release.Namespace)) }}
{{- fail (printf "\n\nSpiderpool is installed in this cluster already, as release %s in Namespace %s. A cluster has one: change that one by\n  helm upgrade %s … --namespace %s --reset-then-reuse-values\nor remove it first by\n  helm uninstall %s --namespace %s\n" $release $namespace $release $namespace $release $namespace) }}
{{- end }}
{{- end }}
{{- with lookup "apps/v1" "DaemonSet" .Release.Namespace "spiderpool-agent" }}
{{- $ours := include "spiderpool.selector" (dict "root" $ "component" "spiderpool-agent") | fromYaml }}
{{- if ne (toJson .spec.selector.matchLabels) (toJson $ours) }}
{{- fail (printf "\n\nDaemonSet spiderpool-agent in Namespace %s is not of this chart: its pods have other labels, which cannot be changed. Remove the installation that it belongs to first; pods that run keep their network.\n" $.Release.Namespace) }}
{{- end }}
{{- end }}
{{- end }}
