"""Process 1 of a node: configures its network as a cloud server's, then starts and restarts the node's daemons.

It runs in a User Mode Linux kernel or in a PID namespace. ``python -m spiderpool_lab.node FILE`` reads a
:class:`NodeConfig`. It imports few modules, because Python starts slowly in a node.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from spiderpool_lab import container_runtime, kernel_modules, namespaces, syscalls
from spiderpool_lab.container_runtime import ContainerRuntime
from spiderpool_lab.stand_in import StandIn
from spiderpool_lab.topology import POD_CIDR, POD_CIDR6, AddressConfig, LabNode, Topology

STATE = Path("/run/spiderpool-node")
CNI = STATE / "cni"
CNI_EXECUTABLES, CNI_CONFIGURATION = CNI / "bin", CNI / "net.d"
MANIFESTS = STATE / "manifests"
"""The folder of static pods."""
DISK = STATE / "disk"
"""What outlives a reboot of the node, unless that is with an empty disk (:meth:`Machines.boot`)."""
ENDPOINT_PORT = 10270
"""Port of the node's endpoint. A kubelet has 10250."""
RESTART_DELAY = 0.5
"""Seconds before a daemon that has ended is started again."""
POWER_OFF_TIMEOUT = 10
"""Seconds that the kernel has to power the node off."""

_SHARE = Path("/run/lab")
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/run/tmp",
    "SSL_CERT_FILE": os.devnull,  # no daemon needs a public authority, and reading them all delays its start
}
_DISK = (98, 0)
"""Device number of User Mode Linux' first disk."""
_FIRST_TABLE = 2000
_SOURCE_RULE_PREFERENCE = 20000
"""Route tables and rules as a cloud's images configure them; the agent's own rules have a lower preference number."""
_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}
_PROMPT_WRITEBACK = {"vm/dirty_writeback_centisecs": "10", "vm/dirty_expire_centisecs": "10"}
_CONTAINER_MOUNTS = {
    "/dev/pts": "devpts",
    "/dev/shm": "tmpfs",
    "/sys/fs/cgroup": "cgroup2",
    "/var/log": "tmpfs",
    "/run/cpuinfo": "tmpfs",
}
_TOOLS = STATE / "proxy-tools"
_PROXY_TOOLS = {
    **{
        f"{family}tables{suffix}": "xtables-legacy-multi"
        for family in ("ip", "ip6")
        for suffix in ("", "-save", "-restore")
    },
    "conntrack": "conntrack",
    "ipset": "ipset",
}

