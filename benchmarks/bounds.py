"""Certified bounds: how near the lines are to the best there are, and what radii and times digits networks get.

    python benchmarks/bounds.py [--samples N] [--activations relu,silu,...] [--efforts 3,8] [--alpha] [--all]

Part 1: gap between the lines at the midpoint, over the gap of the convex hull (the theoretical limit, 1), for random
intervals in float64; with --all for the whole catalogue. Part 2: networks 64-64-64-10 on the digits of scikit-learn;
medians over samples of the certified radius (bisection to 10⁻³ of the attack's) and of the radius at which an attack
of eight starts succeeds (an upper limit to every method). "split N" cuts and splits the ball, N times for each radius
tried; beside it the processor time of its whole search over that of CROWN's, both without the attack. Then one CROWN
call: milliseconds of processor time per sample, medians, sound and plain and the peer interleaved after a warm-up. The
Lipschitz radius is margin/(√2·∏‖W‖·sup|f'|²).

auto_LiRPA 0.7.1 is in its own repository only. Where it can be imported (with PYTHONPATH, say) it runs
in the same process, with its graph built beforehand and lower bounds alone; elsewhere its radii are quoted. What it
answers about single functions, and with which torch, is in `bounds_peer.py`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import varphi as vp

INTERVALS = 300
GRID = 601
NAMES = ("relu", "tanh", "sigmoid", "softplus", "gelu", "silu", "sin")
TIGHT = (*NAMES, "mish", "softsign", "elu", "snake", "log_sigmoid", "arctan", "gaussian", "swish", "hard_swish")
# Median CROWN radius of auto_LiRPA 0.7.1 in L2 and in L∞, printed here on 2026-11-30 with torch 2.8.0, which
# it declares to support. It bounds softplus by intervals only.
QUOTED = {
    "relu": (0.3207, 0.0508),
    "tanh": (0.2665, 0.0422),
    "sigmoid": (0.3112, 0.0472),
    "gelu": (0.3185, 0.0499),
    "silu": (0.2984, 0.0463),
    "sin": (0.2465, 0.0390),
}
GOALS = {"silu": 0.330, "softplus": 0.348, "gelu": 0.322}
SPLIT_GOALS = {"silu": 0.36, "tanh": 0.33}
PEER = importlib.util.find_spec("auto_LiRPA") is not None


# ------------------------------------------------------------------------------------------------ tightness


def intervals() -> tuple[Tensor, Tensor]:
    """Centres in [-4, 4], half-widths from .01 to 3, evenly in the logarithm."""
    torch.manual_seed(0)
    centre = torch.rand(INTERVALS, dtype=torch.float64) * 8 - 4
    half = torch.exp(math.log(0.01) + math.log(300) * torch.rand(INTERVALS, dtype=torch.float64))
    return centre - half, centre + half


def hull_gap(x: Tensor, y: Tensor, middle: float) -> float:
    """The height of the convex hull of points at a place that is one of them: by all chords across it."""
    left, right = x <= middle, x >= middle
    run = x[right] - x[left].unsqueeze(1)
    weight = torch.where(run > 0, (x[right] - middle) / run, torch.ones_like(run))
    chords = weight * y[left].unsqueeze(1) + (1 - weight) * y[right]
    return float(chords.max() - chords.min())


def tightness(name: str) -> tuple[np.ndarray, float]:
    """Gap at the midpoint over the hull's, for each interval; and the worst violation seen on the grid."""
    f, (lower, upper) = vp.get(name), intervals()
    lines = vp.relax(f, lower, upper)
    breaks = torch.tensor([b.lower for b in vp.bounds.curvature(f.definition.expression(), -8.0, 8.0).breaks])
    ratios, worst = [], -math.inf
    for i in range(INTERVALS):
        sl, bl, su, bu = (float(t[i]) for t in lines)
        grid = torch.linspace(float(lower[i]), float(upper[i]), GRID, dtype=torch.float64)
        inside = breaks[(breaks > lower[i]) & (breaks < upper[i])].double()
        middle = float(lower[i] + upper[i]) / 2
        x = torch.cat([grid, inside, torch.tensor([middle], dtype=torch.float64)]).unique()
        y = f(x)
        worst = max(worst, float((sl * x + bl - y).max()), float((y - su * x - bu).max()))
        best = hull_gap(x, y, middle)
        # Where the hull is thinner than 1e-11 the rounding of the reference itself would be seen.
        ratios.append(((su - sl) * middle + bu - bl) / best if best > 1e-11 else 1.0)
    return np.array(ratios), worst


