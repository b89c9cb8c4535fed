"""Matrix products and Einstein sums, for bounds: linear in one tensor that depends on the input, bilinear in two.

A product of two such tensors is spelled out: both are laid out over all their indices, multiplied elementwise by
McCormick's planes, and summed.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from varphi.numbers import variable

from . import backward
from .nodes import Node

if TYPE_CHECKING:
    from .graph import Reader

_X = variable("x")


def linear(reader: Reader, value: Any, weight: Tensor, bias: Tensor | None = None) -> Node:
    """x Wᵀ + b over the last dimension."""
    weight = reader.converted(weight)
    size = weight.abs()
    node = reader.linear_map(
        value,
        lambda z: z @ weight.T,
        lambda z: z @ size.T,
        None if bias is None else reader.converted(bias),
        weight.shape[1] + 1,
        lambda a: backward.product(a, weight),
    )
    node.weight = weight if len(node.shape) == 1 else None
    return node


def matmul(reader: Reader, first: Any, second: Any) -> Node:
    """Products with a constant matrix on either side; of two tensors, by a McCormick rule for each pair."""
    if isinstance(second, Tensor) and second.dim() == 2:
        weight = reader.converted(second)
        size = weight.abs()
        return reader.linear_map(
            first, lambda z: z @ weight, lambda z: z @ size, None, max(weight.shape) + 1, lambda a: a @ weight.T
        )
    if isinstance(first, Tensor) and first.dim() == 2 and len(reader.node_of(second).shape) >= 2:
        weight = reader.converted(first)
        size = weight.abs()
        return reader.linear_map(
            second, lambda z: weight @ z, lambda z: size @ z, None, max(weight.shape) + 1, lambda a: weight.T @ a
        )
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        reader.refuse("a matrix product with a constant of this shape")
    left, right = reader.node_of(first), reader.node_of(second)
    if len(left.shape) != len(right.shape) or len(left.shape) < 2 or left.shape[:-2] != right.shape[:-2]:
        reader.refuse(f"a matrix product of shapes {left.shape} and {right.shape} for each sample")
    lead = string.ascii_lowercase[: len(left.shape) - 1]
    return einsum(reader, f"{lead}yz,{lead}zx->{lead}yx", left, right)


# ------------------------------------------------------------------------------------------------ Einstein sums


@dataclass(frozen=True)
class Indexed:
    """A tensor with a letter for each of its dimensions, the batch's included."""

    value: Any
    letters: str


def einsum(reader: Reader, equation: Any, *operands: Any) -> Node:
    """torch.einsum: linear in each of its operands, so that constants are multiplied in first."""
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    if not isinstance(equation, str):
        reader.refuse("einsum without an equation as text")
    given = [o if isinstance(o, Tensor) else reader.node_of(o) for o in operands]
    ranks = [o.dim() if isinstance(o, Tensor) else len(o.shape) + 1 for o in given]
    terms, out = _parsed(equation, ranks)
    nodes = [Indexed(o, t) for o, t in zip(given, terms, strict=True) if isinstance(o, Node)]
    batch = nodes[0].letters[0]
    inside = any(n.letters[0] != batch or batch in n.letters[1:] for n in nodes) or batch in out[1:]
    if inside or out[:1] != batch:
        reader.refuse(f"einsum {equation!r} that does not keep the samples apart in the first dimension")
    pairs = [Indexed(o, t) for o, t in zip(given, terms, strict=True) if not isinstance(o, Node)]
    constants = [_for_all(reader, pair, batch) for pair in pairs]
    whole = nodes[0]
    if constants or len(nodes) == 1:
        letters = _kept([whole, *constants], nodes[1:], out)
        whole = Indexed(_with_constants(reader, whole, constants, letters), letters)
    for i, other in enumerate(nodes[1:], 2):
        whole = Indexed(*_multiplied(reader, whole, other, _kept([whole, other], nodes[i:], out)))
    return whole.value


def _kept(parts: Sequence[Indexed], others: Sequence[Indexed], out: str) -> str:
    """The letters of parts that the others or the result still need, the batch's first; in order at the end."""
    if not others:
        return out
    wanted = out + "".join(n.letters for n in others)
    return "".join(dict.fromkeys(c for part in parts for c in part.letters if c in wanted))


