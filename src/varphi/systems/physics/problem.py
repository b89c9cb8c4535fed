"""A differential equation with its domain, its conditions, and what is unknown or measured; checked when stated."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi import jets
from varphi.jets import Operator

from .condition import (
    Condition,
    Constant,
    Dirichlet,
    Free,
    Function,
    Initial,
    Line,
    Neumann,
    Periodic,
    Robin,
    Value,
    function,
    mask,
)
from .domain import Boundary, Box, Domain, Piece, Sampler, drawn
from .field import Field, Hard
from .gate import check_floating

Equation: TypeAlias = "str | Callable[..., Any] | Operator"
Form: TypeAlias = Literal["strong", "weak"]
Call: TypeAlias = Callable[[Any], Any]
# residual(call, x, coefficients) -> (n, k): what `jets.jacobian` takes.
Residual: TypeAlias = Callable[[Call, Tensor, Mapping[str, Tensor]], Tensor]
# Points at which it is tried whether a condition covers a piece of the boundary, or two conditions agree.
_TRIED = 64


@dataclass(frozen=True, eq=False)
class Block:
    """Residuals of one kind.

    Attributes:
        name: for messages.
        points: where, (n, d).
        weights: of each point's residual in the sum of squares, (n, 1).
        residual: (n, k) from the field; for the weak form's energy, its density.
    """

    name: str
    points: Float[Tensor, "n d"]
    weights: Float[Tensor, "n 1"]
    residual: Residual


@dataclass(frozen=True, eq=False)
class EnergyJets:
    """An energy as a function of the field and of those of its derivatives that occur in it.

    Attributes:
        residual: these, q, (n, m), from the field.
        density: the energy's density from q and the points, (n,).
    """

    residual: Residual
    density: Callable[[Tensor, Tensor], Tensor]


class Problem:
    """A boundary value problem, in space or in space and time.

    Args:
        domain: where it holds.
        equation: what shall be 0, as in `varphi.operator`: "-u_xx - pi^2*sin(pi*x)", or with both sides,
            "-u_xx = pi^2*sin(pi*x)"; a function of one argument with the derivatives as attributes; or several of
            these, a system. None with form="weak".
        conditions: of `condition`; every part of the boundary needs one for each field that the equation differentiates
            twice or more, if only `Free()`.
        fields: the names of the unknown functions.
        coordinates: of the domain's directions; by default x, or those of x, y, z, t that the equation mentions.
        coefficients: unknown numbers in the equation, from name to starting value (an inverse problem).
        given: known functions in the equation: from a name to a number, a formula or a function of points.
        data: (x, u), measured values, tensors or arrays: x (n, d) in the domain, u (n, fields) or (n,).
        data_weight: of the mean square of their residuals beside the equation's.
        truth: the solution where it is known, for the report: for each field a formula or a function.
        form: "strong": residuals at points are made 0. "weak": an energy is made least.
        energy: the energy's density for form="weak": "u_x^2/2 - f*u".

    Raises:
        ValueError, TypeError, FormulaError: for what does not fit together, with the remedy.
    """

    def __init__(
        self,
        domain: Domain,
        equation: Equation | Sequence[Equation] | None = None,
        conditions: Sequence[Condition] | Condition = (),
        *,
        fields: str | Sequence[str] = ("u",),
        coordinates: str | Sequence[str] | None = None,
        coefficients: Mapping[str, float] | None = None,
        given: Mapping[str, Value] | None = None,
        data: tuple[Tensor | np.ndarray, Tensor | np.ndarray] | None = None,
        data_weight: float = 1.0,
        truth: Value | Sequence[Value] | None = None,
        form: Form = "strong",
        energy: Equation | None = None,
    ) -> None:
        if not isinstance(domain, Domain):
            raise TypeError(f"a problem's domain is a Box, Ball, Polygon or made of these, got {type(domain).__name__}")
        self.domain, self.form = domain, form
        self.fields = (fields,) if isinstance(fields, str) else tuple(fields)
        self.coefficients = {n: _number(n, v) for n, v in (coefficients or {}).items()}
        if form == "weak" and self.coefficients:
            raise ValueError("unknown coefficients need the strong form: an energy is not least where they are right")
        written = _written(equation, energy, form)
        self.written = written
        self.operator = self._operator(written, coordinates, tuple(given or {}))
        self.coordinates = self.operator.coordinates
        self.given = {n: function(v, self.coordinates) for n, v in (given or {}).items()}
        listed = conditions if isinstance(conditions, Sequence) else (conditions,)
        self.conditions: tuple[Condition, ...] = tuple(listed)
        truths = [] if truth is None else [truth] if isinstance(truth, (str, float, int)) or callable(truth) else truth
        self.truth = [function(t, self.coordinates) for t in truths] if truths else None
        if self.truth is not None and len(self.truth) != len(self.fields):
            raise ValueError(f"the truth must be given for each of {', '.join(self.fields)}, got {len(self.truth)}")
        self.data = None if data is None else self._checked_data(*data)
        self.data_weight = data_weight
        self._check_count()
        self._check_conditions()
        self._check_agreement()
        self.hard, self._soft = self._divided()
        self._check_boundary()

    def __repr__(self) -> str:
        told = "; ".join(e if isinstance(e, str) else getattr(e, "__name__", "...") for e in self.written)
        how = [f"{', '.join(self.coordinates)} in {self.domain!r}", *(type(c).__name__ for c in self.conditions)]
        return f"Problem({told}; {'; '.join(how)})"

    # What it needs ------------------------------------------------------------------------------------------------

    @property
    def order(self) -> int:
        """The highest derivative that is taken at points: of the equation, and of soft conditions."""
        by_conditions = [1 for c in self._soft if isinstance(c, (Neumann, Robin)) or self._has_rate(c)]
        return max([self.operator.order, *by_conditions])

    def _has_rate(self, c: Condition) -> bool:
        return isinstance(c, Initial) and c.rate is not None

    @property
    def periodic(self) -> tuple[int, ...]:
        """The axes that are periodic."""
        return tuple(self.coordinates.index(c.coordinate) for c in self.conditions if isinstance(c, Periodic))

    @property
    def features(self) -> int:
        """How many inputs the net has."""
        return self.domain.dimensions + len(self.periodic)

    @property
    def is_hard(self) -> bool:
        """Whether some condition is fulfilled by form."""
        return any(h is not None for h in self.hard)

    def field(self, net: nn.Module) -> Field:
        """A net as this problem's field.

        Raises:
            ValueError: where the net takes or gives another number of columns.
        """
        lower, upper = self.domain.lower, self.domain.upper
        like = next(iter(net.parameters()), torch.zeros((), dtype=torch.float64))
        found = Field(net, hard=self.hard, lower=lower, upper=upper, periodic=self.periodic).to(like.device)
        x = self.domain.sample(2).to(like)
        features = found.features(x)
        told = (
            f"the net is given {features.shape[1]} features (the coordinates {', '.join(self.coordinates)} scaled to "
            f"[-1, 1]" + (", periodic ones as cos and sin" if self.periodic else "") + ")"
        )
        try:
            with torch.no_grad():
                shape = tuple(net(features).shape)
        except RuntimeError as error:
            raise ValueError(f"{told}, and cannot take them: {error}") from error
        if shape != (2, len(self.fields)):
            raise ValueError(
                f"{told} and must give {len(self.fields)} outputs ({', '.join(self.fields)}); from (2, "
                f"{features.shape[1]}) it makes {shape}"
            )
        return found

    # Residuals ----------------------------------------------------------------------------------------------------

    def blocks(
        self, points: Float[Tensor, "n d"], weights: Float[Tensor, "n 1"], boundary: int, sampler: Sampler, seed: int
    ) -> list[Block]:
        """All residuals of the strong form, or the weak form's energy first.

        Args:
            points, weights: for the equation; weights are relative, of any sum.
            boundary: how many points for each soft condition.
        """
        weights = weights / weights.sum()
        if self.form == "weak":
            weights = weights * self.domain.measure
        name = "energy" if self.form == "weak" else "equation"
        found = [Block(name, points, weights, self._equation)]
        found += [self._condition_block(c, boundary, sampler, seed + i) for i, c in enumerate(self._soft)]
        if self.data is not None:
            x, u = self.data
            weight = torch.full((len(x), 1), self.data_weight / len(x), dtype=torch.float64)
            found.append(Block("data", x, weight, _difference(u)))
        return found

    def _equation(self, call: Call, x: Tensor, coefficients: Mapping[str, Tensor]) -> Tensor:
        return self.applied(self.operator, call, x, coefficients)

    def applied(
        self, operator: Operator, call: Call, x: Tensor, coefficients: Mapping[str, Tensor]
    ) -> Float[Tensor, "n equations"]:
        """An operator in the fields, the coefficients and the given functions, at points."""
        columns = [coefficients[n] for n in self.coefficients] + [f(x) for f in self.given.values()]
        return operator(_extended(call, columns), x)[1]

    def in_its_terms(self, what: Sequence[str | Callable[..., Any]]) -> Operator:
        """Expressions in the fields, their derivatives, the coefficients, the given functions and the coordinates.

        Raises:
            FormulaError: for one that cannot be read.
        """
        names = (*self.fields, *self.coefficients, *self.given)
        return jets.operator(*what, fields=names, coordinates=self.coordinates)

    @property
    def told(self) -> str:
        """What a stored fit of it must agree with."""
        parts: list[object] = [self, self.fields, self.conditions, self.coefficients, self.given]
        if self.data is not None:
            parts.append(hashlib.sha256(b"".join(v.numpy().tobytes() for v in self.data)).hexdigest())
        text = "\n".join(map(repr, parts))
        # Functions are told by their names, not by where they lie in this process.
        return re.sub(r" at 0x[0-9a-fA-F]+", "", text)

    def energy_jets(self) -> EnergyJets:
        """What the energy of the weak form is made of."""
        names = [n for n in self.operator.names if n not in self.given]
        jet = jets.operator(*names, fields=self.fields, coordinates=self.coordinates)

        def density(q: Tensor, x: Tensor) -> Tensor:
            values = dict(zip(names, q.split(1, 1), strict=True))
            values |= dict(zip(self.coordinates, x.split(1, 1), strict=True))
            values |= {n: f(x) for n, f in self.given.items() if n in self.operator.names}
            (found,) = self.operator.evaluate(values.__getitem__)
            return found[:, 0]

        return EnergyJets(lambda call, x, _: jet(call, x)[1], density)

    def _condition_block(self, c: Condition, count: int, sampler: Sampler, seed: int) -> Block:
        where = self._mask(c)
        fine = self.domain.boundary(8 * count, sampler, seed)
        there = where(fine.points)
        share = max(int(there.sum()), 1) / len(fine.points)
        boundary = self.domain.boundary(max(1, math.ceil(count / share)), sampler, seed)
        boundary = boundary.where(where(boundary.points))
        n = len(boundary.points)
        weight = torch.full((n, 1), self._weight(c) / max(n, 1), dtype=torch.float64)
        return Block(f"{type(c).__name__} condition", boundary.points, weight, self._condition_residual(c, boundary))

    def _weight(self, c: Condition) -> float:
        """Brings u to the size of the equation's derivatives of it: (π/L)^(difference of the orders), squared."""
        assert isinstance(c, (Dirichlet, Neumann, Robin, Initial))
        if c.weight is not None:
            return c.weight
        shortest = float((self.domain.upper - self.domain.lower).min())
        own = 1 if isinstance(c, Neumann) or self._has_rate(c) else 0
        return (math.pi / shortest) ** (2 * max(self.operator.order - own, 0))

    def _condition_residual(self, c: Condition, boundary: Boundary) -> Residual:
        i = self._field_index(c)
        read = lambda value: function(value, self.coordinates)  # noqa: E731
        if isinstance(c, Dirichlet):
            return _value_residual(read(c.value), i)
        if isinstance(c, Neumann):
            return _slope_residual(None, None, read(c.value), boundary.normals, i)
        if isinstance(c, Robin):
            return _slope_residual(read(c.a), read(c.b), read(c.value), boundary.normals, i)
        assert isinstance(c, Initial)
        axis = self.coordinates.index(c.time)
        later = torch.zeros_like(boundary.normals)
        later[:, axis] = 1.0
        rate = None if c.rate is None else _slope_residual(None, None, read(c.rate), later, i)
        value = None if self._fulfilled(c) else _value_residual(read(c.value), i)
        parts = [p for p in (value, rate) if p is not None]
        return lambda call, x, k: torch.cat([p(call, x, k) for p in parts], 1)

    # Checks -------------------------------------------------------------------------------------------------------

    def _operator(
        self, written: Sequence[Equation], coordinates: str | Sequence[str] | None, given: tuple[str, ...]
    ) -> Operator:
        d = self.domain.dimensions
        if len(written) == 1 and isinstance(written[0], Operator):
            operator = written[0]
            if operator.fields != self.fields:
                raise ValueError(f"the operator has the fields {operator.fields}, the problem {self.fields}")
        else:
            extended = (*self.fields, *self.coefficients, *given)
            names = coordinates if coordinates is not None else _coordinates(written, d, self.fields)
            operator = jets.operator(*[_one_side(e) for e in written], fields=extended, coordinates=names)
        if len(operator.coordinates) != d:
            raise ValueError(
                f"the equation has the coordinates {', '.join(operator.coordinates)} and the domain {self.domain!r} "
                f"has {d} dimension{'s' if d > 1 else ''}: name them with coordinates='{'xyzt'[:d]}'"
            )
        for name in given:
            if operator.orders.get(name, 0):
                raise ValueError(
                    f"derivatives of the given function {name!r} are not taken: give them as functions too"
                )
        return operator

    def _check_count(self) -> None:
        """A function may give several equations, and measured values may stand in for one."""
        if self.form == "weak" or self.data is not None or not all(isinstance(e, str) for e in self.written):
            return
        if len(self.written) < len(self.fields):
            raise ValueError(
                f"{len(self.written)} equation{'s' * (len(self.written) > 1)} cannot determine the {len(self.fields)} "
                f"fields {', '.join(self.fields)}: give one for each, or a known function with given="
            )

    def _check_conditions(self) -> None:
        for c in self.conditions:
            if not isinstance(c, (Dirichlet, Neumann, Robin, Initial, Periodic, Free)):
                raise TypeError(f"a condition is Dirichlet, Neumann, Robin, Initial, Periodic or Free, got {c!r}")
            named = getattr(c, "field", None)
            if named is not None and named not in self.fields:
                raise ValueError(f"{type(c).__name__} is for the field {named!r}; fields: {', '.join(self.fields)}")
            if named is None and len(self.fields) > 1 and not isinstance(c, (Periodic, Free)):
                raise ValueError(f"say which field {type(c).__name__} is for: field='{self.fields[0]}'")
            along = c.coordinate if isinstance(c, Periodic) else c.time if isinstance(c, Initial) else None
            if along is None:
                continue
            if along not in self.coordinates:
                raise ValueError(f"{type(c).__name__} is along {along!r}; coordinates: {', '.join(self.coordinates)}")
            if not isinstance(self.domain, Box):
                raise ValueError(f"{type(c).__name__} needs a box, whose sides run along the coordinates")

    def _check_agreement(self) -> None:
        """No two conditions ask for different values at one place."""
        values = [c for c in self.conditions if isinstance(c, (Dirichlet, Initial))]
        points = self.domain.boundary(512).points
        for a, b in itertools.combinations(values, 2):
            both = self._mask(a)(points) & self._mask(b)(points)
            if self._field_index(a) != self._field_index(b) or not both.any():
                continue
            u, v = (function(c.value, self.coordinates)(points[both])[:, 0] for c in (a, b))
            apart = (u - v).abs() > 1e-9 * (1 + v.abs())
            if apart.any():
                i = int(apart.nonzero()[0])
                place = ", ".join(f"{value:.4g}" for value in points[both][i].tolist())
                raise ValueError(
                    f"{a!r} asks for {self.fields[self._field_index(a)]} = {float(u[i]):g} at ({place}), and {b!r} for "
                    f"{float(v[i]):g}: say with where=... on which part of the boundary each holds"
                )

    def _check_boundary(self) -> None:
        if self.data is not None:  # measured values may stand in for conditions
            return
        if not self.conditions and self.form == "strong":
            raise ValueError(
                f"nothing is asked of {', '.join(self.fields)} anywhere on the boundary of {self.domain!r}: an "
                "equation alone has many solutions; add conditions, or Free() if that is meant"
            )
        for i, field in enumerate(self.fields):
            if self.operator.orders.get(field, 0) < 2 and self.form == "strong":
                continue
            relevant = [c for c in self.conditions if getattr(c, "field", None) in (None, field)]
            for seed, piece in enumerate(self._needing_conditions()):
                points = drawn(piece, _TRIED, "sobol", seed).points
                covered = torch.stack(
                    [torch.zeros(len(points), dtype=torch.bool), *(self._mask(c)(points) for c in relevant)]
                ).any(0)
                if not covered.all():
                    place = ", ".join(f"{v:.4g}" for v in points[~covered][0].tolist())
                    raise ValueError(
                        f"nothing is asked of {self.fields[i]} on {self._told(piece)}, for instance at ({place}): add "
                        "Dirichlet, Neumann, Robin or Periodic there, or Free(where=...) if that is meant"
                    )

    def _needing_conditions(self) -> list[Piece]:
        pieces = list(self.domain.pieces)
        ends = [self.coordinates.index(c.time) for c in self.conditions if isinstance(c, Initial)]
        # Nothing is asked at the end of time.
        return [p for i, p in enumerate(pieces) if i not in {2 * axis + 1 for axis in ends}]

    def _told(self, piece: Piece) -> str:
        if isinstance(self.domain, Box):
            axis, _, level = piece.name.removeprefix("x").partition(" = ")
            return f"{self.coordinates[int(axis)]} = {level}"
        return piece.name

    def _checked_data(self, x: Tensor | np.ndarray, u: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        x, u = (torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in (x, u))
        check_floating("the data's x", x)
        check_floating("the data's u", u)
        d = self.domain.dimensions
        if x.dim() != 2 or x.shape[1] != d:
            raise ValueError(f"the data's x must be (n, {d}), one column for each coordinate, got {tuple(x.shape)}")
        u = u[:, None] if u.dim() == 1 else u
        if u.shape != (len(x), len(self.fields)):
            raise ValueError(f"the data's u must be ({len(x)}, {len(self.fields)}), got {tuple(u.shape)}")
        for what, values in (("x", x), ("u", u)):
            bad = ~torch.isfinite(values).all(1)
            if bad.any():
                raise ValueError(f"the data's {what} is not finite in row {int(bad.nonzero()[0])}")
        outside = ~self.domain.contains(x.double())
        if outside.any():
            row = int(outside.nonzero()[0])
            raise ValueError(f"row {row} of the data, {x[row].tolist()}, does not lie in the domain {self.domain!r}")
        return x.double(), u.double()

    # Hard and soft ------------------------------------------------------------------------------------------------

    def _field_index(self, c: Condition) -> int:
        named = getattr(c, "field", None)
        return 0 if named is None else self.fields.index(named)

    def _mask(self, c: Condition) -> Callable[[Tensor], Tensor]:
        if isinstance(c, (Initial, Periodic)):
            axis = self.coordinates.index(c.time if isinstance(c, Initial) else c.coordinate)
            name = self.coordinates[axis]
            start = f"{name} = {float(self.domain.lower[axis])!r}"
            both = f"{start} or {name} = {float(self.domain.upper[axis])!r}"
            return mask(start if isinstance(c, Initial) else both, self.coordinates, self.domain.size)
        return mask(c.where, self.coordinates, self.domain.size)

    def _divided(self) -> tuple[tuple[Hard | None, ...], Sequence[Condition]]:
        """Which conditions the field fulfils by its form, for each field; and those that are residuals."""
        self._by_form: list[Condition] = []
        forms = [self._hard_form(i) for i in range(len(self.fields))]
        soft = [
            c
            for c in self.conditions
            if not isinstance(c, (Periodic, Free)) and (not self._fulfilled(c) or self._has_rate(c))
        ]
        for c in soft:
            boundary = self.domain.boundary(512).points
            if not self._mask(c)(boundary).any():
                raise ValueError(f"no point of the boundary of {self.domain!r} lies where {c!r} holds")
        return tuple(forms), soft

    def _fulfilled(self, c: Condition) -> bool:
        return any(c is other for other in self._by_form)

    def _hard_form(self, index: int) -> Hard | None:
        wanted = [(c, self._covered(c)) for c in self.conditions if self._may_be_hard(c, index)]
        for c, pieces in wanted:
            if not pieces and getattr(c, "hard", None):
                raise ValueError(f"{c!r} covers no whole piece of the boundary, so it cannot be hard: use hard=False")
        wanted = [(c, pieces) for c, pieces in wanted if pieces]
        if not wanted:
            return None
        values = [(c, pieces, function(c.value, self.coordinates)) for c, pieces in wanted]  # pyright: ignore[reportAttributeAccessIssue]
        for _, _, g in values:
            if all(self._agree(g, other, pieces) for _, pieces, other in values):
                return self._formed([c for c, _, _ in values], [p for _, pieces, _ in values for p in pieces], g)
        if self.domain.dimensions == 1 and len(values) == 2:
            return self._formed([c for c, _, _ in values], [p for _, ps, _ in values for p in ps], self._line(values))
        demanded = [c for c, _, _ in values if getattr(c, "hard", None)]
        if len(demanded) > 1:
            raise ValueError(
                "no value given in a hard condition agrees with the others on their parts of the boundary: give each "
                "the same function, which takes all their values, or make some soft (hard=False)"
            )
        c, pieces, g = next((v for v in values if v[0] in demanded), values[0])
        return self._formed([c], pieces, g)

    def _may_be_hard(self, c: Condition, index: int) -> bool:
        if not isinstance(c, (Dirichlet, Initial)) or self._field_index(c) != index or c.hard is False:
            return False
        return bool(c.hard) or self.domain.has_smooth_factor

    def _covered(self, c: Condition) -> list[Piece]:
        """The pieces on which the condition holds, if these are all of where it holds."""
        where = self._mask(c)
        shares = [(p, where(drawn(p, _TRIED).points)) for p in self.domain.pieces]
        partly = [p for p, m in shares if m.any() and not m.all()]
        return [] if partly else [p for p, m in shares if m.all()]

    def _agree(self, g: Function, other: Function, pieces: Sequence[Piece]) -> bool:
        points = torch.cat([drawn(p, _TRIED).points for p in pieces])
        a, b = g(points), other(points)
        return bool((a - b).abs().max() <= 1e-9 * (1 + b.abs().max()))

    def _line(self, values: Sequence[tuple[Condition, list[Piece], Function]]) -> Line:
        """Between the values at the two ends of an interval."""
        ends = {float(at): float(g(at)) for _, pieces, g in values for at in (drawn(p, 1).points for p in pieces)}
        (a, at_a), (b, at_b) = sorted(ends.items())
        return Line(a, at_a, b, at_b)

    def _formed(self, conditions: Sequence[Condition], pieces: Sequence[Piece], g: Function) -> Hard:
        phi = self.domain.factor(pieces)
        self._by_form += conditions
        if g == Constant(0.0):
            return Hard(phi)
        return Hard(phi, g)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What to know before solving."""
        found = [told for told in (self._too_few_conditions(),) if told]
        if self.is_hard and not self.domain.has_smooth_factor and self.operator.order >= 2:
            found.append(
                f"φ of {self.domain!r} is made from distances: its second derivatives grow without bound towards the "
                "corners, and the net must undo that. If the residual stays large there, use hard=False."
            )
        return tuple(found)

    def _too_few_conditions(self) -> str:
        """In words, where an equation of order 2m in space has fewer than m conditions on a piece of the boundary."""
        if self.data is not None or self.form == "weak" or any(isinstance(c, Initial) for c in self.conditions):
            return ""
        for field in self.fields:
            wanted = self.operator.orders.get(field, 0) // 2
            asking = [c for c in self.conditions if getattr(c, "field", None) in (None, field)]
            for piece in self.domain.pieces if wanted > 1 else ():
                points = drawn(piece, _TRIED).points
                there = [c for c in asking if self._mask(c)(points).any()]
                if len(there) < wanted and not any(isinstance(c, (Periodic, Free)) for c in there):
                    return (
                        f"the equation has derivatives of {field} of order {self.operator.orders[field]}, and "
                        f"{len(there)} condition{'s' * (len(there) > 1)} on {self._told(piece)}: usually {wanted} are "
                        "needed there, or many functions fulfil everything. Conditions on higher derivatives can be "
                        'stated in a system of lower order: ["u_xx = v", "v_xx = f"].'
                    )
        return ""


# Parts ---------------------------------------------------------------------------------------------------------------


def _written(equation: Any, energy: Any, form: str) -> tuple[Equation, ...]:
    if form not in ("strong", "weak"):
        raise ValueError(f'form is "strong" or "weak", got {form!r}')
    if form == "weak":
        if energy is None or equation is not None:
            raise ValueError('form="weak" takes energy="u_x^2/2 - f*u" in place of an equation')
        return (energy,)
    if equation is None or energy is not None:
        raise ValueError('the strong form takes an equation, such as "-u_xx = sin(x)"; an energy needs form="weak"')
    listed = tuple(equation) if isinstance(equation, (list, tuple)) else (equation,)
    if not listed:
        raise ValueError("the problem has no equation")
    return listed


def _one_side(equation: Equation) -> Equation:
    """ "a = b" as "(a) - (b)"."""
    if not isinstance(equation, str):
        return equation
    sides = equation.split("=")
    if len(sides) == 1 or any(s.endswith(("<", ">", "!")) for s in sides[:-1]) or "==" in equation:
        return equation
    if len(sides) > 2:
        raise ValueError(f"the equation {equation!r} has {len(sides) - 1} signs '='")
    return f"({sides[0]}) - ({sides[1]})"


def _coordinates(written: Sequence[Equation], d: int, fields: Sequence[str]) -> str | None:
    """The coordinates where they are beyond doubt: x alone, or what an equation of Laplacians has."""
    if d == 1:
        return "x" if not _mentions(written, "t", fields) or _mentions(written, "x", fields) else "t"
    if _mentions(written, "t", fields):
        return "xyz"[: d - 1] + "t"
    return "xyz"[:d] if d <= 3 else None


def _mentions(written: Sequence[Equation], letter: str, fields: Sequence[str]) -> bool:
    text = " ".join(e for e in written if isinstance(e, str))
    names = re.findall(r"[^\W\d]\w*", text)
    return any(n == letter or (n.partition("_")[0] in fields and letter in n.partition("_")[2]) for n in names)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"the coefficient {name!r} starts from a finite number, got {value!r}")
    return float(value)


def _extended(call: Call, columns: Sequence[Tensor]) -> Call:
    """The field with further columns that do not depend on x."""
    if not columns:
        return call
    return lambda z: torch.cat([call(z), *columns], -1)


def _difference(u: Tensor) -> Residual:
    return lambda call, x, _: call(x) - u.to(x)


def _value_residual(value: Function, i: int) -> Residual:
    return lambda call, x, _: call(x)[:, i : i + 1] - value(x)


def _slope_residual(a: Function | None, b: Function | None, value: Function, along: Tensor, i: int) -> Residual:
    def residual(call: Call, x: Tensor, _: Mapping[str, Tensor]) -> Tensor:
        u, gradient = jets.gradient(call, x)
        slope = (gradient[:, i] * along.to(x)).sum(1, keepdim=True)
        slope = slope if b is None else b(x) * slope
        return (slope if a is None else a(x) * u[:, i : i + 1] + slope) - value(x)

    return residual
