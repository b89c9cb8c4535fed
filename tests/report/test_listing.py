"""Criteria are proofs: what is not proved is undecided, and says so."""

import math

import pytest

from varphi.activation.constraint import Positive
from varphi.activation.definition import Definition
from varphi.facts.api import facts
from varphi.facts.interval import Interval
from varphi.numbers import maximum, sigmoid, sin, tanh
from varphi.report import listing


def made(function: object, name: str = "made") -> Definition:
    return Definition(name, function)  # type: ignore[arg-type]


RELU = made(lambda x: maximum(x, 0))
SIGMOID = made(sigmoid)
TANH = made(lambda x: tanh(x))
CUBE = made(lambda x: x**3)


@pytest.mark.parametrize(
    ("text", "definition", "decision"),
    [
        ("nonnegative", RELU, True),
        ("positive", RELU, False),
        ("positive", SIGMOID, True),
        ("bounded", RELU, False),
        ("bounded", TANH, True),
        ("unit", SIGMOID, True),
        ("unit", TANH, False),
        ("symmetric", TANH, True),
        ("symmetric", CUBE, True),
        ("symmetric", SIGMOID, False),
        ("-1,1", TANH, True),
        ("-0.5,1", TANH, False),
        ("-inf,1", RELU, False),
        ("0, inf", RELU, True),
    ],
)
def test_ranges(text: str, definition: Definition, decision: bool) -> None:
    assert listing.by_range(text).decide(facts(definition)) is decision


@pytest.mark.parametrize(("number", "decision"), [((0.1, 0.2), True), ((1.0, 1.1), False), ((0.4, 0.6), None)])
def test_a_bound_inside_an_enclosure_decides_nothing(number: tuple[float, float], decision: bool | None) -> None:
    assert listing.at_most(Interval(*number), 0.5) is decision


@pytest.mark.parametrize("a", [True, False, None])
@pytest.mark.parametrize("b", [True, False, None])
def test_both_is_kleenes_and(a: bool | None, b: bool | None) -> None:
    possible = {
        x and y for x in ([a] if a is not None else [True, False]) for y in ([b] if b is not None else [True, False])
    }
    assert listing.both(a, b) == (possible.pop() if len(possible) == 1 else None)


def test_what_is_undecided_is_neither_in_nor_out() -> None:
    resists = listing.Criterion("resists", lambda f: None)
    refutes = listing.Criterion("refutes", lambda f: False)
    (entry,) = listing.sift([TANH], [resists, listing.by_parity("odd")])
    assert entry is not None
    assert entry.undecided == ("resists",)
    assert list(listing.sift([TANH], [resists, refutes])) == [None]
    (certain,) = listing.sift([TANH], [listing.by_smoothness("inf"), listing.by_lipschitz(1.5), listing.by_monotony()])
    assert certain is not None
    assert certain.undecided == ()


def test_a_fact_that_cannot_be_found_is_undecided() -> None:
    def refuse(_: object) -> bool:
        raise ValueError("resists proof")

    (entry,) = listing.sift([TANH], [listing.Criterion("hard", refuse)])
    assert entry is not None
    assert entry.undecided == ("hard",)


def test_smoothness() -> None:
    assert listing.by_smoothness("1").decide(facts(made(lambda x: maximum(x, 0) ** 2))) is True
    assert listing.by_smoothness("2").decide(facts(made(lambda x: maximum(x, 0) ** 2))) is False
    assert listing.by_smoothness("inf").decide(facts(made(lambda x: sin(x)))) is True


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("Dugas et al., NIPS 2000; Glorot, Bordes & Bengio, AISTATS 2011", "Dugas 2000"),
        ("Hendrycks & Gimpel, 2016, arXiv 1606.08415", "Hendrycks 2016"),
        ("Barron, arXiv 2112.11687", "Barron"),
        ("classical", "classical"),
    ],
)
def test_a_source_in_short(source: str, short: str) -> None:
    assert listing.short_source(source) == short


def _beta(x: object, beta: Positive = 2.0) -> object:
    return beta * x  # type: ignore[operator]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_numbers_are_never_cut(width: int) -> None:
    from rich.console import Console

    (entry,) = listing.sift([made(_beta, "a_rather_long_name_for_an_activation")], [])
    assert entry is not None
    console = Console(width=width)
    console.begin_capture()
    console.print(listing.table([entry], width))
    text = console.end_capture()
    assert "(−∞, ∞)" in text
    assert "C∞" in text
    assert max(map(len, text.splitlines())) <= width
    assert math.isinf(entry.facts.smoothness)
