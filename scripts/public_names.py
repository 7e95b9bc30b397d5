"""Print what users, other programs and dashboards know of the product by name, sorted, one line for each name.

``python -m scripts.public_names [--root DIR]``. DIR is the checkout to read, this one by default; it needs a ``.venv``.
Compare two checkouts with ``diff``: a refactoring must not change a line without a reason. Names that can be read are
read from the source. Settings, commands, JSON and annotations of Services are found by running the code: their names
and defaults then do not depend on how the code declares them. The lab and descriptions are left out.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent.parent
PROBE = Path(__file__).with_name("public_names_probe.py")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
METRICS = ("Counter", "Gauge", "Histogram", "Summary", "ComputedGauge")
KERNEL = re.compile(r"spiderpool/(kernel|core/(network/)?plumbing)/")
KINDS = {
    "variable": re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+"),
    "key": re.compile(r"[a-z0-9.-]+\.[a-z]+/[\w.{}/-]*"),
    "path": re.compile(r"[\w.{}-]*/[\w.{}:/-]*|[\w.{}-]+\.(json|conf|conflist|sock|lock|yml|crt|key|pem)"),
}
"""Kind → the words of that kind; all other words are of kind ``word``."""

Lines = Iterator[str]


class Module:
    """One Python file of the product: its calls, and its strings without docstrings."""

    def __init__(self, path: Path, constants: dict[str, str]) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text())
        self._constants = constants  # of all modules; updated with ours
        for name, value in self._assigned():
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                constants[name] = value.value

    def _assigned(self) -> Iterator[tuple[str, ast.expr]]:
        for node in self.tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and isinstance(value := getattr(node, "value", None), ast.expr):
                yield target.id, value

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """All calls of a function or method of one of these names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", None)) in names:
                yield node

    def text(self, node: ast.expr) -> str:
        """A string as it is at run time, with ``{}`` for what is unknown; other expressions as they are written."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(self._part(part) for part in parts)
            case ast.Name(id=name) if name in self._constants:
                return self._constants[name]
            case ast.Call():
                return f"({', '.join(map(ast.unparse, node.args))})"
            case _:
                return ast.unparse(node)

    def _part(self, part: ast.expr) -> str:
        if isinstance(part, ast.FormattedValue):
            return self._constants.get(part.value.id, "{}") if isinstance(part.value, ast.Name) else "{}"
        return self.text(part)

    def strings(self) -> Iterator[str]:
        """All strings that are values."""
        pending: list[ast.AST] = [self.tree]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.JoinedStr | ast.Constant):
                if isinstance(node, ast.JoinedStr) or isinstance(node.value, str):
                    yield self.text(node)
                continue
            pending += (child for child in ast.iter_child_nodes(node) if not _is_code(child))

    def numbers(self) -> Iterator[str]:
        """The numbers and ranges of the module that have a name."""
        for assignment in self.tree.body:
            for node in ast.walk(assignment) if isinstance(assignment, ast.Assign | ast.AnnAssign) else ():
                if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
                    yield hex(node.value)


def _is_code(node: ast.AST) -> bool:
    """Whether the strings in a node are no values: docstrings, the names that a module exports, pages of docs/."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]) | ast.keyword(arg="page"):
            return True
        case _:
            return False


def modules(root: Path) -> list[Module]:
    """The product's files, without the lab."""
    product, constants = root / "src" / "spiderpool", dict[str, str]()
    paths = sorted(path for path in product.rglob("*.py") if "lab" not in path.relative_to(product).parts)
    return [Module(path, constants) for path in paths]


