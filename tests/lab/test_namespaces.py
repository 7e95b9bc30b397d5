"""Named network namespaces: whoever removes one may have a rival."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from spiderpool_lab import namespaces

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

RIVALS = 8
ROUNDS = 5


def test_several_may_remove_one_at_the_same_time() -> None:
    """A lab that goes down looks to other processes as if it had been left behind, and they remove it as well."""
    name = "spl-rivals-test"
    with ThreadPoolExecutor(RIVALS) as pool:
        for _ in range(ROUNDS):
            netns = namespaces.create(name)
            for removed in [pool.submit(namespaces.remove, name) for _ in range(RIVALS)]:
                removed.result(30)
            assert not netns.exists()
