"""Solve the study's problem with one activation in one form."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from varphi.study import Outcome, Point, Setting

from .condition import Dirichlet
from .domain import Interval
from .field import MLP
from .fit import fit
from .gate import AlmostEverywhere, InNameOnly
from .problem import Problem

HARD, SOFT, WEAK = "strong, hard ends", "strong, soft ends", "weak"
_SOURCE = "pi^2*sin(pi*x)"
_WIDTHS = (20, 20)


def problem(form: str) -> Problem:
    """-u'' = π² sin πx on [0, 1], u(0) = u(1) = 0."""
    if form == WEAK:
        energy = f"u_x^2/2 - {_SOURCE}*u"
        return Problem(Interval(0, 1), energy=energy, form="weak", conditions=Dirichlet(), truth="sin(pi*x)")
    ends = Dirichlet(hard=form == HARD)
    return Problem(Interval(0, 1), f"-u_xx = {_SOURCE}", ends, truth="sin(pi*x)")


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], *, iterations: int) -> Outcome:
    """One seed of one setting; see `study.declaration.Trial`."""
    (seed,) = seeds
    before = torch.get_num_threads()
    # Matrices this small gain little from a second thread, and lose much where another process has the core.
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            # What the gate says is what is measured here.
            warnings.simplefilter("ignore", AlmostEverywhere)
            warnings.simplefilter("ignore", InNameOnly)
            solution = fit(
                problem(setting["form"]),
                MLP(_WIDTHS, setting["activation"]),
                iterations=iterations,
                seed=seed,
                allow_almost_everywhere=True,
                progress=False,
            )
    finally:
        torch.set_num_threads(before)
    report = solution.report()
    assert report.error is not None, "the truth is known"
    fall = (solution.history[-1] / solution.history[0]) ** 0.5 if setting["form"] != WEAK else float("nan")
    return Outcome(
        {
            "error": report.error[0],
            "residual": report.fresh_residual,
            "fall": fall,
            "iterations": float(report.iterations),
            "seconds": report.cpu_seconds,
        }
    )
