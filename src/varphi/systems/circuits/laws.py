"""Hill functions found in formulas: which part of a rate law is one, of what, with which K, n and sign.

Any quotient num/(A + B) of two products is one where B/A = (x/K)^n for a species x, however it was written:
x^n/(K^n + x^n), K^n/(K^n + x^n), 1/(1 + (x/K)^n), V·x/(K + x). It is replaced by the catalogue's Hill function, which
has no inf/inf and no NaN at the concentrations where the formula as written has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from typing import Any, Literal, TypeAlias

from flint import arb

from varphi.numbers import Expression, UnsupportedOperation
from varphi.numbers.ball import Ball, OutsideDomain
from varphi.numbers.expression import build, constant, variable

from .circuit import gated, hill
from .intervals import hill_slope

# Exponents: a sum of numbers times symbols; None stands for 1.
_Exponent = dict[Expression | None, Fraction]
_Product = dict[Expression, _Exponent]


@dataclass(frozen=True)
class HillLaw:
    """A Hill function in a formula.

    Attributes:
        species: of what.
        K, n: expressions in parameters.
        sign: 1 activates, -1 represses.
    """

    species: str
    K: Expression
    n: Expression
    sign: Literal[1, -1]

    @property
    def constants(self) -> tuple[tuple[str, Expression], tuple[str, Expression]]:
        """K and n by name."""
        return ("K", self.K), ("n", self.n)

    @property
    def name(self) -> str:
        """Its usual name."""
        if self.n.is_constant and self.n.value == 1:
            return "Michaelis–Menten" if self.sign > 0 else "hyperbolic repressor"
        return "Hill activator" if self.sign > 0 else "Hill repressor"

    def __str__(self) -> str:
        return f"{self.name} of {self.species}, K = {self.K!r}, n = {self.n!r}"


def recognised(
    expression: Expression, species: Collection[str]
) -> tuple[Expression, tuple[HillLaw, ...], tuple[tuple[HillLaw, ...], ...]]:
    """The expression with its Hill functions named, which they are, and which of them compete for one site.

    Args:
        species: the names of what takes part as a concentration.
    """
    known: dict[int, Expression] = {}
    laws: dict[tuple[Any, ...], HillLaw] = {}
    groups: dict[tuple[HillLaw, ...], None] = {}
    for node in expression.nodes():
        if node.operation in ("variable", "constant"):
            known[id(node)] = node
            continue
        arguments = [known[id(a)] for a in node.arguments]
        if node.operation == "div" and arguments[1].operation == "add":
            found = _hill(arguments[0], arguments[1], species)
            if found is not None:
                law, factor = found
                laws[law.species, law.K, law.n, law.sign] = law
                known[id(node)] = constant(factor * hill(law.sign, variable(law.species), law.K, law.n))
                continue
            group = _competition(arguments[0], arguments[1], species)
            if group is not None:
                members, factor = group
                laws |= {(law.species, law.K, law.n, law.sign): law for law in members}
                groups[members] = None
                known[id(node)] = constant(factor * competition(members))
                continue
        known[id(node)] = build(node.operation, *arguments)
    return known[id(expression)], tuple(laws.values()), tuple(groups)


def competition(laws: Collection[HillLaw]) -> Expression:
    """The gate of Hill functions that compete for one site."""
    return constant(gated("OR", [(law.sign, variable(law.species), law.K, law.n) for law in laws]))


def _competition(
    above: Expression, below: Expression, species: Collection[str]
) -> tuple[tuple[HillLaw, ...], Expression] | None:
    """above/below as factor · Σ (r or 1)/(1 + Σ r) over two or more regulators, r = (x/K)^n, or None."""
    parts = [_product(t) for t in summands(below)]
    plain = [p for p in parts if p is not None and not _names(p, species)]
    if len(plain) != 1 or len(parts) < 3:
        return None
    free = plain[0]
    laws: list[tuple[str, Expression, Expression, _Product]] = []
    for part in parts:
        if part is free:
            continue
        found = None if part is None else _ratio(_over(part, free), species)
        if found is None:
            return None
        laws.append((*found, _over(part or {}, free)))
    if len({name for name, *_ in laws}) < len(laws):
        return None
    # The heads, each over what all have in common.
    whole = _whole(above)
    sums = [b for b, power in whole.items() if b.operation == "add" and power == {None: Fraction(1)}]
    outer = {b: p for b, p in whole.items() if len(sums) != 1 or b is not sums[0]}
    tops = [_product(t) for t in (summands(sums[0]) if len(sums) == 1 else [above])]
    heads = [t for t in tops if t is not None]
    if len(heads) < len(tops) or (_names(outer, species) and len(sums) == 1):
        return None
    for common in heads:
        outside = _over(common, free)
        symbols = {b: p for b, p in outside.items() if not b.is_constant}
        for shared in (outside, symbols, *(_over(outside, r) for *_, r in laws)):
            rest = [_over(_over(h, free), shared) for h in heads]
            open_ = [r for *_, r in laws if r not in rest]
            blanks, others = sum(r == {} for r in rest), [r for r in rest if r != {}]
            # 1 + 1 folds to 2: a head that is a number stands for so many repressors.
            number = [r for r in others if set(r) and all(b.is_constant for b in r)]
            if len(number) == 1 and not blanks:
                count = _count(number[0])
                blanks, others = (count, [r for r in others if r not in number]) if count else (blanks, others)
            if blanks == len(open_) and len(others) == len(laws) - len(open_) and all(
                any(r == o for *_, r in laws) for o in others
            ):  # fmt: skip
                signs: list[Literal[1, -1]] = [1 if r in rest else -1 for *_, r in laws]
                factor = constant(1)
                for base, power in (*shared.items(), *(outer.items() if len(sums) == 1 else ())):
                    factor = factor * _power(base, power, {None: Fraction(1)})
                if constant(factor).variables & set(species):
                    continue
                made = [HillLaw(name, K, n, sign) for (name, K, n, _), sign in zip(laws, signs, strict=True)]
                return tuple(made), constant(factor)
    return None


def _count(number: _Product) -> int:
    value = math.prod(float(b.value) ** float(p[None]) for b, p in number.items())
    return int(value) if value > 0 and value == int(value) else 0


def summands(e: Expression) -> list[Expression]:
    """The terms of a sum."""
    return [t for a in e.arguments for t in summands(a)] if e.operation == "add" else [e]


_SUMS = ("add", "sub", "neg")


def signed_terms(e: Expression, sign: int) -> Iterator[tuple[int, Expression]]:
    """The terms of an expression, products multiplied out, each with its sign times `sign`."""
    if e.operation in ("add", "sub"):
        yield from signed_terms(e.arguments[0], sign)
        yield from signed_terms(e.arguments[1], sign if e.operation == "add" else -sign)
    elif e.operation == "neg":
        yield from signed_terms(e.arguments[0], -sign)
    elif e.operation == "mul" and e.arguments[0].is_constant and e.arguments[0].value < 0:
        yield from signed_terms(constant(-e.arguments[0].value) * e.arguments[1], -sign)
    elif e.operation == "mul" and (sums := [i for i in (0, 1) if e.arguments[i].operation in _SUMS]):
        for own, term in signed_terms(e.arguments[sums[0]], sign):
            yield from signed_terms(constant(e.arguments[1 - sums[0]] * term), own)
    elif e.operation == "div" and e.arguments[0].operation in _SUMS and e.arguments[1].operation not in _SUMS:
        for own, term in signed_terms(e.arguments[0], sign):
            yield from signed_terms(constant(term / e.arguments[1]), own)
    elif not (e.is_constant and e.value == 0):
        yield sign, e


def factors(e: Expression) -> _Product:
    """An expression as a product of powers: from each factor to its exponent, a sum of numbers (None) and symbols."""
    return _whole(e)


def _names(product: _Product, species: Collection[str]) -> set[str]:
    return {v for base in product for v in base.variables if v in species}


def _ratio(ratio: _Product, species: Collection[str]) -> tuple[str, Expression, Expression] | None:
    """(x/K)^n as x, K and n, or None."""
    names = [b for b in ratio if b.operation == "variable" and b.arguments[0] in species]
    if len(names) != 1 or _names(ratio, species) != {names[0].arguments[0]}:
        return None
    x, exponent = names[0], ratio[names[0]]
    n = _sum(exponent)
    if n.variables & set(species) or (n.is_constant and n.value <= 0) or (not n.is_constant and _negative(exponent)):
        return None
    half = constant(1)
    for base, power in ratio.items():
        if base is not x:
            half = half * _power(base, {k: -v for k, v in power.items()}, exponent)
    half = constant(half)
    return x.arguments[0], half if half.variables else constant(_plain_number(float(half.evaluate()))), n


def _hill(above: Expression, below: Expression, species: Collection[str]) -> tuple[HillLaw, Expression] | None:
    """above/below as factor · Hill, or None."""
    one, two = (_product(a) for a in below.arguments)
    top = _product(above)
    if one is None or two is None or top is None:
        return None
    for first, second in ((one, two), (two, one)):
        ratio = _over(second, first)
        found = _ratio(ratio, species)
        if found is None:
            continue
        name, half, n = found
        x = variable(name)
        signs: tuple[tuple[Literal[1, -1], _Product], ...] = ((1, second), (-1, first))
        for sign, part in signs:
            rest = _over(top, part)
            # What is left may hold other regulators, but not this one's powers.
            if x not in rest:
                factor = constant(1)
                for base, power in rest.items():
                    factor = factor * _power(base, power, {None: Fraction(1)})
                return HillLaw(name, half, n, sign), constant(factor)
    return None


def _negative(exponent: _Exponent) -> bool:
    return all(v < 0 for v in exponent.values())


def _product(e: Expression) -> _Product | None:
    """An expression as a product of powers; None for a sum."""
    if e.operation in ("add", "sub", "neg"):
        return None
    if e.is_constant and e.value == 1:
        return {}
    if e.operation in ("mul", "div"):
        a, b = (_whole(x) for x in e.arguments)
        return _over(a, b) if e.operation == "div" else _over(a, _over({}, b))
    if e.operation == "pow":
        inner = _whole(e.arguments[0])
        by = _exponent(e.arguments[1])
        if by is None or any(set(p) != {None} for p in inner.values()):
            return {e: {None: Fraction(1)}}
        return {base: {k: v * p[None] for k, v in by.items()} for base, p in inner.items()}
    return {e: {None: Fraction(1)}}


def _whole(e: Expression) -> _Product:
    """An expression as a product of powers; a sum is one factor."""
    found = _product(e)
    return {e: {None: Fraction(1)}} if found is None else found


def _exponent(e: Expression) -> _Exponent | None:
    if e.is_constant:
        return {None: Fraction(e.value)} if isinstance(e.value, Rational | float) else None
    return {e: Fraction(1)}


def _over(a: _Product, b: _Product) -> _Product:
    found = {base: dict(power) for base, power in a.items()}
    for base, power in b.items():
        mine = found.setdefault(base, {})
        for key, value in power.items():
            mine[key] = mine.get(key, Fraction(0)) - value
    return {base: kept for base, power in found.items() if (kept := {k: v for k, v in power.items() if v})}


def _sum(exponent: _Exponent) -> Expression:
    total = constant(0)
    for key, value in exponent.items():
        total = total + (constant(value) if key is None else constant(value) * key)
    return constant(total)


def _power(base: Expression, power: _Exponent, by: _Exponent) -> Expression:
    """base^(power/by)."""
    keys = set(power)
    if keys == set(by):
        ratios = {power[k] / by[k] for k in keys}
        if len(ratios) == 1:
            return constant(base ** _plain(ratios.pop()))
    return constant(base ** (_sum(power) / _sum(by)))


def _plain_number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _plain(value: Fraction) -> Any:
    return int(value) if value.denominator == 1 else constant(value)


Dual: TypeAlias = "tuple[Ball, Ball]"
"""A value and its slope by something."""


def sign_of_slope(
    expression: Expression, name: str, values: Mapping[str, float | Ball], species: Collection[str]
) -> int | None:
    """The sign of ∂expression/∂name at every concentration from 0 on: 1, -1, 0, or None where it is not decided.

    By interval arithmetic on the derivative, in which a Hill function is known to rise with its argument.

    Args:
        values: of the parameters.
        species: what is a concentration, and may be any number that is not negative.
    """
    if name not in expression.variables:
        return 0
    positive = Ball(0, arb.pos_inf())
    given: dict[str, Dual] = {}
    for own in expression.variables:
        value = positive if own in species or own == "t" else values[own]
        given[own] = value if isinstance(value, Ball) else Ball(value), Ball(int(own == name))
    slope = value_and_slope(expression, given)[1]
    return 0 if slope.lo == 0 and slope.hi == 0 else 1 if slope.lo >= 0 else -1 if slope.hi <= 0 else None


def value_and_slope(expression: Expression, values: Mapping[str, Dual]) -> Dual:
    """Rigorous bounds of an expression and of its derivative, from those of its variables."""
    known: dict[int, Dual] = {}
    for node in expression.nodes():
        if node.operation == "variable":
            known[id(node)] = values[node.arguments[0]]
        elif node.operation == "constant":
            known[id(node)] = Ball(node.value), Ball(0)
        else:
            known[id(node)] = _value_and_slope(node, [known[id(a)] for a in node.arguments])
    return known[id(expression)]


_ANYTHING = Ball(arb.neg_inf(), arb.pos_inf())
_RISES = Ball(0, arb.pos_inf())


def _value_and_slope(node: Expression, arguments: list[Dual]) -> Dual:
    """A node's value and slope, from those of its arguments."""
    operation, values = node.operation, [value for value, _ in arguments]
    slopes = [slope for _, slope in arguments]
    still = all(slope.lo == 0 and slope.hi == 0 for slope in slopes)
    try:
        if operation in ("lt", "le", "gt", "ge", "eq", "ne"):
            return _truth(operation, values[0] - values[1]), Ball(0) if still else _ANYTHING
        value = _value(node, values)
        if still:
            return value, Ball(0)
        rule = _SLOPES.get(operation)
        if operation == "where":
            return value, _slope_of_where(node, values[0], slopes)
        return value, _ANYTHING if rule is None else rule(values, slopes)
    except (OutsideDomain, UnsupportedOperation, ValueError):
        return _ANYTHING, _ANYTHING


