"""Bounds through a graph of nodes: forward by intervals (IBP), or backward by planes (CROWN), with slopes optimised.

CROWN starts from rows C of output combinations and pushes them back, node by node: A·y + c stays below C·output for all
inputs in the region. At a nonlinear node, planes around it on its input's interval are put in its place; that interval
is found the same way, from that node back to the input. (Zhang et al., NeurIPS 2018, arXiv 1811.00866; Xu et al., ICLR
2021, arXiv 2011.13824 for optimised slopes.)

With sound arithmetic A and c are the very floats computed, and whatever a step may have rounded is taken off c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from . import backward
from .arithmetic import Arithmetic
from .deadline import check_deadline
from .nodes import Affine, Curve, Drawn, Input, Interval, Node, dot, flat, summed
from .region import Region
from .relaxation import Lines

# Coefficients held at once: rows beyond are done in turns.
_MOST_NUMBERS = 2**25
# Slopes for every row of their own up to so many numbers; beyond, rows share them.
_MOST_SLOPES = 2**22
_DECAY = 0.95
# So many coefficients of a sample are carried through several layers at once.
_MOST_IN_CACHE = 2**16


@dataclass(frozen=True, eq=False)
class Network:
    """A model as nodes in topological order.

    Attributes:
        nodes: the input first.
        output: what is bounded.
    """

    nodes: tuple[Node, ...]
    output: Node
    _before: dict[Node, list[Node]] = field(default_factory=dict, repr=False)

    def before(self, target: Node) -> list[Node]:
        """The nodes that a target is computed from, itself included, in order."""
        if target not in self._before:
            wanted, stack = {target}, [target]
            while stack:
                fresh = [p for p in stack.pop().parents if p not in wanted]
                wanted.update(fresh)
                stack += fresh
            self._before[target] = [n for n in self.nodes if n in wanted]
        return self._before[target]


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Rows of coefficients of a node on their way back.

    Attributes:
        a: (batch or 1, rows, *shape).
        mirrored: whether the rows stand for their negatives too, which come after them: what is linear need not be
            done twice.
        paid: whether the error of the node's own evaluation has been taken off.
    """

    a: Tensor
    mirrored: bool = False
    paid: bool = False

    def whole(self) -> Coefficients:
        """The same with every row written out."""
        return Coefficients(torch.cat([self.a, -self.a], 1), paid=self.paid) if self.mirrored else self

    def odd(self, term: Tensor) -> Tensor:
        """What is of the sign of its row, (batch or 1, rows), for all rows that are meant."""
        return torch.cat([term, -term], 1) if self.mirrored else term

    def even(self, term: Tensor) -> Tensor:
        """What is the same for a row and its negative."""
        return torch.cat([term, term], 1) if self.mirrored else term


class Slopes:
    """The slopes of every activation's lines, for each node that is bounded through it; they can be moved.

    A slope is kept as its place, 0 to 1, among those that are best somewhere in the interval. A chord has no choice.

    Args:
        best: a pass with the best slopes, where these start.
    """

    def __init__(self, best: Pass) -> None:
        self.best = best
        self.places: dict[tuple[Node, Node], tuple[Tensor, Tensor]] = {}
        self._limits: dict[Node, list[tuple[Tensor, Tensor]]] = {}

    def of(self, target: Node, node: Curve, rows: int) -> tuple[Tensor, Tensor]:
        if node not in self._limits:
            pairs = node.slope_limits(self.best.tight(node.parents[0]))
            self._limits[node] = [(low.unsqueeze(1), (high - low).unsqueeze(1)) for low, high in pairs]
        limits = self._limits[node]
        if (target, node) not in self.places:
            lines, _ = self.best.lines(node)
            own = rows if lines.lower_slope.numel() * rows <= _MOST_SLOPES else 1
            starts = (lines.lower_slope.unsqueeze(1), lines.upper_slope.unsqueeze(1))
            first, second = (
                self._place(s, *limit).repeat(1, own, *[1] * (s.dim() - 2)).requires_grad_()
                for s, limit in zip(starts, limits, strict=True)
            )
            self.places[target, node] = first, second
        first, second = (low + p * span for p, (low, span) in zip(self.places[target, node], limits, strict=True))
        return first, second

    @staticmethod
    def _place(slope: Tensor, low: Tensor, span: Tensor) -> Tensor:
        return torch.where(span > 0, (slope - low) / span, torch.zeros_like(slope)).clamp(0, 1)

    def parameters(self) -> list[Tensor]:
        return [t for pair in self.places.values() for t in pair]


