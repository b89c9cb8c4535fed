"""A model's graph as a sequence of layers for the recursion: past each activation, what later parts need is carried.

The state before a layer is what has been computed and is still needed: in a chain the last activation alone, in a
residual block the block's input too, in a concatenation its parts. A sum takes the place of its terms as soon as all of
them are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from varphi.bounds.nodes import Affine, Concat, Curve, Input, Maximum, Node, Sum

from .network import Linear, Structure
from .recursion import Bend, Layer, Windows

# Beyond so many numbers before or after an activation the recursion is left out.
_MOST_NEURONS = 1024
_KNOWN = (Input, Affine, Sum, Concat, Curve, Maximum)


@dataclass(frozen=True, eq=False)
class Unrolled:
    """A model as layers.

    Attributes:
        inputs: the size of its input.
        layers: in order.
        last: the linear map from the last state to the output.
    """

    inputs: int
    layers: list[Layer]
    last: Linear

    @property
    def widest(self) -> int:
        """Of the states and of what activations read."""
        return max([self.inputs, *(n for layer in self.layers for n in layer.weight.shape)])


def unrolled(structure: Structure, bend_of: Callable[[Curve], Bend]) -> Unrolled | None:
    """The layers of a model; None where it is too wide, or holds a product of tensors.

    Args:
        bend_of: the slopes of an activation.
    """
    if not all(isinstance(node, _KNOWN) for node in structure.bases):
        return None
    state, layers = [structure.input], []
    for node, kept in _stages(structure):
        beside = sum(n.size for n in kept)
        if max(sum(n.size for n in state), beside + node.size, beside + node.parents[0].size) > _MOST_NEURONS:
            return None
        linear = structure.joint(state, [*kept, node.parents[0]])
        if linear is None:
            return None
        layers.append(_layer(node, beside, linear, bend_of))
        state = [*kept, node]
    last = structure.joint(state, [structure.output])
    return None if last is None else Unrolled(structure.input.size, layers, last)


def _stages(structure: Structure) -> Iterator[tuple[Curve | Maximum, list[Node]]]:
    """Each activation in order, with what was computed before it and is needed after it."""
    needs = {node: structure.needs(node) for node in structure.bases}
    there: set[Node] = set()
    for node in structure.bases:
        if not isinstance(node, (Curve, Maximum)):
            continue
        # In order, so that a sum of sums is there as well.
        for base in structure.bases:
            if isinstance(base, Input) or (not isinstance(base, (Curve, Maximum)) and needs[base] <= there):
                there.add(base)
        wanted = set().union(*(needs[b] for b in structure.bases if b not in there and b is not node))
        wanted |= structure.needs(structure.output) | {structure.output}
        yield node, [b for b in structure.bases if b in there and b in wanted]
        there.add(node)


def _layer(node: Curve | Maximum, kept: int, linear: Linear, bend_of: Callable[[Curve], Bend]) -> Layer:
    assert linear.matrix is not None and linear.error is not None
    weight, error = linear.matrix, linear.error
    if isinstance(node, Curve):
        bend = bend_of(node)
    else:
        used, places = torch.unique(node.windows[node.windows >= 0], return_inverse=True)
        windows = node.windows.clone()
        windows[windows >= 0] = places
        bend = Windows(windows, len(used))
        rows = torch.cat([torch.arange(kept), kept + used])
        weight, error = weight[rows], error[rows]
    return Layer(weight, frobenius(error), bend, kept)


def frobenius(error: Tensor) -> float:
    """Above the Frobenius norm."""
    return float(torch.linalg.matrix_norm(error)) * (1 + 1e-9)
