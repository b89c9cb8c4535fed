"""DeepXDE (PyTorch backend) on the fields, points and losses of a fit: what varphi is compared with, never needs.

Lu, Meng, Mao & Karniadakis, SIAM Review 63 (2021), arXiv 1907.04502.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as _field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .least_squares import Unknowns
from .problem import Block

NAME = "DeepXDE"
ABSENT = f"{NAME} is not installed here and has no row (pip install deepxde)"
# The residual in DeepXDE's terms, equation(dde, x, u).
Equation: TypeAlias = Callable[[Any, Tensor, Tensor], Tensor]
# Learning rates of Adam; the one with the lowest loss goes on.
RATES = (1e-3, 3e-3, 1e-2)
# How often the error is looked at during Adam, and after how many iterations of L-BFGS.
_LOOKS, _STRIDE = 5, 100


def is_installed() -> bool:
    """Whether it can be imported; this does not."""
    return importlib.util.find_spec("deepxde") is not None


@dataclass
class Course:
    """How far a training has come: after each look the CPU seconds and the error.

    Attributes:
        error: of a field, whose measuring is not counted.
        field: what is trained.
        fall: of the mean square of the equation's residual, end over first iteration.
        iterations: of Adam and L-BFGS together.
    """

    error: Callable[[nn.Module], float]
    field: nn.Module
    seconds: list[float] = _field(default_factory=list)
    errors: list[float] = _field(default_factory=list)
    fall: float = 1.0
    iterations: int = 0
    _start: float = _field(default_factory=time.process_time)

    def look(self) -> None:
        """Measure now."""
        self.seconds.append(time.process_time() - self._start)
        self.errors.append(self.error(self.field))
        self._start = time.process_time() - self.seconds[-1]


def solve(
    unknowns: Unknowns,
    blocks: Sequence[Block],
    equation: Equation,
    error: Callable[[nn.Module], float],
    *,
    adam: int,
    lbfgs: int,
    rates: Sequence[float] = RATES,
) -> Course:
    """Adam at several rates from the same first weights, then L-BFGS from the lowest loss.

    Args:
        unknowns: the field, with its first weights and what it fulfils by form; it stays as it is.
        blocks: the equation's points, then the soft conditions, each a value of the field.
        equation: the same residual.
        error: of a field.
        adam, lbfgs: iterations.

    Returns:
        The course of the chosen rate, whose time alone is counted.
    """
    with _imported() as dde:
        data = _data(dde, blocks, equation)
        weights = [1.0, *(float(b.weights.sum()) for b in blocks[1:])]
        runs = [_adam(dde, data, unknowns.field, weights, rate, adam, error) for rate in rates]
        model, course, first = min(runs, key=lambda run: float(sum(run[0].train_state.loss_train)))
        _lbfgs(dde, model, weights, lbfgs, course)
        course.fall = float(model.train_state.loss_train[0]) / first
        course.iterations = int(model.train_state.iteration)
        return course


@contextlib.contextmanager
def _imported() -> Iterator[Any]:
    """DeepXDE in float64. It sets torch's default dtype, and speaks while it works."""
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    before = torch.get_default_dtype()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        dde = importlib.import_module("deepxde")
        dde.config.set_default_float("float64")
        try:
            yield dde
        finally:
            torch.set_default_dtype(before)


def _data(dde: Any, blocks: Sequence[Block], equation: Equation) -> Any:
    inside, *soft = blocks
    conditions = []
    for block in soft:
        nothing = block.residual(lambda x: torch.zeros(len(x), 1, dtype=x.dtype), block.points, {})
        conditions.append(dde.icbc.PointSetBC(block.points.numpy(), -nothing.numpy()))
    anchors = inside.points.numpy()
    # No points are drawn in it: any box around them will do.
    box = dde.geometry.Hypercube(anchors.min(0) - 1, anchors.max(0) + 1)
    return dde.data.PDE(
        box, lambda x, u: equation(dde, x, u), conditions, num_domain=0, num_boundary=0, anchors=anchors
    )


def _adam(
    dde: Any, data: Any, start: nn.Module, weights: Sequence[float], rate: float, iterations: int, error: Any
) -> tuple[Any, Course, float]:
    class Net(dde.nn.NN):
        def __init__(self) -> None:
            super().__init__()
            self.body = copy.deepcopy(start)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model = dde.Model(data, Net())
    course = Course(error, model.net.body)
    model.compile("adam", lr=rate, loss_weights=list(weights))
    model.train(iterations=1, display_every=10**9, verbose=0)
    first = float(model.train_state.loss_train[0])
    for _ in range(_LOOKS):
        model.train(iterations=max(1, iterations // _LOOKS), display_every=10**9, verbose=0)
        course.look()
    return model, course, first


def _lbfgs(dde: Any, model: Any, weights: Sequence[float], iterations: int, course: Course) -> None:
    class Look(dde.callbacks.Callback):
        def on_epoch_end(self) -> None:
            course.look()

    options = importlib.import_module("deepxde.optimizers.config").LBFGS_options
    dde.optimizers.set_LBFGS_options(maxiter=iterations, gtol=0, ftol=0)
    options.update(iter_per_step=min(_STRIDE, iterations), fun_per_step=2 * _STRIDE)
    model.compile("L-BFGS", loss_weights=list(weights))
    model.train(display_every=10**9, verbose=0, callbacks=[Look()])
    course.look()
