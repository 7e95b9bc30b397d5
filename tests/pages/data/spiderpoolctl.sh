# The cluster of docs/usage/spiderpoolctl.md: worker-1 is silent and its pool is full, worker-2 is well.
set -e
kubectl create namespace shop
kubectl create namespace batch
kubectl apply -f - <<END
apiVersion: v1
kind: Node
metadata: {name: worker-1}
---
apiVersion: v1
kind: Node
metadata: {name: worker-2}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: ipvlan-eth1, namespace: kube-system}
spec: {cniType: ipvlan, ipvlan: {master: [eth1]}}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: worker-1-eth1}
spec: {subnet: 172.31.199.0/24, ips: [172.31.199.187-172.31.199.189], default: true, nodeName: [worker-1]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: worker-2-eth1}
spec: {subnet: 172.31.198.0/24, ips: [172.31.198.10-172.31.198.13], default: true, nodeName: [worker-2]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: batch}
spec: {subnet: 172.31.200.0/24, ips: [172.31.200.1-172.31.200.100], default: true, namespaceName: [batch]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderReservedIP
metadata: {name: printers}
spec: {ips: [172.31.200.91-172.31.200.100]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata: {name: blue}
spec: {subnet: 10.6.0.0/16, ips: [10.6.100.1-10.6.100.200]}
END
ready() {  # NODE STATUS
  kubectl patch node "$1" --subresource=status --type=merge --patch "{\"status\": {\"nodeInfo\": {\"bootID\": \"boot-1\",
    \"machineID\": \"\", \"systemUUID\": \"\", \"kernelVersion\": \"\", \"osImage\": \"\", \"containerRuntimeVersion\": \"\",
    \"kubeletVersion\": \"\", \"kubeProxyVersion\": \"\", \"operatingSystem\": \"\", \"architecture\": \"\"},
    \"conditions\": [{\"type\": \"Ready\", \"status\": \"$2\", \"reason\": \"R\", \"message\": \"\",
    \"lastHeartbeatTime\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"lastTransitionTime\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"}]}}"
}
ready worker-1 Unknown
ready worker-2 True
pod() {  # NAME NODE
  kubectl apply -f - <<END
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: shop, annotations: {v1.multus-cni.io/default-network: kube-system/ipvlan-eth1}}
spec: {nodeName: $2, containers: [{name: web, image: none}]}
END
}
record() {  # ADDRESS POOL NODE POD
  uid=$(kubectl get pod --namespace shop "$4" --ignore-not-found -o jsonpath='{.metadata.uid}')
  kubectl apply -f - <<END
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: $1, labels: {ipam.spidernet.io/ippool: $2, ipam.spidernet.io/node: $3}}
spec: {address: $1/24, pool: $2, node: $3, namespace: shop, pod: $4, podUID: ${uid:-gone}, interface: eth0}
END
}
for name in web-0 web-2 web-3; do pod $name worker-1; done
pod api-0 worker-2
record 172.31.199.187 worker-1-eth1 worker-1 web-0
record 172.31.199.188 worker-1-eth1 worker-1 web-1
record 172.31.199.189 worker-1-eth1 worker-1 web-2
record 172.31.198.10 worker-2-eth1 worker-2 api-0
for node in worker-1 worker-2; do
  kubectl apply -f - <<END
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderNode
metadata: {name: $node}
spec: {accountRequest: 1}
END
done
for node in worker-1 worker-2; do
  kubectl patch spidernode $node --subresource=status --type=merge --patch \
    "{\"status\": {\"observedGeneration\": 1, \"observedAt\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"bootID\": \"boot-1\"}}"
done
kubectl patch spidernode worker-1 --type=merge --patch '{"spec": {"accountRequest": 2}}'  # asked again, without an answer
kubectl create configmap spiderpool-conf --namespace kube-system --from-literal=conf.yml='enableIPv6: false'
uid=$(kubectl get pod --namespace shop web-3 -o jsonpath='{.metadata.uid}')
kubectl apply -f - <<END
apiVersion: v1
kind: Event
metadata: {name: web-3.1, namespace: shop}
involvedObject: {apiVersion: v1, kind: Pod, name: web-3, namespace: shop, uid: $uid}
reason: AddressRefused
message: "no IPv4 address for eth0 of pod shop/web-3 on node worker-1 from the cluster's default pools: batch: is for namespace batch, not shop; worker-1-eth1: 3 of 3 addresses in use"
type: Warning
source: {component: spiderpool-agent}
firstTimestamp: "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
lastTimestamp: "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
count: 1
END