def _value(node: Expression, values: list[Ball]) -> Ball:
    if node.operation == "where":
        if values[0].lo == values[0].hi:
            return values[1] if values[0].lo == 1 else values[2]
        return Ball(min(values[1].lower, values[2].lower), max(values[1].upper, values[2].upper))
    found = build(node.operation, *(variable(str(i)) for i in range(len(values)))).evaluate(
        **{str(i): v for i, v in enumerate(values)}
    )
    return found if isinstance(found, Ball) else Ball(found)


def _truth(comparison: str, difference: Ball) -> Ball:
    """1 where a comparison holds for certain, 0 where it does not, else between."""
    if comparison in ("gt", "le"):
        holds = 1 if difference.lo > 0 else 0 if difference.hi <= 0 else None
        flipped = comparison == "le"
    elif comparison in ("ge", "lt"):
        holds = 1 if difference.lo >= 0 else 0 if difference.hi < 0 else None
        flipped = comparison == "lt"
    else:
        return Ball(0, 1)
    return Ball(0, 1) if holds is None else Ball(1 - holds if flipped else holds)


def _slope_of_where(node: Expression, truth: Ball, slopes: list[Ball]) -> Ball:
    """Where the condition is open, only of the catalogue's Hill functions, which join without a jump at 0."""
    if truth.lo == truth.hi:
        return slopes[1] if truth.lo == 1 else slopes[2]
    condition, inside, outside = node.arguments
    if not (condition.operation == "gt" and inside.operation == "hill" and outside.is_constant):
        return _ANYTHING
    return Ball(min(slopes[1].lower, 0.0), max(slopes[1].upper, 0.0))