MODULES = (
    *("veth", "bridge", "br_netfilter", "ipvlan", "macvlan", "8021q", "ipv6", "nf_tables"),
    *("ip_tables", "iptable_nat", "iptable_mangle", "iptable_filter", "iptable_raw", "ip6_tables"),
    *("ip6table_nat", "ip6table_mangle", "ip6table_filter", "ip6table_raw", "ipt_REJECT", "ip6t_REJECT"),
    *("xt_conntrack", "xt_connmark", "xt_mark", "xt_nat", "xt_MASQUERADE", "xt_comment", "xt_addrtype"),
    *("xt_statistic", "xt_tcpudp", "xt_recent", "xt_physdev", "xt_multiport", "nf_conntrack", "nf_conntrack_netlink"),
    *("ipt_rpfilter", "ip6t_rpfilter", "sch_ingress", "cls_bpf"),
)
"""Kernel modules of the data path and kube-proxy. A node has no kmod, so the kernel cannot load them on demand."""
IPVS_MODULES = (
    *("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "dummy", "xt_set", "xt_ipvs", "ip_set", "ip_set_bitmap_port"),
    *("ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_hash_net"),
)
"""What kube-proxy needs beyond them in its mode ipvs."""

_WITH_KUBECONFIG = ("sh", "-c", 'until [ -e "$KUBECONFIG" ]; do sleep 0.2; done; exec "$@"', "sh")
"""Executes a command once there is a kubeconfig: that of an agent needs a pod of its node, and so the Node."""

ProxyMode = Literal["iptables", "ipvs"]
"""How kube-proxy serves Services. Its third mode, nftables, needs tables that User Mode Linux has not."""


class RealKubelet(msgspec.Struct, frozen=True, kw_only=True):
    """A kubelet and its container runtime. ``client_ca`` is the file with the authority of the kubelet's clients.

    ``disk`` is the file system with the images, of which a node gets a copy as its disk.
    """

    kubelet: str
    disk: str
    client_ca: str
    runtime: ContainerRuntime


class ClusterServices(msgspec.Struct, frozen=True, kw_only=True):
    """The daemons of a node that is part of a cluster. Paths are those of the host, which nodes see as well.

    Without ``agent_kubeconfig`` no agent runs, and pods wait for another network configuration list. With
    ``external_cloud`` the Node has the taint of ``--cloud-provider=external`` until a cloud controller removes it, and
    with ``startup_taint`` that of our agents, until the controller does.
    With ``real`` pods run in containers, without it in a stand-in for the kubelet.
    ``stand_in`` are the times of the kubelet's stand-in.
    """

    kubelet_kubeconfig: str
    proxy_kubeconfig: str
    kube_proxy: str
    agent_kubeconfig: str | None = None
    external_cloud: bool = False
    startup_taint: bool = False
    proxy_mode: ProxyMode = "iptables"
    real: RealKubelet | None = None
    stand_in: StandIn = StandIn()
    agent_env: dict[str, str] = {}


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a node.

    ``share`` is the host folder for its logs. ``modules`` is the folder of kernel modules, None where the node has no
    kernel of its own.
    """

    topology: Topology
    name: str
    share: str
    modules: str | None = None
    services: ClusterServices | None = None

    @property
    def node(self) -> LabNode:
        """This node in the topology."""
        return self.topology.node(self.name)

    @property
    def real(self) -> RealKubelet | None:
        """The kubelet and container runtime of a real node."""
        return self.services.real if self.services else None

    @property
    def has_kernel(self) -> bool:
        """Whether the node runs a kernel of its own."""
        return self.modules is not None


class Child(msgspec.Struct, frozen=True):
    """A daemon of the node: its command, and variables that are added to its environment."""

    name: str
    argv: list[str]
    env: dict[str, str] = {}


def pid_file(child: str) -> Path:
    """The file with the pid of a running child."""
    return STATE / f"{child}.pid"


def main() -> None:
    """Set the node up and supervise its children; returns only when the node is powered off."""
    file = Path(sys.argv[1])
    config = msgspec.json.decode(file.read_bytes(), type=NodeConfig)
    try:
        os.environ.update(_ENVIRONMENT)
        logs = _mount_all(config)
        if config.modules is not None:
            kernel_modules.load(Path(config.modules) / os.uname().release, _modules(config))
        _join_fabric(config)
        _link_tools()
        _supervise(_children(config, file), logs)
    except BaseException:
        traceback.print_exc()
        _power_off(config)


# --- set-up


def _modules(config: NodeConfig) -> Sequence[str]:
    ipvs = config.services is not None and config.services.proxy_mode == "ipvs"
    return [*MODULES, *(IPVS_MODULES if ipvs else ()), *(container_runtime.MODULES if config.real else ())]


def _mount_all(config: NodeConfig) -> Path:
    """Mount the file systems of a node and return the folder for logs."""
    if config.has_kernel:
        syscalls.mount("proc", Path("/proc"), "proc")
        syscalls.mount("sysfs", Path("/sys"), "sysfs")
    syscalls.mount("tmpfs", Path("/run"), "tmpfs", data="mode=755")
    if config.real:
        _mount_for_containers()
    for folder in (Path("/run/netns"), Path("/run/tmp"), CNI_EXECUTABLES, CNI_CONFIGURATION, MANIFESTS):
        folder.mkdir(parents=True, exist_ok=True)
    logs = _mount_share(Path(config.share)) if config.has_kernel else Path(config.share)
    DISK.symlink_to(logs / DISK.name)
    return logs


def _mount_for_containers() -> None:
    """Mount what containerd and kubelet need. Mounts are shared, as systemd does, so that containers may see new ones.

    cAdvisor looks for the clock rate of the processor, which User Mode Linux does not tell. The copy is on a file
    system of its own: the kubelet takes that of the mount for the one of the images.
    """
    syscalls.mount("none", Path("/"), flags=syscalls.MS_SHARED | syscalls.MS_REC)
    for folder, kind in _CONTAINER_MOUNTS.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        syscalls.mount(kind, Path(folder), kind)
    _mount_disk()
    copy = Path("/run/cpuinfo/cpuinfo")
    copy.write_text(Path("/proc/cpuinfo").read_text().rstrip("\n") + "\ncpu MHz\t\t: 2000.000\n\n")
    syscalls.mount(str(copy), Path("/proc/cpuinfo"), flags=syscalls.MS_BIND)


def _mount_disk() -> None:
    """Mount the node's disk on /var/lib, and keep the configuration of CNI on it as a server does."""
    device = Path("/dev/ubda")  # by this name the kubelet finds it among the kernel's disks
    if not device.exists():
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(*_DISK))
    options = "commit=1,barrier=0"  # what is written outlives a cut of power, as the host has it; and fsync is fast
    syscalls.mount(str(device), Path("/var/lib"), "ext4", data=options)
    kept = Path("/var/lib/cni/configuration")
    kept.mkdir(parents=True, exist_ok=True)
    CNI.mkdir(parents=True)
    syscalls.mount(str(kept), CNI, flags=syscalls.MS_BIND)


