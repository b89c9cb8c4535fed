"""`vp.bounds`: certified bounds of a model's outputs over a set of inputs."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .arithmetic import Arithmetic
from .arithmetic import arithmetic as chosen
from .crown import Network, Pass, optimised
from .graph import read
from .region import Region, region

Method = Literal["ibp", "crown", "alpha-crown"]
_METHODS = ("ibp", "crown", "alpha-crown")


class Bounds(NamedTuple):
    """lower <= output <= upper for every input of the set."""

    lower: Tensor
    upper: Tensor


def bounds(
    model: nn.Module,
    x: Float[Tensor, "batch ..."] | tuple[Tensor, Tensor],
    radius: float | Tensor | None = None,
    norm: float = math.inf,
    method: Method = "crown",
    spec: Float[Tensor, "rows out"] | Float[Tensor, "batch rows out"] | None = None,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    optimise: int = 20,
) -> Bounds:
    """Certified bounds of a model's outputs, or of combinations of them, over a set of inputs around each sample.

    Args:
        model: in eval mode; of linear and convolution layers, pooling, batch normalisation, sums, products, reshapes
            and any activation, however it is written. Its weights are taken as they are now.
        x: the centres; or the corners (lower, upper) of boxes.
        radius: of the sets, one number or one for each sample; for norm=inf also of x's shape.
        norm: 1, 2 or inf.
        method: "ibp": intervals forward, cheap and loose. "crown": planes backward. "alpha-crown": the same, with the
            slopes of the planes optimised.
        spec: rows C, one set for all samples or one for each; bounds are of C·output, the output flattened. With rows
            e_y - e_j they are margins. None: the output itself.
        arithmetic: "sound32" holds for the exact network and for its evaluation in float32, whatever the order of
            its sums; "float64" for exact and float64 evaluation; "fast" is plain and may be off by rounding. By default
            sound in the model's own format.
        optimise: the steps of "alpha-crown".

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
    number, inputs = _inputs(model, x, radius, norm, arithmetic)
    with torch.no_grad():
        network = read(model, inputs.centre, number)
        rows, shape = _rows(spec, network, inputs)
    return _found(network, inputs, method, rows, shape, optimise)


def _inputs(model: nn.Module, x: Any, radius: Any, norm: Any, name: str | None) -> tuple[Arithmetic, Region]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"bounds are of a torch.nn.Module, got {type(model).__name__}")
    sample = x[0] if isinstance(x, tuple) else x
    if not isinstance(sample, Tensor):
        raise TypeError(f"x must be a tensor (batch, ...), or a pair of them, got {type(sample).__name__}")
    dtype = next((p.dtype for p in model.parameters()), sample.dtype)
    wider = isinstance(x, Tensor) and x.dtype == torch.float64 and dtype == torch.float32 and name != "float64"
    if wider and not bool((sample == sample.float().double()).all()):
        raise ValueError("x is of float64 and the model of float32, which cannot hold it: give x.float()")
    number = chosen(name, dtype, sample.device)
    return number, region(x, radius, norm, number)


def _rows(spec: Tensor | None, network: Network, inputs: Region) -> tuple[Tensor, tuple[int, ...]]:
    """Both signs of the combinations, (batch or 1, 2·rows, *output), and the shape of the answer."""
    output, number = network.output, inputs.arithmetic
    batch = len(inputs.centre)
    if spec is None:
        unit = torch.eye(output.size, dtype=number.dtype, device=inputs.centre.device)
        return torch.cat([unit, -unit]).view(1, -1, *output.shape), (batch, *output.shape)
    if not isinstance(spec, Tensor) or not spec.is_floating_point() or not bool(torch.isfinite(spec).all()):
        raise TypeError("spec must be a tensor of finite floating-point numbers")
    rows = spec.detach() if spec.dim() == 3 else spec.detach().unsqueeze(0)
    if rows.dim() != 3 or rows.shape[2] != output.size or rows.shape[0] not in (1, batch):
        raise ValueError(
            f"spec must be (rows, {output.size}) or ({batch}, rows, {output.size}) for this model and batch, got "
            f"{tuple(spec.shape)}"
        )
    exact = rows.to(number.dtype)
    if not bool((exact.double() == rows.double()).all()):
        raise ValueError(f"spec holds numbers that {number.dtype} cannot: use arithmetic='float64'")
    both = torch.cat([exact, -exact], 1)
    return both.view(*both.shape[:2], *output.shape), (batch, rows.shape[1])


def _found(
    network: Network, inputs: Region, method: Method, rows: Tensor, shape: tuple[int, ...], optimise: int
) -> Bounds:
    count = rows.shape[1]
    if method == "alpha-crown":
        least = optimised(network, inputs, rows, optimise)
    else:
        with torch.no_grad():
            least = Pass(network, inputs, method).least(network.output, rows, count)
    return Bounds(least[:, : count // 2].reshape(shape), -least[:, count // 2 :].reshape(shape))
