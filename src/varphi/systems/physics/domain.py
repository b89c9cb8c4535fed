"""Where an equation holds: intervals, boxes, balls, polygons and what can be cut and joined from them.

A domain knows its signed distance, its boundary with outward normals (piece by piece: a box has faces, a polygon
edges), its measure, and how points are drawn in it. Points are float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import qmc
from torch import Tensor

from .factor import Arch, Face, Factor, Joined, Quadric, Scaled, Segment, product

Sampler: TypeAlias = Literal["sobol", "latin hypercube", "uniform"]
# Points of a face lie on it up to rounding.
TOLERANCE = 1e-9
_ESTIMATE = 2**16
# Points drawn around a domain, at most, before it is called empty.
_MOST = 2**20


@dataclass(frozen=True)
class Boundary:
    """Points of a boundary.

    Attributes:
        points: (n, d).
        normals: (n, d), outward, of length one.
    """

    points: Float[Tensor, "n d"]
    normals: Float[Tensor, "n d"]

    def where(self, mask: Bool[Tensor, " n"]) -> Boundary:
        """Those of a mask."""
        return Boundary(self.points[mask], self.normals[mask])

    @staticmethod
    def joined(parts: Sequence[Boundary]) -> Boundary:
        """All of several."""
        return Boundary(torch.cat([p.points for p in parts]), torch.cat([p.normals for p in parts]))


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a boundary.

    Attributes:
        name: for messages: "x0 = 0", "edge 3", "sphere".
        measure: its length or area; a point counts 1.
        draw: n of its points, from n points of the unit cube of one dimension less.
        cube: the dimension of that cube.
        factor: a function that is 0 exactly on the piece, or on its continuation outside the domain, and positive
            inside; torch operations only, so that derivatives can be carried through it. None where none is known.
        owner: the domain that it bounds: what joins the factors of its pieces.
    """

    name: str
    measure: float
    draw: Callable[[Float[np.ndarray, "n c"]], Boundary]
    cube: int
    factor: Factor | None
    owner: Domain


