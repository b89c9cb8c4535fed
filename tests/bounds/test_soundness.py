"""Every relaxation against ball arithmetic: 20 000 intervals and slopes over the whole catalogue."""

import math
import runpy
from pathlib import Path

import pytest
import torch

import varphi as vp
from varphi.bounds.relaxation import relax

from .oracle import points, violations

CASES = 112


def intervals(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres in [-4, 4], half-widths from 1e-6 to 3, some ends at kinks and whole numbers."""
    centre = torch.rand(count, generator=generator, dtype=torch.float64) * 8 - 4
    half = torch.exp(
        math.log(1e-6) + math.log(3e6) * torch.rand(count, generator=generator, dtype=torch.float64) ** 0.5
    )
    lower, upper = centre - half, centre + half
    whole = torch.randint(-3, 3, (count,), generator=generator).double()
    kind = torch.arange(count) % 8
    lower = torch.where(kind == 6, whole, lower)
    upper = torch.where(kind == 6, whole + 1, torch.where(kind == 7, lower, upper))
    return lower, upper


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", vp.names())
def test_lines_enclose_the_exact_function(name, dtype):
    f = vp.get(name)
    expression = f.definition.expression(f.numbers())
    count = CASES if dtype is torch.float64 else CASES // 8
    generator = torch.Generator().manual_seed(len(name))
    lower, upper = intervals(count, generator)
    lower, upper = lower.to(dtype), upper.to(dtype)
    upper = torch.maximum(lower, upper)
    # A third with the best slopes, the others with any.
    best = relax(f, lower, upper)
    k = torch.where(
        torch.arange(count) % 3 == 0, best.lower_slope, torch.randn(count, generator=generator).to(dtype) * 2
    )
    for lines in (best, relax(f, lower, upper, k)):
        x = points(f, lower.double(), upper.double(), lines, generator)
        assert violations(expression, x, lines) == []


def test_the_oracle_sees_a_line_that_is_wrong_by_one_step():
    f = vp.get("tanh")
    # Concave here: the lower line is the chord, which meets the curve at both ends.
    lower, upper = torch.tensor([0.5]).double(), torch.tensor([2.0]).double()
    lines = relax(f, lower, upper)
    touching = lines._replace(lower_intercept=lines.lower_intercept + 1e-12)
    x = points(f, lower, upper, touching, torch.Generator().manual_seed(0))
    assert violations(f.definition.expression(), x, lines) == []
    assert violations(f.definition.expression(), x, touching) != []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_a_million_intervals_and_slopes(seed, capsys):
    """A quarter of a million each: `benchmarks/soundness.py` with a seed."""
    script = Path(__file__).parents[2] / "benchmarks" / "soundness.py"
    search = runpy.run_path(str(script))["search"]
    assert search(250_000, seed, vp.names()) == 0, capsys.readouterr().out
