"""Run by the Python of an image while the image is built, so that no result depends on this machine's Python and zlib.

It imports the standard library alone.
"""

import gzip
import importlib.util
import shutil
import sys
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]
from pathlib import Path


def compile_below(root: Path) -> None:
    """Compile every module below ``root``, which stands for ``/``.

    The bytecode names the hash of its source, without a time, and is not compared with it: nobody writes in an image.
    """
    for source in sorted(root.rglob("*.py")):
        text = source.read_bytes()
        code = compile(text, f"/{source.relative_to(root)}", "exec", dont_inherit=True)
        target = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(_code_to_hash_pyc(code, importlib.util.source_hash(text), checked=False))


def compress(source: Path, target: Path) -> None:
    """Compress a file with gzip, without its name and time."""
    with (
        source.open("rb") as plain,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as compressed,
    ):
        shutil.copyfileobj(plain, compressed, 1 << 20)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["compile", root]:
            compile_below(Path(root))
        case ["compress", source, target]:
            compress(Path(source), Path(target))
