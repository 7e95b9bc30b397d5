"""The simulation runs the product as it is: it subclasses none of its classes and changes nothing of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parent
PATCHING = {"mock", "monkeypatch", "patch", "setattr", "reload"}


def product_names(tree: ast.Module) -> set[str]:
    """Names by which a module knows the product, or parts of it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "spiderpool":
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.asname or "spiderpool" for alias in node.names if alias.name.partition(".")[0] == "spiderpool"
            }
    return found


def root(node: ast.expr) -> str:
    """The first name of an expression like ``a.b.c``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def faults(text: str) -> list[str]:
    """Places at which a module makes the product another one."""
    tree = ast.parse(text)
    names = product_names(tree)
    return [f"line {line}: {fault}" for node in ast.walk(tree) for line, fault in _faults_of(node, names)]


def _faults_of(node: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    match node:
        case ast.ClassDef() if any(root(base) in names for base in node.bases):
            yield node.lineno, f"class {node.name} is derived from a class of the product"
        case ast.Assign() | ast.Delete():
            yield from ((node.lineno, f"{ast.unparse(each)} is changed") for each in _parts(node.targets, names))
        case ast.AugAssign() | ast.AnnAssign():
            yield from ((node.lineno, f"{ast.unparse(each)} is changed") for each in _parts([node.target], names))
        case ast.Name() if node.id in PATCHING:
            yield node.lineno, node.id
        case ast.Attribute() if node.attr.startswith("_") and root(node) in names:
            yield node.lineno, f"{ast.unparse(node)} is private to the product"


def _parts(targets: Sequence[ast.expr], names: set[str]) -> Iterator[ast.expr]:
    """Targets of an assignment that are parts of the product."""
    return (each for each in targets if isinstance(each, ast.Attribute | ast.Subscript) and root(each) in names)


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_class_of_the_product_is_derived_or_changed(module: Path) -> None:
    if module.name != Path(__file__).name:
        assert faults(module.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "from spiderpool.agent.gc import NodeGC\nclass Mine(NodeGC): pass",
        "from spiderpool.agent import gc\nclass Mine(gc.NodeGC): pass",
        "from spiderpool.agent import gc\ngc.PERIOD = 1.0",
        "import spiderpool.agent.gc\nspiderpool.agent.gc.PERIOD = 1.0",
        "from spiderpool.agent.gc import NodeGC\nsetattr(NodeGC, 'run', None)",
        "from spiderpool.agent.gc import NodeGC\nNodeGC._sweep(None)",
        "from unittest.mock import patch\npatch('spiderpool.agent.gc.PERIOD', 1.0)",
    ],
)
def test_the_rule_sees(text: str) -> None:
    assert faults(text)
