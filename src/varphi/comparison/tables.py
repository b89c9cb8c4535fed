"""A comparison as tables: one header, then a line for each activation or layer. For the terminal and the page alike."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from varphi.report.page import Section
from varphi.study.statistics import number, numbers

from .declared import interval
from .health import FIGURES, THRESHOLD
from .result import Change, median

if TYPE_CHECKING:
    from .result import Comparison

Lines = Iterator[tuple[str, ...]]


def evidence(found: Comparison) -> Lines:
    """Ranks and gains, best first; activations that failed come last."""
    results = found.results
    extra, tuned = found.trial.measures[1:], results.tuned
    gained = (f"gain over {found.baseline} [95 %]", "p (Holm)", "finding")
    yield ("rank", "activation", f"{found.measure} [range]", *gained, *extra, *tuned)
    places = found.ranking.places if found.ranking else ()
    gains = {gain.activation: gain for gain in found.gains}
    for place in places:
        row = results.one(activation=place.name)
        gain = gains.get(place.name)
        yield (
            place.rank,
            place.name,
            "{} [{}, {}]".format(*numbers(place.median, place.low, place.high)),
            interval(gain.difference) if gain else "",
            f"{gain.difference.adjusted:.2g}" if gain else "",
            gain.finding if gain else "the model's own" if place.name == found.baseline else "",
            *(number(median(row.values(name))) for name in extra),
            *(f"{row.point[name]:.4g}{' (edge)' if name in row.edges else ''}" for name in tuned),
        )
    for label, failures in found.failures.items():
        seeds = sorted({seed for failure in failures for seed in failure.seeds})
        told = textwrap.shorten(failures[-1].traceback.strip().rpartition("\n")[2], 60, placeholder=" ...")
        what = f"failed on {len(seeds)} of {len(found.seeds)} seeds: {told}"
        yield ("-", label, "", "", "", what, *("" for _ in (*extra, *tuned)))


def health(found: Comparison) -> Lines:
    """Gradient health, layer by layer."""
    yield ("activation", "layer", "units", "dead", "saturated", "gradient norm")
    for layer in found.health:
        yield (
            layer.activation,
            layer.place,
            number(layer.units),
            _change(layer.dead, number),
            _change(layer.saturated, lambda share: f"{share:.1%}"),
            _change(layer.gradient, lambda norm: f"{norm:.3g}"),
        )


def costs(found: Comparison) -> Lines:
    """Time, and what was not finite."""
    yield ("activation", "training", f"× {found.baseline}", "ns per element", "passes with NaN or inf")
    for cost in found.costs:
        yield (
            cost.activation,
            f"{cost.seconds:.3g} s",
            _or_nothing(cost.relative, f"{cost.relative:.2f}"),
            _or_nothing(cost.nanoseconds, f"{cost.nanoseconds:.2f}"),
            _or_nothing(cost.nonfinite, f"{cost.nonfinite:.0f}") or "not seen",
        )


def notes(found: Comparison) -> dict[str, str]:
    """What the tables mean, by their titles."""
    seen = "the batch of the probe" if found.trial.probe else "the first pass of the training and one of the last"
    return {
        "Evidence": (
            f"Gains are paired over {len(found.seeds)} seeds: positive where an activation does better than "
            f"{found.baseline}, the model's own, with 95 % intervals; p is corrected by Holm over all of them. A rank "
            f"that leaves several open is a tie.{_chosen(found)}"
        ),
        "Gradient health": (
            f"At the start → at the end, on {seen}; medians over seeds. Dead: {FIGURES['dead']}. Saturated: the share "
            f"of slopes below {THRESHOLD:g} times the largest. Gradient norm: {FIGURES['gradient']}."
        ),
        "Cost": (
            "Median over seeds of the time that fit took, and of its ratio to the model's own, seed by seed; beside it "
            "the time of the activation alone, forward and backward, for one element on this machine."
        ),
    }


def _chosen(found: Comparison) -> str:
    """By what the tuned numbers were chosen."""
    if not found.trial.tuned_by:
        return ""
    told = f" {' and '.join(found.results.tuned).capitalize()}: the best of {found.results.budget} points for each"
    if found.trial.tuned_by == found.measure:
        return f"{told}, chosen by the {found.measure} that is shown, which therefore flatters all of them."
    return f"{told}, chosen by {found.trial.tuned_by}."


def sections(found: Comparison) -> list[Section]:
    """What a page shows besides the study's results."""
    told = notes(found)
    return [
        Section("Against the model's own activation", told["Evidence"], tuple(evidence(found)), words=2),
        Section("Gradient health", told["Gradient health"], tuple(health(found)), words=2),
        Section("Cost", told["Cost"], tuple(costs(found)), words=1),
    ]


def _change(change: Change, told: Callable[[float], str]) -> str:
    start, end = (_or_nothing(v, told(v)) for v in (change.start, change.end))
    if not start and not end:
        return "not seen"
    return f"{start or '?'} → {end or '?'}"


def _or_nothing(value: float, text: str) -> str:
    return "" if math.isnan(value) else text
