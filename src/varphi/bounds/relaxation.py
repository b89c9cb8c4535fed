"""Two lines that enclose any activation on an interval.

For a slope s, the lower line's intercept is the least value of g(x) = f(x) - s·x on [l, u]. It is bounded from below
piece by piece, by an argument that no wrong number on the way can break:

- where f is convex, the tangent of g at *any* point x̂ lies below g, so its least value on the piece does too; x̂ comes
  from a table of f'⁻¹ and Newton's steps, and how good it is decides how tight the bound is, not whether it holds;
- where f is concave or linear, g is least at an end;
- at a break, f lies between proved numbers; where only the slope's range is known, two lines through the ends hold.

The best slope is the one of the support line of f's convex envelope at the midpoint: of all lines below f, the one
with the least area between. It is found by cutting planes. The upper line is the lower one of -f.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from varphi.activation import backend
from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike, as_activation
from varphi.numbers import Expression

from . import fused
from .curvature import Curvature, curvature
from .fused import CUTS, ENOUGH, EPS, NARROW, NEWTON_STEPS, NODES, SPREAD, TINY, Tables
from .kernel import Error, Judge, tower_errors

# They stop too once fewer than one interval in so many is not there yet: a step for a few costs as much as one for all.
_FEW = 128
_DTYPES = (torch.float32, torch.float64)


class Lines(NamedTuple):
    """lower_slope·x + lower_intercept <= f(x) <= upper_slope·x + upper_intercept on [lower, upper], elementwise."""

    lower_slope: Tensor
    lower_intercept: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor


def relax(
    f: ActivationLike,
    lower: Float[Tensor, "..."],
    upper: Float[Tensor, "..."],
    slope: Float[Tensor, "..."] | tuple[Tensor, Tensor] | None = None,
    **parameters: Any,
) -> Lines:
    """Lines below and above an activation on [lower, upper], for every element.

    They hold for the exact function at every real x in [lower, upper].

    Args:
        f: a name, a formula in x, an activation, a torch callable or module.
        lower, upper: the ends, lower <= upper, finite, float32 or float64; they broadcast.
        slope: of both lines, or a pair for the lower and the upper; None: the slopes with the least area between line
            and curve. Any number gives a sound line. The intercepts can be differentiated by it and by the ends.
        parameters: of `f`, where it is a name or formula: `beta=2.0`.

    Returns:
        (lower_slope, lower_intercept, upper_slope, upper_intercept), each of the ends' broadcast shape and dtype.

    Raises:
        ValueError: for lower > upper, NaN, ±inf, an interval that leaves the domain of f or holds a pole of it.
        TypeError: for what is no tensor of float32 or float64.

    Source: linear relaxation as in CROWN (Zhang et al., NeurIPS 2018, arXiv 1811.00866); the rule for any function is
    varphi's own.

    Example:
        >>> vp.relax("relu", torch.tensor(-1.0), torch.tensor(2.0)).upper_slope
        tensor(0.6667)
    """
    activation = as_activation(f, **parameters)
    lower, upper = _checked(activation, lower, upper)
    slopes = slope if isinstance(slope, tuple) else (slope, slope)
    given = [s if s is None else _checked_slope(s, lower) for s in slopes]
    return envelope(activation, lower, upper).lines(lower, upper, *given)


def _checked(activation: Activation, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    for name, value in (("lower", lower), ("upper", upper)):
        if not isinstance(value, Tensor) or value.dtype not in _DTYPES:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"relax takes lower and upper as tensors of float32 or float64; {name} is {kind}")
    if lower.dtype != upper.dtype or lower.device != upper.device:
        raise TypeError(f"lower and upper must agree: {lower.dtype} on {lower.device}, {upper.dtype} on {upper.device}")
    lower, upper = torch.broadcast_tensors(lower, upper)
    with torch.no_grad():
        if not bool((torch.isfinite(lower) & torch.isfinite(upper)).all()):
            raise ValueError(f"an interval of {activation.name} needs finite ends; lower or upper is NaN or ±inf")
        if bool((lower > upper).any()):
            i = int((lower > upper).flatten().nonzero()[0])
            ends = [t.flatten()[i].item() for t in (lower, upper)]
            raise ValueError(f"an interval needs lower <= upper; element {i} is [{ends[0]:g}, {ends[1]:g}]")
    return lower, upper


def _checked_slope(slope: Tensor, lower: Tensor) -> Tensor:
    if not isinstance(slope, Tensor) or slope.dtype != lower.dtype:
        kind = slope.dtype if isinstance(slope, Tensor) else type(slope).__name__
        raise TypeError(f"slope must be a tensor of the intervals' {lower.dtype}, got {kind}")
    if not bool(torch.isfinite(slope.detach()).all()):
        raise ValueError("slope must be finite; it holds NaN or ±inf")
    return slope


def envelope(activation: Activation, start: Tensor, stop: Tensor) -> Envelope:
    """What bounds an activation on intervals within [min start, max stop]."""
    lower, upper = (float(start.detach().min()), float(stop.detach().max())) if start.numel() else (0.0, 0.0)
    return envelope_between(activation, lower, upper, start.device)


def envelope_between(activation: Activation, lower: float, upper: float, device: torch.device) -> Envelope:
    """What bounds an activation on intervals within [lower, upper]."""
    expression = activation.definition.expression(activation.numbers())
    return _prepared(expression, curvature(expression, lower, upper), device)


@lru_cache(maxsize=256)
def _prepared(expression: Expression, cut: Curvature, device: torch.device) -> Envelope:
    from varphi.activation.definition import Definition, Evaluation

    return Envelope(Activation(Definition(repr(expression), Evaluation(expression))), cut, device)


class _Ends:
    """Intervals with what f is at their ends, and the pieces and breaks that they reach over. Flat, float64.

    Each interval stands twice: with side 1 for the line below f, with side -1 for the line below -f.

    Args:
        numbers: rows side, start, stop, at_start, at_stop (values of f), error_start, error_stop (of these).
        places: rows first_piece, pieces (how many), first_break, breaks.
    """

    def __init__(self, numbers: Float[Tensor, "7 n"], places: Int[Tensor, "4 n"]) -> None:
        self._numbers, self._places = numbers, places
        self.side, self.start, self.stop, self.at_start, self.at_stop, self.error_start, self.error_stop = numbers
        self.first_piece, self.pieces, self.first_break, self.breaks = places

    def some(self, index: Tensor) -> _Ends:
        return _Ends(self._numbers.index_select(1, index), self._places.index_select(1, index))


class Envelope:
    """An activation ready to be enclosed on intervals: its pieces as tensors, tables, the errors of its kernel.

    Args:
        activation: the function.
        cut: its pieces.
        device: where the tensors live.
    """

    def __init__(self, activation: Activation, cut: Curvature, device: torch.device) -> None:
        self.activation, self.cut, self.device = activation, cut, device
        number = {"convex": 1.0, "concave": -1.0, "linear": 0.0, "bounded": 0.0}

        def column(values: Any) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float64, device=device)

        self.starts, self.stops = column(p.start for p in cut.pieces), column(p.stop for p in cut.pieces)
        self.kinds = column(number[p.kind] for p in cut.pieces)
        self.loose = torch.tensor([p.kind == "bounded" for p in cut.pieces], device=device)
        self.least, self.greatest = (
            column(p.least_slope for p in cut.pieces),
            column(p.greatest_slope for p in cut.pieces),
        )
        self.break_lower, self.break_upper = column(b.lower for b in cut.breaks), column(b.upper for b in cut.breaks)
        self.bottom, self.top = column(b.bottom for b in cut.breaks), column(b.top for b in cut.breaks)
        # Strictly inside a piece, so that the kernel's slope there is not the one across a kink.
        self.inner_starts = torch.nextafter(self.starts, torch.full_like(self.starts, torch.inf))
        self.inner_stops = torch.nextafter(self.stops, torch.full_like(self.stops, -torch.inf))
        self.any_loose = bool(self.loose.any())
        self._called: dict[tuple[str, torch.dtype], Tensor] = {}
        self._call_errors: dict[tuple[str, torch.dtype, int], Error] = {}
        self.value_error, self.slope_error = tower_errors(activation, self.judge, device)
        self._table()

    @cached_property
    def judge(self) -> Judge:
        ends = [b.lower for b in self.cut.breaks] + [b.upper for b in self.cut.breaks]
        lower, upper = max(self.cut.lower, self.cut.domain[0]), min(self.cut.upper, self.cut.domain[1])
        return Judge(self.activation.definition.expression(), ends, lower, upper)

    def call_error(self, spelling: str, call: Callable[[Tensor], Tensor], dtype: torch.dtype, reach: float) -> Error:
        """The error within ±reach of the function as a model runs it.

        Args:
            spelling: names the call; one name is measured once.
            reach: rounded up to a power of 2, at least 1.
        """
        steps = max(0, math.ceil(math.log2(max(reach, 1.0))))
        key = (spelling, dtype, steps)
        if key not in self._call_errors:
            if (spelling, dtype) not in self._called:
                points = torch.from_numpy(self.judge.points).to(self.device, dtype, copy=True)
                with torch.no_grad():
                    self._called[spelling, dtype] = call(points)
            self._call_errors[key] = self.judge.error(self._called[spelling, dtype], dtype, reach=2.0**steps)
        return self._call_errors[key]

    def _table(self) -> None:
        """f' at nodes of every piece, rising, as sorted keys: SPREAD·piece + (the slope on a logarithmic scale)."""
        nodes = torch.stack([_nodes(p.start, p.stop) for p in self.cut.pieces]).to(self.device)
        nodes = nodes.clamp(self.inner_starts.unsqueeze(1), self.inner_stops.unsqueeze(1))
        falling = (self.kinds < 0).unsqueeze(1)
        nodes = torch.where(falling, nodes.flip(1), nodes)
        slopes = _logarithmic(self._tower(nodes)[1]).nan_to_num(-1000.0).cummax(1).values
        self.keys = (SPREAD * torch.arange(len(nodes), device=self.device).unsqueeze(1) + slopes).flatten()
        self.node_x = nodes.flatten()

    def _tower(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.activation.derivatives(x, 2)

    # ---------------------------------------------------------------------------------------- lines

    def lines(
        self, start: Tensor, stop: Tensor, lower_slope: Tensor | None = None, upper_slope: Tensor | None = None
    ) -> Lines:
        """Lines on [start, stop], at given slopes or at the best."""
        given = (lower_slope, upper_slope)
        with torch.no_grad():
            shape = torch.broadcast_shapes(*(g.shape for g in given if g is not None), start.shape)
            find = self._fused if self._has_kernel(start, stop, *given) else self._by_tensors
            best, intercept, x = find(start, stop, given, shape)
            if not bool(torch.isfinite(intercept).all()):
                wrong = ~torch.isfinite(intercept).all(0)
                self._refuse(*(float(t.expand(wrong.shape)[wrong][0]) for t in (start, stop)))
            intercepts = [_outward(b, side, start.dtype) for b, side in zip(intercept, (1.0, -1.0), strict=True)]
            places = x.to(start.dtype)
        slopes = [best[i].to(start.dtype) if g is None else g.expand(shape) for i, g in enumerate(given)]
        if start.requires_grad or stop.requires_grad or any(g.requires_grad for g in slopes):
            rows = zip(intercepts, places, slopes, strict=True)
            intercepts = [self._differentiable(*row, start, stop) for row in rows]
        return Lines(slopes[0], intercepts[0], slopes[1], intercepts[1])

    def _has_kernel(self, *tensors: Tensor | None) -> bool:
        """Whether the numbers are where machine code can read them."""
        return backend.enabled() and all(t is None or (backend.is_plain(t) and t.numel() > 0) for t in tensors)

    @cached_property
    def _tables(self) -> Tables:
        errors = (self.value_error.steps, self.value_error.absolute, self.slope_error.steps, self.slope_error.absolute)
        columns = {name: getattr(self, name).numpy() for name in Tables._fields[:-1]}
        return Tables(**columns, errors=np.array(errors))

    def _fused(
        self,
        start: Tensor,
        stop: Tensor,
        given: tuple[Tensor | None, Tensor | None],
        shape: torch.Size,
        share: float = 0.5,
        only_slopes: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes, intercepts and where they touch, (2, *shape) each, for the line below and the line above f."""
        slopes = torch.empty((2, *shape), dtype=torch.float64)
        for row, slope in zip(slopes, given, strict=True):
            if slope is not None:
                row.copy_(slope)
        intercepts, places = torch.empty((2, 2, 0) if only_slopes else (2, *slopes.shape), dtype=torch.float64)
        flat = [t.detach().double().expand(shape).reshape(-1).numpy() for t in (start, stop)]
        rows = [t.view(2, -1).numpy() for t in (slopes, intercepts, places)]
        address = backend.tower_address(self.activation.formula, 2)
        is_given, single = (given[0] is not None, given[1] is not None), start.dtype is torch.float32
        fused.lines(address, self._tables, flat[0], flat[1], share, is_given, single, rows[0], rows[1], rows[2])
        return slopes, intercepts, places

    def planes(
        self, lower: Tensor, upper: Tensor, before: Tensor | None, error: Error, eps: float, gamma: float, least: float
    ) -> Float[Tensor, "6 ..."]:
        """`fused.planes` of tensors that machine code can read; the errors are said there."""
        first, last = lower.reshape(-1).numpy(), upper.reshape(-1).numpy()
        slack = np.empty(0, first.dtype) if before is None else before.expand_as(lower).reshape(-1).numpy()
        address, own = backend.tower_address(self.activation.formula, 2), (error.steps, error.absolute)
        found, wrong = fused.planes(address, self._tables, first, last, slack, own, eps, gamma, least)
        if wrong >= 0:
            self._refuse(float(first[wrong]), float(last[wrong]))
        return torch.from_numpy(found).view(6, *lower.shape)

    def _by_tensors(
        self, start: Tensor, stop: Tensor, given: tuple[Tensor | None, Tensor | None], shape: torch.Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same by torch's operations: on any device, and the reference of the other."""
        ends, hint = self._ends(start, stop), None
        slopes = list(given)
        if given[0] is None or given[1] is None:
            best, hint = self._best_slope(ends, *self._between(ends))
            best = (ends.side * best).to(start.dtype).view(2, *start.shape)
            slopes = [best[i] if g is None else g for i, g in enumerate(given)]
            for touch, g in zip(hint.view(2, -1), given, strict=True):
                if g is not None:  # a line of another slope touches elsewhere
                    touch.fill_(torch.nan)
        if shape != start.shape:  # one interval with many slopes
            ends, hint = self._repeated(ends, start.shape, shape), None
        found = torch.stack([g.detach().double().expand(shape) for g in slopes if g is not None])
        intercept, x = self._support(ends.side * found.flatten(), ends, hint)
        return found, (ends.side * intercept).view(2, *shape), x.view(2, *shape)

    @staticmethod
    def _repeated(ends: _Ends, before: torch.Size, after: torch.Size) -> _Ends:
        count = 2 * before.numel()
        index = torch.arange(count, device=ends.start.device).view(2, *[1] * (len(after) - len(before)), *before)
        return ends.some(index.expand(2, *after).flatten())

    def support_slopes(self, start: Tensor, stop: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """The slopes of the lines that are nearest to the curve's hull at start + share·(stop - start)."""
        with torch.no_grad():
            if self._has_kernel(start, stop):
                found, *_ = self._fused(start, stop, (None, None), start.shape, share, only_slopes=True)
            else:
                ends = self._ends(start, stop)
                slope, _ = self._best_slope(ends, *self._between(ends, share))
                found = (ends.side * slope).view(2, *start.shape)
            low, high = found.to(start.dtype)
            return low, high

    def range(self, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
        """Below and above f on [start, stop]: the lines of slope 0."""
        zero = torch.zeros_like(start)
        found = self.lines(start, stop, zero, zero)
        return found.lower_intercept, found.upper_intercept

    def _refuse(self, first: float, last: float) -> NoReturn:
        raise ValueError(
            f"{self.activation.name} has no bound on [{first:g}, {last:g}]: there it is unbounded or undefined, or too "
            "large for the format"
        )

    def _differentiable(self, intercept: Tensor, x: Tensor, slope: Tensor, start: Tensor, stop: Tensor) -> Tensor:
        """The intercept f(x*) - s·x* with its derivatives: -x* by s (Danskin), f'(x*) - s by an end that x* lies at."""
        left, right = x <= start.detach(), x >= stop.detach()
        at = torch.where(left, start.expand_as(x), torch.where(right, stop.expand_as(x), x))
        steep = self._tower(x.double())[1].nan_to_num(0.0, 0.0, 0.0).to(x.dtype)
        pull = steep - slope.detach()
        return intercept - (slope - slope.detach()) * x + pull * (at - at.detach())

    # ---------------------------------------------------------------------------------------- parts

    def _ends(self, start: Tensor, stop: Tensor) -> _Ends:
        with torch.no_grad():
            start, stop = (t.detach().double().flatten().contiguous() for t in (start, stop))
            rows = self._tower(torch.stack([start, stop]))
            errors = self._value_slack(torch.stack([start, stop]), rows[0], rows[1])
            first = torch.searchsorted(self.stops, start, right=True)
            last = torch.searchsorted(self.starts, stop) - 1
            first_break = torch.searchsorted(self.break_upper, start)
            last_break = torch.searchsorted(self.break_lower, stop, right=True) - 1
            counts = (last - first + 1).clamp_min(0), (last_break - first_break + 1).clamp_min(0)
            side = torch.ones_like(start)
            numbers = torch.stack([side, start, stop, *rows[0], *errors]).repeat(1, 2)
            numbers[0, len(start) :] = -1
            places = torch.stack([first, counts[0], first_break, counts[1]]).repeat(1, 2)
            return _Ends(numbers, places)

    def _value_slack(self, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """How far the kernel's value may be from f(x)."""
        error = self.value_error
        return error.steps * EPS * (value.abs() + (x * slope).abs()).nan_to_num(0.0) + (error.absolute + TINY)

    def _between(self, ends: _Ends, share: float = 0.5) -> tuple[Tensor, Tensor]:
        """A point of each interval, and f, f', f'' there."""
        m = ends.start + (ends.stop - ends.start) * share
        return m, self._tower(m)

    def _support(self, s: Tensor, ends: _Ends, hint: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A number below side·f(x) - s·x on every interval, and where it is nearly attained.

        Args:
            hint: where side·f has slope s, as far as that is known; NaN elsewhere.
        """
        side, start, stop = ends.side, ends.start, ends.stop
        hint = torch.full_like(start, torch.nan) if hint is None else hint
        low = side * ends.at_start - s * start - ends.error_start - 4 * EPS * (ends.at_start.abs() + (s * start).abs())
        high = side * ends.at_stop - s * stop - ends.error_stop - 4 * EPS * (ends.at_stop.abs() + (s * stop).abs())
        best, x = torch.minimum(low, high), torch.where(low <= high, start, stop)
        for k in range(int(ends.breaks.max()) if len(s) else 0):
            index = (ends.breaks > k).nonzero().squeeze(1)
            value, place = self._at_break(side[index], s[index], ends.first_break[index] + k)
            self._keep_least(best, x, index, value, place)
        for k in range(int(ends.pieces.max()) if len(s) else 0):
            j = (ends.first_piece + k).clamp_max(len(self.starts) - 1)
            curved = (ends.pieces > k) & (side * self.kinds[j] > 0)
            index = curved.nonzero().squeeze(1)
            if len(index):
                value, place = self._in_convex(s[index], ends.some(index), j[index], hint[index])
                self._keep_least(best, x, index, value, place)
            if self.any_loose:
                index = ((ends.pieces > k) & self.loose[j]).nonzero().squeeze(1)
                value, place = self._in_loose(s[index], ends.some(index), j[index])
                self._keep_least(best, x, index, value, place)
        return best, x

    @staticmethod
    def _keep_least(best: Tensor, x: Tensor, index: Tensor, value: Tensor, place: Tensor) -> None:
        before = best[index]
        less = ~(value >= before)  # NaN too
        best[index] = torch.where(less, value, before)
        # Of two that are equal but for rounding the later, inner one: its derivative by the slope is that towards
        # slopes which touch the curve inside.
        nearly = value <= before + 1e-12 * before.abs() + 1e-14
        x[index] = torch.where(less | nearly, place, x[index])

    def _at_break(self, side: Tensor, s: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.break_lower[i], self.break_upper[i]
        value = self._break_value(side, i)
        rise = torch.maximum(s * lower, s * upper)
        return value - rise - 4 * EPS * (value.abs() + rise.abs()), lower

    def _in_convex(self, s: Tensor, ends: _Ends, j: Tensor, hint: Tensor) -> tuple[Tensor, Tensor]:
        """The tangent at the point where side·f has slope s, as nearly as that is known."""
        side, start, stop = ends.side, ends.start, ends.stop
        a, b = torch.maximum(start, self.starts[j]), torch.minimum(stop, self.stops[j])
        low, high = torch.maximum(start, self.inner_starts[j]), torch.minimum(stop, self.inner_stops[j])
        x, left, right = self._inverse(side * s, j)
        left, right = left.clamp(low, high), right.clamp(low, high)
        x = torch.where(torch.isnan(hint), x.clamp(left, right), hint)
        for _ in range(NEWTON_STEPS):
            rows = self._tower(x)
            step = ((rows[1] - side * s) / rows[2]).nan_to_num(0.0, 0.0, 0.0)
            x = torch.where(torch.isnan(hint), (x - step).clamp(left, right), hint)
        x = x.clamp(low, high)
        rows = self._tower(x)
        value, slope = side * rows[0], side * rows[1]
        tilt = slope - s
        left, right = tilt * (a - x), tilt * (b - x)
        error = self.slope_error
        slope_slack = error.steps * EPS * (rows[1].abs() + (x * rows[2]).abs()) + error.absolute + TINY
        slack = self._value_slack(x, rows[0], rows[1]) + slope_slack * (b - a)
        slack += 8 * EPS * (value.abs() + (s * x).abs() + torch.maximum(left.abs(), right.abs()))
        return value - s * x + torch.minimum(left, right) - slack, x

    def _inverse(self, slope: Tensor, j: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """About where f' has a slope on piece j, and between which points."""
        key = SPREAD * j + _logarithmic(slope)
        first, last = j * NODES + 1, j * NODES + NODES - 1
        i = torch.searchsorted(self.keys, key)
        before_all, after_all = i < first, i > last
        i = torch.minimum(torch.maximum(i, first), last)
        before, after = self.keys[i - 1], self.keys[i]
        weight = ((key - before) / (after - before).clamp_min(TINY)).clamp(0, 1)
        a, b = self.node_x[i - 1], self.node_x[i]
        rising, everywhere = a <= b, torch.full_like(a, torch.inf)
        # Beyond the nodes a Newton's step must not fly back over them: where f'' is nearly 0 it may have any length.
        low = torch.where(torch.where(rising, before_all, after_all), -everywhere, torch.minimum(a, b))
        high = torch.where(torch.where(rising, after_all, before_all), everywhere, torch.maximum(a, b))
        return a + weight * (b - a), low, high

    def _in_loose(self, s: Tensor, ends: _Ends, j: Tensor) -> tuple[Tensor, Tensor]:
        """Between lines through both ends whose slopes are the range's: the mixture of them that has slope s."""
        below = ends.side > 0
        least = torch.where(below, self.least[j], -self.greatest[j])
        greatest = torch.where(below, self.greatest[j], -self.least[j])
        a, at_a = self._left_end(ends, j)
        b, at_b = self._right_end(ends, j)
        weight = (greatest - s) / (greatest - least).clamp_min(TINY)
        mixed = weight * (at_a - least * a) + (1 - weight) * (at_b - greatest * b)
        scale = at_a.abs() + at_b.abs() + (least.abs() + greatest.abs()) * (a.abs() + b.abs())
        mixed = mixed - 16 * EPS * scale * (1 + weight.abs())
        # Where the range does not hold s, side·f - s·x is monotone, and its ends have been looked at.
        return torch.where((least < s) & (s < greatest), mixed, torch.inf), torch.where(weight > 0.5, a, b)

    def _left_end(self, ends: _Ends, j: Tensor) -> tuple[Tensor, Tensor]:
        inside = ends.start > self.starts[j]
        at_break = self._break_value(ends.side, (j - 1).clamp_min(0))
        return torch.where(inside, ends.start, self.starts[j]), torch.where(
            inside, ends.side * ends.at_start - ends.error_start, at_break
        )

    def _right_end(self, ends: _Ends, j: Tensor) -> tuple[Tensor, Tensor]:
        inside = ends.stop < self.stops[j]
        at_break = self._break_value(ends.side, j.clamp_max(max(len(self.bottom) - 1, 0)))
        return torch.where(inside, ends.stop, self.stops[j]), torch.where(
            inside, ends.side * ends.at_stop - ends.error_stop, at_break
        )

    def _break_value(self, side: Tensor, i: Tensor) -> Tensor:
        if not len(self.bottom):
            return torch.full(i.shape, -torch.inf, dtype=torch.float64, device=i.device)
        return torch.where(side > 0, self.bottom[i], -self.top[i])

    # ---------------------------------------------------------------------------------------- best slopes

    def _best_slope(self, ends: _Ends, m: Tensor, tower: Tensor) -> tuple[Tensor, Tensor]:
        """The slope of the support line of side·f's convex envelope at m, and where that line touches.

        Args:
            m: a point of each interval.
            tower: f, f', f'' there.
        """
        side, start, stop = ends.side, ends.start, ends.stop
        width = stop - start
        j = ends.first_piece.clamp_max(len(self.starts) - 1)
        alone = (ends.pieces <= 1) & ~self.loose[j]
        convex = side * self.kinds[j] > 0
        chord = side * (ends.at_stop - ends.at_start) / width.clamp_min(TINY)
        tangent = side * tower[1]
        touching = alone & convex & (ends.pieces == 1)
        slope = torch.where(touching, tangent, chord)
        slope = torch.where(width <= NARROW * torch.maximum(start.abs(), stop.abs()), tangent, slope)
        slope = torch.where(width == 0, torch.zeros_like(slope), slope)
        index = (~alone & (width > 0)).nonzero().squeeze(1)
        if len(index):
            slope[index] = self._by_cuts(ends.some(index), chord[index], m[index], (side * tower)[:, index])
        hint = torch.where(touching & (start < m) & (m < stop), m, torch.nan)
        return slope.nan_to_num(0.0, 0.0, 0.0), hint

    def _by_cuts(self, ends: _Ends, chord: Tensor, m: Tensor, tower: Tensor) -> Tensor:
        """Maximise over s the height of the support line of slope s at m.

        The height is concave in s, below a line for each point of the curve, side·f(x) + s·(m - x); those of one point
        to the left of m and one to the right meet at the next s.
        """
        left, right = ends.start.clone(), ends.stop.clone()
        at_left, at_right = ends.side * ends.at_start, ends.side * ends.at_stop
        slope = chord.clone()
        height = torch.full_like(m, -torch.inf)
        trial = torch.where(torch.isfinite(tower[1]), tower[1], chord)
        ceiling = tower[0].clone()
        active = torch.arange(len(m), device=m.device)
        for _ in range(CUTS):
            here = ends.some(active)
            s, mid = trial[active], m[active]
            low, x = self._support(s, here)
            value = low + s * mid
            better = value > height[active]
            height[active] = torch.where(better, value, height[active])
            slope[active] = torch.where(better, s, slope[active])
            at_x = low + s * x
            goes_left, goes_right = x < mid, x > mid
            left[active] = torch.where(goes_left, x, left[active])
            at_left[active] = torch.where(goes_left, at_x, at_left[active])
            right[active] = torch.where(goes_right, x, right[active])
            at_right[active] = torch.where(goes_right, at_x, at_right[active])
            run = right[active] - left[active]
            new = (at_right[active] - at_left[active]) / run
            trial[active] = new
            ceiling[active] = torch.minimum(ceiling[active], at_left[active] + new * (mid - left[active]))
            gap = ceiling[active] - height[active]
            noise = 64 * EPS * (at_left[active].abs() + at_right[active].abs() + TINY)
            done = (gap <= ENOUGH * (tower[0][active] - ceiling[active])) | (gap <= noise) | (x == mid) | ~(run > 0)
            active = active[~done]
            if len(active) * _FEW < max(len(m), 1):
                break
        return slope


def _logarithmic(slope: Tensor) -> Tensor:
    """A rising function that tells small slopes apart as well as large ones; between -1000 and 1000."""
    return torch.asinh(slope.clamp(-1e200, 1e200) * 1e100)


def _nodes(start: float, stop: float) -> Tensor:
    """Points of a piece: dense near its finite ends, to 10⁴ beyond where it has none."""
    t = torch.linspace(0, 1, NODES, dtype=torch.float64)
    if abs(start) == torch.inf and abs(stop) == torch.inf:
        return torch.sinh((2 * t - 1) * 10.0)
    if abs(stop) == torch.inf:
        return start + torch.sinh(10.0 * t) * t
    if abs(start) == torch.inf:
        return (stop - torch.sinh(10.0 * t) * t).flip(0)
    return start + (stop - start) * t * t * (3 - 2 * t)


def _outward(value: Tensor, side: float, dtype: torch.dtype) -> Tensor:
    """Rounded to a format: down for a lower line (side 1), up for an upper one."""
    if dtype is torch.float64:
        return value
    rounded = value.to(dtype)
    inward = rounded.double() > value if side > 0 else rounded.double() < value
    return torch.where(inward, torch.nextafter(rounded, torch.full_like(rounded, -side * torch.inf)), rounded)
