"""Between which numbers the slope of an activation lies on given intervals: proved, and as fast as a table.

The line is cut into cells; on each, ball arithmetic encloses f' and f'' once. An interval's slopes are those of the
cells inside it, by a table of ranges over 2ᵏ cells, and those of its two ends, from the slope at the end of a cell and
the range of f'' there.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from flint import arb
from jaxtyping import Float
from torch import Tensor

from varphi.activation.layer import Activation
from varphi.facts.analysis import PRECISION, Analysis
from varphi.facts.api import facts
from varphi.numbers import Expression, cache
from varphi.numbers.ball import precision
from varphi.numbers.enclosure import Curve

# Changes whenever the code could enclose otherwise, so that older tables on disk are not used.
_VERSION = 1
# Cells per unit within ±_NEAR; beyond, they grow by octaves up to ±_FAR, and the last two reach to infinity.
_PER_UNIT, _NEAR, _FAR = 64, 16, 1024
_FINER = 8  # cells in an octave
_ROUNDING = 1 + 2.0**-48


class UnboundedSlope(ValueError):
    """An activation whose slopes have no bound where they are asked for; the message names it."""


def slope_range(activation: Activation) -> tuple[float, float]:
    """inf f' and sup f' over the whole line, outward.

    Raises:
        UnboundedSlope: where there is none, or f jumps.
    """
    known = facts(activation)
    low, high = known.slope_range.lower, known.slope_range.upper
    if not math.isfinite(known.lipschitz.upper):
        jumps = known.smoothness < 0
        told = "jumps" if jumps else f"has slopes in [{low:g}, {high:g}]"
        remedy = "no network with it has a Lipschitz constant" if jumps else "give a region, on which they are bounded"
        raise UnboundedSlope(f"{activation.name} {told}: {remedy}")
    return low, high


@dataclass(frozen=True, eq=False)
class SlopeTable:
    """Enclosures of f' for every cell of the line.

    Attributes:
        edges: (cells + 1,), from -inf to inf.
        ranges: (levels, 2, cells): the least and the greatest slope over 2^level cells from each on.
        first, second: (cells, 2) enclosures of f' at the left edge from within the cell, and of f'' on it; infinite
            where the cell is no single smooth piece.
    """

    edges: Tensor
    ranges: Tensor
    first: Tensor
    second: Tensor

    def over(
        self, lower: Float[Tensor, "..."], upper: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """(least, greatest) slope on each [lower, upper], outward; one-sided at the ends, float64."""
        low, high = lower.double().contiguous(), upper.double().contiguous()
        first = torch.searchsorted(self.edges, low, right=True) - 1
        last = (torch.searchsorted(self.edges, high) - 1).clamp_min(0)
        last = torch.maximum(first, last)
        least, greatest = self._end(first, low, torch.minimum(high, self.edges[first + 1]))
        other = self._end(last, torch.maximum(low, self.edges[last]), high)
        least, greatest = torch.minimum(least, other[0]), torch.maximum(greatest, other[1])
        count = last - first - 1
        inside = count > 0
        level = torch.log2(count.clamp_min(1).double()).floor().long()
        left, right = first + 1, last - torch.pow(2, level)
        found = self.ranges[level, :, left.clamp(max=len(self.first) - 1)], self.ranges[level, :, right.clamp_min(0)]
        least = torch.where(inside, torch.minimum(least, torch.minimum(found[0][..., 0], found[1][..., 0])), least)
        top = torch.maximum(found[0][..., 1], found[1][..., 1])
        return least, torch.where(inside, torch.maximum(greatest, top), greatest)

    def _end(self, cell: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes on a part [low, high] of one cell: f'(edge) + f''·(distance from it), and the cell's own range."""
        edge = self.edges[cell]
        near, far = (low - edge).clamp_min(0), (high - edge).clamp_min(0)
        bend, start = self.second[cell], self.first[cell]
        down = torch.minimum(bend[..., 0] * near, bend[..., 0] * far)
        up = torch.maximum(bend[..., 1] * near, bend[..., 1] * far)
        slack = (start.abs().amax(-1) + torch.maximum(down.abs(), up.abs())) * (_ROUNDING - 1)
        least = torch.nan_to_num(start[..., 0] + down - slack, nan=-math.inf, neginf=-math.inf, posinf=-math.inf)
        greatest = torch.nan_to_num(start[..., 1] + up + slack, nan=math.inf, posinf=math.inf, neginf=math.inf)
        own_least, own_greatest = self.ranges[0][:, cell]
        return torch.maximum(least, own_least), torch.minimum(greatest, own_greatest)


