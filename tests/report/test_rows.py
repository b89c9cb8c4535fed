"""Rows of the card say what the facts say, and how it is known."""

import pytest

import varphi as vp
from varphi.facts.api import facts
from varphi.report import rows
from varphi.report.card import METHODS, Row, formula, parameters
from varphi.study.data import plain_data


def found(activation: object) -> dict[str, Row]:
    return {row.label: row for section in rows.sections(facts(activation)) for row in section.rows}  # type: ignore[arg-type]


def test_gelu() -> None:
    card = found("gelu")
    assert card["Lipschitz"].value == "1.128904145"
    assert card["range"].value.startswith("[−0.16997120")
    assert card["range"].remark == "−0.169971 attained"
    assert card["smoothness"].value == "C∞"
    assert card["turning points"].value.startswith("x = −0.7517915")
    assert card["inflections"].value == "x = −1.414213562, 1.414213562"
    assert card["x → −∞"].value == "0"
    assert card["gain"].value == "1.53353"
    assert card["E f, E f²"].method == "computed"
    assert card["Lipschitz"].method == "proved"


def test_relu() -> None:
    card = found("relu")
    assert card["range"].value == "[0, ∞)"
    assert card["zeros"].value == "exactly 0 for x ≤ 0"
    assert card["fixed points"].value == "f(x) = x for x ≥ 0"
    assert card["smoothness"].value == "C⁰"
    assert card["smoothness"].remark == "f′ jumps by 1 at 0"
    assert card["curvature"].value == "convex"
    assert card["|f′| < 0.01"].value == "for x < 0"
    assert card["homogeneous"].remark == "f(λx) = λ f(x) for λ > 0"
    assert card["χ₁"].remark.endswith("the edge itself")


def test_a_jump() -> None:
    card = found("heaviside")
    assert card["Lipschitz"].value == "∞"
    assert card["smoothness"].value == "jumps"
    assert card["χ₁"].value == "∞"
    assert card["|f′| < 0.01"].value == "everywhere"


def test_infinitely_many_places_are_not_passed_off_as_all() -> None:
    card = found("sin")
    assert card["zeros"].remark == "infinitely many"
    assert card["zeros"].value.startswith("x = −6.283185307, −3.141592654, 0, 3.141592654, 6.283185307, …")
    assert card["parity"].value == "odd"


def test_a_domain_that_ends_is_told() -> None:
    card = found("sqrt(x)")
    assert card["defined"].value == "for x ≥ 0"
    assert card["moments"].value == "none"


def test_every_row_has_a_method_of_the_legend() -> None:
    for name in ("softplus", "tanh", "hard_swish", "x**3", "hh_alpha_h"):
        assert {row.method for row in found(name).values()} <= METHODS.keys()


def test_formula_and_parameters() -> None:
    softplus = vp.get("softplus", beta=2.0)
    assert formula(softplus) == "(1/β) ln(1+eᵝˣ)"
    assert parameters(softplus) == "β = 2"
    assert formula(vp.as_activation("x*tanh(exp(x))**2")) == "x·tanh(exp(x))²"


def test_plain_data_refuses_what_it_cannot_say() -> None:
    assert plain_data({"a": (1, float("inf"), None)}) == {"a": [1, "inf", None]}
    with pytest.raises(TypeError, match="no form in JSON"):
        plain_data(object())
