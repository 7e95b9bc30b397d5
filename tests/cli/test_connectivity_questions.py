"""`spiderpoolctl connectivity test` in large clusters: how many questions, which ones, and what is refused before."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product

import pytest

from spiderpool.cli.connectivity import objects
from spiderpool.cli.connectivity.matrix import ProbePod, left_out, most_questions, questions
from spiderpool.cli.connectivity.preparation import ProbeSize, check_questions
from spiderpool.errors import Refused
from tests.cli.test_connectivity import PODS, SERVICES, host, pod

pytestmark = pytest.mark.unit


def large(nodes: int, networks: int, pods: int) -> list[ProbePod]:
    """Pods on each network and node, and the nodes."""
    sites = [(node, network) for network in range(networks) for node in range(nodes) for _ in range(pods)]
    return [
        *(
            pod(
                f"p{at}",
                f"n{node}",
                f"10.{network}.{at // 250}.{at % 250}",
                f"fd00::{at + 1:x}",
                network=f"net{network}",
            )
            for at, (node, network) in enumerate(sites)
        ),
        *(host(f"n{node}", f"192.0.2.{node}") for node in range(nodes)),
    ]


def test_questions_grow_with_the_pods_and_each_pair_of_nodes_and_of_networks_is_still_asked() -> None:
    pods = large(nodes=7, networks=10, pods=2)
    asked = questions(pods, SERVICES)
    of_pod = Counter(each.pod for each in asked)
    assert max(of_pod.values()) <= most_questions(len(pods), 0)[1]
    assert len(asked) <= most_questions(len(pods), 0)[0] < 20_000
    known = {each.name: each for each in pods}
    pairs = [(known[each.pod], known[name]) for each in asked for name in each.answered_by if len(each.answered_by) == 1
             and name in known]  # fmt: skip
    names = [f"n{number}" for number in range(7)]
    assert {(source.node, target.node) for source, target in pairs} == set(product(names, names))
    networks = {f"net{number}" for number in range(10)}
    assert {(source.network, target.network) for source, target in pairs} >= set(product(networks, networks))
    assert {each.name for _, each in pairs} == known.keys()
    assert asked == questions(pods, SERVICES)
    annotation = objects.questions_annotation(
        1, [(at, each) for at, each in enumerate(asked) if each.pod == "p3"], {"timeout": 2.0}
    )
    assert len(annotation) < 20_000


def test_what_is_left_out_of_a_large_test_is_said() -> None:
    assert left_out(PODS) == left_out([]) == ""
    assert re.match(r"of 21420 pairs of pods \d+ were asked, at most 24 by each pod", left_out(large(7, 10, 2)))


@pytest.mark.parametrize(
    ("size", "nodes", "networks", "option"),
    [
        (ProbeSize((), (), 2), 300, 1, "--nodes, which is 300 now"),
        (ProbeSize((), (), 2), 8, 40, "--networks, which is 40 now"),
        (ProbeSize((), (), 10), 8, 9, "--addresses-per-network, which is 10 now"),
        (ProbeSize((), (), 1, outside=2000), 2, 1, "--egress and --load-balancer"),
    ],
)
def test_a_test_with_too_many_questions_names_the_option_to_change(
    size: ProbeSize, nodes: int, networks: int, option: str
) -> None:
    with pytest.raises(Refused, match=f"questions.*fewer by {option}$"):
        check_questions(size, nodes, [f"n{number}" for number in range(networks)])
    check_questions(ProbeSize((), (), 2), 8, [f"n{number}" for number in range(10)])
