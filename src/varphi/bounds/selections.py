"""Choices among elements, for bounds: maxima and minima over dimensions, sorting, and `where`.

Of two tensors the larger is a + relu(b - a) and the smaller b - relu(b - a): the activation's lines are those around a
choice. Of more, the largest is found as in a tournament; a sort is a network of such comparisons (Batcher, AFIPS 1968).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from varphi.activation.operations import POINTWISE
from varphi.numbers import variable
from varphi.numbers.expression import constant

from .arithmetic import Arithmetic
from .nodes import Concat, Drawn, Interval, Node, Product, summed, unbroadcast

if TYPE_CHECKING:
    from .crown import Pass
    from .graph import Reader

_X = variable("x")
_RELU = constant(POINTWISE["relu"](_X))
# A sort of so many is as many comparisons deep as loose.
_MOST_SORTED = 16


@dataclass(frozen=True)
class Places:
    """Indices of the largest or the sorted: they jump as the input moves."""

    operation: str


class Chosen(NamedTuple):
    """What torch gives of a maximum, a minimum or a sort along a dimension."""

    values: Node
    indices: Places


# ------------------------------------------------------------------------------------------------ pairs


def larger(reader: Reader, first: Any, second: Any) -> Node:
    """max(a, b), elementwise."""
    return _ordered(reader, first, second)[1]()


def smaller(reader: Reader, first: Any, second: Any) -> Node:
    """min(a, b), elementwise."""
    return _ordered(reader, first, second)[0]()


def _ordered(reader: Reader, first: Any, second: Any) -> tuple[Callable[[], Node], Callable[[], Node]]:
    """How to get the smaller and the larger of two tensors, one of them perhaps a constant."""
    given, other = (second, first) if isinstance(first, (Tensor, int, float)) else (first, second)
    a = reader.node_of(given)
    fixed = isinstance(other, (Tensor, int, float))
    b: Any = torch.as_tensor(other, dtype=reader.number.dtype) if fixed else reader.node_of(other)
    rest = reader.node_of(reader.formula(_RELU, reader.sum_of(b, a, -1), torch.relu, "relu"))

    def of(base: Any, sign: int, choose: Callable[[Tensor, Tensor], Tensor]) -> Node:
        made = reader.sum_of(base, rest, sign)
        made.hull = lambda run: _chosen(run, choose, a, b)
        reader.values[made] = choose(*(reader.values[n] if isinstance(n, Node) else n for n in (a, b)))
        return made

    return lambda: of(b, -1, torch.minimum), lambda: of(a, 1, torch.maximum)


def _chosen(run: Pass, choose: Callable[[Tensor, Tensor], Tensor], first: Any, second: Any) -> Interval:
    one, two = _ends(run, first), _ends(run, second)
    return choose(one[0], two[0]), choose(one[1], two[1])


def _ends(run: Pass, value: Any) -> Interval:
    return run.rough(value) if isinstance(value, Node) else (value, value)


# ------------------------------------------------------------------------------------------------ dimensions


def _axes(reader: Reader, node: Node, dim: Any, operation: str) -> list[int]:
    rank = len(node.shape) + 1
    given = dim if isinstance(dim, (tuple, list)) else [dim]
    if dim is None or not given or any(d % rank == 0 for d in given):
        reader.refuse(f"{operation} over the batch dimension")
    return sorted(d % rank for d in given)


def _last(reader: Reader, node: Node, axes: Sequence[int]) -> tuple[Node, list[int]]:
    """The given dimensions as one, the last; and the others in order."""
    others = [d for d in range(len(node.shape) + 1) if d not in axes]
    shape = [reader.values[node].shape[d] for d in others]
    moved = reader.moved("permute", (node, *others, *axes), {})
    return reader.reshaped("reshape", (moved, *shape, -1), {}), others


def _part(reader: Reader, node: Node, index: Any) -> Node:
    return reader.moved(lambda z: z[..., index], (node,), {})


def _beside(reader: Reader, nodes: Sequence[Node]) -> Node:
    """Tensors beside each other along the last dimension."""
    if len(nodes) == 1:
        return nodes[0]
    value = torch.cat([reader.values[n] for n in nodes], -1)
    shape = tuple(value.shape[1:])
    return reader.add(Concat(reader.path, shape, tuple(nodes), len(shape) - 1), value)


def _extreme(choose: Callable[[Reader, Any, Any], Node], operation: str) -> Callable[..., Node]:
    """amax and amin: rounds in which halves are compared until one is left."""

    def rule(reader: Reader, value: Any, dim: Any = (), keepdim: bool = False) -> Node:
        node = reader.node_of(value)
        axes = _axes(reader, node, dim, operation)
        shape = list(reader.values[node].shape)
        left, others = _last(reader, node, axes)
        while left.shape[-1] > 1:
            half = left.shape[-1] // 2
            pairs = choose(reader, _part(reader, left, slice(half)), _part(reader, left, slice(half, 2 * half)))
            odd = [_part(reader, left, slice(2 * half, None))] if left.shape[-1] % 2 else []
            left = _beside(reader, [pairs, *odd])
        kept = [1 if d in axes else shape[d] for d in range(len(shape))] if keepdim else [shape[d] for d in others]
        return reader.reshaped("reshape", (left, *kept), {})

    return rule


def _along(choose: Callable[[Reader, Any, Any], Node], operation: str) -> Callable[..., Any]:
    """max and min: of two tensors, or along one dimension with the places."""
    extreme = _extreme(choose, operation)

    def rule(reader: Reader, value: Any, dim: Any = None, keepdim: bool = False) -> Chosen:
        if isinstance(dim, bool) or not isinstance(dim, int):
            reader.refuse(f"{operation} over all elements, the batch dimension included,")
        return Chosen(extreme(reader, value, dim, keepdim), Places(operation))

    return rule


# ------------------------------------------------------------------------------------------------ sorting


def sort(reader: Reader, value: Any, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Chosen:
    """Values in order along a dimension: GroupSort and MaxMin, where it has two elements."""
    node = reader.node_of(value)
    axes = _axes(reader, node, dim, "sort")
    last, others = _last(reader, node, axes)
    count = last.shape[-1]
    if count > _MOST_SORTED:
        reader.refuse(f"sort of {count} elements (at most {_MOST_SORTED} are compared)")
    for turn in _rounds(count):
        last = _compared(reader, last, turn)
    if descending:
        last = reader.moved("flip", (last, [-1]), {})
    order = [others.index(d) if d in others else len(others) for d in range(len(others) + 1)]
    return Chosen(reader.moved("permute", (last, *order), {}), Places("sort"))


def topk(reader: Reader, value: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Chosen:
    """The k largest or smallest, in order."""
    ordered = sort(reader, value, dim, largest).values
    return Chosen(reader.moved("narrow", (ordered, dim, 0, k), {}), Places("topk"))


def _compared(reader: Reader, node: Node, turn: Sequence[tuple[int, int]]) -> Node:
    """One round of a sort: of each pair of places the smaller goes to the first."""
    low, high = ([pair[side] for pair in turn] for side in (0, 1))
    rest = [i for i in range(node.shape[-1]) if i not in (*low, *high)]
    least, most = _ordered(reader, _part(reader, node, low), _part(reader, node, high))
    parts = [least(), most(), *([_part(reader, node, rest)] if rest else [])]
    places = [*low, *high, *rest]
    return _part(reader, _beside(reader, parts), [places.index(i) for i in range(len(places))])


def _rounds(count: int) -> list[list[tuple[int, int]]]:
    """Batcher's odd-even merge sort: rounds of comparisons, of pairs that have no place in common."""
    found: list[list[tuple[int, int]]] = []
    p = 1
    while p < count:
        k = p
        while k >= 1:
            pairs = [
                (i + j, i + j + k)
                for j in range(k % p, count - k, 2 * k)
                for i in range(min(k, count - j - k))
                if (i + j) // (2 * p) == (i + j + k) // (2 * p)
            ]
            found += [pairs] if pairs else []
            k //= 2
        p *= 2
    return found