class Domain(ABC):
    """A bounded set of points (n, d).

    Attributes:
        dimensions: d.
        lower, upper: of the smallest box around it, (d,).
        has_smooth_factor: whether `factor` has derivatives of every order up to the boundary.
    """

    dimensions: int
    lower: Float[Tensor, " d"]
    upper: Float[Tensor, " d"]
    has_smooth_factor = False

    @abstractmethod
    def distance(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """The signed distance to the boundary, positive inside."""

    @property
    @abstractmethod
    def pieces(self) -> tuple[Piece, ...]:
        """The parts of the boundary."""

    @property
    def measure(self) -> float:
        """Length, area or volume; of joined and cut domains an estimate from 65536 Sobol points."""
        inside = self.contains(self._in_box(_ESTIMATE, "sobol", 0)).double().mean()
        return float(inside * (self.upper - self.lower).prod())

    def contains(self, x: Float[Tensor, "... d"]) -> Bool[Tensor, "..."]:
        """Whether points lie inside or on the boundary, up to rounding."""
        return self.distance(x) >= -TOLERANCE * self.size

    @property
    def size(self) -> float:
        """The longest side of the box around it."""
        return float((self.upper - self.lower).max())

    def sample(self, n: int, sampler: Sampler = "sobol", seed: int = 0) -> Float[Tensor, "n d"]:
        """Points inside.

        Args:
            n: how many.
            sampler: "sobol" and "latin hypercube" spread them evenly (scipy.stats.qmc), "uniform" draws each by itself.
            seed: the same seed, the same points.
        """
        _check_sampling(n, sampler)
        count = n
        while count <= max(_MOST, 64 * n):
            found = self._in_box(count, sampler, seed)
            found = found[self.distance(found) > 0]
            if len(found) >= n:
                return found[:n]
            count = math.ceil(1.2 * count * n / len(found)) if len(found) else 8 * count
        raise ValueError(f"{count // 8} points around {self!r} gave fewer than {n} inside: is it empty?")

    def boundary(self, n: int, sampler: Sampler = "sobol", seed: int = 0) -> Boundary:
        """Points of the boundary with outward normals, on every piece as many as its share of the measure asks for.

        At least one point lies on each piece, so that there may be more than n.
        """
        _check_sampling(n, sampler)
        total = sum(p.measure for p in self.pieces)
        parts = [
            drawn(p, max(1, round(n * p.measure / total)), sampler, seed + 7 * i) for i, p in enumerate(self.pieces)
        ]
        return Boundary.joined(parts)

    def factor(self, pieces: Sequence[Piece]) -> Factor:
        """φ: 0 on these pieces of the boundary, positive inside, its largest value about 1.

        Raises:
            ValueError: where none is known: on the boundary of a union, or of a box that was cut out.
        """
        raw = self._factor(pieces)
        highest = float(raw(self.sample(1024)).max())
        # Each operation costs time at every step of a fit.
        return raw if 0.9 < highest <= 1 else Scaled(raw, 1 / highest)

    def _factor(self, pieces: Sequence[Piece]) -> Factor:
        unknown = [p.name for p in pieces if p.factor is None]
        if unknown:
            raise ValueError(
                f"no function is known that is 0 on {unknown[0]} of {self!r} and nowhere inside: give the shape as a "
                "Polygon, pass a φ of your own, or impose the condition softly (hard=False)"
            )
        owners = {id(p.owner): p.owner for p in pieces}
        return product([owner.join([p for p in pieces if p.owner is owner]) for owner in owners.values()])

    def join(self, pieces: Sequence[Piece]) -> Factor:
        """One function that is 0 on any of these pieces, which are the domain's own."""
        return product([p.factor for p in pieces if p.factor])

    def _in_box(self, n: int, sampler: Sampler, seed: int) -> Tensor:
        return self.lower + (self.upper - self.lower) * torch.from_numpy(unit_points(n, self.dimensions, sampler, seed))

    def __and__(self, other: Domain) -> Domain:
        return Intersection(self, other)

    def __or__(self, other: Domain) -> Domain:
        return Union(self, other)

    def __sub__(self, other: Domain) -> Domain:
        return Difference(self, other)


# Drawing points ------------------------------------------------------------------------------------------------------


def unit_points(n: int, dimensions: int, sampler: Sampler, seed: int) -> Float[np.ndarray, "n d"]:
    """n points of the unit cube."""
    if dimensions == 0:
        return np.zeros((n, 0))
    if sampler == "uniform":
        return np.random.default_rng(seed).random((n, dimensions))
    if sampler == "latin hypercube":
        return qmc.LatinHypercube(dimensions, rng=seed).random(n)
    # The first n of a power of two: scipy warns of any other number.
    return qmc.Sobol(dimensions, rng=seed).random_base2(max(0, math.ceil(math.log2(n))))[:n]


def drawn(piece: Piece, n: int, sampler: Sampler = "sobol", seed: int = 0) -> Boundary:
    """n points of one piece of a boundary; a piece that is a point gives it once."""
    if piece.cube == 0:
        n = 1
    return piece.draw(unit_points(n, piece.cube, sampler, seed))


def _check_sampling(n: int, sampler: str) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"the number of points must be a whole number >= 1, got {n!r}")
    if sampler not in get_args(Sampler):
        raise ValueError(f"there is no sampler {sampler!r}; samplers: {', '.join(get_args(Sampler))}")


def _vector(what: str, values: Any) -> Tensor:
    found = torch.as_tensor(values, dtype=torch.float64).reshape(-1)
    if not torch.isfinite(found).all():
        raise ValueError(f"{what} must be finite numbers, got {values!r}")
    return found


# Boxes ---------------------------------------------------------------------------------------------------------------