def _parsed(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the result, with those that "..." and a missing "->" stand for."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    unused = [c for c in string.ascii_letters if c not in equation]
    widths = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    most = max([w for t, w in zip(terms, widths, strict=True) if "..." in t], default=0)
    rest = "".join(unused[:most])
    terms = [t.replace("...", rest[most - w :]) for t, w in zip(terms, widths, strict=True)]
    if not arrow:
        every = "".join(terms)
        return terms, rest + "".join(sorted(c for c in set(every) - set(rest) if every.count(c) == 1))
    return terms, out.replace("...", rest)


def _for_all(reader: Reader, constant: Indexed, batch: str) -> Indexed:
    """A constant without the batch's dimension, along which it must not change."""
    value = reader.converted(constant.value)
    if batch not in constant.letters:
        return Indexed(value, constant.letters)
    first = value.select(constant.letters.index(batch), 0)
    if not bool((value == first.unsqueeze(constant.letters.index(batch))).all()):
        reader.refuse("einsum with a constant that differs from sample to sample")
    return Indexed(first, constant.letters.replace(batch, ""))


def _sizes(parts: Sequence[tuple[str, Sequence[int]]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for letters, shape in parts:
        for letter, n in zip(letters, shape, strict=True):
            found[letter] = max(n, found.get(letter, 1))
    return found


def _with_constants(reader: Reader, node: Indexed, constants: Sequence[Indexed], out: str) -> Node:
    """An Einstein sum that is linear in a node."""
    shape = reader.values[node.value].shape
    sizes = _sizes([(node.letters, shape), *((c.letters, c.value.shape) for c in constants)])
    equation = f"{','.join([node.letters, *(c.letters for c in constants)])}->{out}"
    numbers = [c.value for c in constants]
    weights = [n.abs() for n in numbers]
    summed = math.prod(n for c, n in sizes.items() if c not in out)
    spread = math.prod(n for c, n in sizes.items() if c not in node.letters)
    return reader.linear_map(
        node.value,
        lambda z: torch.einsum(equation, z, *numbers),
        lambda z: torch.einsum(equation, z, *weights),
        None,
        max(summed, spread) + 8 * (1 + len(constants)),
        _transposed(node, shape, constants, sizes, out),
    )


def _transposed(
    node: Indexed, shape: Sequence[int], constants: Sequence[Indexed], sizes: dict[str, int], out: str
) -> Callable[[Tensor], Tensor] | None:
    """The Einstein sum back, where it is one: no letter stands twice, and none was lost."""
    known = out + "".join(c.letters for c in constants)
    own = [(node.letters, shape), *((c.letters, c.value.shape) for c in constants)]
    plain = all(n == sizes[letter] for letters, dims in own for letter, n in zip(letters, dims, strict=True))
    if not plain or len(set(node.letters)) < len(node.letters) or not set(node.letters) <= set(known):
        return None
    equation = f"{','.join([out, *(c.letters for c in constants)])}->{node.letters}"
    numbers = [c.value for c in constants]
    return lambda a: torch.einsum(equation, a, *numbers)


def _multiplied(reader: Reader, left: Indexed, right: Indexed, kept: str) -> tuple[Node, str]:
    """A product of two nodes, summed over all letters but `kept`."""
    shared = kept + "".join(c for c in dict.fromkeys(left.letters) if c in right.letters and c not in kept)
    first, second = (_laid_out(reader, part, shared) for part in (left, right))
    if first is second:
        products = reader.node_of(reader.formula(_X * _X, first, torch.square, "square"))
    else:
        products = reader.product(first, second)
    dims = tuple(range(len(kept), len(shared)))
    if not dims:
        return products, kept
    count = math.prod(reader.values[products].shape[d] for d in dims)

    def add(z: Tensor) -> Tensor:
        return z.sum(dims)

    return reader.linear_map(products, add, add, None, count + 4), kept


def _laid_out(reader: Reader, part: Indexed, letters: str) -> Node:
    """A node with the given letters in order, dimensions of one element for those that it has not."""
    own = "".join(c for c in letters if c in part.letters)
    node = part.value
    if len(part.letters) != len(own):  # letters that stand twice, or that nothing else has
        node = _with_constants(reader, part, [], own)
    elif part.letters != own:
        order = [part.letters.index(c) for c in own]
        node = reader.moved("permute", (node, *order), {})
    shape = reader.values[node].shape
    full = tuple(shape[own.index(c)] if c in own else 1 for c in letters)
    return node if full == tuple(shape) else reader.reshaped("reshape", (node, *full), {})


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "einsum": einsum,
}