def print_tightness(names: tuple[str, ...]) -> None:
    print(f"Gap / best gap, {INTERVALS} intervals in float64 (limit 1; goal: median <= 1.001, 95 % <= 1.01)")
    print(f"{'':>22}{'median':>10}{'95 %':>10}{'largest':>10}{'violation':>12}{'goal':>6}")
    missed = 0
    for name in names:
        ratios, worst = tightness(name)
        median, high = float(np.median(ratios)), float(np.percentile(ratios, 95))
        met = median <= 1.001 and high <= 1.01
        missed += not met
        shown = "none" if worst <= 0 else f"{worst:.0e}"
        print(f"{name:>22}{median:>10.5f}{high:>10.5f}{ratios.max():>10.4f}{shown:>12}{'yes' if met else 'NO':>6}")
    print(
        f"{len(names) - missed} of {len(names)} meet the goal. The grid is evaluated in float64, rounding included.\n"
    )


# ------------------------------------------------------------------------------------------------ digits


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1400 images to train on and 397 to test, pixels in [0, 1]."""
    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.data))
    x = torch.from_numpy((data.data[order] / 16).astype("float32"))
    y = torch.from_numpy(data.target[order]).long()
    return x[:1400], y[:1400], x[1400:], y[1400:]


def trained(name: str, x: Tensor, y: Tensor) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 64), vp.get(name), nn.Linear(64, 64), vp.get(name), nn.Linear(64, 10)
    )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        order = torch.randperm(len(x), generator=generator)
        for i in range(0, len(x), 100):
            batch = order[i : i + 100]
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
    return model.eval()


def margins(y: Tensor) -> Tensor:
    """Rows e_y - e_j for j != y: (batch, 9, 10)."""
    unit = torch.eye(10)
    return torch.stack([unit[t] - unit[[j for j in range(10) if j != t]] for t in y.tolist()])


def lipschitz_radius(name: str, model: nn.Sequential, x: Tensor, rows: Tensor) -> Tensor:
    product = math.prod(
        float(torch.linalg.matrix_norm(m.weight.detach().double(), 2)) for m in model if isinstance(m, nn.Linear)
    )
    slope = vp.facts(name).lipschitz.upper
    with torch.no_grad():
        margin = (rows @ model(x).unsqueeze(-1)).squeeze(-1).amin(1)
    return margin / (math.sqrt(2) * product * slope**2)


def timed(calls: dict[str, Callable[[], object]], rounds: int = 11) -> dict[str, float]:
    """Median seconds of processor time of each call, interleaved."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            spent[name].append(time.process_time() - begin)
    return {name: statistics.median(times) for name, times in spent.items()}


def print_radii(name: str, samples: int, alpha: bool, efforts: list[int]) -> None:
    x_train, y_train, x_test, y_test = digits()
    model = trained(name, x_train, y_train)
    with torch.no_grad():
        right = (model(x_test).argmax(1) == y_test).nonzero().squeeze(1)
    x, y = x_test[right[:samples]], y_test[right[:samples]]
    print(f"{name}, test accuracy {len(right) / len(x_test):.3f}")
    for norm in (2.0, math.inf):
        print_radius(name, model, x, y, norm, alpha, efforts)


class Sine(nn.Module):
    """sin as the peer can read it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class PeersGelu(torch.autograd.Function):
    """GELU as an operation of the name under which the peer has a rule for it; it refuses `F.gelu`."""

    @staticmethod
    def symbolic(graph: Any, x: Any) -> Any:
        return graph.op("custom::Gelu", x).setType(x.type())

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return nn.functional.gelu(x)


class Gelu(nn.Module):
    """GELU as the peer can read it."""

    def forward(self, x: Tensor) -> Tensor:
        return PeersGelu.apply(x)


NATIVE = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": Gelu, "silu": nn.SiLU, "sin": Sine}


def peer(name: str, model: nn.Sequential, x: Tensor, rows: Tensor, norm: float) -> Callable[[Tensor], Tensor] | None:
    """auto_LiRPA's CROWN bound of the margins for a radius of each sample, if it is here and knows the activation."""
    if not PEER or name not in NATIVE:
        return None
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    own = nn.Sequential(*(layer if isinstance(layer, nn.Linear) else NATIVE[name]() for layer in model)).eval()
    graph = BoundedModule(own, x, device="cpu")

    def lower(radius: Tensor) -> Tensor:
        # In L∞ a radius has a column for each input; in L2 it is one column.
        size = radius.float().unsqueeze(1)
        moved = BoundedTensor(x, PerturbationLpNorm(norm=norm, eps=size if norm == 2 else size.expand_as(x)))
        with torch.no_grad():
            return graph.compute_bounds(x=(moved,), C=rows, method="CROWN", bound_upper=False)[0]

    return lower