class Box(Domain):
    """[lower_0, upper_0] × [lower_1, upper_1] × ..."""

    has_smooth_factor = True

    def __init__(self, lower: Sequence[float], upper: Sequence[float]) -> None:
        self.lower, self.upper = _vector("lower", lower), _vector("upper", upper)
        if self.lower.shape != self.upper.shape or not (self.lower < self.upper).all():
            raise ValueError(f"a box needs lower < upper in every direction, got {lower!r} and {upper!r}")
        self.dimensions = len(self.lower)

    def __repr__(self) -> str:
        sides = [f"[{a:g}, {b:g}]" for a, b in zip(self.lower.tolist(), self.upper.tolist(), strict=True)]
        return " × ".join(sides)

    def distance(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """See `Domain.distance`; exact inside and outside."""
        beyond = torch.maximum(self.lower.to(x) - x, x - self.upper.to(x))
        outside = beyond.clamp_min(0).norm(dim=-1)
        return torch.where(outside > 0, -outside, -beyond.amax(-1))

    @property
    def measure(self) -> float:
        """Length, area or volume."""
        return float((self.upper - self.lower).prod())

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The faces: lower and upper of the first direction, and so on."""
        return tuple(self._face(axis, upper) for axis in range(self.dimensions) for upper in (False, True))

    def _face(self, axis: int, upper: bool) -> Piece:
        a, b = float(self.lower[axis]), float(self.upper[axis])
        rest = [i for i in range(self.dimensions) if i != axis]

        def draw(cube: np.ndarray) -> Boundary:
            points = torch.empty(len(cube), self.dimensions, dtype=torch.float64)
            points[:, rest] = self.lower[rest] + (self.upper - self.lower)[rest] * torch.from_numpy(cube)
            points[:, axis] = b if upper else a
            normals = torch.zeros_like(points)
            normals[:, axis] = 1.0 if upper else -1.0
            return Boundary(points, normals)

        factor = Face(axis, (-1 if upper else 1) / (b - a), (b if upper else -a) / (b - a))
        measure = float((self.upper - self.lower)[rest].prod())
        return Piece(f"x{axis} = {b if upper else a:g}", measure, draw, self.dimensions - 1, factor, self)

    def join(self, pieces: Sequence[Piece]) -> Factor:
        """A product of 1 - z² over directions with both faces, z the coordinate scaled to [-1, 1]."""
        names = {p.name for p in pieces}
        faces = self.pieces
        factors: list[Factor] = []
        for axis in range(self.dimensions):
            pair = [p for p in faces[2 * axis : 2 * axis + 2] if p.name in names]
            factors += [self._arch(axis)] if len(pair) == 2 else [p.factor for p in pair if p.factor]
        return product(factors)

    def _arch(self, axis: int) -> Factor:
        a, b = float(self.lower[axis]), float(self.upper[axis])
        return Arch(axis, 2 / (b - a), -(a + b) / (b - a))


def Interval(lower: float = 0.0, upper: float = 1.0) -> Box:
    """[lower, upper]."""
    return Box([lower], [upper])


# Balls ---------------------------------------------------------------------------------------------------------------


class Ball(Domain):
    """All points within `radius` of `centre`."""

    has_smooth_factor = True

    def __init__(self, centre: Sequence[float], radius: float = 1.0) -> None:
        self.centre, self.radius = _vector("centre", centre), float(radius)
        if not 0 < self.radius < math.inf:
            raise ValueError(f"a radius must be a finite number > 0, got {radius!r}")
        if len(self.centre) < 2:
            raise ValueError("a ball has two dimensions or more; in one, use Interval(lower, upper)")
        self.dimensions = len(self.centre)
        self.lower, self.upper = self.centre - self.radius, self.centre + self.radius

    def __repr__(self) -> str:
        return f"Ball(({', '.join(f'{c:g}' for c in self.centre.tolist())}), {self.radius:g})"

    def distance(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """See `Domain.distance`."""
        return self.radius - (x - self.centre.to(x)).norm(dim=-1)

    @property
    def measure(self) -> float:
        """Area or volume."""
        d = self.dimensions
        return math.pi ** (d / 2) / math.gamma(d / 2 + 1) * self.radius**d

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The one sphere."""
        d = self.dimensions
        # In two dimensions an angle is enough; beyond, directions of normal vectors.
        cube = 1 if d == 2 else d

        def draw(points: np.ndarray) -> Boundary:
            if d == 2:
                angle = 2 * math.pi * torch.from_numpy(points[:, 0])
                normals = torch.stack([angle.cos(), angle.sin()], 1)
            else:
                inner = np.clip(points, 1e-12, 1 - 1e-12)
                vectors = torch.special.ndtri(torch.from_numpy(inner))
                normals = vectors / vectors.norm(dim=1, keepdim=True)
            return Boundary(self.centre + self.radius * normals, normals)

        surface = d * self.measure / self.radius
        factor = Quadric(tuple(self.centre.tolist()), self.radius)
        return (Piece("sphere", surface, draw, cube, factor, self),)


def Disk(centre: Sequence[float] = (0.0, 0.0), radius: float = 1.0) -> Ball:
    """A ball of two dimensions."""
    return Ball(centre, radius)


# Polygons ------------------------------------------------------------------------------------------------------------


class Polygon(Domain):
    """The inside of a simple polygon, its corners in either order."""

    dimensions = 2

    def __init__(self, corners: Sequence[Sequence[float]]) -> None:
        points = torch.as_tensor(corners, dtype=torch.float64)
        if points.dim() != 2 or points.shape[1] != 2 or len(points) < 3 or not torch.isfinite(points).all():
            raise ValueError(f"a polygon needs at least 3 finite corners (x, y), got {corners!r}")
        if _signed_area(points) < 0:
            points = points.flip(0)
        if not _signed_area(points) > 0:
            raise ValueError(f"the corners {corners!r} enclose no area")
        _check_simple(points)
        self.corners = points
        self.lower, self.upper = points.amin(0), points.amax(0)

    def __repr__(self) -> str:
        return f"Polygon({len(self.corners)} corners, area {self.measure:g})"

    @property
    def measure(self) -> float:
        """The area."""
        return _signed_area(self.corners)

    def distance(self, x: Float[Tensor, "... 2"]) -> Float[Tensor, "..."]:
        """See `Domain.distance`."""
        a = self.corners.to(x)
        edge = a.roll(-1, 0) - a
        relative = x.unsqueeze(-2) - a
        along = ((relative * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
        distance = (relative - along.unsqueeze(-1) * edge).norm(dim=-1).amin(-1)
        # A ray to the right crosses the boundary an odd number of times from inside.
        rises = (a[:, 1] > x[..., 1:]) != (a.roll(-1, 0)[:, 1] > x[..., 1:])
        height = torch.where(edge[:, 1] == 0, 1.0, edge[:, 1])
        crossing = a[:, 0] + (x[..., 1:] - a[:, 1]) / height * edge[:, 0]
        inside = (rises & (x[..., :1] < crossing)).sum(-1) % 2 == 1
        return torch.where(inside, distance, -distance)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The edges."""
        ends = zip(self.corners.tolist(), self.corners.roll(-1, 0).tolist(), strict=True)
        return tuple(self._edge(i, a, b) for i, (a, b) in enumerate(ends))

    def _edge(self, i: int, a: Sequence[float], b: Sequence[float]) -> Piece:
        length = math.dist(a, b)
        tangent = torch.tensor([(b[0] - a[0]) / length, (b[1] - a[1]) / length], dtype=torch.float64)
        normal = torch.stack([tangent[1], -tangent[0]])
        start = torch.tensor(a, dtype=torch.float64)

        def draw(cube: np.ndarray) -> Boundary:
            points = start + length * torch.from_numpy(cube) * tangent
            return Boundary(points, normal.expand_as(points))

        return Piece(f"edge {i}", length, draw, 1, Segment((a[0], a[1]), (b[0], b[1])), self)

    def join(self, pieces: Sequence[Piece]) -> Factor:
        """One edge's factor, or all joined by R-equivalence."""
        factors = [p.factor for p in pieces if p.factor]
        return factors[0] if len(factors) == 1 else Joined(tuple(factors))


def _signed_area(points: Tensor) -> float:
    after = points.roll(-1, 0)
    return float((points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1]).sum() / 2)


def _check_simple(points: Tensor) -> None:
    n, p = len(points), points.tolist()

    def side(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    for i in range(n):
        if math.dist(p[i], p[(i + 1) % n]) == 0:
            raise ValueError(f"corner {i} of the polygon is given twice")
        for j in range(i + 2, n):
            if (j + 1) % n == i:
                continue
            a, b, c, d = p[i], p[i + 1], p[j], p[(j + 1) % n]
            if side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0:
                raise ValueError(f"edges {i} and {j} of the polygon cross")


# Cut and joined ------------------------------------------------------------------------------------------------------


class _Combined(Domain):
    """Two domains made into one. Its distance has the right sign and 0-set, and is never too large."""

    symbol = ""

    def __init__(self, first: Domain, second: Domain) -> None:
        if first.dimensions != second.dimensions:
            raise ValueError(
                f"{first!r} has {first.dimensions} dimensions and {second!r} has {second.dimensions}: they must agree"
            )
        self.first, self.second, self.dimensions = first, second, first.dimensions
        self.lower, self.upper = self._box()
        if not (self.lower < self.upper).all():
            raise ValueError(f"{first!r} and {second!r} have nothing in common: {self!r} is empty")
        self._found: tuple[Piece, ...] | None = None

    def __repr__(self) -> str:
        return f"({self.first!r} {self.symbol} {self.second!r})"

    def _box(self) -> tuple[Tensor, Tensor]:
        return torch.maximum(self.first.lower, self.second.lower), torch.minimum(self.first.upper, self.second.upper)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What is left of the parts' pieces; measures are estimates from 4096 points of each."""
        if self._found is None:
            parts = [(p, False) for p in self.first.pieces]
            parts += [(p, self._turns_second) for p in self.second.pieces]
            found = [self._cut(p, turned) for p, turned in parts]
            self._found = tuple(p for p in found if p is not None)
        return self._found

    _turns_second = False

    def _cut(self, piece: Piece, turned: bool) -> Piece | None:
        def kept(boundary: Boundary) -> Boundary:
            normals = -boundary.normals if turned else boundary.normals
            step = 1e-6 * self.size
            # A step along the outward normal leaves the domain, and one against it enters.
            is_edge = (self.distance(boundary.points + step * normals) < 0) & (
                self.distance(boundary.points - step * normals) > 0
            )
            return Boundary(boundary.points, normals).where(is_edge)

        trial = drawn(piece, 4096)
        share = len(kept(trial).points) / len(trial.points)
        if share == 0:
            return None

        def draw(cube: np.ndarray) -> Boundary:
            # More than asked for, since some are cut off; the first of what is left.
            wanted, dimension = len(cube), cube.shape[1]
            if dimension == 0:
                return kept(piece.draw(cube))
            for more in (1, 4, 16, 64):
                extra = unit_points(math.ceil(more * wanted / share), dimension, "sobol", 12345)
                shift = cube.mean(0)  # so that other points of the cube give other points of the piece
                found = kept(piece.draw((extra + shift) % 1.0))
                if len(found.points) >= wanted:
                    return Boundary(found.points[:wanted], found.normals[:wanted])
            raise ValueError(f"too little is left of {piece.name} of {self!r} to draw {wanted} points on it")

        return Piece(piece.name, share * piece.measure, draw, piece.cube, self._factor_of(piece, turned), piece.owner)

    def _factor_of(self, piece: Piece, turned: bool) -> Factor | None:
        factor = piece.factor
        # The plane of a face goes on outside its box: inside what the box was cut from.
        if factor is None or isinstance(self, Union) or (turned and isinstance(piece.owner, Box)):
            return None
        sign = float(factor(self.sample(64)).median().sign())
        return factor if sign > 0 else Scaled(factor, -1.0)

    @property
    def has_smooth_factor(self) -> bool:
        """Whether both parts have one, and it is known for the whole boundary."""
        parts = self.first.has_smooth_factor and self.second.has_smooth_factor
        return parts and all(p.factor is not None for p in self.pieces)


class Intersection(_Combined):
    """What lies in both."""

    symbol = "&"

    def distance(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """See `Domain.distance`."""
        return torch.minimum(self.first.distance(x), self.second.distance(x))


class Union(_Combined):
    """What lies in one or both."""

    symbol = "|"

    def _box(self) -> tuple[Tensor, Tensor]:
        return torch.minimum(self.first.lower, self.second.lower), torch.maximum(self.first.upper, self.second.upper)

    def distance(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """See `Domain.distance`."""
        return torch.maximum(self.first.distance(x), self.second.distance(x))


class Difference(_Combined):
    """What lies in the first and not in the second."""

    symbol = "-"
    _turns_second = True

    def _box(self) -> tuple[Tensor, Tensor]:
        return self.first.lower, self.first.upper

    def distance(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """See `Domain.distance`."""
        return torch.minimum(self.first.distance(x), -self.second.distance(x))
