"""Decisions and tighter bounds by cutting the set of inputs into cells until each is settled.

A cell is a part of the region that may still hold a bad input: its output lies in an unsafe set, rows·y <= limits.
One backward pass gives planes A·x + c <= rows·y on the cell. Where some plane stays above its limit there is no bad
input. Otherwise all bad ones lie where A·x <= limit - c, and

- that half-space is cut from the cell and the pass repeated: the cell shrinks towards the worst point, and the
  intervals of all activations with it; no second cell comes of it;
- once that gains little, the cell is split in two: small boxes at a coordinate, others at a point of the
  input interval of the activation whose lines lose most there. Either half keeps the interval, and the half-space of
  inputs that the plane of that neuron leaves of it.

Half-spaces of inputs enter every bound, intermediate ones too, by a Lagrange multiplier >= 0 for each row, found in
closed form. (Of branching on neurons: Wang et al., NeurIPS 2021, arXiv 2103.06624; on general activations:
Shi et al., TACAS 2025, arXiv 2405.21063.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.progress import bar

from .arithmetic import Arithmetic
from .attack import Inside, Objective, search
from .crown import Network, Pass
from .graph import read
from .nodes import Curve, Interval, Node, flat
from .question import Bounds, Sides, checked_sides, inputs_of, rows_of
from .region import Cuts, Region, boxed, rounded_up
from .relaxation import envelope

# Called now and then with the regions bounded so far, those still open, and the least bound of these.
Progress: TypeAlias = Callable[[int, int, float], None]

# Half-spaces that a cell remembers, the oldest is forgotten first: of few inputs, and of many, where one is much like
# the next and each takes its time.
_CUTS_OF_FEW, _CUTS_OF_MANY = 8, 4
# A cell is cut again as long as that closes such a share of what is missing.
_GAIN = 0.1
# Boxes of so few coordinates are split at a coordinate.
_SMALL = 12
_CELLS = 256
_NUMBERS = 2**24
# Where an activation may be split, as shares of its interval, beside its kinks.
_SHARES = (0.3, 0.5, 0.7)


@dataclass(frozen=True, eq=False)
class Halfspaces:
    """{y : rows·y <= limits}, all rows together: one conjunction of an unsafe set of outputs.

    Attributes:
        rows: (rows, out), floating point.
        limits: (rows,).
    """

    rows: Tensor
    limits: Tensor


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of a question.

    Attributes:
        status: "holds": no input of the region has an output in the unsafe set. "violated": one has. "timeout": open.
        counterexample: (1, ...), an input of the region in the model's format, whose output as the model computes it
            was checked to lie in the unsafe set; None unless violated.
        bound: below the least value over the region, and over the conjunctions, of max over rows of rows·y - limits;
            > 0 proves. It need not be tight: the search stops as soon as it is positive.
        regions: how many cells were bounded.
        seconds: of wall time.
    """

    status: Literal["holds", "violated", "timeout"]
    counterexample: Tensor | None
    bound: float
    regions: int
    seconds: float


