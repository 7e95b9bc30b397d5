"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

It writes to one directory only. As root, etcd has its data in memory, on a tmpfs that only etcd sees and that ends with
it. As in a cluster made by kubeadm, clients are authenticated by certificates and service account tokens and authorized
by Node and RBAC.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from spiderpool.errors import ApiUnavailable, IOFailure, SpiderpoolError
from spiderpool_lab.binaries import find
from spiderpool_lab.certificates import Authority, KeyPair, private_key_pem
from spiderpool_lab.commands import run
from spiderpool_lab.egress import socket_of
from spiderpool_lab.ports import free_ports, is_free
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import POD_CIDR, POD_CIDR6, SERVICE_CIDR, SERVICE_CIDR6

ADMIN = "kubernetes-admin"
TOKEN_SECONDS = 24 * 3600
"""Lifetime of service account tokens in kubeconfigs."""

NODE_HOST, NODE_PORT = "198.18.0.1", 6443
NODE_SERVER = f"https://{NODE_HOST}:{NODE_PORT}"
"""The forwarder by which nodes reach the API server.

Its address is in the management namespace of each lab, so all labs have the same.
"""

SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    "::1",
    NODE_HOST,
    "10.233.0.1",  # of Service ``kubernetes``: the first address of SERVICE_CIDR
)

EGRESS = "egress"
API_SERVER, CONTROLLER_MANAGER, SCHEDULER = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
PROGRAMS = ("etcd", EGRESS, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)

WEBHOOK_POLICY = "validatingadmissionpolicy/spiderpool-controller-webhooks"
"""Policy of the chart whose variables say where the webhooks of our controller may be."""

KUBEADM_CONFIGURATION = {
    "apiVersion": "kubeadm.k8s.io/v1beta3",
    "kind": "ClusterConfiguration",
    "clusterName": "kubernetes",
    "certificatesDir": "/etc/kubernetes/pki",
}

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "None"},
    ],
}
"""Who of the accounts of kube-system called what: one line for each call, without its body."""

EGRESS_CONFIGURATION = {"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration"}

_BATCH = 0.2
"""Seconds after which etcd has written to its database what it has acknowledged."""
POLL_INTERVAL = 0.05
"""Seconds between two evaluations of a condition."""
SHORT_LIVED = {"GOGC": "800"}
"""Environment of kubectl: a Go program that ends soon need not collect garbage, which saves a third of its work."""
LOG_LINES = 10
"""Last lines of a log that an error quotes."""

_RESTORED = 'if [ -d "$0.restored" ]; then rm -rf "$0/data" && cp -r "$0.restored" "$0/data"; fi && exec "$@"'
"""Gives etcd the store that `restore_store` has made, if it has, and executes it."""
_IN_PRIVATE_MEMORY = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs etcd "$0" && {_RESTORED}')
BUMP = 1_000_000_000
"""By how much a restored store's revisions are raised: by more than have been written since, as etcd's guide has it."""