def print_radius(
    name: str, model: nn.Sequential, x: Tensor, y: Tensor, norm: float, alpha: bool, efforts: list[int]
) -> None:
    rows, euclidean = margins(y), norm == 2
    plain = vp.bounds.certified_radius(model, x, rows, norm)
    attacked = plain.attacked

    def certified(method: str, effort: int = 1) -> tuple[Tensor, float]:
        begin = time.process_time()
        found = vp.bounds.certified_radius(model, x, rows, norm, method, attacked=attacked, effort=effort)
        return found.certified, time.process_time() - begin

    crown, spent = certified("crown")
    shown = [f"ibp {certified('ibp')[0].median():.4f}", f"crown {crown.median():.4f}{goal(GOALS, name, euclidean)}"]
    if alpha:
        shown.append("alpha-crown {:.4f}".format(certified("alpha-crown")[0].median()))
    for effort in efforts:
        radius, seconds = certified("crown-split", effort)
        if bool((radius > attacked).any()):
            raise SystemExit(f"{name}: a certified radius is above one that an attack reached: a bound is false")
        wanted = goal(SPLIT_GOALS, name, euclidean)
        shown.append(f"split {effort} {radius.median():.4f}{wanted} in {seconds / spent:.1f}x")
    chapter = lipschitz_radius(name, model, x, rows).median() / (1 if euclidean else 8)
    print(
        f"  L{'2' if euclidean else '∞'}  Lipschitz {chapter:.4f}  {'  '.join(shown)}  attack {attacked.median():.4f}",
        flush=True,
    )
    other = peer(name, model, x, rows, norm)
    if other is not None:
        print(f"      auto_LiRPA's crown {peers_radius(other, attacked).median():.4f}", flush=True)
    elif name in QUOTED:
        print(f"      auto_LiRPA's crown (quoted) {QUOTED[name][0 if euclidean else 1]:.4f}", flush=True)
    print_time(model, x, rows, norm, crown, other)


def peers_radius(lower: Callable[[Tensor], Tensor], attacked: Tensor) -> Tensor:
    """The largest radius at which all margins are positive: bisection to 10⁻³ of the attack's."""
    low, high = torch.zeros_like(attacked), attacked
    for _ in range(10):
        middle = (low + high) / 2
        proved = (lower(middle) > 0).all(1)
        low, high = torch.where(proved, middle, low), torch.where(proved, high, middle)
    return low


def goal(goals: dict[str, float], name: str, euclidean: bool) -> str:
    return f" (goal {goals[name]:.3f})" if euclidean and name in goals else ""


def print_time(
    model: nn.Sequential,
    x: Tensor,
    rows: Tensor,
    norm: float,
    radius: Tensor,
    other: Callable[[Tensor], Tensor] | None,
) -> None:
    """One call at the radii that CROWN certifies: where margins of ours and the peer's can be compared."""

    def call(arithmetic: str) -> Callable[[], object]:
        # The lower bounds alone, as the peer is asked too.
        return lambda: vp.bounds(model, x, radius, norm, "crown", rows, arithmetic, sides="lower")

    calls = {"sound": call("sound32"), "plain": call("fast")}
    if other is not None:
        calls["auto_LiRPA"] = lambda: other(radius)
    times = timed(calls)
    per = 1e3 / len(x)
    line = f"      one call: {times['sound'] * per:.3f} ms/sample, sound/plain {times['sound'] / times['plain']:.2f}"
    if other is not None:
        ours, theirs = vp.bounds(model, x, radius, norm, spec=rows).lower.amin(1), other(radius).amin(1)
        line += (
            f"; auto_LiRPA {times['auto_LiRPA'] * per:.3f} ms/sample, its time over ours "
            f"{times['auto_LiRPA'] / times['sound']:.2f} (goal 3; relu 1), its least margin less ours: median "
            f"{(theirs - ours).median():+.4f}, largest {(theirs - ours).max():+.4f}"
        )
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Certified bounds: tightness, radii, time.")
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--activations", default=",".join(NAMES))
    parser.add_argument("--efforts", default="3,8", help="of splitting: passes over the open cells, for each radius")
    parser.add_argument("--alpha", action="store_true", help="also optimise slopes (slow)")
    parser.add_argument("--all", action="store_true", help="tightness of the whole catalogue")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    if PEER:
        print(f"auto_LiRPA {importlib.import_module('auto_LiRPA').__version__}\n")
    else:
        print("auto_LiRPA is absent (version 0.7.1 is not in the package registry): its radii are quoted\n")
    print_tightness(tuple(vp.names()) if chosen.all else TIGHT)
    print(f"Digits, 64-64-64-10, medians over {chosen.samples} correctly classified samples")
    for name in chosen.activations.split(","):
        print_radii(name, chosen.samples, chosen.alpha, [int(n) for n in chosen.efforts.split(",")])


if __name__ == "__main__":
    main()