def decide(
    model: nn.Module,
    x: Float[Tensor, "1 ..."] | tuple[Tensor, Tensor],
    radius: float | Tensor | None = None,
    norm: float = math.inf,
    unsafe: Sequence[Halfspaces] = (),
    *,
    timeout: float = 60,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verdict:
    """Whether some input of a set has an output in an unsafe set, the union of several conjunctions.

    Args:
        model, x, radius, norm, arithmetic: as in `bounds`, for one sample.
        unsafe: its parts.
        timeout: seconds of wall time after which the answer is "timeout"; one pass is finished first.
        seed: of the attack's starts.
        progress: called after every turn with the cells bounded, the cells open and the least bound.

    Raises:
        UncertifiedOperation, ValueError, TypeError: as `bounds`; for more than one sample, or rows of another width.
    """
    begin = time.monotonic()
    _check_timeout(timeout)
    number, inputs = inputs_of(model, x, radius, norm, arithmetic)
    if len(inputs.centre) != 1:
        raise ValueError(f"a decision is about one sample, got a batch of {len(inputs.centre)}")
    with torch.no_grad():
        network = read(model, inputs.centre, number)
    rows, limits = _problems(unsafe, network, number)
    inside = Inside.of(model, x, radius, norm)
    deadline = begin + timeout
    found = _attacked(model, inside, unsafe, seed, 8, 40)
    if found is not None:
        return Verdict("violated", found, -math.inf, 0, time.monotonic() - begin)
    if not len(rows):
        return Verdict("holds", None, math.inf, 0, time.monotonic() - begin)
    task = _begun(network, inputs, rows, limits)
    turn = 0
    while task.open and time.monotonic() < deadline:
        task.advance()
        turn += 1
        if progress is not None:
            progress(task.regions, task.open, task.least())
        if task.open:
            found = _at_cells(model, inside, task.cells, unsafe)
            if found is None and turn & (turn - 1) == 0:
                found = _attacked(model, inside, unsafe, seed + turn, 16, 80)
            if found is not None:
                return Verdict("violated", found, task.least(), task.regions, time.monotonic() - begin)
    status: Literal["holds", "timeout"] = "timeout" if task.open else "holds"
    return Verdict(status, None, task.least(), task.regions, time.monotonic() - begin)


def _begun(network: Network, inputs: Region, rows: Tensor, limits: Tensor) -> Search:
    """The search after one pass over the region, of all rows together: intervals within it are the same for all."""
    count, most = limits.shape
    turn = max(1, _NUMBERS // max(node.size for node in network.nodes))
    with torch.no_grad():
        run = Pass(network, inputs, "crown")
        planes = [Plane.of(run, network, part.unsqueeze(0)) for part in rows.flatten(0, 1).split(turn)]
        normals = torch.cat([p.normals for p in planes], 1).view(count, most, -1)
        constant = torch.cat([p.constant for p in planes], 1).view(count, most)
        plane = Plane(normals, constant, inputs.arithmetic)
        sample = torch.zeros(count, dtype=torch.long, device=rows.device)
        return Search(network, inputs.some(sample), rows, limits).begun(run, sample, plane)


def split(
    model: nn.Module,
    x: Float[Tensor, "batch ..."] | tuple[Tensor, Tensor],
    radius: float | Tensor | None = None,
    norm: float = math.inf,
    spec: Float[Tensor, "rows out"] | Float[Tensor, "batch rows out"] | None = None,
    *,
    timeout: float = 10,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    sides: Sides = "both",
    progress: bool = True,
) -> Bounds:
    """Bounds as `bounds` gives them, tightened by cutting and splitting the set of inputs for some time.

    A bound that CROWN leaves negative is first tried to be lifted above 0, where a margin is decided; after that each
    is moved, by bisection, towards the least value that an attack finds.

    Args:
        model, x, radius, norm, spec, arithmetic: as in `bounds`.
        timeout: seconds of wall time; a pass is finished first.
        sides: "lower" leaves the upper bounds at CROWN's, and saves their time.
        progress: a bar on standard error, where it takes more than two seconds.

    Returns:
        Bounds(lower, upper), never looser than CROWN's.
    """
    begin = time.monotonic()
    _check_timeout(timeout)
    checked_sides(sides)
    number, inputs = inputs_of(model, x, radius, norm, arithmetic)
    with torch.no_grad():
        network = read(model, inputs.centre, number)
        rows, shape = rows_of(spec, network, inputs)
        least = Pass(network, inputs, "crown").least(network.output, rows, 2 * rows.shape[1], mirrored=True)
    rows = flat(rows if sides == "lower" else torch.cat([rows, -rows], 1), 2)
    batch, wanted = len(inputs.centre), rows.shape[1]
    each = rows.expand(batch, -1, -1).reshape(batch * wanted, 1, -1)
    owner = torch.arange(batch, device=least.device).repeat_interleave(wanted)
    with bar(f"splitting, for {timeout:g} s at most", progress) as moved:

        def told(open_: int) -> None:
            moved((time.monotonic() - begin) / timeout, f"{open_} of {batch * wanted} bounds open")

        told(batch * wanted)
        ceiling = _ceilings(model, Inside.of(model, x, radius, norm), each.view(batch, wanted, -1))
        low = least[:, :wanted].flatten()
        lifted = _lifted(network, inputs.some(owner), each, low, ceiling, begin + timeout, told)
    least = torch.cat([lifted.view(batch, wanted), least[:, wanted:]], 1)
    lower, upper = least.chunk(2, 1)
    return Bounds(lower.reshape(shape), -upper.reshape(shape))


def _check_timeout(timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds > 0, got {timeout!r}")


def _lifted(
    network: Network,
    region: Region,
    rows: Tensor,
    low: Tensor,
    high: Tensor,
    deadline: float,
    told: Callable[[int], None],
) -> Tensor:
    """Lower bounds of one row each, moved up towards `high` as far as the time goes."""
    target = torch.where((low < 0) & (high > 0), torch.zeros_like(low), (low + high) / 2)
    while time.monotonic() < deadline:
        open_ = (target > low + 1e-3 * (high - low).abs()).nonzero().squeeze(1)
        if not len(open_):
            break
        task = Search(network, region.some(open_), rows[open_], target[open_].unsqueeze(1))
        most = 64 * len(open_)
        while task.open and task.regions < most and time.monotonic() < deadline:
            task.advance()
            told(len(open_))
        good = task.settled()
        low[open_] = torch.where(good, target[open_], low[open_])
        high = high.clone()
        high[open_] = torch.where(good, high[open_], torch.minimum(high[open_], target[open_]))
        target = (low + high) / 2
    return low


def _ceilings(model: nn.Module, inside: Inside, rows: Tensor) -> Tensor:
    """What an attack on each row of each sample finds: (batch·rows,)."""
    count = rows.shape[1]
    each = []
    for i in range(count):
        objective = Objective(model, rows[:, i : i + 1].double())
        each.append(search(objective, inside, starts=4, steps=30, seed=i).value)
    return torch.stack(each, 1).flatten().to(rows.dtype) if count else rows.new_zeros(0)


# ------------------------------------------------------------------------------------------------ questions


def _problems(unsafe: Sequence[Halfspaces], network: Network, number: Arithmetic) -> tuple[Tensor, Tensor]:
    """Rows (problems, most, *output) and limits (problems, most), the last of each repeated to fill up."""
    for i, part in enumerate(unsafe):
        _check_part(i, part, network.output.size)
    most = max((len(part.rows) for part in unsafe), default=1)
    rows, limits = [], []
    for i, part in enumerate(unsafe):
        exact = part.rows.detach().to(number.dtype)
        if not bool((exact.double() == part.rows.double()).all()):
            raise ValueError(
                f"rows of part {i} of the unsafe set hold numbers that {number.dtype} cannot: use arithmetic='float64'"
            )
        index = torch.arange(most).clamp_max(len(exact) - 1)
        rows.append(exact[index])
        limits.append(rounded_up(part.limits.detach().double(), number)[index])
    if not rows:
        return torch.zeros(0, 1, *network.output.shape, dtype=number.dtype), torch.zeros(0, 1, dtype=number.dtype)
    return torch.stack(rows).view(len(rows), most, *network.output.shape), torch.stack(limits)


def _check_part(i: int, part: Any, size: int) -> None:
    if not isinstance(part, Halfspaces):
        raise TypeError(f"an unsafe set is a sequence of Halfspaces(rows, limits), part {i} is {type(part).__name__}")
    for name, value in (("rows", part.rows), ("limits", part.limits)):
        if not isinstance(value, Tensor) or not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise TypeError(f"{name} of part {i} of the unsafe set must be a tensor of finite floating-point numbers")
    if part.rows.dim() != 2 or part.rows.shape[1] != size or not len(part.rows):
        raise ValueError(f"rows of part {i} must be (rows, {size}) for this model, got {tuple(part.rows.shape)}")
    if part.limits.shape != part.rows.shape[:1]:
        raise ValueError(f"limits of part {i} must be ({len(part.rows)},), got {tuple(part.limits.shape)}")


def _attacked(
    model: nn.Module, inside: Inside, unsafe: Sequence[Halfspaces], seed: int, starts: int, steps: int
) -> Tensor | None:
    """An input whose output was checked to be unsafe."""
    for part in unsafe:
        rows, limits = part.rows.detach().double().unsqueeze(0), part.limits.detach().double().unsqueeze(0)
        objective = Objective(model, rows, limits, every=True)
        found = search(
            objective, inside, starts=starts, steps=steps, seed=seed, done=lambda best: bool((best <= 0).all())
        )
        if bool(found.value[0] <= 0) and is_unsafe(model, found.x, [part]):
            return found.x
    return None


def _at_cells(model: nn.Module, inside: Inside, cells: Cells, unsafe: Sequence[Halfspaces]) -> Tensor | None:
    """An input whose output is unsafe among the middles of the worst cells and their lowest corners, of boxes."""
    worst = cells.some(cells.bound.argsort()[:_CELLS]).region
    if worst.norm != math.inf or worst.cuts is None:  # cells of a ball all have its middle
        return None
    radius = worst.radius.view(*worst.radius.shape, *[1] * (worst.centre.dim() - worst.radius.dim()))
    corner = worst.centre - radius * worst.cuts.normals[:, 0].view_as(worst.centre).sign()
    x = inside.projected(torch.cat([worst.centre, corner]).double())
    with torch.no_grad():
        y = flat(model(x.clone()), 1).double()
    for part in unsafe:
        bad = (y @ part.rows.double().T <= part.limits.double()).all(1).nonzero().flatten()
        for i in bad[:4].tolist():  # a batch may round in another way than one input does
            if is_unsafe(model, x[i : i + 1], [part]):
                return x[i : i + 1]
    return None


def is_unsafe(model: nn.Module, x: Tensor, unsafe: Sequence[Halfspaces]) -> bool:
    """Whether the output for one input, as the model computes it, lies in an unsafe set."""
    with torch.no_grad():
        y = flat(model(x.clone()), 1).double()
    return any(bool((part.rows.double() @ y[0] <= part.limits.double()).all()) for part in unsafe)


# ------------------------------------------------------------------------------------------------ cells


@dataclass(frozen=True, eq=False)
class Cells:
    """Parts of regions that may hold bad inputs, in a batch.

    Attributes:
        region: their shapes and cuts.
        problem: (cells,): which question each belongs to.
        bound: (cells,): of the last pass; -inf before the first.
        known: the intervals of nodes, for inputs of the cell.
    """

    region: Region
    problem: Tensor
    bound: Tensor
    known: dict[Node, Interval]

    def __len__(self) -> int:
        return len(self.problem)

    def some(self, index: Tensor) -> Cells:
        known = {node: (low[index], high[index]) for node, (low, high) in self.known.items()}
        return Cells(self.region.some(index), self.problem[index], self.bound[index], known)

    def cut(self, normals: Tensor, limits: Tensor) -> Cells:
        """The cells with further half-spaces, newest first."""
        before = self.region.cuts
        assert before is not None
        most = before.limits.shape[1]
        keep = max(most - limits.shape[1], 0)
        cuts = Cuts(
            torch.cat([normals, before.normals[:, :keep]], 1)[:, :most],
            torch.cat([limits, before.limits[:, :keep]], 1)[:, :most],
        )
        return replace(self, region=replace(self.region, cuts=cuts))

    def trimmed(self) -> Region:
        """The region with as many half-spaces as any cell has."""
        cuts = self.region.cuts
        assert cuts is not None
        used = int((cuts.normals != 0).any(-1).sum(1).max()) if len(self) else 0
        return replace(self.region, cuts=Cuts(cuts.normals[:, :used], cuts.limits[:, :used]) if used else None)

    @staticmethod
    def joined(parts: Sequence[Cells]) -> Cells:
        first = parts[0]
        if len(parts) == 1:
            return first

        def cat(values: list[Tensor]) -> Tensor:
            return torch.cat(values)

        cuts = Cuts(*(cat([p.region.cuts[i] for p in parts if p.region.cuts is not None]) for i in (0, 1)))
        region = replace(
            first.region,
            centre=cat([p.region.centre for p in parts]),
            radius=cat([p.region.radius for p in parts]),
            cuts=cuts,
        )
        known = {n: (cat([p.known[n][0] for p in parts]), cat([p.known[n][1] for p in parts])) for n in first.known}
        return Cells(region, cat([p.problem for p in parts]), cat([p.bound for p in parts]), known)


@dataclass(frozen=True, eq=False)
class Plane:
    """normals·x + constant <= rows·output on a cell.

    Attributes:
        normals: (cells, rows, n), over the flattened input.
        constant: (cells, rows).
        number: the arithmetic they are in.
    """

    normals: Tensor
    constant: Tensor
    number: Arithmetic

    @staticmethod
    def of(run: Pass, network: Network, rows: Tensor) -> Plane:
        a, constant = run.plane(network.output, rows)
        shape, n = (len(run.region.centre), rows.shape[1]), run.region.centre[0].numel()
        normals = rows.new_zeros(*shape, n) if a is None else a.flatten(2).expand(*shape, n)
        return Plane(normals, rows.new_zeros(shape) if constant is None else constant.expand(shape), run.number)

    def least(self, region: Region) -> Tensor:
        """Below rows·output on a region: (cells, rows)."""
        return self.number.down(self.constant + region.least(self.normals))

    def beyond(self, limits: Tensor) -> Tensor:
        """Limits of the half-spaces normals·x <= ... that hold every x with rows·output <= limits."""
        slack = 8 * self.number.eps if self.number.sound else 0.0
        return self.number.up(limits - self.constant) + (limits.abs() + self.constant.abs()) * slack

    def some(self, cells: Tensor, rows: Tensor) -> Plane:
        """One row of some cells."""
        return Plane(self.normals[cells, rows].unsqueeze(1), self.constant[cells, rows].unsqueeze(1), self.number)


class Search:
    """A search for bad inputs, for several questions at once: each has a region and one conjunction of rows.

    Args:
        network: of the model.
        region: (problems, ...).
        rows: (problems, rows, *output).
        limits: (problems, rows): bad is rows·output <= limits, all rows together.
    """

    def __init__(self, network: Network, region: Region, rows: Tensor, limits: Tensor) -> None:
        count, n = len(rows), region.centre[0].numel()
        self.network = network
        self.rows = rows.view(count, rows.shape[1], *network.output.shape)
        self.limits = limits.to(region.centre)
        self.number = region.arithmetic
        self.regions = 0
        if n <= _SMALL and region.norm == math.inf and region.radius.dim() == 1:
            wide = region.radius.view(-1, *[1] * (region.centre.dim() - 1)).expand_as(region.centre)
            region = replace(region, radius=wide)
        self._by_coordinate = n <= _SMALL and region.norm == math.inf
        most = _CUTS_OF_FEW if n <= _SMALL else _CUTS_OF_MANY
        none = Cuts(region.centre.new_zeros(count, most, n), region.centre.new_zeros(count, most))
        unknown = torch.full((count,), -math.inf, dtype=region.centre.dtype, device=region.centre.device)
        problem = torch.arange(count, device=region.centre.device)
        self.cells = Cells(replace(region, cuts=none), problem, unknown, {})
        self.curves = [n for n in network.before(network.output) if isinstance(n, Curve)]
        self._settled_bound = torch.full_like(unknown, math.inf)
        widest = max(node.size for node in network.nodes)
        self._most = max(1, min(_CELLS, _NUMBERS // (2 * widest * widest)))

    @property
    def open(self) -> int:
        return len(self.cells)

    def settled(self) -> Tensor:
        """(problems,): whether no bad input is left."""
        left = torch.zeros(len(self.rows), dtype=torch.bool, device=self.rows.device)
        left[self.cells.problem] = True
        return ~left

    def least(self) -> float:
        """The least bound of all cells, settled and open."""
        values = [self._settled_bound, self.cells.bound]
        return float(torch.cat(values).min())

    def advance(self) -> None:
        """Bound the worst open cells, and cut or split those that are not settled."""
        with torch.no_grad():
            order = self.cells.bound.argsort()
            now, later = self.cells.some(order[: self._most]), self.cells.some(order[self._most :])
            fresh = self._bounded(now)
            self.cells = Cells.joined([part for part in (later, *fresh) if len(part)]) if fresh else later

    def _bounded(self, cells: Cells) -> list[Cells]:
        self.regions += len(cells)
        rows = self.rows[cells.problem]
        run = Pass(self.network, cells.trimmed(), "crown", known=cells.known)
        plane = Plane.of(run, self.network, rows)
        known = {p: run.tight(p) for node in self.curves for p in node.parents}
        fresh, row = self._judged(cells, plane, known, run.empty)
        left = (fresh.bound <= 0).nonzero().squeeze(1)
        if not len(left):
            return []
        old = cells.bound[left]
        gained = torch.isinf(old) | (fresh.bound[left] - old >= _GAIN * old.abs())
        again, apart = left[gained], left[~gained]
        parts = [fresh.some(again)] if len(again) else []
        return [*parts, *self._split(fresh, run, plane.normals, row, apart)] if len(apart) else parts

    def _judged(self, cells: Cells, plane: Plane, known: dict[Node, Interval], empty: Tensor) -> tuple[Cells, Tensor]:
        """The cells with what a pass found about them, cut by its planes; the row that decides for each."""
        limits = self.limits[cells.problem]
        value, row = self.number.down(plane.least(cells.region) - limits).max(1)
        value = torch.where(empty, torch.full_like(value, math.inf), value)
        value = torch.maximum(value, cells.bound)
        good = value > 0
        self._settle(cells.problem[good], value[good])
        fresh = Cells(cells.region, cells.problem, value, known)
        return fresh.cut(plane.normals, plane.beyond(limits)), row

    def begun(self, run: Pass, sample: Tensor, plane: Plane) -> Search:
        """The same search after its first pass, which was made of all rows of each sample together.

        Args:
            run: of that pass.
            sample: (problems,): which of its samples each problem belongs to.
            plane: its planes, those of each problem.
        """
        self.regions += len(run.region.centre)
        known = {}
        for node in self.curves:
            for parent in node.parents:
                known[parent] = _interval_of(run, parent, sample)
        fresh, _ = self._judged(self.cells, plane, known, run.empty[sample])
        self.cells = fresh.some((fresh.bound <= 0).nonzero().squeeze(1))
        return self

    def _settle(self, problem: Tensor, value: Tensor) -> None:
        self._settled_bound.scatter_reduce_(0, problem, value, "amin")

    # ---------------------------------------------------------------------------------------- splits

    def _split(self, cells: Cells, run: Pass, normals: Tensor, row: Tensor, index: Tensor) -> list[Cells]:
        worst = normals[index, row[index]]
        if self._by_coordinate:
            return self._halved(cells.some(index), worst)
        if not self.curves:
            return self._cut_in_two(cells.some(index), worst)
        scores = torch.cat([self._losses(run, node, row)[index] for node in self.curves], 1)
        useful = scores.amax(1) > 0
        parts = self._at_neurons(cells, run, scores[useful], index[useful]) if bool(useful.any()) else []
        if not bool(useful.all()):  # every activation is a line there
            parts += self._cut_in_two(cells.some(index[~useful]), worst[~useful])
        return parts

    def _halved(self, cells: Cells, normal: Tensor) -> list[Cells]:
        """Both halves of boxes, across the coordinate that the worst row's plane falls along most."""
        lower, upper = (t.double().flatten(1) for t in cells.region.hull())
        width = upper - lower
        along = ((normal.double().abs() + 1e-3 * normal.double().abs().amax(1, keepdim=True)) * width).argmax(1)
        along = torch.where(normal.abs().amax(1) > 0, along, width.argmax(1)).unsqueeze(1)
        middle = ((lower + upper) / 2).gather(1, along)
        parts = []
        for low, high in ((lower, upper.scatter(1, along, middle)), (lower.scatter(1, along, middle), upper)):
            shape = cells.region.centre.shape
            centre, radius = boxed(low.view(shape), high.view(shape), self.number)
            parts.append(replace(cells, region=replace(cells.region, centre=centre, radius=radius)))
        return parts

    def _cut_in_two(self, cells: Cells, normal: Tensor) -> list[Cells]:
        """Both halves of cells of any shape, by the half-spaces on either side of a coordinate's middle."""
        n = normal.shape[1]
        unit = torch.eye(n, dtype=normal.dtype, device=normal.device).expand(len(cells), n, n)
        region = cells.trimmed()
        lower, upper = region.least(unit), -region.least(-unit)
        width = (upper - lower).clamp_min(0)
        along = torch.where(normal.abs().amax(1) > 0, (normal.abs() * width).argmax(1), width.argmax(1)).unsqueeze(1)
        middle = ((lower + upper) / 2).gather(1, along)
        axis = torch.zeros_like(normal).scatter_(1, along, 1.0).unsqueeze(1)
        return [cells.cut(axis, middle), cells.cut(-axis, -middle)]

    def _at_neurons(self, cells: Cells, run: Pass, scores: Tensor, index: Tensor) -> list[Cells]:
        """Both halves of cells, at the neuron whose lines lose most in the worst row."""
        best = scores.argmax(1)
        parts, first = [], 0
        for node in self.curves:
            mine = ((best >= first) & (best < first + node.size)).nonzero().squeeze(1)
            if len(mine):
                parts += self._at(cells, run, node, index[mine], best[mine] - first)
            first += node.size
        return parts

    @staticmethod
    def _losses(run: Pass, node: Curve, row: Tensor) -> Tensor:
        """For every neuron of a layer, |coefficient|·(the gap between its lines at the midpoint): (cells, size)."""
        lower, upper = run.tight(node.parents[0])
        lines = run.lines(node)[0]
        middle = (lower + upper) / 2
        gap = (lines.upper_slope - lines.lower_slope) * middle + lines.upper_intercept - lines.lower_intercept
        a = run.seen.get(node)
        if a is None:
            return torch.zeros_like(flat(gap, 1))
        a = a.expand(len(row), *a.shape[1:])
        own = flat(a, 2).gather(1, row.view(-1, 1, 1).expand(-1, 1, node.size)).squeeze(1)
        return own.abs() * flat(gap, 1)

    def _at(self, cells: Cells, run: Pass, node: Curve, index: Tensor, neuron: Tensor) -> list[Cells]:
        parent = node.parents[0]
        lower, upper = (flat(t[index], 1) for t in run.tight(parent))
        place = neuron.unsqueeze(1)
        at = self._where(node, lower.gather(1, place).squeeze(1), upper.gather(1, place).squeeze(1)).unsqueeze(1)
        here = cells.some(index)
        shape = (-1, *parent.shape)
        unit = torch.zeros_like(lower).scatter_(1, place, 1.0).view(shape)
        part = Pass(self.network, here.trimmed(), "crown", known={n: _interval_of(run, n, index) for n in here.known})
        planes = Plane.of(part, replace(self.network, output=parent), torch.stack([unit, -unit], 1))
        limits = planes.beyond(torch.cat([at, -at], 1))
        halves = []
        for i in (0, 1):  # below `at`, above it
            low, high = (lower, upper.scatter(1, place, at)) if i == 0 else (lower.scatter(1, place, at), upper)
            half = replace(here, known={**here.known, parent: (low.view(shape), high.view(shape))})
            halves.append(half.cut(planes.normals[:, i : i + 1], limits[:, i : i + 1]))
        return halves

    def _where(self, node: Curve, lower: Tensor, upper: Tensor) -> Tensor:
        """Where to split an interval: at the kink, or wherever the larger of both halves' gaps is least."""
        found = envelope(node.activation, lower, upper)
        shares = [lower + (upper - lower) * share for share in _SHARES]
        kinks = torch.tensor([b.lower for b in found.cut.breaks][:8], dtype=lower.dtype, device=lower.device)
        shares += [torch.where((k > lower) & (k < upper), k, shares[1]) for k in kinks]
        at = torch.stack(shares)
        loss = torch.maximum(_gap(node, lower.expand_as(at), at), _gap(node, at, upper.expand_as(at)))
        return at.gather(0, loss.argmin(0, keepdim=True)).squeeze(0)


def _interval_of(run: Pass, node: Node, index: Tensor) -> Interval:
    low, high = run.tight(node)
    return low[index], high[index]


def _gap(node: Curve, lower: Tensor, upper: Tensor) -> Tensor:
    """The gap between the lines at the midpoint, times the width: about the area."""
    lines = envelope(node.activation, lower, upper).lines(lower, upper)
    middle = (lower + upper) / 2
    gap = (lines.upper_slope - lines.lower_slope) * middle + lines.upper_intercept - lines.lower_intercept
    return gap * (upper - lower)
