"""Both kinds of balancer say the same things, each in the words of its own API."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.loadbalancer.annotations import BOTH, BY_KIND
from spiderpool.core.cloud.loadbalancer.kinds import KINDS
from spiderpool.core.cloud.loadbalancer.values import Kind
from tests.core.pretend_balancers import CONFIGURATION, options

pytestmark = pytest.mark.unit

FULL: dict[Kind, dict[str, str]] = {
    "clb": {
        "address-type": "internet",
        "vswitch-id": "vsw-1",
        "ip": "192.168.0.9",
        "master-zoneid": "h",
        "slave-zoneid": "i",
        "resource-group-id": "rg-1",
        "instance-charge-type": "PayBySpec",
        "charge-type": "paybybandwidth",
    },
    "nlb": {"zone-maps": "h:vsw-h,i:vsw-i", "resource-group-id": "rg-1", "security-group-ids": "sg-1"},
}


@pytest.mark.parametrize("kind", BOTH)
def test_what_can_be_changed_is_changed_by_one_call_each(kind: Kind) -> None:
    dialect = KINDS[kind]
    changeable = [parameter for parameters in dialect.aspects.values() for parameter in parameters]
    assert sorted(changeable) == sorted(dialect.settings(options(kind, FULL[kind]), "web"))


@pytest.mark.parametrize("kind", BOTH)
def test_what_cannot_be_changed_is_explained_by_an_annotation(kind: Kind) -> None:
    dialect = KINDS[kind]
    assert sorted(dialect.fixed(options(kind, FULL[kind]))) == sorted(dialect.annotation_of)
    assert set(dialect.annotation_of.values()) <= BY_KIND[kind].keys()


@pytest.mark.parametrize("kind", BOTH)
def test_no_parameter_is_both(kind: Kind) -> None:
    dialect, asked = KINDS[kind], options(kind, FULL[kind])
    said = [*dialect.creation(asked, CONFIGURATION), *dialect.fixed(asked), *dialect.settings(asked, "web")]
    assert len(said) == len(set(said))


def test_a_health_check_belongs_to_the_listener_or_to_the_group() -> None:
    asked = {kind: options(kind, {"healthy-threshold": "4"}) for kind in BOTH}
    assert KINDS["clb"].listener("tcp", asked["clb"])["HealthyThreshold"] == "4"
    assert KINDS["nlb"].group("tcp", asked["nlb"])["HealthCheckConfig.HealthyThreshold"] == "4"
