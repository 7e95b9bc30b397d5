"""A lab's topology as an account, and the account's changes back in the fabric."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.cloud_account import follow, populate
from spiderpool_lab.topology import WALKTHROUGH

pytestmark = pytest.mark.unit


def test_the_cloud_knows_every_eni_of_the_lab() -> None:
    account = Account()
    instances = populate(account, WALKTHROUGH)
    for node in WALKTHROUGH.nodes:
        found = account.enis_of(instances[node.name])
        assert [(eni.mac, eni.addresses) for eni in found] == [
            (eni.mac, (eni.address, *eni.secondaries)) for eni in node.enis
        ]
        assert found[0].primary
        assert len(found[0].addresses) <= account.type_of(instances[node.name]).addresses


def test_addresses_that_come_and_go_are_reported_to_the_fabric() -> None:
    account = Account()
    instances = populate(account, WALKTHROUGH)
    reported: list[tuple[str, str, str]] = []
    end = follow(
        account,
        WALKTHROUGH,
        lambda eni, address: reported.append(("register", eni.mac, address)),
        lambda eni, address: reported.append(("unregister", eni.mac, address)),
    )
    eni = account.enis_of(instances["master"])[0]
    eni = account.tables.enis.put(replace(eni, secondaries=(*eni.secondaries, "172.31.200.1")))
    account.tables.enis.put(replace(eni, secondaries=eni.secondaries[:-1], source_check=False))
    end()
    account.tables.enis.remove(eni.identity)
    expected = [("register", eni.mac, "172.31.200.1"), ("unregister", eni.mac, "172.31.200.1")]
    assert reported == expected
