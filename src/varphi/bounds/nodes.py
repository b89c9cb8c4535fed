"""What a model's graph is made of, for bounds: each node knows its interval rule and how coefficients pass back.

`A` below are coefficients of a lower bound A·y + c of some outputs, shape (batch or 1, rows, *shape of y). A node turns
coefficients of its output into such of its inputs. What it adds to c, and what it rounds, comes with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from varphi.activation.layer import Activation

from . import backward
from .arithmetic import Arithmetic
from .kernel import MOST_STEPS, Error
from .relaxation import Envelope, Lines, envelope, envelope_between

if TYPE_CHECKING:
    from .crown import Pass

Interval: TypeAlias = tuple[Tensor, Tensor]
_BLOCK = 256


class UncertifiedOperation(ValueError):
    """An operation in a model that varphi has no sound rule for; the message names it and the module it stands in."""


@dataclass(eq=False)
class Node:
    """A tensor in a model that depends on its input.

    Attributes:
        path: the module it is computed in, for messages.
        shape: of one sample.
        parents: what it is computed from.
        odd: whether what passes back of -A is the negative of what passes back of A.
        hull: an interval of the output that is known beside that of its rule; or None.
    """

    path: str
    shape: tuple[int, ...]
    parents: tuple[Node, ...] = ()
    consumers: list[Node] = field(default_factory=list, repr=False)
    hull: Callable[[Pass], Interval] | None = field(default=None, repr=False)
    prepays = False
    needs_tight = False
    odd = False

    def __post_init__(self) -> None:
        for parent in self.parents:
            parent.consumers.append(self)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        """The output's interval from those of the inputs."""
        raise NotImplementedError

    def error(self, run: Pass) -> Tensor | None:
        """How far a computed output may be from the exact one of the same computed inputs; None for not at all."""
        return None

    def back(self, run: Pass, a: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """Coefficients of each input, None for all zero, and what is added to the constant, (batch or 1, rows)."""
        raise NotImplementedError


class Input(Node):
    """The model's input."""


def flat(t: Tensor, dims: int) -> Tensor:
    """All dimensions after the first few as one, also where there are none."""
    return t.reshape(*t.shape[:dims], -1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·b over the elements of a node: (batch or 1, rows, ...) and (batch or 1, ...) -> (batch, rows).

    Long sums are made in blocks, and those added in float64, so that they lose no more than a sum of `summed` terms.
    """
    a, b = flat(a, 2), flat(b, 2 if a.dim() == b.dim() else 1)
    if a.shape[-1] <= _BLOCK:
        return _product(a, b)
    parts = [_product(*pair) for pair in zip(a.split(_BLOCK, -1), b.split(_BLOCK, -1), strict=True)]
    return torch.stack(parts, -1).double().sum(-1).to(a.dtype)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() == b.dim():  # b has rows too
        return (a * b).sum(-1)
    if len(b) == 1:
        return a @ b[0]
    if len(a) == 1:
        return b @ a[0].T
    return torch.matmul(a, b.unsqueeze(-1)).squeeze(-1)


def summed(size: int) -> int:
    """The terms of a sum that loses as much as `dot` over so many elements."""
    return min(size, _BLOCK) + 2


class Affine(Node):
    """y = L x + b.

    Args:
        apply: L on a batch of any size.
        magnitude: |L| on a batch of numbers >= 0; None where L only moves numbers about.
        bias: b, of a shape that broadcasts to one sample, with its sign.
        terms: the most products in one sum of L.
        transpose: Lᵀ on a batch (flat in rows); None: by differentiation.
        drift: a further error of the model's own evaluation, in units of the output.

    Attributes:
        weight: L, (out, in), where it is a matrix for the whole sample.
    """

    odd = True

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        parent: Node,
        apply: Callable[[Tensor], Tensor],
        magnitude: Callable[[Tensor], Tensor] | None = None,
        bias: Tensor | None = None,
        terms: int = 0,
        transpose: Callable[[Tensor], Tensor] | None = None,
        drift: Tensor | None = None,
    ) -> None:
        super().__init__(path, shape, (parent,))
        self.apply, self.magnitude, self.bias, self.terms = apply, magnitude, bias, terms
        self.transpose, self.drift = transpose or self._differentiated, drift
        self.weight: Tensor | None = None
        self._constant_errors: dict[torch.dtype, Tensor | float] = {}

    def _differentiated(self, a: Tensor) -> Tensor:
        with torch.enable_grad():
            zeros = torch.zeros(len(a), *self.parents[0].shape, dtype=a.dtype, device=a.device)
            pull = torch.func.vjp(self.apply, zeros)[1]
        return pull(a)[0]

    def _applied(self, x: Tensor) -> Tensor:
        return self.apply(x) if self.bias is None else self.apply(x) + self.bias

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        lower, upper = parents[0]
        if self.magnitude is None:
            return self.apply(lower), self.apply(upper)
        middle, half = (lower + upper) * 0.5, (upper - lower) * 0.5
        centre = self._applied(middle)
        if number.sound:
            # What rounding of the middle and the half may lose, and what L·middle may, |L|(|middle| + half)·γ.
            share = number.gamma(self.terms)
            half = torch.add(half * (1 + 4 * number.eps + share), middle.abs(), alpha=2 * number.eps + share)
            spread = self.magnitude(half + number.least) + self._always(number)
        else:
            spread = self.magnitude(half)
        return centre - spread, centre + spread

    def _always(self, number: Arithmetic) -> Tensor | float:
        """The part of the error that does not depend on the input."""
        if number.dtype not in self._constant_errors:
            slack: Tensor | float = self.terms * number.least
            if self.bias is not None:  # in the backward pass it is summed over the whole layer
                slack = self.bias.abs() * number.gamma(max(self.terms, summed(self.size))) + slack
            self._constant_errors[number.dtype] = slack if self.drift is None else slack + self.drift
        return self._constant_errors[number.dtype]

    def error(self, run: Pass) -> Tensor | None:
        if self.magnitude is None or not run.number.sound:
            return None
        size = self.magnitude(run.size_of(self.parents[0]))
        return size * run.number.gamma(self.terms) + self._always(run.number)

    def back(self, run: Pass, a: Tensor) -> tuple[list[Tensor], Tensor | None]:
        batch, rows = a.shape[:2]
        pulled = self.transpose(a.flatten(0, 1))
        constant = None
        if self.bias is not None:
            constant = dot(a, self.bias.expand(self.shape).unsqueeze(0))
        return [pulled.view(batch, rows, *self.parents[0].shape)], constant


class Sum(Node):
    """y = ±x₁ ± x₂, with broadcasting."""

    odd = True

    def __init__(self, path: str, shape: tuple[int, ...], parents: tuple[Node, Node], signs: tuple[int, int]) -> None:
        super().__init__(path, shape, parents)
        self.signs = signs

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        terms = [p if s > 0 else (-p[1], -p[0]) for p, s in zip(parents, self.signs, strict=True)]
        lower, upper = terms[0][0] + terms[1][0], terms[0][1] + terms[1][1]
        return number.down(lower, 8), number.up(upper, 8)

    def error(self, run: Pass) -> Tensor | None:
        if not run.number.sound:
            return None
        # The coefficients of an input that was repeated by broadcasting are summed.
        repeats = max(self.size // max(p.size, 1) for p in self.parents)
        size = run.size_of(self.parents[0]) + run.size_of(self.parents[1])
        return size * run.number.gamma(repeats) + run.number.least

    def back(self, run: Pass, a: Tensor) -> tuple[list[Tensor], Tensor | None]:
        return [unbroadcast(a * s, p.shape) for p, s in zip(self.parents, self.signs, strict=True)], None


def unbroadcast(a: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Coefficients of a tensor before it was repeated to the shape that a is of."""
    if a.shape[2:] == shape:
        return a
    extra = a.dim() - 2 - len(shape)
    a = a.flatten(2, 1 + extra).sum(2) if extra else a
    summed = [i + 2 for i, (n, m) in enumerate(zip(shape, a.shape[2:], strict=True)) if n == 1 and m != 1]
    return a.sum(summed, keepdim=True) if summed else a


class Concat(Node):
    """Inputs beside each other along a dimension of the sample."""

    odd = True

    def __init__(self, path: str, shape: tuple[int, ...], parents: tuple[Node, ...], dim: int) -> None:
        super().__init__(path, shape, parents)
        self.dim = dim

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        return torch.cat([p[0] for p in parents], self.dim + 1), torch.cat([p[1] for p in parents], self.dim + 1)

    def back(self, run: Pass, a: Tensor) -> tuple[list[Tensor], Tensor | None]:
        return list(a.split([p.shape[self.dim] for p in self.parents], self.dim + 2)), None


@dataclass(eq=False)
class Drawn:
    """Planes around a node's output, ready for the backward pass: middle ± half, for each input.

    A·y >= A·(slope·x + shift) - |A|·(bend·x ...): with a's sign the lower or the upper line is taken, written with
    |A| so that one product serves both.

    Attributes:
        slope, bend: (batch, rows or 1, *shape) for each input.
        shift, drop: (batch, *shape), or with rows too.
        compiled: whether they were made by machine code, and can be read by it.
    """

    slope: tuple[Tensor, ...]
    bend: tuple[Tensor, ...]
    shift: Tensor
    drop: Tensor
    compiled: bool = False

    def back(self, a: Tensor, mirrored: bool = False) -> tuple[list[Tensor], Tensor]:
        """Coefficients of each input and the constant; of a mirrored A for -A too, below."""
        if self.compiled and backward.readable(a):
            slope, bend = self.slope[0].squeeze(1), self.bend[0].squeeze(1)
            pulled, constant = backward.pull(a, slope, bend, self.shift, self.drop, mirrored)
            return [pulled], constant
        size, pulled = a.abs(), []
        for slope, bend in zip(self.slope, self.bend, strict=True):
            pulled.append(_both(a * slope, size * bend, mirrored))
        return pulled, _both(dot(a, self.shift), dot(size, self.drop), mirrored)

    @property
    def shared(self) -> bool:
        """Whether all rows of a sample have the same planes."""
        return self.drop.dim() < self.slope[0].dim()


def _both(odd: Tensor, even: Tensor, mirrored: bool) -> Tensor:
    return torch.cat([even + odd, even - odd], 1) if mirrored else odd + even


class Curve(Node):
    """y = f(x), elementwise, for any f.

    Args:
        activation: f.
        call: what the model itself runs, for the error of its kernel.
        spelling: a name for that.
    """

    prepays = True
    needs_tight = True

    def __init__(
        self, path: str, parent: Node, activation: Activation, call: Callable[[Tensor], Tensor], spelling: str
    ) -> None:
        super().__init__(path, parent.shape, (parent,))
        self.activation, self.call, self.spelling = activation, call, spelling

    def _envelope(self, interval: Interval, number: Arithmetic) -> tuple[Envelope, Error]:
        """What bounds the function on the interval, and how far off the model's own values may be.

        Part of the error is put down to the input: the interval is to be widened by so many steps, see `_widened`.
        """
        lower, upper = float(interval[0].detach().min()), float(interval[1].detach().max())
        if not number.sound:
            return envelope_between(self.activation, lower, upper, interval[0].device), Error(0.0, 0.0)
        reach = max(abs(lower), abs(upper))
        first, last = (x + s * (abs(x) * MOST_STEPS * number.eps + number.least) for x, s in ((lower, -1), (upper, 1)))
        known = envelope_between(self.activation, first, last, interval[0].device)
        found = known.call_error(self.spelling, self.call, number.dtype, 1.01 * reach)
        if not math.isfinite(found.absolute):
            raise UncertifiedOperation(
                f"{self.path}: {self.activation.name} as the model computes it, {self.spelling}, gives NaN or inf in "
                f"{number.dtype} within ±{reach:.3g}, where the exact value is an ordinary number"
            )
        return known, found

    @staticmethod
    def _widened(interval: Interval, error: Error, number: Arithmetic) -> Interval:
        """The interval with the kernel's error counted as one of its input."""
        if not number.sound:
            return interval
        lower, upper = interval
        share = error.steps * number.eps
        return (
            lower - lower.detach().abs() * share - number.least,
            upper + upper.detach().abs() * share + number.least,
        )

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        known, error = self._envelope(parents[0], number)
        low, high = known.range(*self._widened(parents[0], error, number))
        steps = int(error.steps) + 4
        return number.down(low, steps) - error.absolute, number.up(high, steps) + error.absolute

    def lines(
        self, interval: Interval, number: Arithmetic, slopes: tuple[Tensor | None, Tensor | None] = (None, None)
    ) -> tuple[Lines, Tensor]:
        """Lines on the interval, and the error of the model's own values."""
        found, own = self._envelope(interval, number)
        lower, upper = self._widened(interval, own, number)
        if slopes[0] is not None and slopes[0].dim() > lower.dim():  # slopes of their own for every row
            lower, upper = lower.unsqueeze(1), upper.unsqueeze(1)
        lines = found.lines(lower, upper, *slopes)
        size = torch.maximum(lower.abs(), upper.abs()).detach()
        slope = torch.maximum(lines.lower_slope.abs(), lines.upper_slope.abs()).detach()
        shift = torch.maximum(lines.lower_intercept.abs(), lines.upper_intercept.abs()).detach()
        if not number.sound:
            return lines, torch.zeros((), dtype=size.dtype, device=size.device)
        share = (own.steps + 8) * number.eps
        rounded = slope * size * (2 * share) + shift * (share + number.gamma(summed(self.size)))
        return lines, rounded + (own.absolute + number.least)

    def planes(self, run: Pass) -> tuple[Drawn, Interval]:
        """The best lines as planes, with the errors of this node and of its input taken off; and the output's interval.

        On the processor without gradients all of it is one pass of machine code; `lines`, `drawn` and `reach` say the
        same.
        """
        lower, upper = run.tight(self.parents[0])
        before = run.error_of(self.parents[0])
        if not backward.readable(lower, upper, *(() if before is None else (before,))):
            lines, error = run.lines(self)
            return self.drawn(run, lines, error), self.reach((lower, upper), lines, error)
        known, own = self._envelope((lower, upper), run.number)
        eps, gamma, least = run.number.eps, run.number.gamma(summed(self.size)), run.number.least
        paid = (eps, gamma, least) if run.number.sound else (0.0, 0.0, 0.0)
        slope, bend, shift, drop, low, high = known.planes(lower, upper, before, own, *paid)
        return Drawn((slope.unsqueeze(1),), (bend.unsqueeze(1),), shift, drop, compiled=True), (low, high)

    def drawn(self, run: Pass, lines: Lines, error: Tensor) -> Drawn:
        """Lines as planes, with the errors of this node and of its input taken off."""
        before = run.error_of(self.parents[0])
        if before is not None:
            steep = torch.maximum(lines.lower_slope.abs(), lines.upper_slope.abs()).detach()
            error = error + steep * (before if steep.dim() == before.dim() else before.unsqueeze(1)) * 1.01
        middle = (lines.lower_slope + lines.upper_slope) / 2
        half = (lines.lower_slope - lines.upper_slope) / 2
        shift = (lines.lower_intercept + lines.upper_intercept) / 2
        drop = (lines.lower_intercept - lines.upper_intercept) / 2
        if middle.dim() == len(self.shape) + 1:
            middle, half = middle.unsqueeze(1), half.unsqueeze(1)
        return Drawn((middle,), (half,), shift, drop - error)

    def slope_limits(self, interval: Interval) -> tuple[Interval, Interval]:
        """Between which slopes the lower, and the upper, line is nearest to the curve somewhere in the interval."""
        found = envelope(self.activation, *interval)
        first, last = (found.support_slopes(*interval, share) for share in (0.02, 0.98))
        lower, upper = (torch.stack(pair) for pair in zip(first, last, strict=True))
        return (lower.amin(0), lower.amax(0)), (upper.amin(0), upper.amax(0))

    def reach(self, interval: Interval, lines: Lines, error: Tensor) -> Interval:
        """The output's interval from the lines alone."""
        ends = [interval[0], interval[1]]
        low = torch.minimum(*(lines.lower_slope * e for e in ends)) + lines.lower_intercept - error
        high = torch.maximum(*(lines.upper_slope * e for e in ends)) + lines.upper_intercept + error
        return low, high

    def back(self, run: Pass, a: Tensor) -> tuple[list[Tensor], Tensor | None]:
        return run.drawn(self).back(a)


class Product(Node):
    """y = x₁·x₂, elementwise, by McCormick's planes (Math. Programming 10, 1976): the two through the midpoints.

    On a box with midpoints m and half-widths h, x₁x₂ differs from m₂x₁ + m₁x₂ - m₁m₂ by (x₁-m₁)(x₂-m₂), which is
    at least -h₁h₂ and at most h₁h₂.
    """

    prepays = True
    needs_tight = True

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        (a, b), (c, d) = parents
        ends = torch.stack([a * c, a * d, b * c, b * d])
        return number.down(ends.amin(0)), number.up(ends.amax(0))

    def drawn(self, run: Pass) -> Drawn:
        """McCormick's planes on the intervals of the factors."""
        (a, b), (c, d) = (run.tight(p) for p in self.parents)
        # Of the two planes below, and of the two above, the one that is higher, or lower, at the midpoint is the same.
        first, second, width, height = (a + b) / 2, (c + d) / 2, (b - a) / 2, (d - c) / 2
        drop = -width * height
        number = run.number
        if number.sound:
            size = torch.maximum(a.abs(), b.abs()) * torch.maximum(c.abs(), d.abs())
            repeats = max(self.size // max(p.size, 1) for p in self.parents)
            drop = drop - size * (4 * number.gamma(repeats) + number.gamma(summed(self.size))) - number.least
            for parent, factor in zip(self.parents, (second.abs() + height, first.abs() + width), strict=True):
                before = run.error_of(parent)
                drop = drop if before is None else drop - before * factor * 1.01
        zero = torch.zeros((), dtype=first.dtype, device=first.device)
        return Drawn((second.unsqueeze(1), first.unsqueeze(1)), (zero, zero), (-first * second).expand_as(drop), drop)

    def back(self, run: Pass, a: Tensor) -> tuple[Sequence[Tensor | None], Tensor | None]:
        pulled, constant = self.drawn(run).back(a)
        return [unbroadcast(p, n.shape) for p, n in zip(pulled, self.parents, strict=True)], constant


class Maximum(Node):
    """The largest of several elements of the input, by windows: max pooling.

    Args:
        windows: (outputs, k) flat indices into the input, -1 where a window reaches into the padding.
    """

    prepays = True
    needs_tight = True

    def __init__(self, path: str, shape: tuple[int, ...], parent: Node, windows: Tensor) -> None:
        super().__init__(path, shape, (parent,))
        self.windows = windows

    def _gathered(self, x: Tensor) -> Tensor:
        """(batch, outputs, k), -inf in the padding."""
        flat = x.flatten(1)
        values = flat[:, self.windows.clamp_min(0)]
        return values.masked_fill(self.windows < 0, -math.inf)

    def interval(self, parents: list[Interval], number: Arithmetic) -> Interval:
        lower, upper = parents[0]
        shape = (len(lower), *self.shape)
        return self._gathered(lower).amax(-1).view(shape), self._gathered(upper).amax(-1).view(shape)

    def back(self, run: Pass, a: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Below: the input whose lower bound is largest. Above: the same where it dominates, else the largest upper."""
        lower, upper = run.tight(self.parents[0])
        low, high = self._gathered(lower), self._gathered(upper)
        best, place = low.max(-1)
        others = high.scatter(-1, place.unsqueeze(-1), -math.inf).amax(-1)
        dominates = best >= others
        chosen = self.windows.expand(len(low), -1, -1).gather(-1, place.unsqueeze(-1)).squeeze(-1)  # (batch, outputs)
        a = a.expand(len(low), *a.shape[1:]).flatten(2)
        taken = torch.where(dominates.unsqueeze(1), a, a.clamp_min(0))
        pulled = torch.zeros(*a.shape[:2], self.parents[0].size, dtype=a.dtype, device=a.device)
        pulled.scatter_add_(2, chosen.unsqueeze(1).expand_as(a), taken)
        top = torch.where(dominates, torch.zeros_like(best), high.amax(-1))
        number = run.number
        rest = (a - taken).flatten(2)
        constant = dot(rest, top)
        size = torch.maximum(lower.abs(), upper.abs()).flatten(1)
        if number.sound:
            overlap = int(torch.bincount(self.windows[self.windows >= 0], minlength=1).max())
            reach = self._gathered(size).amax(-1)
            before = run.error_of(self.parents[0])
            slack = reach * (number.gamma(overlap) + number.gamma(summed(self.size))) + number.least
            slack = slack if before is None else slack + self._gathered(before.expand_as(lower)).amax(-1) * 1.01
            constant = constant - dot(a.abs(), slack)
        return [pulled.view(*a.shape[:2], *self.parents[0].shape)], constant