@lru_cache(maxsize=128)
def slope_table(expression: Expression) -> SlopeTable:
    """The table of an expression in x. Kept on disk."""
    name = hashlib.sha256(f"{expression.digest} {_VERSION}".encode()).hexdigest()[:40] + ".json"
    content = cache.read("slopes", name)
    if content is None:
        rows = _enclosed(expression)
        cache.write("slopes", name, json.dumps([[v.hex() for v in row] for row in rows]).encode())
    else:
        rows = [[float.fromhex(v) for v in row] for row in json.loads(content)]
    table = torch.tensor(rows, dtype=torch.float64)  # (cells, 6): f' on it, f' at its left edge, f'' on it
    edges = torch.tensor(_edges(), dtype=torch.float64)
    return SlopeTable(edges, _levels(table[:, :2]), table[:, 2:4], table[:, 4:6])


def _edges() -> list[float]:
    inner = [i / _PER_UNIT for i in range(-_NEAR * _PER_UNIT, _NEAR * _PER_UNIT + 1)]
    outer, x = [], float(_NEAR)
    while x < _FAR:
        outer += [x * (1 + i / _FINER) for i in range(1, _FINER + 1)]
        x *= 2
    return [-math.inf, *[-v for v in reversed(outer)], *inner, *outer, math.inf]


def _enclosed(expression: Expression) -> list[list[float]]:
    analysis = Analysis(expression)
    bounds = analysis.bounds(1)
    rough = analysis.smoothness < 0  # f itself jumps somewhere
    edges = _edges()
    rows = []
    with precision(PRECISION):
        for left, right in pairwise(edges):
            rows.append(_cell(analysis, left, right, bounds.lower, bounds.upper, rough))
    return rows


def _cell(analysis: Analysis, left: float, right: float, least: float, greatest: float, rough: bool) -> list[float]:
    parts = []
    for arc in analysis.arcs:
        low = arb(left) if not arc.curve.lower > arb(left) else arc.curve.lower
        high = arb(right) if not arc.curve.upper < arb(right) else arc.curve.upper
        if not low >= high:  # certainly below, or too near to tell
            parts.append((arc.curve, low, high))
    everything = [-math.inf, math.inf]
    if not parts or (rough and any(_touches(arc.curve, left, right) for arc in analysis.arcs)):
        return everything * 3
    balls = [curve.over(low, high) for curve, low, high in parts]
    low = max(min(b[1].lower for b in balls), least)
    high = min(max(b[1].upper for b in balls), greatest)
    if len(parts) > 1 or not math.isfinite(left) or not math.isfinite(right):
        return [low, high, *everything * 2]
    curve, start, _ = parts[0]
    if start != arb(left):  # the function begins inside the cell
        return [low, high, *everything * 2]
    corner = curve.at(start)[1]
    return [low, high, corner.lower, corner.upper, balls[0][2].lower, balls[0][2].upper]


def _touches(curve: Curve, left: float, right: float) -> bool:
    """Whether an end of a curve may lie in [left, right]: there f may jump."""
    return any(end.is_finite() and not (end < left or end > right) for end in (curve.lower, curve.upper))


def _levels(cells: Tensor) -> Tensor:
    """Ranges over 1, 2, 4, ... cells from each on: (levels, 2, cells)."""
    low, high = cells[:, 0], cells[:, 1]
    found, width = [torch.stack([low, high])], 1
    while 2 * width <= len(cells):
        before = found[-1]
        shifted = torch.cat([before[:, width:], before[:, -1:].expand(2, width)], 1)
        found.append(torch.stack([torch.minimum(before[0], shifted[0]), torch.maximum(before[1], shifted[1])]))
        width *= 2
    return torch.stack(found)
