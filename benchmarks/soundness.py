"""A long search for a line on the wrong side: random intervals and slopes, every activation, against ball arithmetic.

    python benchmarks/soundness.py [--cases 1000000] [--seed 0] [--activations relu,silu,...]

A case is an interval [l, u] and a slope k; the lines of slope k, and every third time the best ones, are compared with
the exact y = f(x) - k·x at the ends, at random points and where the lines come nearest to the curve. Half of the cases
are in float32. Prints the cases done and every violation; the exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

import varphi as vp
from varphi.bounds import Lines
from varphi.facts.reference import Reference

BATCH = 500
INSIDE = 3


def intervals(generator: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Centres of size 10^-3 to 30, half-widths from 10^-8 to 10; one in eight starts or ends at a whole number."""
    random = [torch.rand(BATCH, generator=generator, dtype=torch.float64) for _ in range(3)]
    sign = torch.where(random[2] < 0.5, -1.0, 1.0)
    centre = sign * 10 ** (random[0] * 4.5 - 3)
    half = 10 ** (random[1] * 9 - 8)
    lower, upper = centre - half, centre + half
    every = torch.arange(BATCH) % 8
    lower = torch.where(every == 0, lower.round(), lower)
    upper = torch.where(every == 1, upper.round(), upper)
    lower, upper = torch.minimum(lower, upper).to(dtype), torch.maximum(lower, upper).to(dtype)
    return lower, torch.maximum(lower, upper)


def violations(name: str, generator: torch.Generator, dtype: torch.dtype) -> list[str]:
    f = vp.get(name)
    lower, upper = intervals(generator, dtype)
    best = vp.relax(f, lower, upper)
    k = torch.randn(BATCH, generator=generator).to(dtype) * 10 ** (torch.rand(BATCH, generator=generator) * 3 - 1.5)
    k = torch.where(torch.arange(BATCH) % 3 == 0, best.lower_slope, k.to(dtype))
    lines = Lines(*(t.double() for t in vp.relax(f, lower, upper, k)))
    x = _points(f, lower.double(), upper.double(), lines, generator).numpy()
    high, low = (v[0] for v in Reference(f.definition.expression(f.numbers())).values(x.ravel(), 0))
    sl, bl, su, bu = (np.broadcast_to(t.numpy(), x.shape).ravel() for t in lines)
    flat = x.ravel()
    with np.errstate(all="ignore"):
        size = np.abs(high) + np.abs(sl * flat) + np.abs(bl) + np.abs(bu)
        near = np.minimum(high - sl * flat - bl, su * flat + bu - high) < 1e-12 * size + 1e-290
    found = []
    for i in np.flatnonzero(near & np.isfinite(high)):
        at, exact = Fraction(flat[i]), Fraction(high[i]) + Fraction(low[i])
        wrong = max(Fraction(sl[i]) * at + Fraction(bl[i]) - exact, exact - Fraction(su[i]) * at - Fraction(bu[i]))
        if wrong > abs(Fraction(high[i])) * Fraction(2) ** -100:
            j = i % BATCH
            found.append(
                f"{name} on [{lower[j].item()!r}, {upper[j].item()!r}], slope {sl[i]!r}: {float(wrong)} at {flat[i]!r}"
            )
    return found


def _points(f: torch.nn.Module, lower: Tensor, upper: Tensor, lines: Lines, generator: torch.Generator) -> Tensor:
    inside = lower + (upper - lower) * torch.rand(INSIDE, BATCH, generator=generator, dtype=torch.float64)
    grid = lower + (upper - lower) * torch.linspace(0, 1, 33, dtype=torch.float64).unsqueeze(1)
    y = f(grid)
    gaps = (y - lines.lower_slope * grid - lines.lower_intercept, lines.upper_slope * grid + lines.upper_intercept - y)
    nearest = [grid.gather(0, gap.nan_to_num(math.inf).argmin(0, keepdim=True))[0] for gap in gaps]
    return torch.stack([lower, upper, *inside, *nearest]).clamp(lower, upper)


def search(cases: int, seed: int, names: list[str]) -> int:
    """Print every violation among so many cases, and then the counts; give the number of violations."""
    generator = torch.Generator().manual_seed(seed)
    done, wrong, refused, begin, turn = 0, 0, set[str](), time.monotonic(), 0
    while done < cases:
        name = names[turn % len(names)]
        dtype = (torch.float64, torch.float32)[turn // len(names) % 2]
        turn += 1
        try:
            found = violations(name, generator, dtype)
        except ValueError as refusal:
            refused.add(f"{name}: {refusal}")
            if len(refused) > 20 * len(names):
                raise
            continue
        for line in found:
            print(line, flush=True)
        wrong += len(found)
        done += BATCH
    for line in sorted(refused):
        print(f"refused: {line}")
    print(f"{done} cases over {len(names)} activations in {time.monotonic() - begin:.0f} s: {wrong} violations")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Search for a line on the wrong side of its function.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--activations", default="")
    chosen = parser.parse_args()
    names = chosen.activations.split(",") if chosen.activations else vp.names()
    sys.exit(1 if search(chosen.cases, chosen.seed, names) else 0)


if __name__ == "__main__":
    main()
