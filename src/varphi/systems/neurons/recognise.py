"""Membranes recognised in equations that others wrote: gates in rates of change, conductances in sums of currents.

What a file calls x/(e^x - 1) becomes a function without a hole, whether or not the file guards the hole with a branch;
a rate of change that is linear in its own variable becomes α and β, or x∞ and τ; a term g·x^p·y^q·(V - E) becomes a
current. Nothing is fitted: each rewriting is an identity of formulas.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from varphi.numbers import Expression, evaluate, explinear, exprel, sigmoid, variable
from varphi.numbers.expression import build, constant
from varphi.numbers.jet import partial

from .gates import VOLTAGE, Kinetics, rates, steady

_LINEAR = {"add", "sub", "mul", "div", "neg", "variable", "constant"}
_DRAWS = 4
_CLOSE = 1e-9
Factors = dict[Expression, int]


# Products -------------------------------------------------------------------------------------------------------------


def product(expression: Expression) -> Factors:
    """An expression as a product of whole powers: {base: exponent}, constants included."""
    operation, arguments = expression.operation, expression.arguments
    if operation == "mul":
        return _times(product(arguments[0]), product(arguments[1]), 1)
    if operation == "div":
        return _times(product(arguments[0]), product(arguments[1]), -1)
    if operation == "neg":
        return _times({constant(-1): 1}, product(arguments[0]), 1)
    if operation == "pow" and arguments[1].is_constant and float(arguments[1].value).is_integer():
        power = int(arguments[1].value)
        return {base: by * power for base, by in product(arguments[0]).items()}
    return {expression: 1}


def _times(a: Factors, b: Factors, sign: int) -> Factors:
    found = dict(a)
    for base, by in b.items():
        found[base] = found.get(base, 0) + sign * by
    return {base: by for base, by in found.items() if by}


def joined(factors: Factors) -> Expression:
    """The product again: one number, then what is multiplied, over what is divided."""
    number: Any = Fraction(1)
    above, below = constant(1), constant(1)
    for base, by in factors.items():
        if not base.variables:
            value = base.value if base.is_constant else float(base.evaluate())
            number = number * (Fraction(value) if isinstance(value, int) else value) ** by
        elif by > 0:
            above = constant(above * base**by)
        else:
            below = constant(below * base**-by)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return constant(number * above / below)


def terms(expression: Expression) -> list[tuple[int, Expression]]:
    """An expression as a sum: (sign, term)."""
    operation, arguments = expression.operation, expression.arguments
    if operation == "neg":
        return [(-sign, term) for sign, term in terms(arguments[0])]
    if operation in ("add", "sub"):
        second = -1 if operation == "sub" else 1
        return [*terms(arguments[0]), *((second * sign, term) for sign, term in terms(arguments[1]))]
    return [(1, expression)]


def replaced(expression: Expression, values: Mapping[str, Any]) -> Expression:
    """The expression with some of its variables replaced."""
    return constant(
        evaluate([expression], {n: values.get(n, variable(n)) for n in expression.variables})[0]
    )  # fmt: skip


# Functions without holes ----------------------------------------------------------------------------------------------


def stable(expression: Expression, values: Mapping[str, float]) -> Expression:
    """The same function of V, with x/(e^x - 1), (e^x - 1)/x and 1/(1 + e^x) in forms that neither 0/0 nor overflow.

    A branch that only guards the hole goes with it; one that does more stays.

    Args:
        values: of the other variables, at which a branch is compared with what it guards.
    """
    known: dict[int, Expression] = {}
    for node in expression.nodes():
        if node.operation in ("variable", "constant"):
            known[id(node)] = node
            continue
        arguments = [known[id(a)] for a in node.arguments]
        if node.operation == "where":
            known[id(node)] = _guarded(node, arguments, values)
        elif node.operation in ("mul", "div"):
            known[id(node)] = _filled(build(node.operation, *arguments))
        else:
            known[id(node)] = build(node.operation, *arguments)
    return known[id(expression)]


def _filled(expression: Expression) -> Expression:
    factors = product(expression)
    for base, by in list(factors.items()):
        found = _half_sinh(factors, base) if base.operation == "sinh" and by > 0 else None
        if found is None and by < 0:
            found = _over_exponential(factors, base)
        if found is not None:
            return _filled(joined(found))
        if by > 0 and base.operation in ("add", "sub"):
            found = _exponential_over(factors, base)
            if found is not None:
                return _filled(joined(found))
    return expression


def _exponential(base: Expression) -> tuple[int, Expression, int] | None:
    """(s, u, t) where the base is s·e^u + t with s = ±1 and t = ±1."""
    if base.operation not in ("add", "sub"):
        return None
    parts = [(sign, term) for sign, term in terms(base)]
    if len(parts) != 2:
        return None
    power = [(sign, t.arguments[0]) for sign, t in parts if t.operation == "exp"]
    rest = [sign * t.value for sign, t in parts if t.is_constant]
    if len(power) != 1 or len(rest) != 1 or abs(rest[0]) != 1:
        return None
    return power[0][0], power[0][1], int(rest[0])


def _over_exponential(factors: Factors, base: Expression) -> Factors | None:
    """…/(e^u - 1), where something proportional to u stands above it, and …/(1 + e^u)."""
    found = _exponential(base)
    if found is None:
        return None
    sign, u, rest = found
    without = _times(factors, {base: 1}, 1)
    if sign == rest:  # ±(1 + e^u)
        return _times(without, {constant(sign): 1, constant(sigmoid(_opposite(u))): 1}, 1)
    for other, by in factors.items():
        ratio = _ratio(other, u) if by > 0 else None
        if ratio is not None:  # other/(e^u - 1) = ratio · u/(e^u - 1)
            less = _times(without, {other: 1}, -1)
            return _times(_times(less, ratio, 1), {constant(sign): 1, constant(explinear(_opposite(u))): 1}, 1)
    return None


def _exponential_over(factors: Factors, base: Expression) -> Factors | None:
    """(e^u - 1)/…, where something proportional to u stands below it."""
    found = _exponential(base)
    if found is None or found[0] == found[2]:
        return None
    sign, u, _ = found
    for other, by in factors.items():
        ratio = _ratio(other, u) if by < 0 else None
        if ratio is not None:
            less = _times(_times(factors, {base: 1}, -1), {other: 1}, 1)
            return _times(_times(less, ratio, -1), {constant(sign): 1, constant(exprel(u)): 1}, 1)
    return None


def _half_sinh(factors: Factors, base: Expression) -> Factors | None:
    """e^w sinh(w)/w, as `varphi` writes exprel(2w) to SBML."""
    w = base.arguments[0]
    power = [b for b, by in factors.items() if b.operation == "exp" and by > 0 and b.arguments[0] is w]
    if not power:
        return None
    for other, by in factors.items():
        ratio = _ratio(other, w) if by < 0 else None
        if ratio is not None:
            less = _times(_times(_times(factors, {base: 1}, -1), {power[0]: 1}, -1), {other: 1}, 1)
            return _times(_times(less, ratio, -1), {constant(exprel(_doubled(w))): 1}, 1)
    return None


def _doubled(w: Expression) -> Expression:
    if w.operation == "div" and w.arguments[1].is_constant and w.arguments[1].value == 2:
        return w.arguments[0]
    return constant(2 * w)


def _ratio(a: Expression, b: Expression) -> Factors | None:
    """a/b as a product, where both are straight lines in V with the same zero at any other numbers; else None."""
    if not (is_line(a) and is_line(b)):
        return None
    draw = random.Random(0)
    names = sorted((a.variables | b.variables) - {VOLTAGE})
    for _ in range(_DRAWS):
        others = {n: draw.uniform(0.5, 2.0) for n in names}
        left, right = ([float(e.evaluate(**_only(e, {**others, VOLTAGE: v}))) for v in (-97.3, 41.9)] for e in (a, b))
        one, two = left[0] * right[1], left[1] * right[0]
        if not math.isclose(one, two, rel_tol=_CLOSE):
            return None
    slopes = [partial(e, VOLTAGE) for e in (a, b)]
    return _times(product(constant(slopes[0])), product(constant(slopes[1])), -1)


def is_line(e: Expression) -> bool:
    """Whether an expression is a straight line in V, with a slope that V does not change."""
    if VOLTAGE not in e.variables or any(n.operation not in _LINEAR for n in e.nodes()):
        return False
    return VOLTAGE not in constant(partial(e, VOLTAGE)).variables


def _opposite(u: Expression) -> Expression:
    return joined(_times({constant(-1): 1}, product(u), 1))


def _only(e: Expression, values: Mapping[str, float]) -> dict[str, float]:
    return {n: values[n] for n in e.variables}


def _guarded(node: Expression, arguments: list[Expression], values: Mapping[str, float]) -> Expression:
    """A branch: without it where one side is the other's value at a hole."""
    condition, *sides = arguments
    kept = build("where", *arguments)
    if not condition.variables <= {VOLTAGE, *values}:
        return kept
    for k, side in enumerate(sides):
        written = node.arguments[1 + k]
        zeros = _holes(written, values) if side is not written else []
        if len(zeros) == 1 and _only_guards(condition, sides[1 - k], side, zeros[0], k == 0, values):
            return side
    return kept


