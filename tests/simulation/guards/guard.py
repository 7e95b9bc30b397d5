"""What a guard is, and how it is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Guard:
    """A few words of the product that keep an address safe, or the API server, or a node."""

    name: str
    protects: str
    """What it protects from, in one sentence."""
    file: str
    """Below ``src/spiderpool/``."""
    old: str
    """The guard: text that the file has exactly once."""
    new: str
    """What is there without it."""
    tests: str
    """The unit tests that concern it: files below ``tests/``, separated by spaces."""
    survives: str = ""
    """Why it is all right that nothing notices when it is missing; empty: something must."""

    def take_out(self, source: Path) -> None:
        """Take it out of a copy of ``src/``. Raises ValueError when the file does not have its text exactly once."""
        path = source / "spiderpool" / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"guard {self.name}: {self.file} has its text {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new))
