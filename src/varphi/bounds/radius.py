"""How far from each sample a classifier's margins stay positive: the largest radius that is proved, by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.progress import Moved, bar

from .attack import Inside, Objective, search
from .crown import Network, Pass, optimised
from .graph import read
from .question import inputs_of, rows_of
from .region import Region, region
from .splitting import Plane, Search

Method: TypeAlias = Literal["ibp", "crown", "alpha-crown", "crown-split"]
_METHODS = ("ibp", "crown", "alpha-crown", "crown-split")
# Where nothing bounds a radius it grows by such a factor, so often.
_GROWTH, _STEPS = 4.0, 12
_FIRST = 0.8
_BISECTIONS = 64
# The attack's share of a bar.
_ATTACK = 0.3


class Radii(NamedTuple):
    """Between what is proved and what is refuted.

    Attributes:
        certified: (batch,), float64: rows·output > 0 on the whole ball of this radius; 0 where not even at the centre.
        attacked: (batch,), float64: an input of the ball of this radius has rows·output <= 0; inf where none was found.
    """

    certified: Tensor
    attacked: Tensor


def certified_radius(
    model: nn.Module,
    x: Float[Tensor, "batch ..."],
    rows: Float[Tensor, "rows out"] | Float[Tensor, "batch rows out"],
    norm: float = 2,
    method: Method = "crown",
    tol: float = 1e-3,
    *,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    effort: int = 6,
    largest: float | None = None,
    attacked: Float[Tensor, " batch"] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Radii:
    """The largest radius for each sample at which every row of rows·output is proved to stay positive.

    Args:
        model, x, norm, arithmetic: as in `bounds`.
        rows: the margins, e_y - e_j for a classifier.
        method: of the proof; "crown-split" cuts and splits the ball.
        tol: of the bisection, relative to the radius that the attack reaches.
        effort: of "crown-split": how often the open cells are bounded, for each radius that is tried.
        largest: no larger radius is tried; None: whatever the attack leaves.
        attacked: radii at which an attack is known to succeed, inf where none is; None: one is made.
        seed: of the attack.
        progress: a bar on standard error, where it takes more than two seconds.

    Raises:
        UncertifiedOperation, ValueError, TypeError: as `bounds`.
    """
    if method not in _METHODS:
        raise ValueError(f"method is one of {', '.join(map(repr, _METHODS))}, got {method!r}")
    if not 0 < tol < 1:
        raise ValueError(f"tol must be between 0 and 1, got {tol!r}")
    number, inputs = inputs_of(model, x, 0.0, norm, arithmetic)
    with torch.no_grad():
        network = read(model, inputs.centre, number)
        wanted = rows_of(rows, network, inputs)[0]
    wanted = wanted.expand(len(x), -1, *network.output.shape)
    with bar(f"radii of {len(x)} samples", progress) as moved:
        begun = 0.0
        if attacked is None:
            begun = _ATTACK
            attacked = _attacked(model, x, rows, norm, tol, largest, seed, lambda share: moved(_ATTACK * share))
        attacked = _checked_radii(attacked, len(x))
        at_centre = _proved(network, inputs, wanted, "crown", 1)

        def proved(index: Tensor, radius: Tensor) -> Tensor:
            return _proved(network, region(x[index], radius, norm, number), wanted[index], method, effort)

        bracket = _bracketed(proved, attacked, at_centre, _scale(x), largest)
        low = _bisected(proved, *bracket, at_centre, tol, lambda share: moved(begun + (1 - begun) * share))
    return Radii(low, attacked)


def _bisected(
    proved: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor, at_centre: Tensor, tol: float, moved: Moved
) -> Tensor:
    """The largest radii that are proved, between those of a bracket."""
    gap = tol * high
    for _ in range(_BISECTIONS):
        open_ = ((high - low > gap) & at_centre).nonzero().squeeze(1)
        if not len(open_):
            break
        moved(_done(high - low, gap, tol))
        # Where nothing is proved yet, first near the attack.
        middle = low[open_] + (high[open_] - low[open_]) * torch.where(low[open_] > 0, 0.5, _FIRST)
        good = proved(open_, middle)
        low[open_] = torch.where(good, middle, low[open_])
        high[open_] = torch.where(good, high[open_], middle)
    return low


def _done(width: Tensor, goal: Tensor, tol: float) -> float:
    """The share of halvings done from a width of goal/tol to one of goal, where most are left."""
    left = float(torch.log2(width / goal).nan_to_num(0.0).max())
    return 1 - left / math.log2(1 / tol)


def _bracketed(
    proved: Callable[[Tensor, Tensor], Tensor], attacked: Tensor, at_centre: Tensor, scale: float, largest: float | None
) -> tuple[Tensor, Tensor]:
    """A radius that is proved, or 0, and one above: that of the attack, or else the first that is not proved."""
    low, limit = torch.zeros_like(attacked), scale * _GROWTH**_STEPS if largest is None else largest
    high = torch.where(torch.isfinite(attacked), attacked, torch.full_like(attacked, min(scale, limit)))
    growing = torch.isinf(attacked) & at_centre
    while bool(growing.any()):
        index = growing.nonzero().squeeze(1)
        good = proved(index, high[index])
        low[index] = torch.where(good, high[index], low[index])
        more = good & (high[index] < limit)
        high[index] = torch.where(more, (_GROWTH * high[index]).clamp_max(limit), high[index])
        growing[index] = more
    return low, high


def _scale(x: Tensor) -> float:
    """A radius to begin with."""
    return float(x.detach().abs().max()) / 8 + 2.0**-10


def _checked_radii(attacked: Tensor, batch: int) -> Tensor:
    if attacked.shape != (batch,) or not attacked.is_floating_point() or not bool((attacked >= 0).all()):
        raise ValueError(f"attacked must be ({batch},) numbers >= 0, one for each sample, got {attacked!r}")
    return attacked.detach().double()


def _proved(network: Network, tried: Region, rows: Tensor, method: Method, effort: int) -> Tensor:
    """(batch,): whether all rows·output are proved positive on the region."""
    if method == "alpha-crown":
        return (optimised(network, tried, rows, 20) > 0).all(1)
    with torch.no_grad():
        run = Pass(network, tried, "ibp" if method == "ibp" else "crown")
        plane = Plane.of(run, network, rows)
        good = plane.least(tried) > 0
        if method != "crown-split" or bool(good.all()):
            return good.all(1)
        sample, row = (~good).nonzero(as_tuple=True)
        own, limits = rows[sample, row].unsqueeze(1), rows.new_zeros(len(sample), 1)
        task = Search(network, tried.some(sample), own, limits).begun(run, sample, plane.some(sample, row))
        for _ in range(effort):
            if task.open:
                task.advance()
    good[sample, row] = task.settled()
    return good.all(1)


def _attacked(
    model: nn.Module, x: Tensor, rows: Tensor, norm: float, tol: float, largest: float | None, seed: int, moved: Moved
) -> Tensor:
    """The least radius at which an attack succeeds, (batch,), inf for none."""
    objective = Objective.of(model, x, rows)
    most = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)

    def broken(radius: Tensor) -> Tensor:
        inside = Inside.of(model, x, radius, norm)
        return search(objective, inside, starts=8, steps=40, seed=seed, done=lambda v: bool((v <= 0).all())).value <= 0

    high = torch.full_like(most, _scale(x) if largest is None else largest)
    found = broken(high)
    for _ in range(_STEPS if largest is None else 0):
        if bool(found.all()):
            break
        high = torch.where(found, high, _GROWTH * high)
        found = broken(high)
    low, at_centre = torch.zeros_like(high), broken(torch.zeros_like(high))
    high = torch.where(at_centre, low, high)
    while bool(((high - low > tol / 2 * high) & found).any()):
        moved(_done((high - low)[found], tol / 2 * high[found], tol / 2))
        middle = (low + high) / 2
        good = broken(middle)
        low, high = torch.where(good, low, middle), torch.where(good, middle, high)
    return torch.where(found, high, most)
