"""Whether gradients pass an activation: dead units, saturation, and the norm of the gradient, layer by layer."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation.layer import Activation
from varphi.activation.uses import formula_of
from varphi.facts.facts import Facts
from varphi.numbers import Expression

from .model import forked
from .watching import Pass, Sight

# A slope below this share of the activation's largest counts as saturated.
THRESHOLD = 1e-3
FIGURES = {
    "units": "how many units the layer has",
    "dead": "how many of them have slope 0 on every sample of the batch, so that no gradient passes",
    "saturated": f"the share of slopes below {THRESHOLD:g} times the activation's largest (times 1 if unbounded)",
    "gradient": "the norm of the loss's gradient by what enters the activations of the layer, over the batch",
}


def health(seen: Pass | None, count: int) -> dict[str, Float[np.ndarray, " places"]]:
    """The figures of one pass, NaN for a place that was not seen.

    Args:
        seen: the pass; None where no gradient came back.
        count: how many places there are.
    """
    found = {name: np.full(count, math.nan) for name in FIGURES}
    for place in range(count):
        sights = [s for s in (seen.sights if seen else ()) if s.place == place and s.is_whole]
        if sights:
            for name, value in _figures(sights).items():
                found[name][place] = value
    return found


def _figures(sights: Sequence[Sight]) -> dict[str, float]:
    """The figures of one place, called once or several times in a pass."""
    slopes = [slope(s.activation, s.inputs) for s in sights]
    dead = [_dead(x, s.units) for x, s in zip(slopes, sights, strict=True)]
    low = [(x.abs() < THRESHOLD * largest_slope(s.activation)).sum() for x, s in zip(slopes, sights, strict=True)]
    norms = [float(s.norm) for s in sights if s.norm is not None]
    return {
        "units": float(sum(d.numel() for d in dead)),
        "dead": float(sum(int(d.sum()) for d in dead)),
        "saturated": float(sum(map(int, low)) / sum(x.numel() for x in slopes)),
        "gradient": math.hypot(*norms) if norms else math.nan,
    }


def _dead(slopes: Tensor, units: int) -> Tensor:
    """Which units have slope 0 everywhere else; a tensor of one dimension is one unit."""
    if slopes.ndim < 2:
        return (slopes == 0).all().reshape(1)
    return (slopes == 0).movedim(units, 0).flatten(1).all(1)


def slope(activation: nn.Module, x: Tensor) -> Tensor:
    """f'(x) at every element, of an activation or one of torch's modules."""
    if isinstance(activation, Activation):
        with torch.no_grad():
            return activation.derivatives(x.detach(), 1)[1]
    with torch.enable_grad(), forked():
        leaf = x.detach().clone().requires_grad_()
        # Its forward alone: the user's hooks are not to be run. It may overwrite its input.
        (found,) = torch.autograd.grad(activation.forward(leaf.clone()).sum(), leaf)
    return found


def largest_slope(activation: nn.Module) -> float:
    """sup |f'|, or 1 where that is infinite; where f is learned, the largest on [-30, 30]."""
    if next(activation.parameters(), None) is None:
        formula = _formula(activation)
        if formula is not None:
            return _supremum(formula)
    return _on_a_grid(activation)


def _formula(activation: nn.Module) -> Expression | None:
    if isinstance(activation, Activation):
        return activation.definition.expression(activation.numbers())
    return formula_of(activation.forward)


@functools.lru_cache(maxsize=256)
def _supremum(formula: Expression) -> float:
    found = Facts(formula).lipschitz.upper
    return found if 0 < found < math.inf else 1.0


def _on_a_grid(activation: nn.Module) -> float:
    plain = copy.deepcopy(activation).double().cpu()
    parameter = next(plain.parameters())
    points = torch.linspace(-30, 30, 1201, dtype=torch.float64)[:, None].expand(-1, max(1, parameter.numel()))
    found = float(slope(plain, points).abs().max())
    return found if 0 < found < math.inf else 1.0
