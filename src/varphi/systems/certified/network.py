"""A model as its Lipschitz constants see it: activations and what is linear between them, as matrices.

`varphi.bounds` reads the model. What is linear from one *base* (the input, an activation, a maximum, a product, or a
sum of things with different bases) to the next is multiplied out, so that a convolution, a normalisation and a reshape
are one matrix with the norm that they have together, not the product of three.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.utils.parametrize as parametrize
from jaxtyping import Float
from torch import Tensor, nn

from varphi.bounds.arithmetic import Arithmetic
from varphi.bounds.crown import Network, Pass
from varphi.bounds.graph import read
from varphi.bounds.nodes import Affine, Concat, Curve, Maximum, Node, Sum
from varphi.bounds.region import Region

from .layers import LipschitzConv2d, LipschitzLinear
from .slopes import slope_range, slope_table
from .spectral import UNIT, convolution_norm, gamma, matrix_norm, schur_norm

EXACT = Arithmetic(torch.float64, True)
# Beyond so many elements a linear map is bounded without its matrix.
_MOST_ELEMENTS = 2**23
_MOST_SIDE = 2048


@dataclass(frozen=True, eq=False)
class Linear:
    """y = (W + E)·x + b with |E| <= error; without a matrix, only a bound of its norm is known.

    Attributes:
        base: what x is the output of.
        matrix, error: (out, in), float64; None where it would be too large.
        norms: of the map, where there is no matrix: from p to a bound.
    """

    base: Node
    matrix: Float[Tensor, "out in"] | None
    error: Float[Tensor, "out in"] | None
    norms: dict[float, float] = field(default_factory=dict)

    def norm(self, p: float, gain: Float[Tensor, "batch out"] | None = None) -> Float[Tensor, " batch"]:
        """Above ‖diag(gain)·W‖_p: (batch,)."""
        if self.matrix is None:
            found = torch.tensor([self.norms[float(p)]], dtype=torch.float64)
            return found if gain is None else found * gain.amax(-1) * (1 + 4 * UNIT)
        assert self.error is not None
        if gain is None:
            return matrix_norm(self.matrix, p, self.error).unsqueeze(0)
        column = gain.unsqueeze(-1)
        error = (self.error * column + (self.matrix * column).abs() * (2 * UNIT)) * (1 + 4 * UNIT)
        return matrix_norm(self.matrix * column, p, error)


def plain(model: nn.Module) -> nn.Module:
    """The model with ordinary layers: 1-Lipschitz layers and parametrised weights become the numbers they stand for.

    What is certified is this one, with the very weights that the model computes in its own format; it is also the one
    to deploy. The model itself is returned where there is nothing to replace, else a copy.
    """
    ours = (LipschitzLinear, LipschitzConv2d)
    if not any(isinstance(m, ours) or parametrize.is_parametrized(m) for m in model.modules()):
        return model
    if isinstance(model, ours):
        return model.plain()
    if parametrize.is_parametrized(model):
        return _unparametrised(model)
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ours):
                setattr(module, name, child.plain())
            elif parametrize.is_parametrized(child):
                setattr(module, name, _unparametrised(child))
    return model


def _unparametrised(module: nn.Module) -> nn.Module:
    """A copy with its weights as parameters of its own. (torch's removal changes the class that copies share.)"""
    found = copy.deepcopy(module)
    names: Any = module.parametrizations
    weights = {name: getattr(module, name).detach().clone() for name in names}
    found.__class__ = parametrize.type_before_parametrizations(module)
    del found.parametrizations
    for name, weight in weights.items():
        found.register_parameter(name, nn.Parameter(weight))
    return found


class Structure:
    """A model read once: its bases in order, and the linear maps between them.

    Args:
        model: as for `varphi.bounds`.
        sample: (batch, ...), for the shapes.
    """

    def __init__(self, model: nn.Module, sample: Tensor) -> None:
        self.model = plain(model)
        with torch.no_grad():
            self.network: Network = read(self.model, sample.double(), EXACT)
        self.input = self.network.nodes[0]
        self.output = self.network.output
        self._bases: dict[Node, Node] = {}
        self._linear: dict[Node, Linear] = {}
        for node in self.network.before(self.output):
            self._bases[node] = self._base(node)

    def _base(self, node: Node) -> Node:
        if isinstance(node, (Affine, Sum, Concat)):
            found = {self._bases[p] for p in node.parents}
            if len(found) == 1:
                return found.pop()
        return node

    def is_linear(self, node: Node) -> bool:
        """Whether a node is a linear map of a base before it."""
        return self._bases[node] is not node

    @property
    def bases(self) -> list[Node]:
        """Whatever is not linear in one thing before it, in order; the input first."""
        return [n for n in self.network.before(self.output) if self._bases[n] is n]

    def needs(self, node: Node) -> set[Node]:
        """The bases that a base is computed from, or that what is linear is linear in."""
        if self.is_linear(node):
            return {self._bases[node]}
        return {self._bases[p] for p in node.parents}

    def linear(self, node: Node) -> Linear:
        """The map from the base of a node to it."""
        if node not in self._linear:
            self._linear[node] = self._multiplied(node)
        return self._linear[node]

    def _multiplied(self, node: Node) -> Linear:
        base = self._bases[node]
        if node is base:
            return Linear(base, None, None, dict.fromkeys((1.0, 2.0, math.inf), 1.0))
        if self._fits([base], [node]):
            return self._stacked([base], [node])
        return Linear(base, None, None, self._norms(base, node))

    def _fits(self, state: Sequence[Node], wanted: Sequence[Node]) -> bool:
        """Whether the matrix from some nodes to others is small, and so is what is computed on the way to it."""
        width, height = (sum(n.size for n in nodes) for nodes in (state, wanted))
        if max(width, height) > _MOST_SIDE or width * height > _MOST_ELEMENTS:
            return False
        return all(n.size * width <= 4 * _MOST_ELEMENTS for n in self._between(state, wanted))

    def joint(self, state: Sequence[Node], wanted: Sequence[Node]) -> Linear | None:
        """The map from some nodes, beside each other, to others that are linear in them; None where it is too large."""
        return self._stacked(state, wanted) if self._fits(state, wanted) else None

    def _stacked(self, state: Sequence[Node], wanted: Sequence[Node]) -> Linear:
        sizes = [n.size for n in state]
        units = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, 1)
        images = [unit.reshape(-1, *n.shape) for n, unit in zip(state, units, strict=True)]
        known = {n: (image, torch.zeros_like(image)) for n, image in zip(state, images, strict=True)}
        parts = [self._images(node, known) for node in wanted]
        matrix, error = (torch.cat([p[i].flatten(1) for p in parts], 1).T.contiguous() for i in (0, 1))
        return Linear(state[0], matrix, error)

    def _between(self, state: Sequence[Node], wanted: Sequence[Node]) -> list[Node]:
        """What is computed on the way from some nodes to others, these included, in order."""
        found: set[Node] = set()
        ahead = [n for n in wanted if n not in state]
        while ahead:
            node = ahead.pop()
            found.add(node)
            ahead += [p for p in node.parents if p not in state and p not in found]
        return [n for n in self.network.nodes if n in found]

    def _images(self, node: Node, known: dict[Node, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What a node is at unit vectors of the known ones, without constants, and the error of that: (in, *shape)."""
        if node in known:
            return known[node]
        parts = [self._images(p, known) for p in node.parents]
        if isinstance(node, Affine):
            value, error = parts[0]
            moved = node.magnitude or node.apply
            lost = moved(value.abs() + error) * gamma(node.terms) if node.magnitude is not None else 0.0
            found = node.apply(value), moved(error) + lost
        elif isinstance(node, Sum):
            first, second = (value * s for (value, _), s in zip(parts, node.signs, strict=True))
            total = first + second
            found = total, parts[0][1] + parts[1][1] + total.abs() * (4 * UNIT)
        else:
            assert isinstance(node, Concat)
            found = tuple(torch.cat([p[i] for p in parts], node.dim + 1) for i in (0, 1))
        known[node] = found[0], found[1] * (1 + 64 * UNIT)
        return known[node]

    def _norms(self, base: Node, node: Node) -> dict[float, float]:
        """Bounds for a map that is too large to multiply out: by its parts, convolutions on a torus."""
        found: dict[Node, dict[float, float]] = {base: dict.fromkeys((1.0, 2.0, math.inf), 1.0)}
        for here in self._between([base], [node]):
            before = [found[p] for p in here.parents]
            if isinstance(here, Affine):
                own = self._own_norms(here)
                found[here] = {p: own[p] * before[0][p] * (1 + 4 * UNIT) for p in own}
            else:
                found[here] = {p: joined(here, p, [b[p] for b in before]) for p in before[0]}
        return found[node]

    def _own_norms(self, node: Affine) -> dict[float, float]:
        size = node.magnitude or node.apply
        ones = torch.ones(1, *node.parents[0].shape, dtype=torch.float64)
        rows = size(ones).max() * (1 + gamma(node.terms))
        pull = torch.func.vjp(size, ones)[1]
        columns = pull(torch.ones(1, *node.shape, dtype=torch.float64))[0].max() * (1 + gamma(node.size))
        found = {p: float(schur_norm(rows, columns, p)) for p in (1.0, 2.0, math.inf)}
        module = self.model.get_submodule(node.path) if node.path in dict(self.model.named_modules()) else None
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and len(node.parents[0].shape) == 3:
            kernel = module.weight.detach().double()
            exact = convolution_norm(kernel, node.parents[0].shape[1:], module.dilation, module.groups)
            found[2.0] = min(found[2.0], exact)
        return found

    # ---------------------------------------------------------------------------------------- activations

    def slopes(self, node: Curve, run: Pass | None) -> tuple[Float[Tensor, "batch out"], Float[Tensor, "batch out"]]:
        """The least and the greatest slope of an activation: of each neuron over a region, or over the whole line."""
        if run is None:
            low, high = slope_range(node.activation)
            one = torch.ones(1, node.size, dtype=torch.float64)
            return low * one, high * one
        lower, upper = run.tight(node.parents[0])
        expression = node.activation.definition.expression(node.activation.numbers())
        least, greatest = slope_table(expression).over(lower.flatten(1), upper.flatten(1))
        self._check_finite(node, least, greatest, lower, upper)
        return least, greatest

    @staticmethod
    def _check_finite(node: Curve, least: Tensor, greatest: Tensor, lower: Tensor, upper: Tensor) -> None:
        wrong = ~(torch.isfinite(least) & torch.isfinite(greatest))
        if not bool(wrong.any()):
            return
        from .slopes import UnboundedSlope

        i = int(wrong.flatten().nonzero()[0])
        raise UnboundedSlope(
            f"{node.path or 'the model'}: {node.activation.name} has no bounded slope on the inputs that it gets, "
            f"[{float(lower.flatten()[i]):.4g}, {float(upper.flatten()[i]):.4g}]"
        )

    def intervals(self, region: Region) -> Pass:
        """Proved intervals of every activation's input over a region, by CROWN in float64."""
        return Pass(self.network, region, "crown")


def overlap(node: Maximum) -> int:
    """In how many windows an element stands at most."""
    return int(torch.bincount(node.windows[node.windows >= 0], minlength=1).max())


def repeated(node: Node, p: float, constants: list[float]) -> list[float]:
    """The constants of a node's inputs once they are broadcast to its shape, which repeats their elements."""
    if p == math.inf:
        return constants
    times = [max(1, node.size // max(parent.size, 1)) ** (1 / p) for parent in node.parents]
    return [c * t * (1 + 8 * UNIT) for c, t in zip(constants, times, strict=True)]


def joined(node: Node, p: float, constants: list[float]) -> float:
    """The Lipschitz constant of a sum, or of things beside each other, from theirs."""
    if isinstance(node, Concat):
        if p == math.inf:
            return max(constants)
        return math.hypot(*constants) * (1 + 16 * UNIT) if p == 2 else sum(constants) * (1 + 16 * UNIT)
    return sum(repeated(node, p, constants)) * (1 + 16 * UNIT)
