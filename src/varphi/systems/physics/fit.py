"""Solving a problem: points, first weights, iterations, and everything that keeps a long fit from being lost."""

from __future__ import annotations

import copy
import hashlib
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.files import check_writable, whole

from .domain import Box, Domain, Sampler
from .energy import Natural
from .field import MLP
from .gate import check_floating, check_smoothness
from .least_squares import Damped, Descent, Method, Residuals, Unknowns
from .problem import Block, Problem
from .progress import bar
from .solution import Made, Solution

MethodName: TypeAlias = Literal["auto", "lm", "gauss-newton", "natural", "lbfgs", "adam"]
PointSampler: TypeAlias = Literal["auto", "gauss"] | Sampler
Watch: TypeAlias = Callable[[int, float, nn.Module], None]

# Iterations where none are given.
_ITERATIONS = {"lm": 200, "gauss-newton": 100, "natural": 200, "lbfgs": 500, "adam": 5000}
# A fit is stalled where the loss falls by less than the fraction in so many iterations. Adam's loss goes up and down.
_STALLED = {
    "lm": (0.05, 20),
    "gauss-newton": (0.05, 20),
    "natural": (1e-12, 20),
    "lbfgs": (1e-6, 50),
    "adam": (0.0, math.inf),
}
# First scales that are tried, each for some iterations; the same for every activation.
SCALES = (1.0, 2.0, 4.0)
_TRIAL = 6
_CHECKPOINT_EVERY = 10.0
_FORMAT = 1


