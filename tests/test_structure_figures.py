"""The figures about the structure, on a checkout of a few lines."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from scripts.structure import Entry, Function, Layout, changes, figures, firsts, length, parameters, quantile

pytestmark = pytest.mark.unit


def function(text: str) -> Function:
    node = ast.parse(text).body[0]
    assert isinstance(node, Function)
    return node


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f(): ...", 0),
        ("def f(self, a, /, b, *, c): ...", 3),
        ("def f(cls): ...", 0),
        ("def f(a, *more, b=1, **rest): ...", 4),
    ],
)
def test_parameters_are_counted_without_self(text: str, count: int) -> None:
    assert parameters(function(text)) == count


def test_the_length_of_a_function_leaves_decorators_out() -> None:
    assert length(function("@one\n@two\ndef f(\n    a,\n):\n    return a\n")) == 4


def test_quantiles() -> None:
    assert [quantile(list(range(1, 11)), percent) for percent in (50, 90, 100)] == [6, 10, 10]


@pytest.mark.parametrize("lab", ["src/spiderpool_lab", "src/spiderpool/lab"])
def test_figures_of_a_checkout(tmp_path: Path, lab: str) -> None:
    texts = {
        "src/spiderpool/agent/main.py": "# why\nclass A:\n    def f(self, a, b, c, d, e, g): ...\n",
        "src/spiderpool/core/ipam.py": "class A: ...\n" + "def long():\n" + "    pass\n" * 30,
        f"{lab}/main.py": "class A: ...\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert Layout.of(tmp_path).lab == tmp_path / lab
    found = dict(figures(tmp_path))
    assert found["product: files, lines"] == "2, 35"
    assert found["lab: files, lines"] == "1, 1"
    assert found["commented lines in agent/"] == "1 in 3 lines"
    assert found["product: functions over 30 lines"] == 1
    assert found["product: functions with more than 5 parameters"] == 1
    assert found["class names in more than two modules"] == 1


def test_a_folder_without_the_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="src/spiderpool does not exist"):
        Layout.of(tmp_path)


def test_the_path_of_an_add_is_read_from_its_calls() -> None:
    calls = [
        Entry("agent/server.py", "serve", ""),
        Entry("core/ipam/selection.py", "select", "agent/server.py"),
        Entry("api/ippool.py", "read", "core/ipam/selection.py"),
        Entry("core/ipam/selection.py", "select", "agent/server.py"),
        Entry("agent/server.py", "answer", "agent/server.py"),
    ]
    assert [entry.function for entry in firsts(calls)] == ["serve", "select", "read", "answer"]
    assert changes(calls) == 2
    assert (calls[1].folder, calls[1].from_folder) == ("core", "agent")