# ------------------------------------------------------------------------------------------------ where


class Gate(Product):
    """y = m·d with m either 0 or 1: d where m is certainly 1, 0 where it is certainly 0, else either.

    Whatever m is, y lies between min(d, 0) and max(d, 0), of which the chords are taken; no line around m is needed.
    """

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        shut, opened, lower, upper = _switched(*parents)
        zero = lower.new_zeros(())
        low, high = (torch.where(opened, *pair) for pair in ((lower, lower.clamp_max(0)), (upper, upper.clamp_min(0))))
        return torch.where(shut, zero, low), torch.where(shut, zero, high)

    def drawn(self, run: Pass) -> Drawn:
        """The chords, on the interval of d."""
        shut, opened, lower, upper = _switched(*(run.tight(p) for p in self.parents))
        span = (upper - lower).clamp_min(run.number.least)
        one, zero = lower.new_ones(()), lower.new_zeros(())
        below, above = (
            torch.where(opened, one, torch.where(shut, zero, slope.clamp(0, 1)))
            for slope in (-lower / span, upper / span)
        )
        # What is left of min(d, 0) - below·d is least at an end, of max(d, 0) - above·d largest.
        least = torch.minimum(lower.clamp_max(0) - below * lower, upper.clamp_max(0) - below * upper)
        most = torch.maximum(lower.clamp_min(0) - above * lower, upper.clamp_min(0) - above * upper)
        least, most = (torch.where(opened | shut, zero, end) for end in (least, most))
        drop, number = (least - most) / 2, run.number
        if number.sound:
            size = torch.maximum(lower.abs(), upper.abs())
            repeats = self.size // max(self.parents[1].size, 1)
            drop = drop - size * (4 * number.gamma(repeats) + number.gamma(summed(self.size))) - number.least
            before = run.error_of(self.parents[1])
            drop = drop if before is None else drop - before * 1.01
        slopes, bends = ((below + above) / 2).unsqueeze(1), ((below - above) / 2).unsqueeze(1)
        return Drawn((slopes,), (bends,), (least + most) / 2, drop)

    def back(self, run: Pass, a: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        (pulled,), constant = self.drawn(run).back(a)
        return [None, unbroadcast(pulled, self.parents[1].shape)], constant


def _switched(gate: Interval, value: Interval) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where a gate is certainly 0, where 1, and the interval behind it, all of one shape."""
    shut, opened, lower, upper = torch.broadcast_tensors(gate[1] < 0.5, gate[0] > 0.5, *value)
    return shut, opened, lower, upper


def where(reader: Reader, condition: Any, input: Any, other: Any) -> Node:
    """b + m·(a - b), with m = 1 where the condition holds."""
    if isinstance(condition, Tensor):
        return _masked(reader, condition, input, other)
    first, second = input, other
    gate = reader.node_of(reader.formula(_X, condition, lambda z: z.to(reader.number.dtype), "to"))
    if not bool(((reader.values[gate] == 0) | (reader.values[gate] == 1)).all()):
        reader.refuse("where on a condition that is not true or false")
    if all(isinstance(n, (Tensor, int, float)) for n in (first, second)):
        parts = _times(reader, gate, first), _times(reader, _negated(reader, gate), second)
        return reader.node_of(reader.sum_of(*parts, 1))
    if isinstance(first, (Tensor, int, float)):
        first, second, gate = second, first, _negated(reader, gate)
    apart = reader.node_of(reader.sum_of(first, second, -1))
    a, b = (n if isinstance(n, (Tensor, int, float)) else reader.node_of(n) for n in (first, second))
    chosen = reader.values[gate].to(reader.number.dtype) * reader.values[apart]
    behind = reader.add(Gate(reader.path, tuple(chosen.shape[1:]), (gate, apart)), chosen)
    made = reader.sum_of(second, behind, 1)
    made.hull = lambda run: _either(run, gate, a, b, reader.number.dtype)
    return made


def _either(run: Pass, gate: Node, first: Any, second: Any, dtype: torch.dtype) -> Interval:
    """The interval of one of two, or what holds for both."""
    one, two = (_ends(run, n if isinstance(n, Node) else torch.as_tensor(n, dtype=dtype)) for n in (first, second))
    low, high = run.rough(gate)
    shut, opened = high < 0.5, low > 0.5
    lower, upper = torch.minimum(one[0], two[0]), torch.maximum(one[1], two[1])
    ends = zip((lower, upper), one, two, strict=True)
    found = [torch.where(opened, a, torch.where(shut, b, both)) for both, a, b in ends]
    return found[0], found[1]


def _negated(reader: Reader, gate: Node) -> Node:
    return reader.shifted(reader.scaled(gate, torch.tensor(-1.0)), torch.ones((), dtype=reader.number.dtype))


def _masked(reader: Reader, mask: Tensor, first: Any, second: Any) -> Node:
    """Where the choice is fixed, each is multiplied by 1 or 0."""
    kept = mask.to(reader.number.dtype)
    parts = [_times(reader, weight, value) for weight, value in ((kept, first), (1 - kept, second))]
    return reader.node_of(reader.sum_of(parts[0], parts[1], 1))


def _times(reader: Reader, weight: Any, value: Any) -> Any:
    """A product with a weight of 0 or 1; at most one of both depends on the input."""
    if not isinstance(value, (Tensor, int, float)):
        return reader.product(value, weight)
    number = reader.converted(torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else reader.number.dtype))
    if not bool(torch.isfinite(number).all()):
        reader.refuse("where with ±inf or NaN")
    return number * weight if isinstance(weight, Tensor) else reader.product(weight, number)


def masked_fill(reader: Reader, input: Any, mask: Any, value: Any) -> Node:
    """`value` where the mask is set."""
    return where(reader, mask, value, input)


# ------------------------------------------------------------------------------------------------ lists of tensors


def unbind(reader: Reader, value: Any, dim: int = 0) -> tuple[Node, ...]:
    """The parts of a tensor along a dimension."""
    (axis,) = _axes(reader, reader.node_of(value), dim, "unbind")
    node = reader.node_of(value)
    return tuple(reader.moved("select", (node, axis, i), {}) for i in range(node.shape[axis - 1]))


def _jumping(name: str) -> Callable[..., Any]:
    def rule(reader: Reader, *_: Any, **__: Any) -> Any:
        reader.refuse(f"{name} (places jump as the input moves: bound the values, or their differences with spec)")

    return rule


PAIRS: dict[str, Callable[..., Any]] = {"maximum": larger, "minimum": smaller}
ALONG: dict[str, Callable[..., Any]] = {"max": _along(larger, "max"), "min": _along(smaller, "min")}
CHOICES: dict[str, Callable[..., Any]] = {"where": where, "masked_fill": masked_fill}
COMPARISONS = frozenset(["gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal"])
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "amax": _extreme(larger, "amax"),
    "amin": _extreme(smaller, "amin"),
    "sort": sort,
    "topk": topk,
    "unbind": unbind,
    **{name: _jumping(name) for name in ("argmax", "argmin", "argsort")},
}
