"""Detection of pod and Service CIDRs from texts and CNI configurations; from objects: test_coordinator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spiderpool.controller.cidr_detection import (
    CIDRsUnknown,
    ClusterCIDRs,
    CNIFile,
    CNIPlugin,
    cidrs,
    detected_type,
    flag_networks,
    kubeadm_networks,
    network_type,
)

pytestmark = pytest.mark.unit


def conflist(name: str, *types: str) -> str:
    """A network configuration list with plugins of these types."""
    return json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": each} for each in types]})


class TestDirectory:
    @pytest.mark.parametrize(
        ("files", "found"),
        [
            ({}, "none"),
            ({"10-calico.conflist": conflist("k8s-pod-network", "calico")}, "calico"),
            ({"05-cilium.conf": '{"name":"cilium","type":"cilium-cni"}', "10-x.conf": "{"}, "cilium"),
            ({"10-flannel.conflist": conflist("cbr0", "flannel", "portmap")}, "cluster"),
            ({"10-own.conflist": conflist("mine", "flannel")}, "cluster"),
            ({"10-bridge.conflist": conflist("bridge", "bridge")}, "none"),
            (
                {
                    "00-multus.conf": '{"name":"multus","type":"multus"}',
                    "00-spiderpool.conflist": conflist("spiderpool", "spiderpool-attach"),
                    "10-calico.conflist": conflist("k8s-pod-network", "calico"),
                },
                "calico",
            ),
            ({"00-spiderpool.conflist": conflist("spiderpool", "spiderpool-attach")}, "none"),
            ({"01-other.json": conflist("cilium", "cilium-cni")}, "none"),
        ],
    )
    def test_the_first_configuration_that_is_not_a_meta_plugins_tells(
        self, tmp_path: Path, files: dict[str, str], found: str
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        assert detected_type(tmp_path) == found

    def test_no_directory_tells_nothing_and_a_broken_file_is_named(self, tmp_path: Path) -> None:
        assert detected_type(tmp_path / "absent") is None
        for broken in (b"{", b'{"name":"\xff"}'):
            (tmp_path / "10-broken.conflist").write_bytes(broken)
            with pytest.raises(CIDRsUnknown, match=r"10-broken\.conflist"):
                detected_type(tmp_path)

    @pytest.mark.parametrize(("name", "found"), [("10-calico.conflist", "calico"), ("10-flannel.conflist", "cluster")])
    def test_a_file_that_only_root_may_read_tells_by_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
    ) -> None:
        def refuse(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", refuse)
        (tmp_path / "00-multus.conf").touch()
        (tmp_path / name).touch()
        assert detected_type(tmp_path) == found
        (tmp_path / "05-unknown.conflist").touch()
        with pytest.raises(CIDRsUnknown, match=r"05-unknown\.conflist"):
            detected_type(tmp_path)

    def test_the_name_goes_before_the_plugins(self) -> None:
        assert network_type(CNIFile("cilium", plugins=[CNIPlugin("calico")])) == "cilium"
        assert network_type(CNIFile(type="calico")) == "calico"


class TestClusterNetworks:
    @pytest.mark.parametrize(
        ("text", "networks"),
        [
            (
                'networking:\n  podSubnet: "10.244.0.0/16, fd00:10::/56"\n  serviceSubnet: 10.96.0.0/12\n',
                ClusterCIDRs(("10.244.0.0/16", "fd00:10::/56"), ("10.96.0.0/12",)),
            ),
            ("networking: {serviceSubnet: 10.96.0.0/12}", ClusterCIDRs((), ("10.96.0.0/12",))),
            ("networking: [1]", ClusterCIDRs()),
            ("a: b: c", ClusterCIDRs()),
            ("", ClusterCIDRs()),
        ],
    )
    def test_kubeadm(self, text: str, networks: ClusterCIDRs) -> None:
        assert kubeadm_networks(text) == networks

    def test_flags(self) -> None:
        words = ["kube-controller-manager", "--cluster-cidr=10.1.0.0/16,x", "--service-cluster-ip-range", "10.2.0.0/16"]
        assert flag_networks(words) == ClusterCIDRs(("10.1.0.0/16",), ("10.2.0.0/16",))
        assert flag_networks(["--leader-elect"]) == ClusterCIDRs()

    def test_only_cidrs(self) -> None:
        assert cidrs([None, "10.0.0.1", "10.0.0.0/8 fd00::/8", 7]) == ("10.0.0.0/8", "fd00::/8")
