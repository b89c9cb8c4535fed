"""The catalogue, sifted by proved facts: what satisfies every criterion, and what could not be decided."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from varphi.activation import registry
from varphi.activation.definition import Definition
from varphi.numbers import UnsupportedOperation

from .notation import unicode_formula

if TYPE_CHECKING:
    from rich.table import Table

    from varphi.facts.facts import Facts
    from varphi.facts.interval import Interval

# True and False are proofs; None is neither.
Decision = bool | None


@dataclass(frozen=True)
class Criterion:
    """A condition on facts, and how a person would say it."""

    words: str
    decide: Callable[[Facts], Decision]


@dataclass(frozen=True)
class Entry:
    """A definition, its facts, and the criteria that could not be decided for it (none: it satisfies all)."""

    definition: Definition
    facts: Facts
    undecided: tuple[str, ...] = ()


def sift(definitions: Iterable[Definition], criteria: Sequence[Criterion]) -> Iterator[Entry | None]:
    """For each definition an entry if no criterion is refuted for it, else None."""
    from varphi.facts.api import facts

    for definition in definitions:
        found = facts(definition)
        decisions = [(criterion, _decide(criterion, found)) for criterion in criteria]
        if any(decision is False for _, decision in decisions):
            yield None
        else:
            open_ = tuple(criterion.words for criterion, decision in decisions if decision is None)
            yield Entry(definition, found, open_)


def _decide(criterion: Criterion, facts: Facts) -> Decision:
    try:
        return criterion.decide(facts)
    except (ValueError, UnsupportedOperation):  # a fact that resists proof
        return None


def definitions(family: str | None = None) -> list[Definition]:
    """The definitions of the catalogue, or of one of its families.

    Raises:
        ValueError: for an unknown family.
    """
    found = [registry.definition(name) for name in registry.names()]
    families = sorted({d.family for d in found})
    if family is None:
        return found
    chosen = registry.canonical(family)
    if chosen not in families:
        close = difflib.get_close_matches(chosen, families, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no family {family!r}.{hint} Families: {', '.join(families)}")
    return [d for d in found if d.family == chosen]


# Criteria -------------------------------------------------------------------------------------------------------------


def at_most(number: Interval, bound: float) -> Decision:
    """Whether an enclosed number is <= bound."""
    return True if number.upper <= bound else False if number.lower > bound else None


def both(*decisions: Decision) -> Decision:
    """Kleene's and."""
    return False if False in decisions else None if None in decisions else True


def range_within(lower: float, upper: float) -> Callable[[Facts], Decision]:
    """Whether every value lies in [lower, upper]."""
    return lambda f: both(at_most(-f.range.infimum, -lower), at_most(f.range.supremum, upper))


def _is_positive(facts: Facts) -> Decision:
    infimum, attained = facts.range.infimum, facts.range.lower_attained
    if infimum.lower > 0 or (infimum.lower == 0 and attained is False):
        return True
    return False if infimum.upper < 0 or (infimum.upper == 0 and attained) else None


def _is_bounded(facts: Facts) -> Decision:
    magnitude = facts.range.magnitude
    return True if magnitude.upper < math.inf else False if magnitude.lower == math.inf else None


def _is_symmetric(facts: Facts) -> Decision:
    low, high = -facts.range.infimum, facts.range.supremum
    if low.upper < high.lower or high.upper < low.lower:
        return False
    exact = low.lower == low.upper == high.lower == high.upper
    return True if exact or facts.parity == "odd" else None


RANGES: dict[str, Callable[[Facts], Decision]] = {
    "nonnegative": range_within(0.0, math.inf),
    "positive": _is_positive,
    "bounded": _is_bounded,
    "unit": range_within(0.0, 1.0),
    "symmetric": _is_symmetric,
}


def by_range(text: str) -> Criterion:
    """The criterion meant by "nonnegative", "positive", "bounded", "unit", "symmetric" or "lo,hi"."""
    name = text.strip().lower().replace("-", "") if "," not in text else text
    if name in RANGES:
        return Criterion(f"range {name}", RANGES[name])
    try:
        lower, upper = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"a range is one of {', '.join(RANGES)}, or two numbers as in -1,1; got {text!r}") from None
    if not lower <= upper:
        raise ValueError(f"a range needs lower <= upper, got {text!r}")
    return Criterion(f"range within [{lower:g}, {upper:g}]", range_within(lower, upper))


