"""The index page of a support archive: what was found, which files there are, what is left out. No scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from urllib.parse import quote

from spiderpool.cli.bundle.archive import Archive, ArchiveEntry
from spiderpool.cli.doctor.diagnosis import Diagnosis
from spiderpool.cli.finding import CHECKS, Finding

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;"
    "border-bottom:1px solid color-mix(in srgb,currentColor 25%,transparent)}td.size{text-align:right}"
    "dl{margin:.2rem 0 1.2rem 1rem}dt{font-weight:bold}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def index(archive: Archive, diagnosis: Diagnosis, versions: Iterable[str], left_out: Iterable[str]) -> str:
    """The page, for the files that the archive has by now."""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
            f"<title>{escape(archive.folder)}</title><style>{STYLE}</style></head><body>",
            f"<h1>Spiderpool in {escape(diagnosis.namespace)}</h1>",
            f"<p>Made {archive.made:%Y-%m-%d %H:%M:%S} UTC. {escape('. '.join(versions))}.</p>",
            *_findings(diagnosis.findings),
            *_files(archive.entries),
            "<h2>Left out</h2><ul>",
            *(f"<li>{escape(each)}</li>" for each in left_out),
            "</ul></body></html>",
            "",
        )
    )


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    found = list(findings)
    yield f"<h2>Findings of doctor: {len(found)}</h2>"
    for each in found:
        check = CHECKS[each.check]
        yield f"<h3>{escape(check.severity)}, {escape(each.check)}</h3><p>{escape(each.what)}</p><dl>"
        facts = {"Evidence": "; ".join(each.evidence), "Consequence": check.consequence, "Remedy": each.remedy}
        yield from (f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
        yield "</dl>"


def _files(entries: Iterable[ArchiveEntry]) -> Iterator[str]:
    yield "<h2>Files</h2><table><thead><tr><th>File</th><th>Holds</th><th>Bytes</th><th>Note</th></tr></thead><tbody>"
    for each in entries:
        link = f'<a href="{quote(each.name)}">{escape(each.name)}</a>'
        cells = f"<td>{link}</td><td>{escape(each.description)}</td>"
        yield f'<tr>{cells}<td class="size">{each.size}</td><td>{escape(each.note)}</td></tr>'
    yield "</tbody></table>"