class ControlPlane:
    """One control plane with its files in ``directory``. With ``dual_stack`` pods and Services have IPv6 as well.

    ``netns`` is the name of the network namespace from which the API server reaches nodes and pods; our own if None.
    Pods reach the API server at ``address``, to which the Service ``kubernetes`` leads.

    With ``audit``, to be set before the start, the calls of the accounts of kube-system are in `audit_log`.

    An object made for the directory of a running control plane can use and stop it.
    """

    def __init__(
        self,
        directory: Path,
        processes: Processes,
        *,
        dual_stack: bool = False,
        netns: str | None = None,
        address: str = NODE_HOST,
    ) -> None:
        self.directory = directory.absolute()
        self.processes = processes
        self.dual_stack = dual_stack
        self.netns = netns
        self.address = address
        self.audit = False

    # --- start and stop

    def start(self, timeout: float = 60.0) -> None:
        """Start all programs and wait until they are ready and pods can be created.

        Raises IOFailure if a program is missing or ends, ApiUnavailable after ``timeout`` seconds: all programs are
        stopped again then. Raises SpiderpoolError if it runs already.
        """
        if any(self.processes.pid(program) is not None for program in PROGRAMS):
            raise SpiderpoolError(f"a control plane runs in {self.directory}; stop it first")
        deadline = time.monotonic() + timeout
        try:
            self._write_files()
            self._start_etcd(deadline)
            self._start_egress()
            self._start_api_server(deadline)
            self._start_controllers(deadline)
            self._create_objects(deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process that runs. Logs and certificates stay in the directory."""
        for program in reversed(PROGRAMS):
            self.processes.stop(program)
        if self.netns is not None:
            socket_of(self.netns).unlink(missing_ok=True)

    def restart_api_server(self, timeout: float = 60.0) -> None:
        """Kill the API server, as an outage does, and start it again on the same store and port.

        Raises ApiUnavailable after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        self.processes.kill(API_SERVER, signal.SIGKILL)
        self.processes.stop(API_SERVER)
        self._wait_for_port(API_SERVER, deadline)
        self._start_api_server(deadline)

    def restart_controllers(self, timeout: float = 60.0) -> None:
        """End kube-controller-manager and the scheduler, and start them again. Raises ApiUnavailable."""
        deadline = time.monotonic() + timeout
        for program in (CONTROLLER_MANAGER, SCHEDULER):
            self.processes.stop(program)
            self._wait_for_port(program, deadline)
        self._start_controllers(deadline)

    def copy_store(self, target: Path) -> None:
        """Copy etcd's database as of now to a file. It has everything but what was written in the last 0.1 s."""
        time.sleep(_BATCH)
        self.processes.kill("etcd", signal.SIGSTOP)  # so that no write is under way
        try:
            root = Path(f"/proc/{self.processes.pid('etcd')}/root")  # with the memory that only etcd sees
            shutil.copyfile(f"{root}{self._store}/data/member/snap/db", target)
        finally:
            self.processes.kill("etcd", signal.SIGCONT)

    def restore_store(self, copied: Path, *, bumped: bool, timeout: float = 60.0) -> None:
        """Stop etcd and the API server, and start them on a copied database; ``bumped`` as etcd's guide advises.

        Then revisions are raised, and watches of before the restore are told that theirs are gone. Raises
        ApiUnavailable after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        for program in (API_SERVER, "etcd"):
            self.processes.kill(program, signal.SIGKILL)
            self.processes.stop(program)
            self._wait_for_port(program, deadline)
        restored, peer = Path(f"{self._store}.restored"), f"http://127.0.0.1:{self._port('etcd-peer')}"
        shutil.rmtree(restored, ignore_errors=True)
        raised = (f"--bump-revision={BUMP}", "--mark-compacted") if bumped else ()
        member = ("--name=default", f"--initial-cluster=default={peer}", f"--initial-advertise-peer-urls={peer}")
        place = ("--skip-hash-check", f"--data-dir={restored}")  # a copied database has no hash at its end
        run([find("etcdutl"), "snapshot", "restore", copied, *place, *member, *raised], show=lambda _: None)
        self._start_etcd(deadline)
        self._start_api_server(deadline)

    # --- access

    @property
    def server(self) -> str:
        """The URL of the API server on loopback."""
        return f"https://127.0.0.1:{self._port(API_SERVER)}"

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig of a member of ``system:masters``."""
        return self._kubeconfig_path(ADMIN, None)

    @property
    def audit_log(self) -> Path:
        """One event of audit.k8s.io/v1 on each line."""
        return self.directory / "audit.log"

    @property
    def authority(self) -> Path:
        """The certificate of the authority of all clients and servers."""
        return self._pki / "ca.crt"

    def kubeconfig(self, user: str, groups: Sequence[str] = (), server: str | None = None) -> Path:
        """Write a kubeconfig with a client certificate of ``user``, for a ``server`` other than that on loopback."""
        pair = self._authority().client(user, groups)
        credentials = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        return self._write_kubeconfig(user, credentials, server)

    def service_account_kubeconfig(
        self, namespace: str, name: str, server: str | None = None, *, node: str | None = None
    ) -> Path:
        """Write a kubeconfig with a token of a service account, valid for 24 hours (TokenRequest API).

        With ``node`` the token is bound to a pod there, as that of a DaemonSet's pod: it names the node, and is good as
        long as the pod exists. Kubernetes deletes pods of a Node that is missing for 40 s. Raises SpiderpoolError if
        the account does not exist.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        spec: dict[str, Any] = {"expirationSeconds": TOKEN_SECONDS}
        if node is not None:
            pod = self._ended_pod(namespace, name, node)
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"]}
        reply = self._request("POST", path, {"spec": spec})
        token = {"token": reply["status"]["token"]}
        return self._write_kubeconfig(_service_account_user(namespace, name, node), token, server)

    def service_account_file(self, namespace: str, name: str, server: str | None, node: str) -> Path:
        """The file that :meth:`service_account_kubeconfig` writes, which need not be there yet."""
        return self._kubeconfig_path(_service_account_user(namespace, name, node), server)

    def _ended_pod(self, namespace: str, account: str, node: str) -> dict[str, Any]:
        """The metadata of a pod of a service account on a node; it has ended, so that no kubelet runs it."""
        pods, name = f"/api/v1/namespaces/{namespace}/pods", f"{account}-{node}"
        path, metadata = f"{pods}/{name}", {"name": name}
        if not self._exists(path):
            spec = {
                "serviceAccountName": account,
                "schedulerName": "none",
                "hostNetwork": True,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "main", "image": "none"}],
            }
            self._request("POST", pods, {"metadata": metadata, "spec": spec})
        pod = self._request("GET", path)
        if "nodeName" not in pod["spec"]:  # it ends before it is bound: from then on its status is the kubelet's
            self._request("PUT", f"{path}/status", pod | {"status": {"phase": "Succeeded"}})
            self._request("POST", f"{path}/binding", {"metadata": metadata, "target": {"kind": "Node", "name": node}})
        found: dict[str, Any] = pod["metadata"]
        return found

    def kubectl(self, *args: str | Path, input: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl as administrator and return its output.

        Raises SpiderpoolError with kubectl's error, ApiUnavailable if it takes longer than ``timeout`` seconds.
        """
        command = [find("kubectl"), "--kubeconfig", self.admin_kubeconfig, "--cache-dir", self.directory / "kubectl"]
        words = [str(word) for word in (*command, *args)]
        try:
            done = subprocess.run(
                words,
                input=input or "",
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                env={**os.environ, **SHORT_LIVED},
            )
        except subprocess.TimeoutExpired as late:
            raise ApiUnavailable(f"kubectl {args[0]} gave no answer in {timeout:.0f} s") from late
        if done.returncode != 0:
            raise SpiderpoolError(f"kubectl {' '.join(map(str, args))}: {done.stderr.strip()}")
        return done.stdout

    def delete_events(self) -> None:
        """Delete all Events, by one request for each Namespace: kubectl deletes one by one, which takes minutes."""
        for namespace in self._request("GET", "/api/v1/namespaces")["items"]:
            self._request("DELETE", f"/api/v1/namespaces/{namespace['metadata']['name']}/events")

    def delete_pods(self, namespace: str) -> None:
        """Delete all pods of a Namespace at once, by one request, also those whose kubelet would have to end them.

        kubectl deletes one by one, five in a second. What makes pods must be gone before.
        """
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        self._request("DELETE", f"/api/v1/namespaces/{namespace}/pods", options)

    def apply(self, *manifests: Path | str) -> str:
        """``kubectl apply`` files or folders (each a Path), then YAML texts (each a str); return its output."""
        files = [word for manifest in manifests if isinstance(manifest, Path) for word in ("--filename", manifest)]
        texts = [manifest for manifest in manifests if isinstance(manifest, str)]
        stdin = ["--filename", "-"] if texts else []
        return self.kubectl("apply", *files, *stdin, input="".join(f"---\n{text}\n" for text in texts))

    def admit_webhook_url(self, url: str) -> None:
        """Let the policy of the chart, which must be installed, admit webhooks of our controller at a URL."""
        variable = {"name": "url", "expression": json.dumps(url)}
        body = json.dumps({"spec": {"variables": [variable]}})
        self.kubectl("patch", WEBHOOK_POLICY, "--type=strategic", "--patch", body)  # merges lists by name

    # --- files

    @property
    def _pki(self) -> Path:
        return self.directory / "pki"

    def _write_files(self) -> None:
        self._pki.mkdir(parents=True, exist_ok=True)
        names = ("etcd", "etcd-peer", API_SERVER, CONTROLLER_MANAGER, SCHEDULER)
        ports = free_ports(len(names), self.processes.directory)
        (self.directory / "ports.json").write_text(json.dumps(dict(zip(names, ports, strict=True))))
        authority = Authority.create("kubernetes-ca")
        self._write_pair("ca", authority.pair)
        self._write_pair("server", authority.server(list(dict.fromkeys([*SERVER_NAMES, self.address]))))
        _write_private(self._pki / "service-account.key", private_key_pem(ec.generate_private_key(ec.SECP256R1())))
        self._write_pair(ADMIN, authority.client(ADMIN, ["system:masters"]))
        self.kubeconfig(ADMIN, ["system:masters"])

    def _write_pair(self, name: str, pair: KeyPair) -> None:
        (self._pki / f"{name}.crt").write_bytes(pair.certificate)
        _write_private(self._pki / f"{name}.key", pair.key)

    def _authority(self) -> Authority:
        return Authority.load(KeyPair((self._pki / "ca.crt").read_bytes(), (self._pki / "ca.key").read_bytes()))

    def _kubeconfig_path(self, user: str, server: str | None) -> Path:
        where = f"@{server.rpartition('/')[2]}" if server else ""
        return self.directory / "kubeconfig" / (re.sub(r"[^\w.@-]", "_", user + where) + ".yaml")

    def _write_kubeconfig(self, user: str, credentials: dict[str, str], server: str | None) -> Path:
        ca = _base64((self._pki / "ca.crt").read_bytes())
        path = self._kubeconfig_path(user, server)
        path.parent.mkdir(exist_ok=True)
        document = _kubeconfig(user, credentials, server or self.server, ca)
        _write_private(path, yaml.safe_dump(document).encode())
        return path

    def _port(self, name: str) -> int:
        ports: dict[str, int] = json.loads((self.directory / "ports.json").read_text())
        return ports[name]

    # --- programs

    @property
    def _store(self) -> Path:
        return self.directory / "etcd"

    def _start_etcd(self, deadline: float) -> None:
        data = self._store
        data.mkdir(exist_ok=True)
        client, peer = (f"http://127.0.0.1:{self._port(name)}" for name in ("etcd", "etcd-peer"))
        private = _IN_PRIVATE_MEMORY if os.geteuid() == 0 else ("sh", "-c", _RESTORED)
        flags = (
            f"--data-dir={data}/data",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--heartbeat-interval=20",  # one member: elections need no time for other members
            "--election-timeout=200",
        )
        self.processes.start("etcd", [*private, data, find("etcd"), *flags])
        self._wait_healthy("etcd", HTTPConnection("127.0.0.1", self._port("etcd"), timeout=5.0), "/health", deadline)

    def _start_api_server(self, deadline: float) -> None:
        key = self._pki / "service-account.key"
        flags = (
            f"--etcd-servers=http://127.0.0.1:{self._port('etcd')}",
            *self._serving(API_SERVER),
            f"--advertise-address={NODE_HOST}",  # without it the API server looks for a default route
            "--endpoint-reconciler-type=none",  # our forwarder is the endpoint of Service kubernetes
            f"--client-ca-file={self._pki}/ca.crt",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={self._networks(SERVICE_CIDR, SERVICE_CIDR6)}",
            *self._ways_to_nodes(),
            *(self._audit_flags() if self.audit else ()),
            "--allow-privileged=true",
            "--default-not-ready-toleration-seconds=60",  # pods leave a dead node within a test
            "--default-unreachable-toleration-seconds=60",
            "--profiling=false",
        )
        self.processes.start(API_SERVER, [find(API_SERVER), *flags])
        self._wait_healthy(API_SERVER, self._connection(API_SERVER), "/readyz", deadline)

    def _start_egress(self) -> None:
        """Start the proxy through which the API server reaches nodes and pods."""
        if self.netns is None:
            return
        arguments: list[str | Path] = ["--netns", self.netns, "--socket", socket_of(self.netns)]
        self.processes.start(EGRESS, [sys.executable, "-m", "spiderpool_lab.egress", *arguments])

    def _ways_to_nodes(self) -> Iterator[str]:
        """Flags for the requests that the API server passes on to kubelets, pods and Services."""
        yield "--kubelet-preferred-address-types=InternalIP"
        yield f"--kubelet-client-certificate={self._pki}/{ADMIN}.crt"
        yield f"--kubelet-client-key={self._pki}/{ADMIN}.key"
        yield "--enable-aggregator-routing=true"  # to the pods of a Service: no kube-proxy runs beside the API server
        if self.netns is None:
            return
        transport = {"uds": {"udsName": str(socket_of(self.netns))}}
        selection = {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}}
        file = self.directory / "egress.json"
        file.write_text(json.dumps({**EGRESS_CONFIGURATION, "egressSelections": [selection]}))
        yield f"--egress-selector-config-file={file}"

    def _audit_flags(self) -> Iterator[str]:
        file = self.directory / "audit-policy.json"
        file.write_text(json.dumps(AUDIT_POLICY))
        yield f"--audit-policy-file={file}"
        yield f"--audit-log-path={self.audit_log}"

    def _start_controllers(self, deadline: float) -> None:
        manager = (
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._pki}/service-account.key",
            f"--root-ca-file={self._pki}/ca.crt",
            f"--cluster-signing-cert-file={self._pki}/ca.crt",
            f"--cluster-signing-key-file={self._pki}/ca.key",
            "--node-monitor-period=500ms",  # how late a node that has become Ready may lose its taint
            "--node-monitor-grace-period=30s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )
        self._start_controller(CONTROLLER_MANAGER, manager)
        self._start_controller(SCHEDULER)
        for program in (CONTROLLER_MANAGER, SCHEDULER):
            self._wait_healthy(program, self._connection(program), "/healthz", deadline)

    def _start_controller(self, program: str, flags: Sequence[str] = ()) -> None:
        kubeconfig = self.kubeconfig(f"system:{program}")
        common = (
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--profiling=false",
            *self._serving(program),
        )
        self.processes.start(program, [find(program), *common, *flags])

    def _networks(self, ipv4: str, ipv6: str) -> str:
        return f"{ipv4},{ipv6}" if self.dual_stack else ipv4

    def _serving(self, program: str) -> tuple[str, ...]:
        return (
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port(program)}",
            f"--tls-cert-file={self._pki}/server.crt",
            f"--tls-private-key-file={self._pki}/server.key",
        )

    # --- the first objects

    def _create_objects(self, deadline: float) -> None:
        networking = {
            "dnsDomain": "cluster.local",
            "podSubnet": self._networks(POD_CIDR, POD_CIDR6),
            "serviceSubnet": self._networks(SERVICE_CIDR, SERVICE_CIDR6),
        }
        document = {**KUBEADM_CONFIGURATION, "networking": networking}
        configuration = {"ClusterConfiguration": yaml.safe_dump(document, sort_keys=False)}
        endpoint = {"addresses": [{"ip": self.address}], "ports": [{"name": "https", "port": NODE_PORT}]}
        self._create(
            "kube-system", "configmaps", {"metadata": {"name": "kubeadm-config"}, "data": configuration}, deadline
        )
        self._create("default", "endpoints", {"metadata": {"name": "kubernetes"}, "subsets": [endpoint]}, deadline)
        account = "/api/v1/namespaces/default/serviceaccounts/default"  # without it no pod is admitted
        self._wait("the default service account is not there", lambda: self._exists(account), deadline)

    def _create(self, namespace: str, plural: str, document: dict[str, Any], deadline: float) -> None:
        """Create an object in a namespace that the API server may be about to create."""
        path = f"/api/v1/namespaces/{namespace}"
        self._wait(f"namespace {namespace} is not there", lambda: self._exists(path), deadline)
        self._request("POST", f"{path}/{plural}", document)

    def _exists(self, path: str) -> bool:
        try:
            self._request("GET", path)
        except SpiderpoolError:
            return False
        return True

    # --- requests and waits

    def _connection(self, program: str) -> HTTPSConnection:
        """An unopened connection to a program, as administrator. It uses no proxy."""
        context = ssl.create_default_context(cafile=str(self._pki / "ca.crt"))
        context.load_cert_chain(self._pki / f"{ADMIN}.crt", self._pki / f"{ADMIN}.key")
        return HTTPSConnection("127.0.0.1", self._port(program), timeout=10.0, context=context)

    def _request(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request to the API server. Raises SpiderpoolError if it refuses, ApiUnavailable if it does not answer."""
        body = json.dumps(document) if document else None
        try:
            status, answer = _exchange(self._connection(API_SERVER), method, path, body)
        except (OSError, HTTPException) as failure:
            raise ApiUnavailable(f"{method} {path}: {failure}") from failure
        if status >= 400:
            raise SpiderpoolError(f"{method} {path}: {status} {answer.decode(errors='replace').strip()}")
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def _wait_healthy(self, program: str, connection: HTTPConnection, path: str, deadline: float) -> None:
        log = self.processes.log(program)

        def healthy() -> bool:
            if self.processes.pid(program) is None:
                raise IOFailure(f"{program} ended at once; its log is {log}", details=_tail(log))
            return _answers(connection, path)

        self._wait(f"{program} is not healthy; its log is {log}", healthy, deadline)

    def _wait_for_port(self, program: str, deadline: float) -> None:
        """Wait until a killed program's port can be bound again: kubeconfigs name it, so it cannot be another one.

        The kernel closes a listening socket only when the last thread of a killed process has ended.
        """
        port = self._port(program)
        self._wait(f"port {port} of {program} is still in use", lambda: is_free(port), deadline)

    def _wait(self, complaint: str, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            if time.monotonic() > deadline:
                raise ApiUnavailable(f"the control plane did not start in time: {complaint}")
            time.sleep(POLL_INTERVAL)


def _exchange(connection: HTTPConnection, method: str, path: str, body: str | None) -> tuple[int, bytes]:
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def _answers(connection: HTTPConnection, path: str) -> bool:
    try:
        return _exchange(connection, "GET", path, None)[0] == 200
    except (OSError, HTTPException):
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _kubeconfig(user: str, credentials: dict[str, str], server: str, ca: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }


def _service_account_user(namespace: str, name: str, node: str | None) -> str:
    return f"system:serviceaccount:{namespace}:{name}" + (f"@{node}" if node else "")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write_private(path: Path, data: bytes) -> None:
    """Write a file that others cannot read; whoever waits for it sees all of it."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(data)
    unfinished.replace(path)
