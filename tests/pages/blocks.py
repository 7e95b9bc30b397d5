"""Blocks of code of a page, and the commands in them with what they print."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

PROMPT = "$ "
PROGRAMS = (
    *("ctr", "curl", "etcdctl", "etcdutl", "helm", "ip", "kubectl", "kubelet", "ls", "make", "nft", "sed", "sha256sum"),
    *("skopeo", "spiderpool-lab", "spiderpoolctl", "systemctl", "tc", "uv"),
)
"""First words of commands where a block has no prompts; so are loops, variables, and all of .venv/bin/."""
COMMAND = re.compile(rf"(?:{'|'.join(PROGRAMS)}) |\.venv/bin/|\w+=\S|for \w+ in [\w ]+(?:;|$)")
LANGUAGES = ("", "console")
"""Of blocks that may have commands."""
SHELL_TIMEOUT = 10


@dataclass(frozen=True)
class Chunk:
    """Lines of a block of code without an empty one between them."""

    line: int
    """Of the page, from 1."""
    language: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Command:
    """A command of a page, and what the page says that it prints."""

    line: int
    text: str
    shown: tuple[str, ...] = ()
    section: str = ""
    """The heading above it."""

    @property
    def first(self) -> str:
        """Its first line, by which it is named."""
        return self.text.partition("\n")[0]


@dataclass(frozen=True)
class Block:
    """A block of code: fenced, or indented, also in lists."""

    section: str
    chunks: tuple[Chunk, ...]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of code of a page, in order."""
    section, previous = "", None
    for token in MarkdownIt().parse(page.read_text()):
        if previous is not None and previous.type == "heading_open":
            section = token.content
        if token.type in ("fence", "code_block") and token.map is not None:
            begin = token.map[0] + (2 if token.type == "fence" else 1)
            yield Block(section, tuple(_chunks(begin, token.info, token.content.splitlines())))
        previous = token


def _chunks(begin: int, language: str, lines: Sequence[str]) -> Iterator[Chunk]:
    start = 0
    for number, line in enumerate([*lines, ""]):
        if not line.strip():
            if number > start:
                yield Chunk(begin + start, language, tuple(lines[start:number]))
            start = number + 1


def split(block: Block) -> tuple[list[Command], list[Chunk]]:
    """The commands of a block, and its chunks that neither are commands nor follow any, such as YAML."""
    found: list[Command] = []
    others = []
    for chunk in block.chunks:
        commands = [*_commands(chunk)]
        if commands:
            found += (replace(command, section=block.section) for command in commands)
        elif found:  # an empty line between a command and what it prints
            found[-1] = replace(found[-1], shown=(*found[-1].shown, *chunk.lines))
        else:
            others.append(chunk)
    return found, others


def _commands(chunk: Chunk) -> Iterator[Command]:
    if chunk.language not in LANGUAGES:
        return
    prompt = PROMPT if any(line.startswith(PROMPT) for line in chunk.lines) else ""
    starts = [number for number, line in enumerate(chunk.lines) if _begins(line, prompt)]
    end = 0
    for start in starts:
        if start < end:
            continue  # inside of the command before, such as the loop's body
        end = start + 1
        while end < len(chunk.lines) and not _is_complete(_text(chunk.lines[start:end], prompt)):
            end += 1
        following = next((other for other in starts if other >= end), len(chunk.lines))
        yield Command(chunk.line + start, _text(chunk.lines[start:end], prompt), chunk.lines[end:following])


def _begins(line: str, prompt: str) -> bool:
    return line.startswith(prompt) if prompt else COMMAND.match(line) is not None


def _text(lines: Sequence[str], prompt: str) -> str:
    return "\n".join(lines).removeprefix(prompt)


def _is_complete(text: str) -> bool:
    """Whether bash would not ask for a further line."""
    if text.endswith("\\"):
        return False
    done = subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, timeout=SHELL_TIMEOUT, check=False
    )
    return done.returncode == 0 and not done.stderr


@functools.cache
def commands(page: Path) -> list[Command]:
    """All commands of a page, in order."""
    return [command for block in blocks(page) for command in split(block)[0]]


@functools.cache
def without_commands(page: Path) -> list[Chunk]:
    """The parts of a page's blocks that belong to no command."""
    return [chunk for block in blocks(page) for chunk in split(block)[1]]