def fit(
    problem: Problem,
    net: nn.Module | MLP | None = None,
    *,
    method: MethodName = "auto",
    points: int | Float[Tensor, "n d"] | None = None,
    sampler: PointSampler = "auto",
    boundary: int | None = None,
    iterations: int | None = None,
    tolerance: float = 1e-12,
    seconds: float | None = None,
    refinements: int = 0,
    scales: Sequence[float] = SCALES,
    learning_rate: float | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    allow_almost_everywhere: bool = False,
    watch: Watch | None = None,
    progress: bool = True,
) -> Solution:
    """Solve a problem by a net.

    Args:
        problem: what to solve.
        net: a plan of layers, whose first weights are scaled by a short search; or a module, which is trained as it is,
            in place. None: two hidden layers of tanh.
        method: "lm" (Levenberg-Marquardt), "gauss-newton", "lbfgs" or "adam"; for the weak form "natural" (the energy's
            natural gradient), "lbfgs" or "adam"; "auto": "lm" or "natural".
        points: how many for the equation, or where they are.
        sampler: how points are chosen: "gauss" (Gauss-Legendre, on boxes), or as in `Domain.sample`; "auto": "gauss" on
            boxes of one or two dimensions, else "sobol".
        boundary: how many points for each soft condition.
        iterations: at most.
        tolerance: stop where the residual has fallen to this fraction of the first one.
        seconds: stop after so long.
        refinements: how often points are added where the residual is largest among fresh ones, a tenth each time.
        scales: tried for the first layer of an `MLP`; one is taken as it is.
        learning_rate: for Adam (0.001) and L-BFGS (1).
        dtype: float64 where not given, for Adam float32. A module keeps its own.
        seed: of points and first weights.
        checkpoint: a file that the state is kept in, every ten seconds and at the end: the same call resumes there, and
            comes to the same numbers as if nothing had happened.
        allow_almost_everywhere: train with activations that are not smooth enough.
        watch: called as watch(iteration, cpu_seconds, field) after each iteration; its own time is not counted.
        progress: a bar on work that takes longer than two seconds.

    Returns:
        The solution; with the best values so far after Ctrl-C.

    Raises:
        NotSmoothEnough: for an activation with too few derivatives.
        ValueError, TypeError: for what does not fit the problem, before any work.
        OSError: where the checkpoint cannot be written.
    """
    _check_kinds(problem, net, dtype)
    name = _checked_method(method, problem)
    _check_counts(iterations=iterations, refinements=refinements, boundary=boundary, seed=seed)
    for what, value in (("seconds", seconds), ("learning_rate", learning_rate)):
        if value is not None and not value > 0:
            raise ValueError(f"{what} must be > 0, got {value!r}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is a fraction of the first residual, 0 <= tolerance < 1, got {tolerance!r}")
    x, weights = _points(problem, points, sampler, seed)
    plan = MLP((20, 20) if problem.domain.dimensions == 1 else (32, 32)) if net is None else net
    dtype = dtype or (torch.float32 if name == "adam" else torch.float64)
    first = _first(problem, plan, seed)
    check_smoothness(
        first, problem.order, form=problem.form, hard=problem.is_hard, allow_almost_everywhere=allow_almost_everywhere
    )
    for told in problem.warnings:
        warnings.warn(told, stacklevel=2)

    count = boundary or _boundary_count(x)
    make = partial(_method, name, problem=problem, rate=learning_rate, total=iterations or _ITERATIONS[name])
    blocks = problem.blocks(x, weights, count, "sobol", seed)
    key = _key(problem, name, plan, x, count, tuple(scales), learning_rate, seed, dtype, refinements)
    run = _Run(problem, name, x, weights, key=key)
    # Clocks run from here: looking for scales is a part of the fit.
    path = None if checkpoint is None else check_writable(checkpoint)
    stored = run.load(path) if path is not None and path.exists() else None
    if stored is not None:
        blocks = problem.blocks(run.x, run.weights, count, "sobol", seed)
        unknowns = _unknowns(problem, first, dtype)
    else:
        unknowns = _started(problem, plan, first, dtype, blocks, scales, seed)
    residuals = Residuals(unknowns, blocks)
    if stored is None:
        _check_values(problem, residuals)
        _check_repeats(residuals, name)
    run.method = make(residuals)
    if stored is not None:
        unknowns.set(stored["theta"].to(unknowns.get()))
        run.method.restore(stored["method"])
    limits = _Limits(iterations or _ITERATIONS[name], tolerance, seconds, *_STALLED[name])
    refine_at = [limits.iterations * (i + 1) // (refinements + 1) for i in range(refinements)]

    def refined() -> None:
        run.x, run.weights = _with_worst(problem, unknowns, run.x, run.weights, seed + len(run.history))
        state = run.method.state() if isinstance(run.method, (Damped, Natural)) else None
        run.method = make(Residuals(unknowns, problem.blocks(run.x, run.weights, count, "sobol", seed)))
        if state is not None:
            run.method.restore(state)
        run.mark()

    with bar(f"{name}, {problem.domain!r}", limits.iterations, progress) as shown:

        def moved(iteration: int, loss: float) -> None:
            shown(iteration, loss)
            if watch is not None:
                with run.uncounted():
                    watch(iteration, run.cpu, unknowns.field)

        run.iterate(unknowns, limits, refine_at, refined, path, moved)
    return Solution(
        problem, unknowns, run.method.residuals, name, run.history, run.reason, run.seconds, run.cpu,
        run.method.told(), Made(plan if isinstance(plan, MLP) else None, count, seed),
    )  # fmt: skip


# The loop ------------------------------------------------------------------------------------------------------------


@dataclass
class _Limits:
    iterations: int
    tolerance: float
    seconds: float | None
    fall: float
    patience: float


@dataclass
class _Run:
    """A fit on its way: what a checkpoint holds."""

    problem: Problem
    name: str
    x: Tensor
    weights: Tensor
    key: str
    history: list[float] = field(default_factory=list)
    first: float = math.nan
    since: int = 0
    reason: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    method: Method = field(init=False)

    def __post_init__(self) -> None:
        self._clocks = time.perf_counter(), time.process_time()
        self._best: tuple[float, Tensor] | None = None

    def mark(self) -> None:
        """From here on losses are not those of before: points were added."""
        self.since = len(self.history)
        self._best = None

    def iterate(
        self,
        unknowns: Unknowns,
        limits: _Limits,
        refine_at: Sequence[int],
        refined: Callable[[], None],
        path: Path | None,
        moved: Callable[[int, float], None],
    ) -> None:
        """Until a limit is reached."""
        saved = time.perf_counter()
        self.reason = ""
        before = unknowns.get()
        try:
            while not self.reason:
                before = unknowns.get()
                if len(self.history) >= limits.iterations:
                    self.reason = f"all {limits.iterations} iterations are done"
                    break
                if len(self.history) in refine_at and self.since != len(self.history):
                    refined()
                self._advance(unknowns, limits, bool([r for r in refine_at if r > len(self.history)]))
                moved(len(self.history), self.history[-1] if self.history else math.nan)
                if path is not None and time.perf_counter() - saved > _CHECKPOINT_EVERY:
                    self.save(path, unknowns)
                    saved = time.perf_counter()
        except KeyboardInterrupt:
            self.reason = "interrupted; these are the best values until then"
            unknowns.set(before if self._best is None else self._best[1])
        self._tick()
        # The state to go on from, before the best values take its place.
        if path is not None:
            self.save(path, unknowns)
        if self._best is not None and self._best[0] < self.method.loss:
            unknowns.set(self._best[1])

    def _advance(self, unknowns: Unknowns, limits: _Limits, more_points: bool) -> None:
        if math.isnan(self.first):
            self.first = self._loss_now()
        self.method.advance()
        self._tick()
        if self.method.stuck:
            self.reason = self.method.stuck
            return
        loss = self.method.loss
        self.history.append(loss)
        if self._best is None or loss < self._best[0]:
            self._best = loss, unknowns.get()
        if self.problem.form == "strong" and loss <= limits.tolerance**2 * self.first:
            self.reason = f"the residual has fallen to {limits.tolerance:g} of the first one"
        elif limits.seconds is not None and self.seconds >= limits.seconds:
            self.reason = f"{limits.seconds:g} seconds are over"
        elif not more_points and self._is_stalled(limits):
            self.reason = f"stalled: the loss fell by less than {limits.fall:g} in {limits.patience:g} iterations"

    def _loss_now(self) -> float:
        if self.problem.form == "weak":
            return math.nan
        with torch.no_grad():
            return float(self.method.residuals.vector().square().sum())

    def _is_stalled(self, limits: _Limits) -> bool:
        recent = self.history[self.since :]
        if len(recent) <= limits.patience:
            return False
        before, now = min(recent[: -int(limits.patience)]), min(recent)
        return before - now < limits.fall * abs(before)

    def _tick(self) -> None:
        now = time.perf_counter(), time.process_time()
        self.seconds += now[0] - self._clocks[0]
        self.cpu += now[1] - self._clocks[1]
        self._clocks = now

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is done meanwhile is no part of the fit."""
        self._tick()
        yield
        self._clocks = time.perf_counter(), time.process_time()

    def save(self, path: Path, unknowns: Unknowns) -> None:
        """Write everything, so that a killed process leaves the old file or the new one."""
        state = {
            "format": _FORMAT, "key": self.key, "theta": unknowns.get(), "method": self.method.state(), "x": self.x,
            "weights": self.weights, "history": self.history, "first": self.first, "since": self.since,
            "seconds": self.seconds, "cpu": self.cpu, "best": self._best,
        }  # fmt: skip
        with whole(path) as unfinished:
            torch.save(state, unfinished)

    def load(self, path: Path) -> dict[str, Any]:
        """Take up a stored fit.

        Raises:
            ValueError: where it is that of another problem, or no checkpoint.
        """
        try:
            state = torch.load(path, weights_only=True)
            known = state["format"] == _FORMAT
        except Exception as error:
            raise ValueError(f"{path} is not a checkpoint of a fit: {error}") from error
        if not known or state["key"] != self.key:
            raise ValueError(
                f"{path} is the checkpoint of another fit: the problem, net, points, method or seed differ. Give "
                "another file, or remove it"
            )
        for name in ("x", "weights", "history", "first", "since", "seconds", "cpu"):
            setattr(self, name, state[name])
        self._best = state["best"]
        return state


# Before it -----------------------------------------------------------------------------------------------------------


def _check_kinds(problem: object, net: object, dtype: object) -> None:
    if not isinstance(problem, Problem):
        raise TypeError(f"fit takes a Problem, got {type(problem).__name__}")
    if net is not None and not isinstance(net, (nn.Module, MLP)):
        raise TypeError(f"the net is a plan, MLP((20, 20), 'tanh'), or a torch module, got {type(net).__name__}")
    given = next((p.dtype for p in net.parameters()), None) if isinstance(net, nn.Module) else None
    for what, found in (("dtype", dtype), ("the net's dtype", given)):
        if found not in (None, torch.float32, torch.float64):
            raise TypeError(f"{what} must be torch.float32 or torch.float64, got {found}")


def _checked_method(method: str, problem: Problem) -> str:
    if method not in get_args(MethodName):
        raise ValueError(f"there is no method {method!r}; methods: {', '.join(get_args(MethodName))}")
    if method == "auto":
        return "natural" if problem.form == "weak" else "lm"
    if problem.form == "weak" and method in ("lm", "gauss-newton"):
        raise ValueError(f"{method!r} makes sums of squares small; the weak form's energy is none: use 'natural'")
    if problem.form == "strong" and method == "natural":
        raise ValueError(
            "'natural' is for the weak form; in the strong form 'gauss-newton' and 'lm' are what it is there"
        )
    return method


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        lowest = 0 if name in ("refinements", "seed") else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < lowest):
            raise ValueError(f"{name} must be a whole number >= {lowest}, got {value!r}")


def _points(problem: Problem, points: Any, sampler: str, seed: int) -> tuple[Tensor, Tensor]:
    domain = problem.domain
    if isinstance(points, (Tensor, np.ndarray)):
        x = torch.as_tensor(points)
        check_floating("points", x)
        if x.dim() != 2 or x.shape[1] != domain.dimensions:
            raise ValueError(
                f"points must be (n, {domain.dimensions}), a column for each of {', '.join(problem.coordinates)}; got "
                f"{tuple(x.shape)}"
            )
        outside = ~domain.contains(x.double())
        if not torch.isfinite(x).all() or outside.any():
            row = int(outside.nonzero()[0]) if outside.any() else int((~torch.isfinite(x)).nonzero()[0, 0])
            raise ValueError(f"point {row}, {x[row].tolist()}, does not lie in the domain {domain!r}")
        return x.double(), torch.ones(len(x), 1, dtype=torch.float64)
    _check_counts(points=points)
    if sampler not in ("auto", "gauss", "sobol", "latin hypercube", "uniform"):
        raise ValueError(f"there is no sampler {sampler!r}; samplers: gauss, sobol, latin hypercube, uniform")
    is_grid = isinstance(domain, Box) and domain.dimensions <= 2
    if sampler == "gauss" and not isinstance(domain, Box):
        raise ValueError(f"Gauss-Legendre points are known for boxes, not for {domain!r}: use sampler='sobol'")
    if sampler == "gauss" or (sampler == "auto" and is_grid):
        return gauss_points(domain, points or _default_count(domain, problem.form), composite=problem.form == "weak")  # pyright: ignore[reportArgumentType]
    chosen: Any = "sobol" if sampler == "auto" else sampler
    x = domain.sample(points or _default_count(domain, problem.form), chosen, seed)
    return x, torch.ones(len(x), 1, dtype=torch.float64)


def _boundary_count(x: Tensor) -> int:
    return max(20, math.ceil(math.sqrt(len(x))) * 2)


def _default_count(domain: Domain, form: str) -> int:
    if form == "weak":
        return {1: 400, 2: 48**2}.get(domain.dimensions, 4096)
    return {1: 64, 2: 16**2}.get(domain.dimensions, 1000)


def gauss_points(
    domain: Box, n: int, *, composite: bool = False, cell: int = 4
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n 1"]]:
    """About n Gauss-Legendre points in a box, as many along each side, and their weights (of sum 1).

    Args:
        composite: whether each side is cut into cells of `cell` points: for functions with kinks.
    """
    d = domain.dimensions
    each = max(2, round(n ** (1 / d)))
    cells = max(1, each // cell) if composite else 1
    nodes, weights = np.polynomial.legendre.leggauss(cell if composite else each)
    starts = np.arange(cells)[:, None]
    line = torch.from_numpy(((starts + (nodes + 1) / 2) / cells).ravel())
    share = torch.from_numpy(np.tile(weights / 2 / cells, cells))
    grid = torch.cartesian_prod(*[line] * d).reshape(-1, d)
    shares = torch.cartesian_prod(*[share] * d).reshape(-1, d).prod(1, keepdim=True)
    return domain.lower + (domain.upper - domain.lower) * grid, shares


def beginning(
    problem: Problem,
    plan: MLP,
    *,
    points: int | None = None,
    sampler: PointSampler = "auto",
    boundary: int | None = None,
    seed: int = 0,
) -> tuple[Unknowns, list[Block]]:
    """What `fit` begins with under the same arguments: first weights, in float64, and residuals."""
    x, weights = _points(problem, points, sampler, seed)
    blocks = problem.blocks(x, weights, boundary or _boundary_count(x), "sobol", seed)
    return _started(problem, plan, _first(problem, plan, seed), torch.float64, blocks, SCALES, seed), blocks


def _first(problem: Problem, plan: nn.Module | MLP, seed: int) -> nn.Module:
    return plan.build(problem.features, len(problem.fields), seed=seed) if isinstance(plan, MLP) else plan


def _unknowns(problem: Problem, net: nn.Module, dtype: torch.dtype) -> Unknowns:
    return Unknowns(problem.field(net), problem.coefficients).to(dtype)


def _started(
    problem: Problem,
    plan: nn.Module | MLP,
    first: nn.Module,
    dtype: torch.dtype,
    blocks: Sequence[Block],
    scales: Sequence[float],
    seed: int,
) -> Unknowns:
    """The unknowns at the start; of a plan, with the scale from which a few steps lead lowest."""
    if not isinstance(plan, MLP):
        own = next((p.dtype for p in first.parameters()), dtype)
        return _unknowns(problem, first, own)
    scales = tuple(scales)
    if not scales or not all(isinstance(s, (int, float)) and 0 < s < math.inf for s in scales):
        raise ValueError(f"scales must be finite numbers > 0, at least one, got {scales!r}")
    built = [plan.build(problem.features, len(problem.fields), seed=seed, scale=s) for s in scales]
    if len(scales) == 1 or problem.form == "weak":
        return _unknowns(problem, built[0], dtype)
    # Judged elsewhere than where they are trained: a net that bends between the points fits these best.
    fresh = problem.domain.sample(len(blocks[0].points), "sobol", seed + 1)
    elsewhere = problem.blocks(fresh, torch.ones(len(fresh), 1, dtype=torch.float64), 1, "sobol", seed)[:1]
    reached = [_after_trial(_unknowns(problem, copy.deepcopy(net), torch.float64), blocks, elsewhere) for net in built]
    return _unknowns(problem, built[reached.index(min(reached))], dtype)


def _after_trial(unknowns: Unknowns, blocks: Sequence[Block], elsewhere: Sequence[Block]) -> float:
    trial = Damped(Residuals(unknowns, blocks))
    for _ in range(_TRIAL):
        if not trial.stuck:
            trial.advance()
    with torch.no_grad():
        loss = trial.loss + float(Residuals(unknowns, elsewhere).vector().square().sum())
    return loss if math.isfinite(loss) else math.inf


def _check_values(problem: Problem, residuals: Residuals) -> None:
    """Refuse residuals that are not numbers: a source term, a coefficient or a boundary value is none somewhere."""
    for i, block in enumerate(residuals.blocks):
        with torch.no_grad():
            found = residuals.raw(i)
        bad = ~torch.isfinite(found).all(1)
        if bad.any():
            at = ", ".join(
                f"{c} = {v:.6g}" for c, v in zip(problem.coordinates, block.points[bad][0].tolist(), strict=True)
            )
            raise ValueError(
                f"the {block.name} is {float(found[bad].flatten()[0]):g} at {at} (so at {int(bad.sum())} of {len(bad)} "
                "points): a source term, a coefficient or a value given there is not a finite number"
            )


def _check_repeats(residuals: Residuals, method: str) -> None:
    """Refuse a net that gives other values at each call to methods that compare losses."""
    if method == "adam":
        return
    with torch.no_grad():
        first, again = (residuals.raw(0) for _ in range(2))
    if not torch.equal(first, again):
        raise ValueError(
            f"the net gives other values each time it is called (dropout in training mode?), and {method!r} compares "
            "losses: call net.eval(), or use method='adam'"
        )


def _method(name: str, residuals: Residuals, *, problem: Problem, rate: float | None, total: int) -> Method:
    if name in ("lm", "gauss-newton"):
        return Damped(residuals, damped=name == "lm")
    if name == "natural":
        return Natural(residuals, problem)
    energy = problem.form == "weak"
    if name == "lbfgs":
        make: Callable[[list[Tensor]], torch.optim.Optimizer] = lambda p: torch.optim.LBFGS(  # noqa: E731
            p, lr=rate or 1.0, max_iter=20, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=0.0,
            tolerance_change=0.0,
        )  # fmt: skip
        return Descent(residuals, make, energy=energy)
    return Descent(
        residuals,
        lambda p: torch.optim.Adam(p, lr=rate or 1e-3),
        energy=energy,
        schedule=lambda i: 0.5 * (1 + math.cos(math.pi * min(i / total, 1.0))),
    )


def _with_worst(problem: Problem, unknowns: Unknowns, x: Tensor, weights: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The points, and a tenth more: those with the largest residual of ten times as many fresh ones (RAR).

    Lu, Meng, Mao & Karniadakis, SIAM Review 63 (2021).
    """
    count = max(1, len(x) // 10)
    pool = problem.domain.sample(10 * count, "sobol", seed + 77)
    with torch.no_grad():
        like = pool.to(unknowns.trained[0])
        found = problem.blocks(pool, torch.ones(len(pool), 1).double(), 1, "sobol", seed)[0].residual(
            unknowns.field, like, unknowns.columns(len(pool))
        )
    worst = found.abs().amax(1).topk(count).indices.cpu()
    return torch.cat([x, pool[worst]]), torch.cat([weights, weights.mean().expand(count, 1)])


def _key(problem: Problem, *rest: Any) -> str:
    """What a checkpoint must agree with."""
    told = [hashlib.sha256(r.numpy().tobytes()).hexdigest() if isinstance(r, Tensor) else repr(r) for r in rest]
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", "\n".join([problem.told, *told]))
    return hashlib.sha256(text.encode()).hexdigest()
