"""What a fit gives: the field as a function, and a report on how far to trust it."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.files import check_writable, whole

from .field import MLP
from .gate import check_derivable
from .least_squares import Residuals, Unknowns
from .problem import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRESH = 2048
# Seeds of fresh points, far from those that points are drawn with.
_FRESH_SEED = 1_000_003
# A formula, or a function of one argument that has every quantity as an attribute.
Expressed: TypeAlias = "str | Callable[[Any], Any]"
# What is stored of a solution as it is.
_KEPT = ("method", "history", "reason", "seconds", "cpu_seconds", "told")
_FORMAT = 1
# Fresh residuals this much larger than trained ones show too few points.
_TOO_FEW = 3.0


@dataclass(frozen=True)
class Report:
    """How good a solution is, and how it was found.

    Attributes:
        trained_residual: root mean square of the equation's residual at the points of the fit (of the energy's density
            in the weak form: NaN).
        fresh_residual, largest_residual: root mean square and maximum at points never trained on.
        place: where the largest is.
        error: relative L2 error of each field at fresh points; None where the truth is not known.
        coefficients: of an inverse problem.
        condition: of the last Jacobian; NaN for methods without one.
        damping: the last μ.
        reason: why the fit stopped.
        seconds, cpu_seconds: in this fit and those that it resumed.
        notes: what to do about it, in words.
    """

    trained_residual: float
    fresh_residual: float
    largest_residual: float
    place: tuple[float, ...]
    error: tuple[float, ...] | None
    coefficients: dict[str, float]
    condition: float
    damping: float
    method: str
    iterations: int
    unknowns: int
    rows: int
    reason: str
    seconds: float
    cpu_seconds: float
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.method}: {self.iterations} iterations, {self.unknowns} unknowns, {self.rows} residuals, "
            f"{self.seconds:.2f} s ({self.cpu_seconds:.2f} s CPU)",
            f"stopped: {self.reason}",
        ]
        if not math.isnan(self.fresh_residual):
            place = ", ".join(f"{v:.4g}" for v in self.place)
            lines.append(
                f"residual: {self.trained_residual:.2e} where trained, {self.fresh_residual:.2e} at fresh points, at "
                f"most {self.largest_residual:.2e} at ({place})"
            )
        if self.error is not None:
            lines.append("relative L2 error: " + ", ".join(f"{e:.2e}" for e in self.error))
        lines += [f"{name} = {value:.8g}" for name, value in self.coefficients.items()]
        if not math.isnan(self.condition):
            lines.append(f"condition of the Jacobian {self.condition:.1e}, damping {self.damping:.1e}")
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])


@dataclass(frozen=True)
class Made:
    """How a solution's net and its soft conditions' points can be made again.

    Attributes:
        plan: of the net; None for a module of the user's.
        boundary: how many points for each soft condition.
        seed: of these points.
    """

    plan: MLP | None
    boundary: int
    seed: int


@dataclass(frozen=True, eq=False)
class Solution:
    """The solution of a problem, found by `fit`: call it at points.

    Attributes:
        problem: what was solved.
        unknowns: the field (a torch module) and the coefficients.
        residuals: those of the fit.
        method: "lm", ...
        history: the loss after each iteration.
        reason: why the fit stopped.
        told: numbers of the method.
        made: what `save` writes for `load`.
    """

    problem: Problem
    unknowns: Unknowns
    residuals: Residuals
    method: str
    history: list[float]
    reason: str
    seconds: float
    cpu_seconds: float
    told: dict[str, float]
    made: Made

    @property
    def field(self) -> torch.nn.Module:
        """u as a module."""
        return self.unknowns.field

    @property
    def coefficients(self) -> dict[str, float]:
        """The values found for unknown coefficients."""
        return {n: float(c.detach()) for n, c in self.unknowns.coefficients.items()}

    def __call__(self, x: Tensor | np.ndarray | Sequence[Any]) -> Float[Tensor, "n fields"]:
        """The fields at points (n, d); in one dimension also (n,).

        Raises:
            ValueError, TypeError: for points of another shape or kind.
        """
        with torch.no_grad():
            return self.unknowns.field(self._points(x))

    def evaluate(
        self, what: Expressed | Sequence[Expressed], x: Tensor | np.ndarray | Sequence[Any]
    ) -> Float[Tensor, "n expressions"]:
        """Derivatives of the fields, and what is made of them, at points: a flux, a stress, an energy's density.

        Args:
            what: "u_x", "lap_u", "-k*u_x"; a function of one argument, `lambda d: d.u_x**2`; or several of these. The
                equation's coefficients, given functions and coordinates may stand in it.
            x: as for a call.

        Raises:
            NotSmoothEnough: for a derivative that the net's activation has nowhere but between its kinks: it would be
                that of a piece, not of the solution.
            FormulaError: for what cannot be read.
            ValueError, TypeError: for points of another shape or kind.
        """
        listed = [what] if isinstance(what, str) or callable(what) else list(what)
        operator = self.problem.in_its_terms(listed)
        if operator.order:
            check_derivable(self.field, operator.order)
        points = self._points(x)
        with torch.no_grad():
            return self.problem.applied(operator, self.field, points, self.unknowns.columns(len(points)))

    def save(self, path: str | Path) -> Path:
        """Write it to a file, from which `load` reads it again, given the same problem.

        Raises:
            OSError: where nothing can be written.
        """
        path = check_writable(path)
        plan, equation = self.made.plan, self.residuals.blocks[0]
        kept = {name: getattr(self, name) for name in _KEPT}
        state = kept | {
            "format": _FORMAT, "problem": self.problem.told, "unknowns": self.unknowns.state_dict(),
            "net": None if plan is None else {"widths": list(plan.widths), "activation": _named(plan)},
            "boundary": self.made.boundary, "seed": self.made.seed, "points": equation.points,
            "weights": equation.weights,
        }  # fmt: skip
        with whole(path) as unfinished:
            torch.save(state, unfinished)
        return path

    def residual(self, x: Tensor | np.ndarray | Sequence[Any]) -> Float[Tensor, "n equations"]:
        """What is left of the equation at points."""
        points = self._points(x)
        with torch.no_grad():
            return self.residuals.blocks[0].residual(self.unknowns.field, points, self.unknowns.columns(len(points)))

    def error(self, x: Tensor | np.ndarray | None = None) -> Float[Tensor, " fields"]:
        """The relative L2 error of each field, at fresh points if none are given.

        Raises:
            ValueError: where the problem has no truth.
        """
        if self.problem.truth is None:
            raise ValueError("the truth is not known: give it to the Problem, truth='sin(pi*x)'")
        points = self._points(self._fresh() if x is None else x)
        with torch.no_grad():
            truth = torch.cat([t(points) for t in self.problem.truth], 1)
            return (self(points) - truth).norm(dim=0) / truth.norm(dim=0)

    def report(self) -> Report:
        """The residual where nothing was trained, the error where the truth is known, and why the fit stopped."""
        fresh = self._fresh()
        strong = self.problem.form == "strong"
        with torch.no_grad():
            trained = _rms(self.residuals.raw(0)) if strong else math.nan
        found = self.residual(fresh).abs().amax(1) if strong else torch.full((1,), math.nan)
        left = _rms(self.residual(fresh)) if strong else math.nan
        place = int(found.argmax())
        return Report(
            trained_residual=trained,
            fresh_residual=left,
            largest_residual=float(found[place]),
            place=tuple(fresh[place].tolist()),
            error=None if self.problem.truth is None else tuple(self.error().tolist()),
            coefficients=self.coefficients,
            condition=self.told.get("condition", math.nan),
            damping=self.told.get("damping", math.nan),
            method=self.method,
            iterations=len(self.history),
            unknowns=len(self.unknowns.get()),
            rows=self.residuals.rows(),
            reason=self.reason,
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            notes=(*self.problem.warnings, *_notes(trained, left)),
        )

    def figure(self) -> Figure:
        """Solution, residual, and error where the truth is known; for one or two dimensions."""
        from .figures import figure

        return figure(self)

    def _fresh(self) -> Tensor:
        return self.problem.domain.sample(_FRESH, "sobol", _FRESH_SEED)

    def _points(self, x: Tensor | np.ndarray | Sequence[Any]) -> Tensor:
        points = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
        if not points.is_floating_point():
            raise TypeError(f"points must be floating-point, got {points.dtype}; convert with .double()")
        d = self.problem.domain.dimensions
        if d == 1 and points.dim() == 1:
            points = points[:, None]
        if points.dim() != 2 or points.shape[1] != d:
            raise ValueError(
                f"points must be (n, {d}), a column for each of {', '.join(self.problem.coordinates)}; got "
                f"{tuple(points.shape)}"
            )
        return points.to(self.unknowns.trained[0])


def load(path: str | Path, problem: Problem, net: nn.Module | MLP | None = None) -> Solution:
    """A solution that was saved.

    Args:
        path: the file.
        problem: the same as when it was saved; functions in it are compared by their names.
        net: a module or plan like the one that was fitted, where that was a module, or its activation no name.

    Raises:
        ValueError: for another problem, another net, or a file that holds no solution.
        OSError: where it cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["format"] == _FORMAT
    except (RuntimeError, KeyError, TypeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path} holds no solution: it cannot be read ({type(error).__name__})") from error
    if not known:
        raise ValueError(f"{path} was written by another version, format {state['format']!r}; this one reads {_FORMAT}")
    if state["problem"] != problem.told:
        raise ValueError(
            f"{path} holds the solution of another problem:\n{state['problem']}\nGiven was:\n{problem.told}"
        )
    plan = _plan(state["net"])
    net = plan if net is None else net
    if net is None:
        raise ValueError(
            f"the net of {path} was a module of your own, or its activation has no name: give one like it, load(path, "
            "problem, net)"
        )
    module = net.build(problem.features, len(problem.fields)) if isinstance(net, MLP) else net
    unknowns = Unknowns(problem.field(module), problem.coefficients)
    stored: dict[str, Tensor] = state["unknowns"]
    try:
        unknowns.to(next(v.dtype for v in stored.values() if v.is_floating_point())).load_state_dict(stored)
    except RuntimeError as error:
        raise ValueError(f"the net given is not like that of {path}: {error}") from error
    made = Made(plan, state["boundary"], state["seed"])
    blocks = problem.blocks(state["points"], state["weights"], made.boundary, "sobol", made.seed)
    return Solution(problem, unknowns, Residuals(unknowns, blocks), made=made, **{name: state[name] for name in _KEPT})


def _named(plan: MLP) -> str | None:
    return plan.activation if isinstance(plan.activation, str) else None


def _plan(stored: Mapping[str, Any] | None) -> MLP | None:
    if stored is None or stored["activation"] is None:
        return None
    return MLP(tuple(stored["widths"]), stored["activation"])


def _rms(r: Tensor) -> float:
    return float(r.square().mean().sqrt())


def _notes(trained: float, fresh: float) -> list[str]:
    if fresh > _TOO_FEW * trained and fresh > 1e-12:
        return [
            f"the residual between the points is {fresh / trained:.0f} times that at the points: use more of them "
            "(points=...), or refinements=3"
        ]
    return []
