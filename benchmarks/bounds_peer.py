"""What auto_LiRPA answers about single functions, held against ball arithmetic: observations, with inputs to repeat.

    python benchmarks/bounds_peer.py [--functions silu,sin,...]

Part 1: for 300 random intervals (those of `bounds.py`) and seven slopes k, y = f(x) - k·x is bounded by CROWN in
float64. "false" counts the bounds that leave out a value of y by more than 10⁻⁶ of its size: the function is looked at
on a grid, and what is counted is confirmed by ball arithmetic at that point, in exact fractions. Then the gap between
the lines at the midpoint over the gap of the convex hull, median and 95 %, the peer's and ours, and the width of the
interval bound (IBP) over that of the range, median. Part 2: single inputs, with a point of the interval and the value
there by ball arithmetic.

auto_LiRPA 0.7.1 is in its own repository only. Where it cannot be imported its columns stay empty. Whether torch is in
the range that it declares is printed: what is said to be wrong of it must be seen with a torch inside.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from packaging.requirements import Requirement
from torch import Tensor, nn

import varphi as vp
from bounds import PeersGelu, hull_gap, intervals
from varphi.bounds import Lines, curvature
from varphi.facts.reference import Reference

PEER = importlib.util.find_spec("auto_LiRPA") is not None
SLOPES = (-0.9, -0.5, -0.2, 0.0, 0.2, 0.5, 0.9)
GRID = 2001
HULL = 601
# What the peer's float64 rounding, which it does not charge for, may come to.
ROUNDING = 1e-6

Function = Callable[[Tensor], Tensor]


FUNCTIONS: dict[str, Function] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softshrink": F.softshrink,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "arctan": torch.atan,
    "erf": torch.erf,
    "softsign": F.softsign,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "gelu": F.gelu,
    "gelu (custom::Gelu)": PeersGelu.apply,
    "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "exp(-x*x)": lambda x: torch.exp(-x * x),
    "sin": torch.sin,
    "cos": torch.cos,
    "x + sin(x)**2": lambda x: x + torch.sin(x) ** 2,
    "x + sin(x)*sin(x)": lambda x: x + torch.sin(x) * torch.sin(x),
    "x**2": lambda x: x**2,
    "x*x": lambda x: x * x,
    "x**3": lambda x: x**3,
    "x**4": lambda x: x**4,
}


@dataclass(frozen=True)
class Input:
    """y = f(x) - slope·x on [lower, upper], bounded by one of the peer's methods."""

    function: str
    slope: float
    lower: float
    upper: float
    method: str = "CROWN"


INPUTS = (
    Input("sin", -0.9, -5.3965, -0.1894),
    Input("sin", -0.9, -5.3965, -0.1894, "CROWN-Optimized"),
    Input("cos", 0.9, -5.2996, 0.4775),
    Input("x**2", 0.2, 0.3885, 6.3435),
    Input("x**4", 0.2, 0.3885, 6.3435),
    Input("gelu (custom::Gelu)", 0.0, 0.5, 1.0, "IBP"),
    Input("gelu (custom::Gelu)", 0.0, 0.5, 1.0),
)


class Tilted(nn.Module):
    """f(x) - slope·x."""

    def __init__(self, f: Function, slope: float) -> None:
        super().__init__()
        self.f, self.slope = f, slope

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) - self.slope * x if self.slope else self.f(x)


def ours(name: str) -> vp.Activation:
    return vp.as_activation(F.gelu if name == "gelu (custom::Gelu)" else FUNCTIONS[name])


# ------------------------------------------------------------------------------------------------ the peer


class Refused(Exception):
    """The peer has no bound: its own words."""


def asked(f: nn.Module, lower: Tensor, upper: Tensor, method: str, **how: Any) -> Any:
    """What compute_bounds gives for columns of intervals."""
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    try:
        graph = BoundedModule(f, lower[:1], device="cpu")
        if how:
            how["needed_A_dict"] = {graph.output_name[0]: [graph.input_name[0]]}
        box = PerturbationLpNorm(norm=math.inf, x_L=lower, x_U=upper)
        with contextlib.redirect_stdout(io.StringIO()):
            found = graph.compute_bounds(x=(BoundedTensor((lower + upper) / 2, box),), method=method, **how)
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    return found[2][graph.output_name[0]][graph.input_name[0]] if how else found


