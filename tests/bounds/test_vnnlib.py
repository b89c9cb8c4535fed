"""VNN-LIB: what a text means, decided point by point, and what is refused where."""

import gzip
from fractions import Fraction
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.bounds import deadline, read_vnnlib, vnnlib
from varphi.bounds.vnnlib import Property, VnnlibError, parse_vnnlib

DECLARED = "".join(f"(declare-const {n} Real)" for n in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 0.5))"


def holds(read: Property, x: list[float], y: list[float]) -> bool:
    """Whether a point is one that must not occur."""
    return any(
        all(low <= Fraction(v) <= high for v, low, high in zip(x, case.lower, case.upper, strict=True))
        and any(all(c.met(x, y) for c in part) for part in case.unsafe)
        for case in read.cases
    )


def test_a_box_and_a_disjunction():
    read = parse_vnnlib(DECLARED + BOX + "(assert (or (and (<= Y_0 Y_1) (>= Y_0 2.5)) (<= (+ (* 2 Y_0) Y_1 -3) 0.1)))")
    assert (read.inputs, read.outputs, read.version) == (2, 2, (1, 0))
    (case,) = read.cases
    assert case.lower == (-1, 0)
    assert case.upper == (1, Fraction(1, 2))
    assert [[dict(c.terms) for c in part] for part in case.unsafe] == [
        [{("Y", 0): 1, ("Y", 1): -1}, {("Y", 0): -1}],
        [{("Y", 0): 2, ("Y", 1): 1}],
    ]
    assert case.unsafe[1][0].limit == Fraction("3.1")


def test_boxes_in_a_disjunction_are_cases_of_their_own():
    read = parse_vnnlib(
        DECLARED
        + BOX
        + "(assert (or (and (<= X_0 0) (<= Y_0 0)) (and (>= X_0 0.25) (>= Y_1 1)) (and (<= X_0 0.0) (<= Y_1 -1))))"
    )
    assert [(c.lower[0], c.upper[0], len(c.unsafe)) for c in read.cases] == [(-1, 0, 2), (Fraction(1, 4), 1, 1)]


def test_bounds_may_be_scaled_or_turned():
    read = parse_vnnlib(
        DECLARED + "(assert (<= (* -2.0 X_0) 2))(assert (>= 1 X_0))(assert (>= (- X_1) -3))(assert (<= 0 (+ X_1 1)))"
        "(assert (<= Y_0 0))"
    )
    assert (read.cases[0].lower, read.cases[0].upper) == ((-1, -1), (1, 3))


def test_corners_are_rounded_outward():
    read = parse_vnnlib(DECLARED + BOX.replace("0.5", "0.1").replace("-1", "-0.1") + "(assert (<= Y_0 0))")
    lower, upper = read.cases[0].corners()
    assert Fraction(lower[0]) < Fraction("-0.1")
    assert Fraction(upper[1]) >= Fraction("0.1")
    assert upper[1] == 0.1


def test_constraints_on_inputs_and_outputs_together():
    read = parse_vnnlib(DECLARED + BOX + "(assert (<= Y_0 X_0))(assert (<= (+ X_0 X_1) 0.3))")
    assert holds(read, [0.125, 0.125], [0.125, 9.0])
    assert not holds(read, [0.125, 0.125], [0.25, 9.0])
    assert not holds(read, [0.25, 0.25], [0.0, 9.0])


def test_equality_and_strictness():
    read = parse_vnnlib(DECLARED + BOX + "(assert (= Y_0 1))(assert (< Y_1 2))")
    assert holds(read, [0, 0], [1, 1.5])
    assert not holds(read, [0, 0], [1, 2])
    assert not holds(read, [0, 0], [1.5, 1])


def test_a_packed_file(tmp_path):
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress((DECLARED + BOX + "(assert (<= Y_0 0)) ; end").encode()))
    assert read_vnnlib(tmp_path / "p.vnnlib").inputs == 2


VERSION_2 = """(vnnlib-version <2.0>) ; tensors
(declare-network net
    (declare-input X float32 [1,2])
    (declare-output Y real [2])
)
(assert (and (>= X[0,0] -1.0) (<= X[0, 0] 1.0)))
(assert (== X[0,1] 0.5))
(assert (or (!= Y[0] 1.0) (> Y[1] 2)))
"""


def test_version_2():
    read = parse_vnnlib(VERSION_2)
    assert read.version == (2, 0)
    assert [(t.name, t.element, t.shape) for t in read.tensors or ()] == [
        ("X", "float32", (1, 2)),
        ("Y", "real", (2,)),
    ]
    for y, wanted in (([1, 2], False), ([1, 2.5], True), ([0.5, 0], True), ([1.5, 0], True)):
        assert holds(read, [0.25, 0.5], y) == wanted
        assert not holds(read, [0.25, 0.25], y)


