"""Errors: the table at the top of the module is correct, and no failure of several is lost."""

from __future__ import annotations

import re

import pytest

from spiderpool import errors
from spiderpool.errors import BadConfig, Drift, KernelFailure, SpiderpoolError, raise_all

pytestmark = pytest.mark.unit

CLASSES: dict[str, type[SpiderpoolError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, SpiderpoolError)
}


def test_the_table_at_the_top_lists_every_class_with_its_parent_code_and_retriability() -> None:
    parents, listed = {0: "Exception"}, {}  # indentation → the class that has children there
    for indent, name, code, again in re.findall(
        r"^    ((?:│   )?(?:[├└]── )?)(\w+) +(\d+)(?:   (yes|no))?", errors.__doc__ or "", re.MULTILINE
    ):
        level = len(indent) // 4
        listed[name] = (parents[level], int(code), again == "yes")
        parents[level + 1] = name
    real = {name: (kind.__bases__[0].__name__, kind.code, kind.retriable) for name, kind in CLASSES.items()}
    assert listed == real


def test_no_failure_raises_nothing() -> None:
    raise_all([])


def test_the_only_failure_is_raised_as_it_is() -> None:
    failure = Drift("eth0 is down", "since boot")
    with pytest.raises(Drift) as caught:
        raise_all([failure])
    assert caught.value is failure
    assert failure.details == "since boot"


@pytest.mark.parametrize("details", ["", "EBUSY"])
def test_the_first_of_several_failures_is_raised_with_the_others_in_its_details(details: str) -> None:
    others: list[SpiderpoolError] = [BadConfig("no such mode"), KernelFailure("link is gone", "ENODEV")]
    with pytest.raises(KernelFailure) as caught:
        raise_all([KernelFailure("link is busy", details), *others])
    assert caught.value.message == "link is busy"
    own = f"{details}; " if details else ""
    assert caught.value.details == f"{own}no such mode; link is gone: ENODEV"
