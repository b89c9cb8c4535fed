"""What a formula needs of its parameters alone, set apart: it is computed once for a sample, not at every step."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from varphi.numbers import Expression, variable
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