def _holes(expression: Expression, values: Mapping[str, float]) -> list[float]:
    """The potentials at which a denominator e^u - 1, or a straight line, is 0."""
    found = set()
    for node in expression.nodes():
        if node.operation != "div":
            continue
        for base in product(node.arguments[1]):
            known = _exponential(base)
            line = base if known is None else known[1] if known[0] != known[2] else None
            if line is not None and is_line(line) and line.variables <= {VOLTAGE, *values}:
                at, slope = (float(e.evaluate(**_only(e, {**values, VOLTAGE: 0.0}))) for e in (
                    line, constant(partial(line, VOLTAGE))))  # fmt: skip
                found.add(round(-at / slope, 9))
    return sorted(found)


def _only_guards(
    condition: Expression, guard: Expression, side: Expression, hole: float, first: bool, values: Mapping[str, float]
) -> bool:
    """Whether the guard is taken only beside the hole, and says there what the side says."""
    for distance in (0.0, 1e-9, 1e-7, 1e-5, 1e-3, 1.0, 10.0):
        for v in (hole - distance, hole + distance):
            here = {**values, VOLTAGE: v}
            taken = bool(condition.evaluate(**_only(condition, here))) != first
            if not taken:
                continue
            if distance >= 1.0:
                return False
            one, two = (float(e.evaluate(**_only(e, here))) for e in (guard, side))
            if not math.isclose(one, two, rel_tol=1e-4, abs_tol=1e-12):
                return False
    return True