def _mount_share(share: Path) -> Path:
    """Mount the only writable folder of the host; written back soon, because tests read the logs on the host."""
    _SHARE.mkdir()
    syscalls.mount("none", _SHARE, "hostfs", data=str(share))
    _write_sysctls(_PROMPT_WRITEBACK)
    return _SHARE


def _join_fabric(config: NodeConfig) -> None:
    _write_sysctls(_NODE_SYSCTLS)
    if config.has_kernel:
        socket.sethostname(config.node.name)  # pods in the node's network have its name
        namespaces.ip_batch(_named_links(config.node))
    namespaces.ip_batch(_addresses_and_routes(config.node, config.topology))
    for version in (4, 6):
        namespaces.ip_batch(_source_rules(config.node, version), version=version)


def _named_links(node: LabNode) -> Iterator[str]:
    """Name the NICs. The kernel numbers them as on its command line: the ENIs in order, then management."""
    for index, name in enumerate([*(eni.name for eni in node.enis), "mgmt"]):
        yield f"link set vec{index} name {name}"


def _addresses_and_routes(node: LabNode, topology: Topology) -> Iterator[str]:
    yield "link set lo up"
    yield f"address add {node.management}/{topology.management_prefix_length} dev mgmt"
    yield "link set mgmt up"
    for table, eni in enumerate(node.enis, start=_FIRST_TABLE):
        for config in eni.address_configs:
            no_dad = " nodad" if config.version == 6 else ""  # a tentative address may not be a route's source
            yield f"address add {config.interface} dev {eni.name}{no_dad}"
        yield f"link set {eni.name} mtu {eni.mtu} up"
        for config in eni.address_configs:
            yield from _eni_routes(eni.name, config, table)
    for config in node.enis[0].address_configs:
        yield f"route add default via {config.gateway} dev {node.enis[0].name}"


def _eni_routes(eni: str, config: AddressConfig, table: int) -> Iterator[str]:
    yield f"route add {config.subnet} dev {eni} src {config.address} table {table}"
    yield f"route add default via {config.gateway} dev {eni} table {table}"


def _source_rules(node: LabNode, version: int) -> Iterator[str]:
    """Route what is sent from an ENI's own address out by that ENI: the cloud drops it on any other."""
    for table, eni in enumerate(node.enis, start=_FIRST_TABLE):
        for config in eni.address_configs:
            if config.version == version:
                yield f"rule add from {config.address} lookup {table} pref {_SOURCE_RULE_PREFERENCE}"


def _write_sysctls(values: dict[str, str]) -> None:
    for name, value in values.items():
        (Path("/proc/sys") / name).write_text(value)


# --- children


def _children(config: NodeConfig, file: Path) -> list[Child]:
    services = config.services
    kubelet = _real_kubelet(services.real, file) if services and services.real else [_python("kubelet", file)]
    if services is None:
        return kubelet
    agent = [_agent(config.name, kubeconfig, services.agent_env)] if (kubeconfig := services.agent_kubeconfig) else []
    return [*kubelet, *agent, _kube_proxy(config.name, services)]