def test_a_scalar_of_version_2():
    text = VERSION_2.replace("real [2]", "Real []").replace("(!= Y[0] 1.0) (> Y[1] 2)", "(<= Y 1) (>= Y 2)")
    assert parse_vnnlib(text).outputs == 1


def test_many_boxes_are_read_in_order():
    parts = "".join(f"(and (>= X_0 {i}e-3) (<= X_0 {i + 1}e-3) (<= Y_0 {i}))" for i in range(300))
    read = parse_vnnlib(DECLARED + "(assert (>= X_1 0))(assert (<= X_1 1))" + f"(assert (or {parts}))")
    assert [c.lower[0] for c in read.cases] == [Fraction(i, 1000) for i in range(300)]


ATOMS = st.builds(
    lambda sign, a, i, b, j, c: (sign, a, i, b, j, c),
    st.sampled_from(["<=", ">=", "<", ">"]),
    st.integers(-3, 3),
    st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"]),
    st.integers(-3, 3),
    st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"]),
    st.integers(-4, 4),
)
FORMULAS = st.recursive(
    ATOMS,
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=7,
)
NUMBERS = st.integers(-4, 4).map(lambda n: n / 4)


def written(formula) -> str:
    if isinstance(formula[1], list):
        return f"({formula[0]} {' '.join(map(written, formula[1]))})"
    sign, a, i, b, j, c = formula
    return f"({sign} (+ (* {a} {i}) (* {j} {b})) {c / 4})"


def meant(formula, values: dict[str, float]) -> bool:
    if isinstance(formula[1], list):
        return (all if formula[0] == "and" else any)(meant(part, values) for part in formula[1])
    sign, a, i, b, j, c = formula
    left, right = a * values[i] + b * values[j], c / 4
    return {"<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right}[sign]


@settings(max_examples=60)
@given(FORMULAS, FORMULAS, st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=8, max_size=20))
def test_cases_hold_where_the_formula_does(first, second, points):
    """Strict bounds of inputs are taken as closed ones: nothing that the text means is lost, only ends are added."""
    box = "".join(f"(assert (>= X_{i} -0.75))(assert (<= X_{i} 1))" for i in range(2))
    try:
        read = parse_vnnlib(f"{DECLARED}{box}(assert {written(first)})(assert {written(second)})")
    except VnnlibError as refusal:  # nothing can hold
        assert "no input can meet" in str(refusal) or "false" in str(refusal) or "can be true" in str(refusal)
        read = None
    for x0, x1, y0, y1 in points:
        values = {"X_0": x0, "X_1": x1, "Y_0": y0, "Y_1": y1}
        inside = all(-0.75 <= x <= 1 for x in (x0, x1))
        wanted = inside and meant(first, values) and meant(second, values)
        found = read is not None and holds(read, [x0, x1], [y0, y1])
        assert found >= wanted
        closed = inside and all(meant(closure(f), values) for f in (first, second))
        assert found <= closed