def _slope_of_power(v: list[Ball], d: list[Ball]) -> Ball:
    x, n = v
    if not (d[1].lo == 0 and d[1].hi == 0):
        return _ANYTHING
    if x.lo >= 0 and n.lo >= 1 and x.is_finite():
        return n * x ** (n - 1) * d[0]
    # x^n rises for x >= 0 and n >= 0.
    return (_RISES if n.lo >= 0 else -_RISES) * d[0] if x.lo >= 0 and (n.lo >= 0 or n.hi <= 0) else _ANYTHING


def _slope_of_hill(v: list[Ball], d: list[Ball]) -> Ball:
    if not (d[2].lo == 0 and d[2].hi == 0):
        return _ANYTHING
    # hill(x, K, n) is 1 - hill(K, x, n).
    return _hill_part(v[0], v[1], v[2]) * d[0] - _hill_part(v[1], v[0], v[2]) * d[1]


def _hill_part(x: Ball, K: Ball, n: Ball) -> Ball:
    return hill_slope(x, K, n) if x.lo >= 0 and x.is_finite() and K.lo > 0 and K.is_finite() else _RISES


def _slope_of_larger(v: list[Ball], d: list[Ball]) -> Ball:
    if v[0].lo >= v[1].hi or v[1].lo >= v[0].hi:
        return d[0] if v[0].lo >= v[1].hi else d[1]
    return Ball(min(d[0].lower, d[1].lower), max(d[0].upper, d[1].upper))


_SLOPES: dict[str, Any] = {
    "add": lambda v, d: d[0] + d[1],
    "sub": lambda v, d: d[0] - d[1],
    "neg": lambda v, d: -d[0],
    "mul": lambda v, d: d[0] * v[1] + v[0] * d[1],
    "div": lambda v, d: d[0] / v[1] - v[0] / v[1] * d[1] / v[1],
    "pow": _slope_of_power,
    "hill": _slope_of_hill,
    "maximum": _slope_of_larger,
    "minimum": lambda v, d: _slope_of_larger([-v[0], -v[1]], d),
    "exp": lambda v, d: build("exp", variable("x")).evaluate(x=v[0]) * d[0],
    "log": lambda v, d: d[0] / v[0] if v[0].lo > 0 else _RISES * d[0],
    **dict.fromkeys(("expm1", "log1p", "sqrt", "tanh", "atan", "sigmoid", "softplus"), lambda v, d: _RISES * d[0]),
}
