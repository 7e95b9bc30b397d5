"""Measure how the source is cut: sizes of files and functions, names that stand twice, the path of one pod ADD.

``python -m scripts.structure [--root DIR] [--add [TEST]]``. DIR is the checkout to measure, this one by default; it
needs a ``.venv`` for ``--add``. ``--add`` runs a test that starts an agent and attaches a pod, and prints the functions
that the agent enters for its first CNI call. TEST is a pytest expression (``-k``); the test needs root.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent.parent
TRACING = HERE / "scripts" / "tracing"
ATTACH = "tests/agent/test_attach.py"
FIRST_TEST = "test_two_networks_that_the_agent_makes"
LONG = 30  # lines
MANY = 5  # parameters
PATIENCE = 600  # seconds for the test of --add, first builds included

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file, parsed."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        """Lines, blank ones included."""
        return self.text.count("\n")

    @property
    def comments(self) -> int:
        """Lines with a comment, but for marks of linters and the type checker."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        comments = (token.string for token in tokens if token.type == tokenize.COMMENT)
        return sum(not re.search(r"noqa|type: ignore", comment) for comment in comments)

    @property
    def functions(self) -> Iterator[Function]:
        """All functions and methods, nested ones included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    @property
    def classes(self) -> Iterator[str]:
        """Names of the classes of the module."""
        return (node.name for node in self.tree.body if isinstance(node, ast.ClassDef))


@dataclass(frozen=True)
class Layout:
    """Where a checkout keeps the product and the lab."""

    product: Path
    lab: Path

    @classmethod
    def of(cls, root: Path) -> Layout:
        """Find the lab: a package of its own, or inside the product. Raises FileNotFoundError without a product."""
        product = root / "src" / "spiderpool"
        if not product.is_dir():
            raise FileNotFoundError(f"{product} does not exist")
        apart = root / "src" / "spiderpool_lab"
        return cls(product, apart if apart.is_dir() else product / "lab")

    def product_sources(self) -> list[Source]:
        """The product's files, without the lab's."""
        return [source for source in sources(self.product) if not source.path.is_relative_to(self.lab)]


def sources(folder: Path) -> list[Source]:
    """All Python files below a folder."""
    return [Source(path, path.read_text()) for path in sorted(folder.rglob("*.py"))]


def length(function: Function) -> int:
    """Lines of a function, without its decorators."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def parameters(function: Function) -> int:
    """Number of parameters, without ``self`` and ``cls``; ``*args`` and ``**kwargs`` count."""
    declared = function.args
    names = [argument.arg for argument in (*declared.posonlyargs, *declared.args)]
    more = len(declared.kwonlyargs) + (declared.vararg is not None) + (declared.kwarg is not None)
    return len(names) - (names[:1] in (["self"], ["cls"])) + more


def homes(files: Iterable[Source]) -> dict[str, list[Source]]:
    """The modules that define each class name."""
    found: defaultdict[str, list[Source]] = defaultdict(list)
    for source in files:
        for name in source.classes:
            found[name].append(source)
    return dict(found)


