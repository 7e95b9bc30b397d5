"""The configuration of a network, up to the requests to the kernel that give a pod an interface of it.

An input is the text of a NetworkAttachmentDefinition's ``spec.config``, which a user writes.
"""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address

from spiderpool.api.cni import PortMapping
from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.network.attachment import (
    AttachmentPolicy,
    InterfacePlan,
    PodAttachment,
    SandboxTarget,
    kernel_attachment,
    plan_pod,
    with_ports,
)
from spiderpool.core.network.chains import Chain, DelegatedNetwork, Invocation, configuration
from spiderpool.core.network.plumbing.parents import plan_parent
from spiderpool.core.network.plumbing.planning import plan
from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateBond,
    CreateLink,
    CreateVeth,
    Enslave,
    MoveLink,
    SetLink,
    Step,
)
from spiderpool.core.network.plumbing.values import Link, NodeAddress, Observation
from spiderpool.kernel import messages
from spiderpool.kernel import rtnetlink as rt
from spiderpool.kernel.applying import apply
from tests.fuzzing.kernel import PretendKernel, acknowledged, message
from tests.fuzzing.parts import each_alone

BY_NETLINK = (
    *(AddAddress, AddNeighbour, AddRoute, AddRule, CreateBond, CreateLink, CreateVeth, Enslave, MoveLink, SetLink),
)
"""Steps that speak to the kernel by a socket; the others write files or execute programs."""
POLICY = AttachmentPolicy("default/network", "kube-system")
POD = Pod(metadata=ObjectMeta(name="pod", namespace="default", uid="uid"))
GRANTS = (
    Grant("10.6.0.9/16", "pool", "10.6.255.254", (("10.9.0.0/16", "10.6.0.1"),)),
    Grant("fd00::9/64", "pool6", "fd00::1", ()),
)
NODE = (NodeAddress("eth0", ip_address("10.6.0.1")), NodeAddress("eth0", ip_address("fd00::2")))
SOURCES = tuple(held.address for held in NODE)
CAPABILITIES = {"mac": "02:00:00:00:00:01", "ips": ["10.6.0.9"], "deviceID": "0000:00:01.0"}
PORTS = (PortMapping(8080, 80),)


def run(data: bytes) -> None:
    """Plan a pod with the network, and carry the plan out."""
    definition = NetworkAttachmentDefinition(
        metadata=ObjectMeta(name="network", namespace="default"), spec=NADSpec(config=data.decode(errors="replace"))
    )
    attachment = plan_pod(POD, "eth0", POLICY, lambda _: definition)
    parts = (partial(_attach, attachment, each) for each in attachment.interfaces)
    each_alone(lambda: with_ports(attachment, PORTS, None), *parts)


def _attach(attachment: PodAttachment, one: InterfacePlan) -> None:
    chain = one.chain
    if isinstance(chain, DelegatedNetwork):
        each_alone(lambda: chain.coordinated, lambda: chain.host_rule_table, lambda: _execute(chain))
    else:
        each_alone(
            lambda: _make_parent(chain),
            *(partial(_create, attachment, one, GRANTS[:number]) for number in range(len(GRANTS) + 1)),
        )


def _execute(network: DelegatedNetwork) -> None:
    invocation = Invocation("container", "/run/netns/pod", "eth0", "", CAPABILITIES, {"key": "value"})
    for raw in network.plugins:
        configuration(network, raw, invocation, b'{"ips": []}')


def _make_parent(chain: Chain) -> None:
    if chain.parent is not None:
        nics = [Link(name, number) for number, name in enumerate(dict.fromkeys(chain.parent.nics), 2)]
        _carry_out(plan_parent(chain.parent, tuple(nics)))


def _create(attachment: PodAttachment, one: InterfacePlan, grants: tuple[Grant, ...]) -> None:
    wanted = kernel_attachment(SandboxTarget("container", "/run/netns/pod"), attachment, one, grants, None)
    _carry_out(plan(wanted, Observation(Link(wanted.master, 2), taken=False, addresses=NODE[:1], sources=SOURCES)))


def _carry_out(steps: tuple[Step, ...]) -> None:
    """Send what a plan says to a kernel that agrees to everything."""
    link = messages.link_header(2) + rt.text(3, "eth0") + rt.number(4, 1500)
    kernel = PretendKernel(lambda _: acknowledged(message(rt.NEWLINK, link))).kernel()
    apply(kernel, [step for step in steps if isinstance(step, BY_NETLINK)])
