"""A study's report: one HTML file that needs nothing else, on screen (light or dark), on a phone and on paper."""

from __future__ import annotations

import html as markup
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler

from varphi.files import check_writable, whole
from varphi.study.declaration import Figure
from varphi.study.results import Results
from varphi.study.search import Search
from varphi.study.show import Remark, remarks
from varphi.study.statistics import numbers
from varphi.study.verdict import Verdict

# Stand-ins in the drawings for colours that the page decides, so that they follow light and dark.
_INK, _FAINT = "#010203", "#020304"
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.prop_cycle": cycler(color=["#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#999999"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "font.size": 9,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": _INK,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
}

# A table of more columns is set small on paper, on a page of its own that lies on its side.
_WIDE = 7

_CSS = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b6470; --paper: #ffffff; --panel: #f5f6f8; --line: #d9dde3;
  --faint: #c3c8d0; --accent: #0b5cad; --supported: #18794e; --refuted: #c62a2f; --onlyif: #9a5b00;
  --undecided: #5b6470; --shade: rgb(0 0 0 / .18); }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a3abb6; --paper: #15181c;
  --panel: #1e2227; --line: #343a42; --faint: #4a515b; --accent: #7ab7ff; --supported: #5bd39a; --refuted: #ff8b8b;
  --onlyif: #ffc266; --undecided: #a3abb6; --shade: rgb(255 255 255 / .22); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1.1rem 4rem; max-width: 78rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
/* Prose in lines that can be read; only tables and drawings may be wider. */
body > :not(.scroll, .sheet, figure) { max-width: 48rem; }
header p.kind { margin: 0; color: var(--soft); font-size: .85rem; letter-spacing: .04em; text-transform: uppercase; }
h1 { margin: .1rem 0 .6rem; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 2.4rem 0 .7rem; font-size: 1.25rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { margin: 0 0 .2rem; font-size: 1rem; }
h2, h3, .key, .lead { break-after: avoid; }
.scroll + h3 { margin-top: 1.4rem; }
h3 + p { margin: .1rem 0 .5rem; }
.question { color: var(--soft); margin: 0 0 1rem; }
.answer { margin: 0; padding: .9rem 1.1rem; background: var(--panel); border-left: 4px solid var(--accent);
  border-radius: 4px; font-size: 1.08rem; }
.extent { color: var(--soft); font-size: .88rem; margin: .5rem 0 0; }
.remark { border-left: 4px solid var(--onlyif); background: var(--panel); padding: .5rem .9rem; border-radius: 4px;
  margin: .6rem 0; font-size: .92rem; }
.remark p { margin: 0; }
.claim { border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; margin: .8rem 0; break-inside: avoid; }
.claim blockquote { margin: .2rem 0 .5rem; padding: 0; color: var(--soft); font-style: italic; }
.claim p { margin: .25rem 0; }
details { font-size: .9rem; margin-top: .4rem; }
summary { cursor: pointer; color: var(--accent); }
.verdict { font-weight: 650; }
.verdict::before { content: ""; display: inline-block; width: .62em; height: .62em; border-radius: 50%;
  background: currentColor; margin-right: .45em; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.supported { color: var(--supported); } .refuted { color: var(--refuted); } .onlyif { color: var(--onlyif); }
.undecided, .notenoughseeds { color: var(--undecided); }
figure { margin: 1.4rem 0; max-width: 40rem; break-inside: avoid; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .35rem; }
/* What is too wide scrolls in its own box; a shade at an edge says that there is more. */
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 30%, transparent) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 30%, transparent) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) 0 0 / .6rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) 100% 0 / .6rem 100% no-repeat scroll; }
.scroll svg { display: block; width: 100%; height: auto; }
.table { border: 1px solid var(--line); border-radius: 6px; max-width: max-content; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .6rem; text-align: left; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; border-bottom: 1px solid var(--faint); }
td.n, th.n { text-align: right; }
tr { break-inside: avoid; }
tr.group td { border-top: 2px solid var(--faint); }
tbody tr:first-child td { border-top: 0; }
.key { font-size: .88rem; color: var(--soft); }
dl { display: grid; grid-template-columns: fit-content(12rem) 1fr; gap: .25rem 1rem; font-size: .9rem;
  margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .86em; }