class Pass:
    """One propagation through a network: what has been found about its nodes.

    Args:
        network: the model.
        region: the set of inputs.
        method: of the intervals of intermediate nodes.
        slopes: None takes the best.
        known: intervals that nodes are in already. Only inputs that keep to them are meant then.

    Attributes:
        empty: (batch,): whether no input of the region keeps to the cuts and the known intervals.
        seen: coefficients of every activation's output, as the last backward pass had them.
    """

    def __init__(
        self,
        network: Network,
        region: Region,
        method: Literal["ibp", "crown"],
        slopes: Slopes | None = None,
        known: Mapping[Node, Interval] | None = None,
    ) -> None:
        self.network, self.region, self.method, self._slopes = network, region, method, slopes
        self.known: Mapping[Node, Interval] = known or {}
        self.empty = torch.zeros(len(region.centre), dtype=torch.bool, device=region.centre.device)
        self.seen: dict[Node, Tensor] = {}
        self.number: Arithmetic = region.arithmetic
        self._tight: dict[Node, Interval] = {}
        self._rough: dict[Node, Interval] = {}
        self._errors: dict[Node, Tensor | None] = {}
        self._planes: dict[Node, tuple[Drawn, Interval]] = {}
        self._lines: dict[Node, tuple[Lines, Tensor]] = {}
        self._layers: dict[Node, backward.Layers] = {}
        self._target: tuple[Node, int] | None = None

    # ---------------------------------------------------------------------------------------- intervals

    def rough(self, node: Node) -> Interval:
        """An interval of a node's output, by the cheapest rule."""
        if node in self._tight:
            return self._tight[node]
        if self._slopes is not None:
            return self._slopes.best.rough(node)
        if node not in self._rough:
            lower, upper = self._find_rough(node)
            if node.hull is not None:
                low, high = node.hull(self)
                lower, upper = torch.maximum(lower, low), torch.minimum(upper, high)
            self._rough[node] = lower, upper
        return self._rough[node]

    def _find_rough(self, node: Node) -> Interval:
        if isinstance(node, Input):
            return self.region.hull()
        if node.needs_tight and self.method == "ibp":
            return node.interval([self.tight(p) for p in node.parents], self.number)
        if isinstance(node, Curve):
            return self.planes(node)[1]
        return node.interval([self.rough(p) for p in node.parents], self.number)

    def tight(self, node: Node) -> Interval:
        """An interval of a node's output, by the method."""
        if node not in self._tight:
            self._tight[node] = self._find_tight(node)
        return self._tight[node]

    def _find_tight(self, node: Node) -> Interval:
        rough = self.rough(node)
        # What is linear in the input is bounded exactly by its norm, also where intervals do for the rest.
        linear = not any(n.needs_tight for n in self.network.before(node))
        if isinstance(node, Input) or (self.method == "ibp" and not linear):
            return rough
        others = [rough]
        if self._slopes is not None:
            others.append(self._slopes.best.tight(node))
        if node in self.known:
            others.append(self.known[node])
        return self._common(node, self.enclose(node), others)

    def _common(self, node: Node, found: Tensor, others: list[Interval]) -> Interval:
        """What all enclosures of a node have in common; where sound ones have nothing, there is no such input."""
        if len(others) == 1 and backward.readable(found, *others[0]):
            lower, upper, crossed = backward.meet(found, *others[0])
        else:
            lower, upper = (t.reshape(-1, *node.shape) for t in found.chunk(2, 1))
            upper = -upper
            for low, high in others:
                lower, upper = torch.maximum(lower, low), torch.minimum(upper, high)
            crossed = flat((lower > upper).detach(), 1).any(1)
            upper = torch.maximum(lower, upper)
        if self.number.sound:
            self.empty = self.empty | crossed
        return lower, upper

    def enclose(self, node: Node) -> Tensor:
        """Below every element of a node, backward, and then below every negative: (batch, twice the elements)."""
        n = node.size
        widest = max(m.size for m in self.network.before(node))
        batch = self.region.centre.shape[0]
        turn = max(1, min(n, _MOST_NUMBERS // (2 * batch * widest)))
        slope_rows = 1 if turn < n else 2 * n
        found = []
        for first in range(0, n, turn):
            count = min(turn, n - first)
            rows = torch.zeros(count, n, dtype=self.number.dtype, device=self.region.centre.device)
            rows[:, first : first + count].fill_diagonal_(1.0)
            found.append(self.least(node, rows.view(1, count, *node.shape), slope_rows, mirrored=True))
        if len(found) == 1:
            return found[0]
        return torch.cat([half for i in (0, 1) for half in (f.chunk(2, 1)[i] for f in found)], 1)

    def size_of(self, node: Node) -> Tensor:
        lower, upper = self.rough(node)
        return torch.maximum(-lower, upper).detach()

    def error_of(self, node: Node) -> Tensor | None:
        """What the node itself may round, in units of its output."""
        if node not in self._errors:
            found = node.error(self)
            self._errors[node] = None if found is None else found.detach()
        return self._errors[node]

    # ---------------------------------------------------------------------------------------- backward

    def least(self, target: Node, rows: Tensor, slope_rows: int, mirrored: bool = False) -> Tensor:
        """Below rows·target over the region: (batch or 1, rows, *shape) -> (batch, rows).

        Args:
            slope_rows: how many rows have slopes of their own, where slopes are moved.
            mirrored: whether the rows' negatives are meant too; what belongs to them comes after the rest.
        """
        a, terms = self._swept(target, Coefficients(rows, mirrored), slope_rows, fall=True)
        if a is not None:
            terms.append(self.region.least(a))
        found = self._total(terms)
        assert found is not None
        return found.expand(self.region.centre.shape[0], -1)

    def plane(self, target: Node, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """A and c with A·x + c <= rows·target for all x of the region: (batch or 1, rows, ...) each; None for zero."""
        a, terms = self._swept(target, Coefficients(rows), rows.shape[1])
        return a, self._total(terms)

    def _swept(
        self, target: Node, rows: Coefficients, slope_rows: int, fall: bool = False
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Coefficients of the input, and what is to be added up to the constant.

        Args:
            fall: whether what the input adds may be among the latter, with no coefficients left.
        """
        order = self.network.before(target)
        for node in order:  # what the planes need first, so that no search starts inside another
            for parent in node.parents if node.needs_tight else ():
                self.tight(parent)
        before, self._target = self._target, (target, slope_rows)
        try:
            return self._pushed(order, {target: rows}, fall)
        finally:
            self._target = before

    def _pushed(
        self, order: list[Node], waiting: dict[Node, Coefficients], fall: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        terms: list[Tensor] = []
        for node in reversed(order):
            check_deadline()
            if node not in waiting:
                continue
            held = waiting.pop(node)
            error = None if held.paid else self.error_of(node)
            if error is not None:
                terms.append(-held.even(dot(held.a.abs(), error)))
            if isinstance(node, Input):
                return held.whole().a, terms
            fallen = self._fallen(node, held) if fall and isinstance(node, Curve) and not waiting else None
            if fallen is not None:
                return None, [*terms, fallen]
            if self.method == "ibp" and (node.needs_tight or node.hull is not None):
                terms.append(self._at_interval(node, held.whole().a))
                continue
            pulled, shift = self._back(node, held)
            if shift is not None:
                terms.append(shift)
            for parent, coefficients in zip(node.parents, pulled, strict=True):
                if coefficients is None:
                    continue
                waiting[parent], loss = self._merged(parent, waiting.get(parent), coefficients)
                if loss is not None:
                    terms.append(-loss)
        return None, terms

    def _fallen(self, node: Curve, held: Coefficients) -> Tensor | None:
        """Below rows·node over the region in one call, if activations and dense layers alternate down to the input."""
        inputs, pairs = self.region.compiled, _dense_layers(node)
        if self.method != "crown" or self._slopes is not None or inputs is None or not pairs:
            return None
        planes = [self.drawn(curve) for curve, _ in pairs]
        widest = max(n.size for pair in pairs for n in (*pair, pair[1].parents[0]))
        small = held.a.shape[1] * widest <= _MOST_IN_CACHE
        if not (small and backward.readable(held.a) and all(p.compiled for p in planes)):
            return None
        if node not in self._layers:
            self._layers[node] = _packed([affine for _, affine in pairs])
        eps = 2 * self.number.eps if self.number.sound else 0.0
        columns = [(p.slope[0], p.bend[0], p.shift, p.drop) for p in planes]
        return backward.fall(held.a, held.mirrored, self._layers[node], columns, inputs, eps)

    def _back(self, node: Node, held: Coefficients) -> tuple[list[Coefficients | None], Tensor | None]:
        """Coefficients of what a node is computed from, None for all zero, and a term of the constant."""
        if isinstance(node, Curve):
            self.seen[node] = held.a.detach()
            drawn = self.drawn(node)
            held = held if drawn.shared else held.whole()
            pulled, shift = drawn.back(held.a, held.mirrored)
            return [Coefficients(a, paid=True) for a in pulled], shift
        held = held if node.odd else held.whole()
        pulled, shift = node.back(self, held.a)
        shift = shift if shift is None else held.odd(shift)
        return [None if a is None else Coefficients(a, held.mirrored, node.prepays) for a in pulled], shift

    def _at_interval(self, node: Node, a: Tensor) -> Tensor:
        """The least of A·y for y anywhere in the node's interval."""
        lower, upper = self.rough(node)
        middle, half = (lower + upper) / 2, (upper - lower) / 2
        if self.number.sound:
            size = torch.maximum(lower.abs(), upper.abs())
            half = half + size * (8 * self.number.eps + self.number.gamma(summed(node.size))) + self.number.least
        return dot(a, middle) - dot(a.abs(), half)

    def _total(self, terms: list[Tensor]) -> Tensor | None:
        """The sum of the terms of a constant, (batch or 1, rows) each; with sound arithmetic below it."""
        if len(terms) < 2:
            return terms[0] if terms else None
        share = 2 * len(terms) * torch.finfo(torch.float64).eps if self.number.sound else 0.0
        eps = self.number.eps if self.number.sound else 0.0
        if backward.readable(*terms):
            return backward.below_sum(terms, share, eps)
        each = torch.stack(torch.broadcast_tensors(*terms)).double()
        total = each.sum(0)
        lost = each.detach().abs().sum(0) * share + total.detach().abs() * eps
        return (total - lost).to(self.number.dtype)

    def _merged(
        self, node: Node, before: Coefficients | None, added: Coefficients
    ) -> tuple[Coefficients, Tensor | None]:
        """Coefficients that come from several consumers, and what rounding their sum may cost."""
        if before is None:
            return added, None
        if before.mirrored != added.mirrored:
            before, added = before.whole(), added.whole()
        total = before.a + added.a
        if not self.number.sound:
            return Coefficients(total, added.mirrored, True), None
        merged = Coefficients(total, added.mirrored, before.paid and added.paid)
        return merged, merged.even(dot(total.detach().abs(), self.size_of(node))) * (2 * self.number.eps)

    # ---------------------------------------------------------------------------------------- planes

    def lines(self, node: Curve) -> tuple[Lines, Tensor]:
        """The best lines around an activation, and the error of the model's own values."""
        if node not in self._lines:
            self._lines[node] = node.lines(self.tight(node.parents[0]), self.number)
        return self._lines[node]

    def drawn(self, node: Curve) -> Drawn:
        """The planes of an activation: kept, unless each target has slopes of its own."""
        if self._slopes is not None:
            assert self._target is not None
            slopes = self._slopes.of(self._target[0], node, self._target[1])
            return node.drawn(self, *node.lines(self.tight(node.parents[0]), self.number, slopes))
        return self.planes(node)[0]

    def planes(self, node: Curve) -> tuple[Drawn, Interval]:
        """The best planes of an activation, and the interval of its output that follows."""
        if node not in self._planes:
            self._planes[node] = node.planes(self)
        return self._planes[node]


def _dense_layers(node: Curve) -> list[tuple[Curve, Affine]]:
    """Activations and the dense layers before them, from one down to the input; empty if there is something else."""
    found: list[tuple[Curve, Affine]] = []
    below: Node = node
    while isinstance(below, Curve):
        affine = below.parents[0]
        if not isinstance(affine, Affine) or affine.weight is None:
            return []
        found.append((below, affine))
        below = affine.parents[0]
    return found if isinstance(below, Input) else []


def _packed(layers: list[Affine]) -> backward.Layers:
    weights = [layer.weight for layer in layers if layer.weight is not None]
    biases = [weights[0].new_zeros(n.shape) if n.bias is None else n.bias.expand(n.shape) for n in layers]
    sizes = np.array([*(len(w) for w in weights), weights[-1].shape[1]])
    flat = [torch.cat([t.reshape(-1) for t in part]).numpy() for part in (weights, biases)]
    return backward.Layers(sizes, flat[0], flat[1])


def optimised(
    network: Network,
    region: Region,
    rows: Tensor,
    steps: int,
    mirrored: bool = False,
    rate: float = 0.1,
    moved: Callable[[float], None] = lambda _: None,
) -> Tensor:
    """The best lower bounds of rows·output seen while Adam moves the slopes of every activation, intermediate too.

    Every bound on the way holds, whatever its slopes; so does the largest. `moved` is told the share of steps done.

    Returns:
        (batch, rows); of mirrored rows, twice as many.
    """
    slope_rows = (2 if mirrored else 1) * rows.shape[1]
    with torch.no_grad():
        plain = Pass(network, region, "crown")
        best = plain.least(network.output, rows, slope_rows, mirrored)
    slopes = Slopes(plain)
    optimiser: torch.optim.Adam | None = None
    for step in range(steps):
        moved(step / steps)
        with torch.enable_grad():
            found = Pass(network, region, "crown", slopes).least(network.output, rows, slope_rows, mirrored)
        best = torch.maximum(best, found.detach())
        if not found.requires_grad or step == steps - 1:
            return best
        optimiser = optimiser or torch.optim.Adam(slopes.parameters(), rate)
        optimiser.zero_grad()
        (-found.sum()).backward()
        optimiser.param_groups[0]["lr"] = rate * _DECAY**step
        _step(optimiser, slopes)
    return best


def _step(optimiser: torch.optim.Adam, slopes: Slopes) -> None:
    for place in slopes.parameters():
        if place.grad is not None:
            place.grad.nan_to_num_(0.0, 0.0, 0.0)
    optimiser.step()
    with torch.no_grad():
        for place in slopes.parameters():
            place.clamp_(0, 1)