def figures(root: Path) -> list[tuple[str, object]]:
    """The table: what is counted, and the number."""
    layout = Layout.of(root)
    product, lab = layout.product_sources(), sources(layout.lab)
    wheel = [path for path in layout.product.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [
        ("product: files, lines", f"{len(product)}, {sum(source.lines for source in product)}"),
        ("lab: files, lines", f"{len(lab)}, {sum(source.lines for source in lab)}"),
        ("lines of the product wheel", sum(path.read_text().count("\n") for path in wheel)),
        *comment_figures(layout),
        *((f"product: {what}", figure) for what, figure in function_figures(product)),
        *((f"lab: {what}", figure) for what, figure in function_figures(lab)),
        *name_figures([*product, *lab]),
    ]


def comment_figures(layout: Layout) -> Iterator[tuple[str, object]]:
    """How many commented lines the folders of the node daemon and of the decisions hold."""
    for folder in ("agent", "core"):
        files = sources(layout.product / folder)
        comments, lines = sum(source.comments for source in files), sum(source.lines for source in files)
        yield f"commented lines in {folder}/", f"{comments} in {lines} lines"


def function_figures(files: Iterable[Source]) -> Iterator[tuple[str, object]]:
    """Sizes of the functions of some files."""
    functions = [function for source in files for function in source.functions]
    lengths = sorted(map(length, functions)) or [0]
    yield f"functions over {LONG} lines", sum(lines > LONG for lines in lengths)
    yield f"functions with more than {MANY} parameters", sum(parameters(each) > MANY for each in functions)
    yield "function length: median, 90th percentile", f"{quantile(lengths, 50)}, {quantile(lengths, 90)}"


def name_figures(files: Iterable[Source]) -> Iterator[tuple[str, object]]:
    """How many class names stand in several modules, private ones included."""
    counts = [len(found) for found in homes(files).values()]
    yield "class names in more than one module", sum(count > 1 for count in counts)
    yield "class names in more than two modules", sum(count > 2 for count in counts)


def quantile(ordered: list[int], percent: int) -> int:
    """The value at a percentile of an ordered list."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@dataclass(frozen=True)
class Entry:
    """One call of a function: file and qualified name, and the file of its caller (empty: a task or thread begins)."""

    file: str
    function: str
    caller: str

    @property
    def folder(self) -> str:
        """The folder of the function."""
        return self.file.partition("/")[0]

    @property
    def from_folder(self) -> str:
        """The folder of the caller."""
        return self.caller.partition("/")[0]


def trace_add(root: Path, test: str) -> list[Entry]:
    """Run a test of attaching in a checkout and read what its agent recorded. Ends the program when it fails."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "entries.json"
        environment = {
            **os.environ,
            "PYTHONPATH": str(TRACING),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SPIDERPOOL_TRACE_ADD": str(output),
        }
        command = [str(root / ".venv/bin/pytest"), "-q", "-p", "no:cacheprovider", ATTACH, "-k", test]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        if not output.exists():
            sys.exit(f"the agent recorded nothing; the test ended with {done.returncode}:\n{done.stdout[-3000:]}")
        return [Entry(**entry) for entry in json.loads(output.read_text())]


def firsts(entries: Iterable[Entry]) -> list[Entry]:
    """The first call of each function."""
    first: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        first.setdefault((entry.file, entry.function), entry)
    return list(first.values())


def print_add(entries: list[Entry]) -> None:
    """Print the functions in order of first entry, and how often calls cross between agent/ and core/."""
    first = firsts(entries)
    for number, entry in enumerate(first, 1):
        print(f"{number:4}  {entry.file:40} {entry.function}")
    crossings = [(entry.from_folder, entry.folder) for entry in entries]
    files = {entry.file for entry in entries}
    print_table(
        [
            ("calls", len(entries)),
            ("functions", len(first)),
            ("files", len(files)),
            ("files of agent/", sum(file.startswith("agent/") for file in files)),
            ("files of core/", sum(file.startswith("core/") for file in files)),
            ("calls from agent/ to core/", crossings.count(("agent", "core"))),
            ("calls from core/ to agent/", crossings.count(("core", "agent"))),
            ("changes between agent/ and core/, all calls in order", changes(entries)),
            ("changes between agent/ and core/, first entries in order", changes(first)),
        ]
    )


def changes(entries: Iterable[Entry]) -> int:
    """How often the folder changes between agent/ and core/ along some calls."""
    folders = [entry.folder for entry in entries if entry.folder in ("agent", "core")]
    return sum(before != after for before, after in pairwise(folders))


def print_table(rows: Iterable[tuple[str, object]]) -> None:
    """Print names and figures in two columns."""
    for what, figure in rows:
        print(f"{what:58} {figure}")


def main() -> None:
    """Print the table of a checkout, and with ``--add`` the path of one pod ADD."""
    parser = argparse.ArgumentParser(prog="python -m scripts.structure", description=__doc__)
    parser.add_argument("--root", type=Path, default=HERE, help="checkout to measure")
    parser.add_argument("--add", nargs="?", const=FIRST_TEST, metavar="TEST", help="trace the first ADD of a test")
    options = parser.parse_args()
    root = options.root.resolve()
    print_table(figures(root))
    if options.add:
        print(f"\none pod ADD ({options.add}), functions in order of first entry")
        print_add(trace_add(root, options.add))


if __name__ == "__main__":
    main()