def closure(formula):
    if isinstance(formula[1], list):
        return (formula[0], [closure(part) for part in formula[1]])
    return (formula[0][0] + "=", *formula[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: the property is empty"),
        (DECLARED + BOX + "\n(assert (<= Y_7 0))", r"line 2, column 13: Y_7 is not declared: 'Y_7 0\)\)'; declare it"),
        (DECLARED + BOX + "\n(assert (<= Y_0 nan))", "line 2, column 17: nan is no number.*must be finite"),
        (DECLARED + BOX + "\n(assert (<= Y_0 -inf))", "-inf is no number"),
        (DECLARED + BOX + "(assert (<= Y_0 1e999))", "beyond what float64 holds"),
        (DECLARED + BOX + "(assert (<= Y_0 1e-999999999))", "beyond what float64 holds"),
        (DECLARED + BOX + "(assert (<= (* Y_0 Y_1) 1))", "a product of variables is not linear"),
        (DECLARED + BOX + "(assert (<= (sin Y_0) 1))", "'sin' is not linear"),
        (DECLARED + BOX + "(assert (<= (/ 1 Y_0) 1))", "division by a variable"),
        (DECLARED + BOX + "(assert (not (<= Y_0 1)))", "'not' is no formula"),
        (DECLARED + BOX + "(assert (or))", "an 'or' of nothing"),
        (DECLARED + BOX + "(assert (<= Y_0 1 2))", "compares two terms"),
        (DECLARED + BOX + "(assert (<= Y_0 1)", r"the text ends where '\)' was expected"),
        (DECLARED + BOX + "(assert (<= Y_0 1)))", r"expected '\('"),
        (DECLARED + BOX + "(check-sat)", "expected a declaration or an assertion"),
        (DECLARED + "(declare-const X_0 Real)", "X_0 is declared twice"),
        (DECLARED + "(declare-const Z_0 Real)", "inputs are named X_0, X_1"),
        (DECLARED + "(declare-const X_2 Int)", "X_2 must be Real"),
        (DECLARED + "(declare-const X_3 Real)" + BOX, "X_3 is declared and X_2 is not"),
        ("(declare-const X_0 Real)(assert (<= X_0 1))", "no outputs are declared"),
        (DECLARED + BOX.replace("(assert (<= X_1 0.5))", "") + "(assert (<= Y_0 0))", "input 1 has no upper bound"),
        (DECLARED + BOX + "\n(assert (>= X_0 1.5))", "line 2, column 10: no input can meet this: input 0.* 1.5 .* 1.0"),
        (DECLARED + BOX + "(assert (or (>= X_0 2) (<= X_1 -1)))", "no input can meet this"),
        (DECLARED + BOX + "(assert (<= 1 0))", "a comparison of numbers that is false"),
        ("(vnnlib-version <3.0>)" + DECLARED, "VNN-LIB 3.0 is not known"),
        ("(vnnlib-version 2.0)", "no version"),
        (DECLARED + "(vnnlib-version <2.0>)", "the version must come first"),
        ("(vnnlib-version <2.0>)" + DECLARED, "declare-const is of version 1.0"),
        ("(declare-network f)", "declare-network is of version 2"),
        (VERSION_2.replace("float32", "int8"), "numbers of int8 are not supported"),
        (VERSION_2.replace("Y[1]", "Y[2]"), r"Y has the shape \[2\], \[2\] is no place"),
        (VERSION_2.replace("Y[1]", "Y"), r"\[\] is no place"),
        (VERSION_2.replace("[1,2])", "[1,2] initialized)"), "inputs with a default value"),
        (
            VERSION_2.replace("(declare-output", '(declare-hidden H real [1] "h") (declare-output'),
            "declare-hidden is not",
        ),
        (VERSION_2 + "(declare-network g (declare-input A real [1]) (declare-output B real [1]))", "a second network"),
        ("(vnnlib-version <2.0>)(declare-network f (declare-output Y real [1]))", "has no declare-input"),
        (DECLARED + "(assert (<= X_0 \x00))", "is not declared"),
        (DECLARED + "]", "no word of VNN-LIB"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, message):
    with pytest.raises(VnnlibError, match=message):
        parse_vnnlib(text)


def test_too_many_cases_are_refused():
    choice = f"(assert (or {' '.join(f'(<= Y_0 {i})' for i in range(20))}))"
    with pytest.raises(VnnlibError, match="multiply out to 3200000 cases"):
        parse_vnnlib(DECLARED + BOX + choice * 5)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "p.vnnlib").write_bytes(b"\xff\xfe")
    with pytest.raises(VnnlibError, match="no text in UTF-8"):
        read_vnnlib(tmp_path / "p.vnnlib")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        read_vnnlib(tmp_path)


@given(st.text(alphabet='()[]<>=!+-*/;XY_0123 .eE"\n\tandorassertdeclare-const Real', max_size=60))
def test_no_text_breaks_the_parser(text):
    for begin in ("", DECLARED + BOX, VERSION_2):
        try:
            read = parse_vnnlib(begin + text)
        except VnnlibError as refusal:
            assert "line" in str(refusal)
        else:
            assert all(-inf < low <= high < inf for c in read.cases for low, high in zip(c.lower, c.upper, strict=True))


def test_reading_stops_in_time(tmp_path, monkeypatch):
    """At whatever stage the clock runs out: tokens, formulas, the normal form, its boxes."""
    boxes = "".join(f"(and (>= X_0 {i}) (<= X_0 {i + 1}) (or (>= Y_0 {i}) (<= Y_0 -1)))" for i in range(40))
    path = tmp_path / "large.vnnlib"
    path.write_text(f"(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (or {boxes}))\n")
    monkeypatch.setattr(deadline, "_OFTEN", 16)
    monkeypatch.setattr(vnnlib, "_OFTEN", 16)
    now = [0]

    def clock() -> float:
        now[0] += 1
        return float(now[0])

    monkeypatch.setattr(deadline.time, "monotonic", clock)
    with deadline.until(1e9):
        assert len(read_vnnlib(path).cases) == 40
    looks = now[0]
    assert looks > 60
    for last in range(1, looks, 7):
        now[0] = 0
        with deadline.until(float(last)), pytest.raises(deadline.OutOfTime):
            read_vnnlib(path)
        assert now[0] == last + 1
