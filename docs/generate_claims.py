"""Writes the table of the chapter's claims while the site is built: a hook of mkdocs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from varphi.study import api
from varphi.systems.claims import Entry, entries

MARKER = "<!-- claims -->"


def contents() -> str:
    """A section for each system: a table of its claims, their sentences and the studies that test them."""
    grouped = itertools.groupby(entries(), key=lambda entry: (entry.number, entry.system, entry.title))
    return "\n".join(line for heading, group in grouped for line in section(*heading, list(group)))


def section(number: int, system: str, title: str, group: list[Entry]) -> Iterator[str]:
    tested = any(entry.study for entry in group)
    yield f"## {number}. {title} {{ #{system} }}\n"
    if tested:
        yield f"What was found: [{system}](systems/{system}.md).\n"
    yield "| Claim | The chapter | Study |"
    yield "| --- | --- | --- |"
    for entry in group:
        study = f"`{entry.study}`" if entry.study else "none yet"
        yield f"| {cell(entry.name)} | {cell(sentence(entry))} | {study} |"
    yield ""


def sentence(entry: Entry) -> str:
    if entry.study is None:
        return entry.quote or ""
    return next(claim.quote for claim in api.load(entry.study).claims if claim.name == entry.name)


def cell(text: str) -> str:
    """Text as it stands, inside a Markdown table."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return "".join(f"\\{c}" if c in "*_[]`" else c for c in escaped)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in the tables."""
    return markdown.replace(MARKER, contents()) if page.file.src_uri == "claims.md" else markdown
