"""A lab's topology as an account, and the account's changes back in the fabric."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.topologies import follow, populate
from spiderpool_lab.topology import WALKTHROUGH

pytestmark = pytest.mark.unit


def test_the_cloud_knows_every_card_of_the_lab() -> None:
    account = Account()
    instances = populate(account, WALKTHROUGH)
    for node in WALKTHROUGH.nodes:
        found = account.cards_of(instances[node.name])
        assert [(card.mac, card.addresses) for card in found] == [
            (card.mac, (card.address, *card.secondaries)) for card in node.cards
        ]
        assert found[0].primary
        assert len(found[0].addresses) <= account.type_of(instances[node.name]).addresses


def test_addresses_that_come_and_go_are_told_to_the_fabric() -> None:
    account = Account()
    instances = populate(account, WALKTHROUGH)
    told: list[tuple[str, str, str]] = []
    end = follow(
        account,
        WALKTHROUGH,
        lambda card, address: told.append(("register", card.mac, address)),
        lambda card, address: told.append(("unregister", card.mac, address)),
    )
    card = account.cards_of(instances["master"])[0]
    card = account.world.cards.put(replace(card, secondaries=(*card.secondaries, "172.31.200.1")))
    account.world.cards.put(replace(card, secondaries=card.secondaries[:-1], source_check=False))
    end()
    account.world.cards.remove(card.identity)
    expected = [("register", card.mac, "172.31.200.1"), ("unregister", card.mac, "172.31.200.1")]
    assert told == expected