def by_smoothness(text: str) -> Criterion:
    """The criterion f ∈ C^k; `text` is a whole number >= 0, or "inf"."""
    infinite = text.strip().lower() in ("inf", "infinity", "∞")
    if not infinite and not text.strip().isdecimal():
        raise ValueError(f"smoothness is a whole number >= 0 or inf, got {text!r}")
    least = math.inf if infinite else int(text)
    return Criterion(f"smooth {text}", lambda f: f.smoothness >= least)


def by_lipschitz(bound: float) -> Criterion:
    """The criterion |f'| <= bound everywhere."""
    if not bound >= 0:
        raise ValueError(f"a Lipschitz constant is a number >= 0, got {bound!r}")
    return Criterion(f"Lipschitz {bound:g}", lambda f: at_most(f.lipschitz, bound))


def by_monotony() -> Criterion:
    """The criterion that f never rises in one place and falls in another."""
    return Criterion("monotone", lambda f: None if f.monotone == "undecided" else f.monotone != "neither")


def by_parity(parity: str) -> Criterion:
    """The criterion f(-x) = -f(x) ("odd") or f(-x) = f(x) ("even")."""
    if parity not in ("odd", "even"):
        raise ValueError(f"parity is odd or even, got {parity!r}")
    return Criterion(parity, lambda f: None if f.parity == "undecided" else f.parity == parity)


# Presentation ---------------------------------------------------------------------------------------------------------

_COLUMNS = ("name", "f(x)", "range", "|f′| ≤", "C^k", "source")
_GAP, _WIDE = 2, 130
_YEAR = re.compile(r"\b(1[6-9]\d\d|20\d\d)\b(?!\.\d)")


def table(entries: Sequence[Entry], width: int) -> Table:
    """The entries as a table at most `width` characters wide; formulas and sources are cut, numbers and names are not.

    In a narrow one, a source is its first author and year.
    """
    from rich.table import Table
    from rich.text import Text

    rows = [_row(entry, full_source=width >= _WIDE) for entry in entries]
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, wide in zip(_COLUMNS, _widths(rows, width), strict=True):
        # Names are folded, not cut: they are there to be copied.
        folds = name == "name"
        drawn.add_column(name, width=wide, no_wrap=not folds, overflow="fold" if folds else "ellipsis")
    for row in rows:
        drawn.add_row(*map(Text, row))
    return drawn


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    name, formula, *numbers, source = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    name = min(name, max(12, width // 4))
    left = max(16, width - name - sum(numbers) - _GAP * len(_COLUMNS))
    formula = min(formula, max(left // 2, left - source))
    return [name, formula, *numbers, min(source, left - formula)]


def _row(entry: Entry, full_source: bool) -> tuple[str, ...]:
    from .rows import smoothness, span, value

    definition, facts = entry.definition, entry.facts
    cells = (
        lambda: span(facts.range, 4),
        lambda: value(facts.lipschitz, 4),
        lambda: smoothness(facts),
    )
    source = definition.source if full_source else short_source(definition.source)
    return (definition.name, unicode_formula(definition.latex), *(_told(cell) for cell in cells), source)


def short_source(source: str) -> str:
    """The first author and the first year of a source: "Dugas 2000"."""
    author = re.split(r",| et al| & |;| \(|:", source)[0].strip()
    year = _YEAR.search(source)
    return f"{author} {year[0]}" if year and year[0] not in author else author


def _told(cell: Callable[[], str]) -> str:
    """A fact in few characters; "?" where nothing, or next to nothing, is known."""
    try:
        text = cell()
    except (ValueError, UnsupportedOperation):
        return "?"
    return "?" if "[" in text[1:] or text.startswith("[[") or "∞]" in text else text


def data(entry: Entry) -> dict[str, Any]:
    """An entry as data, for JSON."""
    definition = entry.definition
    about = {
        "name": definition.name,
        "family": definition.family,
        "latex": definition.latex,
        "source": definition.source,
    }
    facts = {name: _fact(entry.facts, name) for name in ("range", "lipschitz", "smoothness", "monotone", "parity")}
    return about | facts | ({"undecided": entry.undecided} if entry.undecided else {})


def _fact(facts: Facts, name: str) -> Any:
    try:
        return getattr(facts, name)
    except (ValueError, UnsupportedOperation) as error:
        return {"undecided": str(error)}
