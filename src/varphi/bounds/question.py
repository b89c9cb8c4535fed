"""What is bounded: a model's combinations of outputs over a set of inputs, read from what a user gave."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from .arithmetic import Arithmetic
from .arithmetic import arithmetic as chosen
from .crown import Network
from .region import Region, region

Sides: TypeAlias = Literal["both", "lower"]


class Bounds(NamedTuple):
    """lower <= output <= upper for every input of the set."""

    lower: Tensor
    upper: Tensor


def checked_sides(sides: Any) -> Sides:
    """Refuse other names."""
    if sides not in get_args(Sides):
        raise ValueError(f"sides is 'both' or 'lower', got {sides!r}")
    return sides


def inputs_of(model: nn.Module, x: Any, radius: Any, norm: Any, name: str | None) -> tuple[Arithmetic, Region]:
    """The arithmetic that was asked for, and the set of inputs in it."""
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


def rows_of(spec: Tensor | None, network: Network, inputs: Region) -> tuple[Tensor, tuple[int, ...]]:
    """The combinations, (batch or 1, rows, *output), and the shape of the answer."""
    output, number = network.output, inputs.arithmetic
    batch = len(inputs.centre)
    if spec is None:
        unit = torch.eye(output.size, dtype=number.dtype, device=inputs.centre.device)
        return unit.view(1, -1, *output.shape), (batch, *output.shape)
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
    return exact.view(*exact.shape[:2], *output.shape), (batch, rows.shape[1])