pre { background: var(--panel); padding: .7rem .9rem; border-radius: 6px; margin: .4rem 0; white-space: pre-wrap; }
.word { display: inline-block; max-width: 100%; }
@media (max-width: 34rem) { body { padding: 1rem .8rem 3rem; } h1 { font-size: 1.5rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  table:not(.wide) :is(th, td:not(.n)) { white-space: normal; } td:not(.n):has(+ .n) { min-width: 6.5rem; } }
@media print { @page { margin: 14mm; } @page wide { size: landscape; margin: 12mm; }
  .sheet:has(.wide), .table:has(> .wide) { page: wide; } .table:not(:has(> .wide)) { break-inside: avoid; }
  :root { color-scheme: light; --ink: #000; --soft: #444; --panel: #f3f3f3; --line: #bbb; }
  body { max-width: none; padding: 0; font-size: 10.5pt; line-height: 1.4; } body > * { max-width: none !important; }
  h2 { margin-top: 1.4rem; } .scroll { overflow: visible; background: none; } .table { border: 0; max-width: none; }
  .scroll svg { min-width: 0 !important; } figure { width: 13cm; }
  table { font-size: 8.5pt; } table.wide { font-size: 7pt; }
  th, td { padding: .12rem .3rem; } table.wide :is(th, td), td:not(.n), th { white-space: normal; }
  details > *:not(summary) { display: block; } details::details-content { content-visibility: visible; } }
"""


@dataclass(frozen=True)
class Section:
    """A table that a page shows besides the results, with a heading and a note on what it means.

    Attributes:
        lines: the header, then the lines.
        words: how many of the columns, from the left, are text.
    """

    title: str
    note: str
    lines: Sequence[tuple[str, ...]]
    words: int


def html(results: Results, path: str | Path, *, sections: Sequence[Section] = (), again: str | None = None) -> Path:
    """Write a study's report as one self-contained HTML page.

    Args:
        results: what `study.run` or `study.results` returned.
        path: the file to write; its directory must exist.
        sections: tables to show besides.
        again: the command that repeats it; that of a listed study if not given, none if empty.

    Returns:
        The path.

    Raises:
        OSError: where the file cannot be written, found out before anything is drawn.
    """
    target = check_writable(path)
    with whole(target) as unfinished:
        unfinished.write_text(page(results, sections, again), "utf-8")
    return target


def page(results: Results, sections: Sequence[Section] = (), again: str | None = None) -> str:
    """The report as text."""
    study = results.study
    body = "\n".join(
        [
            f'<header><p class="kind">varphi study · {_e(study.name)}</p><h1>{_e(study.title)}</h1>',
            f'<p class="question">{_e(study.question)}</p><p class="answer">{_e(results.answer)}</p>',
            f'<p class="extent">{_e(_extent(results))}</p></header>',
            *map(_remark, remarks(results)),
            "<h2>Claims and verdicts</h2>",
            *_claims(results),
            *_rankings(results),
            *map(_section, sections),
            *_figures(results),
            "<h2>All settings</h2>",
            _table(results),
            "<h2>How this was made</h2>",
            _making(results, again),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_e(study.title)} · varphi</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _e(text: Any) -> str:
    return markup.escape(str(text))


def _prose(text: str) -> str:
    """Text with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _e(text))


def _extent(results: Results) -> str:
    tried = f" × {results.budget} values of the {' and '.join(results.tuned)}" if results.tuned else ""
    return (
        f"{len(results.rows)} settings × {len(results.seeds)} paired seeds{tried} (size “{results.size}”), "
        f"run {_when(results)}."
    )


def _when(results: Results) -> str:
    runs = list(results.record["runs"])
    return runs[-1][:10] if runs else results.record["declared"][:10]


def _remark(remark: Remark) -> str:
    behind = f"<details><summary>Traceback</summary><pre>{_e(remark.detail)}</pre></details>" if remark.detail else ""
    return f'<div class="remark"><p>{_e(remark.text)}</p>{behind}</div>'


def _claims(results: Results) -> Iterable[str]:
    yield (
        f'<p class="key">Each measure was stored before the first trial was run '
        f"({_e(results.record['declared'])}). Intervals are 95 %, over paired seeds; "
        "p-values are corrected by Holm's method.</p>"
    )
    for claim, verdict in zip(results.study.claims, results.verdicts, strict=True):
        told = f"{verdict.status} {verdict.condition}".strip()
        tests = _grid(_comparisons(verdict), 2) if verdict.comparisons else ""
        yield (
            f'<section class="claim"><h3>{_e(claim.name)}</h3><blockquote>“{_e(claim.quote)}”</blockquote>'
            f'<p class="verdict {verdict.status.replace(" ", "")}">{_e(told)}</p><p>{_e(verdict.evidence)}</p>'
            f"<details><summary>How it was measured</summary><p>{_prose(claim.measure)}</p>"
            f"{tests}</details></section>"
        )


def _comparisons(verdict: Verdict) -> Iterator[tuple[str, ...]]:
    yield ("difference", "method", "value", "95 %", "p (Holm)", "larger in")
    for c in verdict.comparisons:
        value, low, high = numbers(c.difference, c.low, c.high)
        yield (c.label, c.method, value, f"[{low}, {high}]", f"{c.adjusted:.2g}", f"{c.superiority.probability:.0%}")


def _rankings(results: Results) -> Iterable[str]:
    if not results.rankings:
        return
    yield (
        '<h2>Rankings</h2><p class="key">A rank that leaves several open is a tie: with 95 % confidence each true rank '
        "lies in its range (paired tests of all pairs over the seeds, Holm).</p>"
    )
    for contest, found in results.rankings:
        yield f"<h3>{_e(contest.title)}</h3><p>{_e(found.sentence())}</p>{_grid(found.table(), 2)}"


def _section(section: Section) -> str:
    return f'<h2>{_e(section.title)}</h2><p class="key">{_e(section.note)}</p>{_grid(section.lines, section.words)}'


def _figures(results: Results) -> Iterable[str]:
    if results.study.figures is None or results.missing:
        return
    yield "<h2>Figures</h2>"
    with mpl.rc_context(_STYLE):
        for i, figure in enumerate(results.study.figures(results)):
            yield (
                f"<figure><h3>{_e(figure.title)}</h3>"
                f'<div class="scroll" tabindex="0">{_svg(figure, f"{results.study.name}-{i}")}</div>'
                f"<figcaption>{_prose(figure.caption)}</figcaption></figure>"
            )


def _svg(figure: Figure, salt: str) -> str:
    """The drawing as inline SVG: text in the page's font, ink in the page's colours, no ids shared with others."""
    buffer = io.StringIO()
    salted: dict[Any, Any] = {"svg.hashsalt": salt}
    with mpl.rc_context(salted):
        figure.drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # So wide at least that letters of 8 points have 9.6 pixels, also on a phone; and no giants.
    start = r'<svg viewBox="0 0 \1 \2" style="min-width: calc(\1 * 1.2px); max-width: calc(\1 * 1.6px)" role="img">'
    text = re.sub(r"<svg [^>]*?viewBox=\"0 0 ([\d.]+) ([\d.]+)\"[^>]*>", start, text, count=1)
    text = re.sub(r'(id="|url\(#|xlink:href="#|href="#)', rf"\g<1>{salt}-", text).replace("xlink:href", "href")
    text = re.sub(
        r"font: ([\d.]+px)[^;\"]*", r"font: \1 system-ui, 'Segoe UI', Roboto, Arial, 'DejaVu Sans', sans-serif", text
    )
    return text.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")


def _table(results: Results) -> str:
    references = _grid(results.reference_table(), 1) if results.references else ""
    key = "".join(
        f"<dt>{_e(name)}</dt><dd>{_prose(results.study.measures.get(name, ''))}</dd>" for name in results.headline
    )
    return (
        f"<dl>{key}</dl>"
        + (f'<p class="key">References, which need no seeds:</p>{references}' if references else "")
        + '<div class="sheet"><p class="key">Median over seeds [least, most]:</p>'
        + f"{_grid(results.table(), len(results.study.factors))}</div>"
    )


def _grid(table: Iterable[tuple[str, ...]], words: int) -> str:
    """A table whose first `words` columns are text; groups of lines that share all of them but the last are parted."""
    header, *lines = table
    head = "".join(f"<th{_numeric(i, words)}>{_breakable(name)}</th>" for i, name in enumerate(header))
    groups = [line[: words - 1] for line in lines]
    parted = words > 2 and len(set(groups)) < len(groups)
    starts = [parted and group != before for group, before in zip(groups, [None, *groups], strict=False)]
    body = [
        f"{'<tr class=group>' if start else '<tr>'}{_cells(line, words)}</tr>"
        for line, start in zip(lines, starts, strict=True)
    ]
    wide = ' class="wide"' if len(header) > _WIDE else ""
    return (
        f'<div class="scroll table" tabindex="0"><table{wide}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cells(line: Sequence[str], words: int) -> str:
    told = (_breakable(cell) if i < words else _e(cell) for i, cell in enumerate(line))
    return "".join(f"<td{_numeric(i, words)}>{cell}</td>" for i, cell in enumerate(told))


def _breakable(text: str) -> str:
    """Text that a narrow column may break after every twelve letters of a long word, and nowhere else in a word."""
    # (No end of a word stands alone with less than four letters.)
    return " ".join("<wbr>".join(map(_e, re.findall(".{12}(?=.{4})|.+", word))) for word in text.split(" "))


def _command(text: str) -> str:
    """A command that breaks between its words: a browser would break --seeds after its hyphens."""
    return " ".join(f'<span class="word">{_e(word)}</span>' for word in text.split(" "))


def _numeric(i: int, words: int) -> str:
    return ' class="n"' if i >= words else ""


def _tuning(results: Results) -> dict[str, str]:
    """What was tuned, over which values, and by which measure."""
    study = results.study
    if study.tuning is None or not results.tuned:
        return {}
    tuning = study.size(results.size).tuning
    by = {"Chosen by": f"{study.tuning.by}: {study.measures[study.tuning.by]}"}
    if not isinstance(tuning, Search):
        return {f"{results.tuned[0].capitalize()} tried": ", ".join(f"{v:g}" for v in tuning)} | by
    ranges = [tuning.ranges(setting) for setting in study.settings(results.size)]
    told = {name: dict.fromkeys(str(r[name]) for r in ranges if name in r) for name in results.tuned}
    how = {"qmc": "a scrambled Sobol sequence", "tpe": f"Optuna's TPE in {tuning.rounds} rounds"}[tuning.sampler]
    searched = {f"{name.capitalize()} searched": " or ".join(found) for name, found in told.items()}
    return searched | {"Search": f"{tuning.points} points for every setting, by {how}"} | by


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _making(results: Results, again: str | None) -> str:
    runs = results.record["runs"]
    last = list(runs.values())[-1] if runs else {"command": "", "machine": "", "versions": {}}
    facts = {
        "Data": results.study.data,
        "Seeds": ", ".join(map(str, results.seeds)),
        **_tuning(results),
        "Declared": f"{results.record['declared']} (declaration {results.record['digest']})",
        "Versions": ", ".join(f"{name} {version}" for name, version in last["versions"].items()),
        "Machine": last["machine"],
        "Time in trials": _duration(sum(row.seconds for row in results.rows)),
    }
    listed = "".join(f"<dt>{_e(name)}</dt><dd>{_prose(value)}</dd>" for name, value in facts.items())
    commands = "\n".join(f"{when[:23]}  {run['command']}" for when, run in runs.items())
    if again is None:
        again = shlex.join(
            ["varphi", "study", "run", results.study.name, "--size", results.size, "--seeds", str(len(results.seeds))]
        )
    repeated = f'<p class="lead">To repeat it:</p><pre>{_command(again)}</pre>' if again else ""
    failed = "".join(
        f'<details class="more"><summary>Trial {f.trial} failed: {_e(f.setting)}</summary>'
        f"<pre>{_e(f.traceback)}</pre></details>"
        for f in results.errors
    )
    return (
        f"<dl>{listed}</dl>{repeated}"
        f'<details class="more"><summary>Commands that made it</summary><pre>{_e(commands)}</pre></details>{failed}'
    )
