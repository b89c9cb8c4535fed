"""Straight-line programs: expressions prepared once and run many times over one number system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .expression import Expression, ordered

# Arguments that are indices or exponents, which every system takes as plain numbers.
_PLAIN = {"pow": (1,), "exprel": (1,), "sinc": (1,), "hill": (2,)}


class StraightLine:
    """The values of `roots`, expressions in the variables `names`, at values of one number system.

    Args:
        roots: the expressions.
        operations: the number system's table, from an operation's name to its function.
        lift: turns a plain constant into a number of the system.
        names: the variables, in the order in which calls give their values.
        closed: computes an operation on constants alone; None: `operations` does.
        choose: what computes `where` of two constants, with the first variable's value as a fourth argument; for
            systems whose numbers have types.
    """

    def __init__(
        self,
        roots: Iterable[Expression],
        operations: Mapping[str, Callable[..., Any]],
        lift: Callable[[Any], Any],
        names: Sequence[str] = ("x",),
        closed: Callable[[str, list[Any]], Any] | None = None,
        choose: Callable[..., Any] | None = None,
    ) -> None:
        roots = list(roots)
        slots: dict[tuple[int, bool], int] = {}
        self._values: list[Any] = []
        self._steps: list[tuple[Callable[..., Any], tuple[int, ...], int]] = []
        self._nodes = roots  # keeps the nodes, and so their ids, alive

        def slot(node: Expression, plain: bool = False) -> int:
            key = (id(node), plain and node.is_constant)
            if key not in slots:
                slots[key] = len(self._values)
                self._values.append((node.value if key[1] else lift(node.value)) if node.is_constant else None)
            return slots[key]

        self._values.extend([None] * len(names))
        for node in ordered(roots):
            if node.operation == "variable":
                if node.arguments[0] not in names:
                    raise KeyError(f"no value given for the variable {node.arguments[0]!r}")
                slots[id(node), False] = names.index(node.arguments[0])
            elif not node.is_constant:
                plain = _PLAIN.get(node.operation, ())
                places = tuple(slot(a, i in plain) for i, a in enumerate(node.arguments))
                operation = operations[node.operation]
                if choose and node.operation == "where" and all(a.is_constant for a in node.arguments[1:]):
                    operation, places = choose, (*places, 0)
                place = slot(node)
                if node.variables:
                    self._steps.append((operation, places, place))
                else:
                    given = [self._values[p] for p in places]
                    self._values[place] = closed(node.operation, given) if closed else operation(*given)
        self._results = [slot(root) for root in roots]

    def __call__(self, *inputs: Any) -> list[Any]:
        values = [*inputs, *self._values[len(inputs) :]]
        for operation, places, place in self._steps:
            if len(places) == 2:
                values[place] = operation(values[places[0]], values[places[1]])
            elif len(places) == 1:
                values[place] = operation(values[places[0]])
            else:
                values[place] = operation(*[values[p] for p in places])
        return [values[place] for place in self._results]
