"""Circuits to a specification. Oracles: closed forms, and the verification by another solver."""

import math

import pytest

from varphi.systems.circuits import Circuit, Range, design
from varphi.systems.circuits.design import verification

FREE = {name: Range(0.05, 20) for name in ("alpha_Y", "alpha_Z", "beta_Y", "beta_Z", "K_X_Y", "K_X_Z", "K_Y_Z")}


@pytest.mark.parametrize("method", ["global", "gradient"])
def test_simple_regulation_in_closed_form(method: str) -> None:
    """Half-time 2 wants alpha = ln 2/2, and the level 3 wants beta/2 = 3 alpha."""
    bounds = {"alpha_Z": Range(0.05, 5), "beta_Z": Range(0.1, 50)}
    found = design(
        Circuit.simple(), {"response time": 2.0, "last": 3.0}, bounds, ("X", 0.0, 1.0), method=method, seconds=8.0,
        progress=False,
    )  # fmt: skip
    assert found.meets(0.001) and found.winner == method
    assert found.parameters["alpha_Z"] == pytest.approx(math.log(2) / 2, rel=1e-3)
    assert found.parameters["beta_Z"] == pytest.approx(3 * math.log(2), rel=1e-3)
    assert found.disagreement < 1e-6


def test_a_pulse_to_a_specification_by_both_methods() -> None:
    spec = {"peak": 2.0, "peak/final": (5.0, math.inf), "time of peak": (0.5, 1.0)}
    found = design(Circuit.ffl("I1"), spec, FREE, ("X", 0.0, 1.0), seconds=1.5, progress=False)
    assert found.meets() and found.disagreement < 1e-6
    assert found.verified["peak/final"] >= 4.9 and 0.49 <= found.verified["time of peak"] <= 1.01
    assert {c.method for c in found.contenders} == {"global", "gradient"} and found.winner in ("global", "gradient")
    assert all(c.samples > 0 and c.seconds < 8 for c in found.contenders)
    low, high = FREE["K_Y_Z"].low, FREE["K_Y_Z"].high
    assert all(low <= v <= high for v in found.parameters.values())


def test_what_cannot_be_is_not_claimed() -> None:
    found = design(
        Circuit.ffl("C1"), {"peak": 2.0}, {"K_Y_Z": Range(0.1, 10)}, ("X", 0.0, 1.0), seconds=0.1, progress=False
    )
    assert math.isnan(found.achieved["peak"]) and math.isnan(found.verified["peak"])
    assert not found.meets() and min(c.loss for c in found.contenders) == 25.0


def test_verification_is_of_the_field_s_numbers() -> None:
    loop = Circuit.ffl("I1", K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5})
    found = verification(
        loop.respond(("X", 0.0, 1.0), progress=False), ("peak", "time of peak", "last", "response time")
    )
    assert found == pytest.approx(
        {"peak": 0.378822, "time of peak": 1.0258, "last": 0.201191, "response time": 0.108782}, rel=3e-5
    )


def test_the_text_s_own_names_are_free_parameters() -> None:
    pytest.importorskip("antimony", reason="needs varphi[circuits]")
    circuit = Circuit.from_antimony(
        "species $X, Z; X = 1; Z = 0; J: => Z; b*X^n/(K^n + X^n); D: Z => ; a*Z; a = 1; b = 1; K = 1; n = 2;"
    )
    found = design(
        circuit, {"last": 3.0, "response time": 0.5}, {"a": Range(0.1, 10), "b": Range(0.1, 100)}, ("X", 0.0, 1.0),
        method="gradient", seconds=6.0, progress=False,
    )  # fmt: skip
    assert found.meets(0.001) and found.parameters["a"] == pytest.approx(2 * math.log(2), rel=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"spec": {}}, "a specification needs one measure or more: first"),
        ({"spec": {"height": 1.0}}, "'height' cannot be asked for"),
        ({"spec": {"peak": -1.0}}, "peak should be a number above 0 or a range"),
        ({"spec": {"peak": (2.0, 1.0)}}, "peak should be a number above 0 or a range"),
        ({"spec": {"peak": math.inf}}, r"write \(10, inf\) for at least 10"),
        ({"bounds": {}}, "no parameter is free"),
        ({"bounds": {"Q": Range(1, 2)}}, "no parameter 'Q'"),
        ({"method": "luck"}, "method is 'global', 'gradient' or 'both'"),
        ({"seconds": 0.0}, "seconds must be a finite number above 0"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    usual = {"spec": {"peak": 1.0}, "bounds": {"K_Y_Z": Range(0.1, 10)}, "step": ("X", 0.0, 1.0), "progress": False}
    with pytest.raises(ValueError, match=message):
        design(Circuit.ffl("I1"), **{**usual, **options})
