"""Formulas made ready for many evaluations with the same parameters.

What depends on parameters alone is set apart, to be computed once for a sample and not at every step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from varphi.numbers import Expression, log, variable
from varphi.numbers.expression import build, ordered

_LEAVES = ("variable", "constant")
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def prepared(
    expressions: Sequence[Expression], parameters: Collection[str]
) -> tuple[dict[str, Expression], list[Expression]]:
    """The largest parts that depend on parameters alone, by new names, and the expressions in terms of these.

    Values are exactly those of the expressions as they were given: no operation is changed.
    """
    fixed = frozenset(parameters)
    parts: dict[str, Expression] = {}
    known: dict[int, Expression] = {}

    def named(node: Expression) -> Expression:
        """A part under its name. (A comparison is a truth value, which has no place among numbers.)"""
        if node.operation in _LEAVES or node.operation in _COMPARISONS or not node.variables <= fixed:
            return known[id(node)]
        name = f"#{node.digest}"
        parts[name] = node
        return variable(name)

    for node in ordered(expressions):
        if node.operation in _LEAVES or (node.variables <= fixed and node.operation not in _COMPARISONS):
            known[id(node)] = node
        else:
            known[id(node)] = build(node.operation, *map(named, node.arguments))
    return parts, [named(e) for e in expressions]


def in_logarithms(expressions: Sequence[Expression], parameters: Collection[str]) -> list[Expression]:
    """The expressions with where(x > 0, hill(x, K, n), ...) in logarithms: sigmoid(n (ln x - ln K)), K, n parameters.

    ln K can be set apart and ln x serves all Hill functions of x, where each power would need a logarithm of its own;
    the slope is as simple. The relative error grows to n |ln x| units of rounding, far below a solver's tolerance.
    """
    fixed = frozenset(parameters)
    known: dict[int, Expression] = {}
    for node in ordered(expressions):
        if node.operation in _LEAVES:
            known[id(node)] = node
            continue
        arguments = [known[id(a)] for a in node.arguments]
        known[id(node)] = build(node.operation, *arguments)
        if node.operation == "where":
            condition, law, other = arguments
            argument = _guarded(condition, law, fixed)
            if argument is not None:
                known[id(node)] = build("where", condition, build("sigmoid", argument), other)
    return [known[id(e)] for e in expressions]


def _guarded(condition: Expression, law: Expression, fixed: frozenset[str]) -> Expression | None:
    """n (ln x - ln K) or its negative, of a Hill function of x with its condition x > 0; None for anything else."""
    if condition.operation != "gt" or law.operation != "hill":
        return None
    x, zero = condition.arguments
    if not (zero.is_constant and zero.value == 0):
        return None
    one, two, n = law.arguments
    clamped = build("maximum", x, zero)
    if not n.variables <= fixed or n.is_constant:
        return None  # (a whole constant power needs no logarithm)
    if one is clamped and two.variables <= fixed:
        return n * (log(x) - log(two))
    if two is clamped and one.variables <= fixed:
        return n * (log(one) - log(x))
    return None