# Gates ----------------------------------------------------------------------------------------------------------------


def kinetics(rate: Expression, name: str) -> Kinetics:
    """How a gate moves, from its rate of change.

    Args:
        rate: linear in the gate: α(1 - x) - βx, (x∞ - x)/τ, or the same multiplied out.
        name: the gate's.

    Raises:
        ValueError: a rate that is not.
    """
    slope = constant(partial(rate, name))
    if name in slope.variables or name not in rate.variables:
        raise ValueError(f"the rate of change of {name} is not linear in {name}: {name}' = {rate!r}; it is no gate")
    return _relaxation(rate, name) or rates(
        replaced(rate, {name: constant(0)}), constant(-replaced(rate, {name: constant(1)}))
    )


def _relaxation(rate: Expression, name: str) -> Kinetics | None:
    """(x∞ - x)/τ, where it is written so."""
    factors = product(rate)
    inside = [base for base in factors if name in base.variables]
    if len(inside) != 1 or factors[inside[0]] != 1:
        return None
    toward = inside[0]
    slope = constant(partial(toward, name))
    if not slope.is_constant or abs(slope.value) != 1:
        return None
    rest = _times(factors, {toward: 1}, -1)
    limit = replaced(toward, {name: constant(0)})
    if slope.value == 1:  # (x - x∞)
        limit, rest = constant(-limit), _times(rest, {constant(-1): 1}, 1)
    return _by_rates(limit, rest) or steady(limit, joined({base: -by for base, by in rest.items()}))


def _by_rates(limit: Expression, speed: Factors) -> Kinetics | None:
    """α and β, where x∞ is α/(α + β): as that their signs can be proved, and nothing cancels."""
    parts = _parts(product(limit))
    if parts is None:
        return None
    alpha, beta, both = parts
    if speed.get(both) == 1:
        rest = _times(speed, {both: 1}, -1)
        return rates(joined(_times(product(alpha), rest, 1)), joined(_times(product(beta), rest, 1)))
    over = constant(1 / (1 + constant(beta / alpha)))
    return steady(over, joined({b: -n for b, n in speed.items()}))


def open_fraction(limit: Factors) -> Kinetics:
    """An x∞ without a speed."""
    parts = _parts(limit)
    return steady(joined(limit)) if parts is None else rates(parts[0], parts[1])


def _parts(limit: Factors) -> tuple[Expression, Expression, Expression] | None:
    """(α, β, α + β) of α/(α + β)."""
    for base, by in limit.items():
        if by != -1 or base.operation != "add":
            continue
        above = _times(limit, {base: 1}, 1)
        for alpha, beta in (base.arguments, base.arguments[::-1]):
            if joined(above) is alpha or product(alpha) == above:
                return alpha, beta, base
    return None


# Currents -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conductance:
    """g·Πx^p·(V - E).

    Attributes:
        g, E: expressions in numbers alone.
        powers: of each gate.
    """

    g: Expression
    E: Expression
    powers: Mapping[str, int]


def conductance(term: Expression, gates: Collection[str]) -> Conductance | None:
    """A term of the outward current as a conductance, or None."""
    factors = product(term)
    powers = {b.arguments[0]: n for b, n in factors.items() if b.operation == "variable" and b.arguments[0] in gates}
    rest = {b: n for b, n in factors.items() if not (b.operation == "variable" and b.arguments[0] in gates)}
    force = [b for b in rest if VOLTAGE in b.variables or b.variables & set(gates)]
    if len(force) != 1 or rest[force[0]] != 1 or not is_line(force[0]) or force[0].variables & set(gates):
        return None
    if any(n < 1 for n in powers.values()):
        return None
    slope = product(constant(partial(force[0], VOLTAGE)))
    zero = joined(_times(product(_opposite(replaced(force[0], {VOLTAGE: constant(0)}))), slope, -1))
    g = joined(_times(_times(rest, {force[0]: 1}, -1), slope, 1))
    return Conductance(g, zero, powers)


def shared_factor(parts: Sequence[Expression], states: Collection[str]) -> Factors:
    """The powers free of states that every term has: 1/C of a rate of change of V."""
    common: Factors | None = None
    for part in parts:
        own = {b: n for b, n in product(part).items() if not b.variables & set(states) and b.variables}
        common = own if common is None else {b: n for b, n in common.items() if own.get(b) == n}
    return common or {}