def peers_bounds(f: Function, slope: float, lower: Tensor, upper: Tensor, method: str) -> tuple[Tensor, Tensor]:
    least, most = asked(Tilted(f, slope), lower.unsqueeze(1), upper.unsqueeze(1), method)
    return least.detach().squeeze(1), most.detach().squeeze(1)


def peers_lines(f: Function, lower: Tensor, upper: Tensor) -> Lines:
    planes = asked(Tilted(f, 0), lower.unsqueeze(1), upper.unsqueeze(1), "CROWN", return_A=True)
    return Lines(*(planes[k].detach().reshape(-1) for k in ("lA", "lbias", "uA", "ubias")))


# ------------------------------------------------------------------------------------------------ the judge


@dataclass(frozen=True)
class Left:
    """A value that a bound leaves out: y at x, by ball arithmetic, and by how much."""

    x: float
    y: float
    by: float


def left_out(name: str, slope: float, ends: tuple[Tensor, Tensor], bounds: tuple[Tensor, Tensor]) -> list[Left]:
    """Every bound that leaves out a value seen on the grid, confirmed in exact arithmetic."""
    (lower, upper), (least, most) = ends, bounds
    f = ours(name)
    x = (lower + (upper - lower) * torch.linspace(0, 1, GRID).unsqueeze(1)).clamp(lower, upper)
    y = f(x) - slope * x
    found = []
    for excess, bound, side in ((least - y, least, 1), (y - most, most, -1)):
        worst, at = excess.max(0)
        where = (worst > ROUNDING * y.abs().amax(0).clamp(min=1)).nonzero().squeeze(1)
        if not len(where):
            continue
        points = x.gather(0, at.unsqueeze(0))[0][where].numpy()
        high, low = (v[0] for v in Reference(f.definition.expression(f.numbers())).values(points, 0))
        for i, point in enumerate(points):
            exact = Fraction(high[i]) + Fraction(low[i]) - Fraction(slope) * Fraction(point)
            by = side * (Fraction(float(bound[where[i]])) - exact)
            if by > 0:
                found.append(Left(float(point), float(exact), float(by)))
    return found


def gaps(f: vp.Activation, lower: Tensor, upper: Tensor, lines: Lines) -> tuple[float, float]:
    """Gap at the midpoint over the hull's: median and 95 %."""
    breaks = torch.tensor([b.lower for b in curvature(f.definition.expression(), -8.0, 8.0).breaks])
    ratios = []
    for a, b, sl, bl, su, bu in zip(lower.tolist(), upper.tolist(), *(t.tolist() for t in lines), strict=True):
        middle = (a + b) / 2
        inside = breaks[(breaks > a) & (breaks < b)]
        x = torch.cat([torch.linspace(a, b, HULL), inside, torch.tensor([middle])]).unique()
        best = hull_gap(x, f(x), middle)
        ratios.append(((su - sl) * middle + bu - bl) / best if best > 1e-11 else 1.0)
    return float(np.median(ratios)), float(np.percentile(ratios, 95))


def width(f: vp.Activation, lower: Tensor, upper: Tensor, bounds: tuple[Tensor, Tensor]) -> float:
    """Of the bound, over that of the range, where that is not a point: median."""
    y = f(lower + (upper - lower) * torch.linspace(0, 1, GRID).unsqueeze(1))
    true = y.amax(0) - y.amin(0)
    return float(((bounds[1] - bounds[0]) / true)[true > 1e-12].median())


# ------------------------------------------------------------------------------------------------ tables


def print_functions(names: list[str]) -> None:
    lower, upper = intervals()
    print(f"{len(lower)} intervals; false: of {2 * len(SLOPES) * len(lower)} bounds by CROWN")
    print(f"{'':>20}{'false':>8}{'by at most':>12}{'gap/best':>10}{'95 %':>9}{'IBP':>9}  |{'ours':>8}{'95 %':>9}")
    words: dict[str, list[str]] = {}
    for name in names:
        shown = "".join(peers_cells(name, lower, upper, words)) if PEER else " " * 48
        median, high = gaps(ours(name), lower, upper, vp.relax(ours(name), lower, upper))
        print(f"{name:>20}{shown}  |{median:>8.4f}{high:>9.4f}", flush=True)
    for refusal, of in words.items():
        print(f"refused, {', '.join(of)}: {refusal}")