def definitions(root: Path) -> Lines:
    """All fields of the CustomResourceDefinitions, with types, defaults, enums and columns."""
    for path in sorted(root.glob("charts/*/crds/*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield from (f"crd {document['metadata']['name']} {line}" for line in _leaves(document))


def _leaves(value: Any, path: str = "") -> Lines:
    """The leaves of a document as ``path = value``, without descriptions."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key != "description" or not isinstance(inner, str):
                yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield f"{path.removeprefix('.')} = {json.dumps(value)}"


def permissions(root: Path) -> Lines:
    """The templates of the charts line by line, without comments; numbered to keep their order."""
    for path in sorted(root.glob("charts/*/templates/*.yaml")):
        lines = [re.sub(r"(^|\s+)#.*", "", line) for line in path.read_text().splitlines()]
        for number, line in enumerate(filter(None, lines), 1):
            yield f"rbac {path.name} {number:03} {line}"


def programs(root: Path) -> Lines:
    """The console scripts of the product."""
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    yield from (f"program {name}" for name, place in scripts.items() if ".lab." not in place)


def words(module: Module) -> Lines:
    """All strings without blanks: names of all kinds, words of protocols, and names that only the code uses."""
    for text in module.strings():
        if text and not re.search(r"\s", text) and text != "{}":
            yield f"{next((kind for kind, form in KINDS.items() if form.fullmatch(text)), 'word')} {text}"


def logs(module: Module) -> Lines:
    """The log lines of a module: component, level, text and keys."""
    names = [module.text(call.args[0]) for call in module.calls("logger") if call.args]
    for call in module.calls(*LEVELS):
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "log":
            keys = " ".join(sorted(str(keyword.arg) for keyword in call.keywords))
            yield f"log {''.join(names)} {call.func.attr} {module.text(call.args[0])!r} {keys}".rstrip()
    for call in module.calls("bind_contextvars", "bound_contextvars"):
        yield f"log-context {' '.join(sorted(str(keyword.arg) for keyword in call.keywords))}"
    yield from (f"log-component {name}" for name in names)


def metrics(module: Module) -> Lines:
    """The metrics of a module: type, name, labels and buckets."""
    for call in module.calls(*METRICS):
        if len(call.args) < 2:  # without a description: a Counter of the standard library
            continue
        rest = [ast.unparse(each) for each in call.args[2:]]
        rest += [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in call.keywords]
        yield f"metric {ast.unparse(call.func)} {module.text(call.args[0])} {' '.join(rest)}".rstrip()
    for call in module.calls("labels"):
        values = [module.text(each) for each in call.args if isinstance(each, ast.Constant)]
        yield from (f"metric-label {value}" for value in values)


def events(module: Module) -> Lines:
    """The reasons of Events that a module declares, with their types."""
    for call in module.calls("EventReason"):
        type_ = next((module.text(each.value) for each in call.keywords if each.arg == "type"), "Warning")
        yield f"event {type_} {module.text(call.args[0])}"


def routes(module: Module) -> Lines:
    """The HTTP paths that a module serves."""
    for call in module.calls("add_get", "add_post", "add_put", "add_delete", "add_route"):
        if "router" in ast.unparse(call.func):
            yield f"http {call.func.attr.removeprefix('add_')} {module.text(call.args[0])}"  # type: ignore[attr-defined]


def error_codes(module: Module) -> Lines:
    """The CNI error codes that the classes of a module carry."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                    yield f"cni-code {ast.unparse(line.value)}"


def kernel(module: Module) -> Lines:
    """Numbers that have a name, and the lines of rules, of a module that decides about or speaks to the kernel."""
    if KERNEL.search(str(module.path)):
        yield from (f"kernel-number {number}" for number in module.numbers())
        for text in module.strings():
            yield from (f"kernel-line {line.strip()}" for line in text.splitlines() if "\n" in text and line.strip())


def probed(root: Path) -> Lines:
    """What shows only when the code runs, with the libraries of that checkout."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(root / ".venv" / "bin" / "python"), str(PROBE)]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} has failed:\n{done.stderr}")
    yield from done.stdout.splitlines()


def public_names(root: Path) -> Lines:
    """All lines of a checkout, in no order and with repetitions."""
    for part in (definitions, permissions, programs, probed):
        yield from part(root)
    for module in modules(root):
        for reading in (words, logs, metrics, events, routes, error_codes, kernel):
            yield from reading(module)


def _unique(lines: Iterable[str]) -> list[str]:
    """The lines, sorted, each once, with control characters as Python writes them."""
    return sorted({re.sub(r"[\x00-\x1f]", lambda found: repr(found[0])[1:-1], line) for line in lines})


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=HERE, help="the checkout to read")
    print("\n".join(_unique(public_names(parser.parse_args().root.resolve()))))


if __name__ == "__main__":
    main()