def _python(name: str, file: Path, module: str = "") -> Child:
    """A child that is a module of ours; kubelets set rules with the same tools as kube-proxy."""
    argv = [sys.executable, "-m", f"spiderpool_lab.{module or name}", str(file)]
    return Child(name, argv, {"PATH": f"{_TOOLS}:{_ENVIRONMENT['PATH']}"})


def _real_kubelet(real: RealKubelet, file: Path) -> list[Child]:
    """A container runtime, the kubelet, and the endpoint, which is the stand-in's elsewhere."""
    settings = STATE / "containerd.toml"
    settings.write_text(container_runtime.configuration(CNI_EXECUTABLES, CNI_CONFIGURATION))
    containerd = Child("containerd", [real.runtime.containerd, "--config", str(settings)], {"PATH": real.runtime.path})
    kubelet = _python("kubelet", file, "real_kubelet")
    return [containerd, _python("endpoint", file, "real_endpoint"), kubelet]


def _agent(node: str, kubeconfig: str, extra: dict[str, str]) -> Child:
    env = {
        "KUBECONFIG": kubeconfig,
        "SPIDERPOOL_NODE_NAME": node,
        "SPIDERPOOL_POD_NAMESPACE": "kube-system",
        "SPIDERPOOL_CNI_BIN_DIR": str(CNI_EXECUTABLES),
        "SPIDERPOOL_CNI_CONF_DIR": str(CNI_CONFIGURATION),
    }
    return Child("agent", [*_WITH_KUBECONFIG, sys.executable, "-m", "spiderpool.agent.main"], {**env, **extra})


def _kube_proxy(node: str, services: ClusterServices) -> Child:
    argv = [services.kube_proxy, f"--kubeconfig={services.proxy_kubeconfig}", f"--hostname-override={node}"]
    options = [
        f"--proxy-mode={services.proxy_mode}",
        "--ipvs-strict-arp",  # a node answers for no cluster IP that kube-proxy adds to a link of it
        *_pod_detection(services.proxy_mode),
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]
    return Child("kube-proxy", [*argv, *options], {"PATH": str(_TOOLS)})


def _pod_detection(mode: str) -> tuple[str, ...]:
    """How kube-proxy tells pods from outsiders: by their links; in mode ipvs by a range, which has no pod."""
    if mode == "ipvs":
        return (f"--cluster-cidr={POD_CIDR},{POD_CIDR6}",)
    return ("--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth")


def _link_tools() -> None:
    """Make a folder with iptables-legacy as iptables: User Mode Linux has no nftables backend for iptables."""
    _TOOLS.mkdir()
    for name, program in _PROXY_TOOLS.items():
        if found := shutil.which(program):
            (_TOOLS / name).symlink_to(found)


def _supervise(children: list[Child], logs: Path) -> None:
    """Start the children, and restart each that ends. As process 1 it reaps orphans, too.

    The processes are kept: ``subprocess`` reaps those that nobody refers to when it starts another one, so that the end
    of a child during the delay of another would not be seen here.
    """
    running = {process.pid: (child, process) for child in children for process in (_start(child, logs),)}
    while True:
        pid, status = os.wait()
        if pid in running:
            child, process = running.pop(pid)
            process.returncode = os.waitstatus_to_exitcode(status)
            print(f"{child.name} ended with {process.returncode}; starting it again", flush=True)
            time.sleep(RESTART_DELAY)
            again = _start(child, logs)
            running[again.pid] = (child, again)


def _start(child: Child, logs: Path) -> subprocess.Popen[bytes]:
    with (logs / f"{child.name}.log").open("ab") as log:
        process = subprocess.Popen(
            child.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **child.env}
        )
    pid_file(child.name).write_text(str(process.pid))
    return process


def _power_off(config: NodeConfig) -> None:
    if config.has_kernel:
        Path("/proc/sysrq-trigger").write_text("o")
        time.sleep(POWER_OFF_TIMEOUT)  # a kernel whose process 1 ends first panics


if __name__ == "__main__":
    main()
