"""`vp.bounds`: certified bounds of a model's outputs over a set of inputs."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.progress import bar

from .crown import Pass, optimised
from .graph import read
from .question import Bounds as Bounds
from .question import Sides, checked_sides, inputs_of, rows_of
from .splitting import split

Method = Literal["ibp", "crown", "alpha-crown", "crown-split"]
_METHODS = ("ibp", "crown", "alpha-crown", "crown-split")


def bounds(
    model: nn.Module,
    x: Float[Tensor, "batch ..."] | tuple[Tensor, Tensor],
    radius: float | Tensor | None = None,
    norm: float = math.inf,
    method: Method = "crown",
    spec: Float[Tensor, "rows out"] | Float[Tensor, "batch rows out"] | None = None,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    optimise: int = 20,
    timeout: float = 10.0,
    progress: bool = True,
    sides: Sides = "both",
) -> Bounds:
    """Certified bounds of a model's outputs, or of combinations of them, over a set of inputs around each sample.

    Args:
        model: in eval mode; of linear and convolution layers, pooling, batch normalisation, sums, products, reshapes
            and any activation, however it is written. Its weights are taken as they are now.
        x: the centres; or the corners (lower, upper) of boxes.
        radius: of the sets, one number or one for each sample; for norm=inf also of x's shape.
        norm: 1, 2 or inf.
        method: "ibp": intervals forward, cheap and loose. "crown": planes backward. "alpha-crown": the same, with the
            slopes of the planes optimised. "crown-split": planes on ever smaller parts of the set, until `timeout`.
        spec: rows C, one set for all samples or one for each; bounds are of C·output, the output flattened. With rows
            e_y - e_j they are margins. None: the output itself.
        arithmetic: "sound32" holds for the exact network and for its evaluation in float32, whatever the order of
            its sums; "float64" for exact and float64 evaluation; "fast" is plain and may be off by rounding. By default
            sound in the model's own format.
        optimise: the steps of "alpha-crown".
        timeout: seconds of wall time for "crown-split"; it stops early where nothing is left to gain.
        progress: a bar on standard error, where "alpha-crown" or "crown-split" takes more than two seconds.
        sides: "lower", for margins: the upper bounds are not sought. They are inf, or what came without effort.

    Returns:
        Bounds(lower, upper): of shape (batch, *output), or (batch, rows) with spec; in the arithmetic's format.

    Raises:
        UncertifiedOperation: an operation that has no rule, with its module's path.
        ValueError, TypeError: training mode, a format other than float32 and float64, NaN, infinite or negative sizes.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), vp.get("gelu")).eval()
        >>> lower, upper = vp.bounds(model, torch.zeros(1, 2), radius=0.1)
    """
    if method not in _METHODS:
        raise ValueError(f"method is one of {', '.join(map(repr, _METHODS))}, got {method!r}")
    if isinstance(optimise, bool) or not isinstance(optimise, int) or optimise < 0:
        raise ValueError(f"optimise must be a whole number >= 0, got {optimise!r}")
    if method == "crown-split":
        return split(
            model, x, radius, norm, spec, timeout=timeout, arithmetic=arithmetic, sides=sides, progress=progress
        )
    both = checked_sides(sides) == "both"
    number, inputs = inputs_of(model, x, radius, norm, arithmetic)
    with torch.no_grad():
        network = read(model, inputs.centre, number)
        rows, shape = rows_of(spec, network, inputs)
    if method == "alpha-crown":
        with bar("moving the slopes of activations", progress) as moved:
            least = optimised(network, inputs, rows, optimise, both, moved=moved)
    else:
        with torch.no_grad():
            slope_rows = (2 if both else 1) * rows.shape[1]
            least = Pass(network, inputs, method).least(network.output, rows, slope_rows, both)
    lower, upper = least.chunk(2, 1) if both else (least, torch.full_like(least, -math.inf))
    return Bounds(lower.reshape(shape), -upper.reshape(shape))