def peers_cells(name: str, lower: Tensor, upper: Tensor, words: dict[str, list[str]]) -> list[str]:
    """The peer's five columns; what it refuses is added to `words`."""
    f, cells = FUNCTIONS[name], []
    try:
        lines = peers_lines(f, lower, upper)
        found = [
            left
            for slope in SLOPES
            for left in left_out(name, slope, (lower, upper), peers_bounds(f, slope, lower, upper, "CROWN"))
        ]
        worst = f"{max(left.by for left in found):.2g}" if found else "-"
        median, high = gaps(ours(name), lower, upper, lines)
        cells.append(f"{len(found):>8}{worst:>12}{median:>10.4f}{high:>9.3g}")
    except Refused as refusal:
        words.setdefault(str(refusal), []).append(f"CROWN of {name}")
        cells.append(f"{'refused':>8}{'':>31}")
    try:
        cells.append(f"{width(ours(name), lower, upper, peers_bounds(f, 0, lower, upper, 'IBP')):>9.2f}")
    except Refused as refusal:
        words.setdefault(str(refusal), []).append(f"IBP of {name}")
        cells.append(f"{'refused':>9}")
    return cells


def print_input(case: Input) -> None:
    ends = torch.tensor([case.lower]), torch.tensor([case.upper])
    tilt = f" - {case.slope}*x" if case.slope > 0 else f" + {-case.slope}*x" if case.slope else ""
    print(f"  {case.function}{tilt} on [{case.lower}, {case.upper}], {case.method}")
    model = Tilted(ours(case.function), case.slope).eval()
    own = vp.bounds(model, (ends[0].unsqueeze(1), ends[1].unsqueeze(1)), method="crown")
    print(f"    varphi (crown)  [{float(own.lower):.6f}, {float(own.upper):.6f}]")
    if not PEER:
        return
    try:
        found = peers_bounds(FUNCTIONS[case.function], case.slope, *ends, case.method)
    except Refused as refusal:
        print(f"    auto_LiRPA      {refusal}")
        return
    print(f"    auto_LiRPA      [{float(found[0]):.6f}, {float(found[1]):.6f}]")
    for left in left_out(case.function, case.slope, ends, found):
        print(f"    leaves out      {left.y:.6f}, the value at x = {left.x!r}, by {left.by:.3g}")


def print_versions() -> None:
    print(f"varphi {vp.__version__}, torch {torch.__version__}, {datetime.datetime.now(datetime.UTC).date()}")
    if not PEER:
        print("auto_LiRPA is absent (version 0.7.1 is not in the package registry): its columns are empty\n")
        return
    print(f"auto_LiRPA {importlib.import_module('auto_LiRPA').__version__}, {declared()}\n")


def declared() -> str:
    """Whether this torch is in the range that the peer's package declares."""
    try:
        needs = [Requirement(line) for line in importlib.metadata.requires("auto_LiRPA") or ()]
    except importlib.metadata.PackageNotFoundError:
        return "found without its package's metadata: the range of torch that it declares is not known here"
    specifier = next(need.specifier for need in needs if need.name == "torch")
    inside = specifier.contains(torch.__version__.split("+")[0])
    return f"which declares torch {specifier}: this one is {'inside' if inside else 'OUTSIDE'}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What auto_LiRPA answers about single functions.")
    parser.add_argument("--functions", default=",".join(FUNCTIONS), help="a list with commas")
    names = parser.parse_args().functions.split(",")
    unknown = [name for name in names if name not in FUNCTIONS]
    if unknown:
        parser.error(f"no function {', '.join(unknown)}; there are {', '.join(FUNCTIONS)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    print_versions()
    print_functions(names)
    print("\nSingle inputs")
    for case in INPUTS:
        print_input(case)


if __name__ == "__main__":
    main()
