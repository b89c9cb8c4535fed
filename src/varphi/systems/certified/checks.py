"""What is refused before work begins, in words."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

NORMS = (1.0, 2.0, math.inf)
_FORMATS = (torch.float32, torch.float64)


class SoundnessError(RuntimeError):
    """What is proved contradicts what was seen: a bug in varphi, never an answer. Please report it with the model."""


def check_norm(norm: Any) -> None:
    """Raises ValueError unless 1, 2 or inf."""
    if isinstance(norm, bool) or norm not in NORMS:
        raise ValueError(f"norm is 1, 2 or inf (math.inf), got {norm!r}")


def check_model(model: Any) -> None:
    """Raises TypeError or ValueError for what is no model in eval mode of float32 or float64."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"a certificate is of a torch.nn.Module, got {type(model).__name__}")
    named = [*model.named_parameters(), *model.named_buffers()]
    for name, value in named:
        if value.is_complex() or (value.is_floating_point() and value.dtype not in _FORMATS):
            raise ValueError(f"{name} is of {value.dtype}; a certificate needs float32 or float64: use model.float()")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds NaN or ±inf: such a model has no certificate")
    leaves = [(path, m) for path, m in model.named_modules() if not list(m.children())]
    training = next((path or type(m).__name__ for path, m in leaves if m.training), None)
    if training is not None:
        raise ValueError(
            f"a certificate is of a fixed function: call model.eval() first ({training} is in training mode; dropout "
            "and batch normalisation would answer otherwise there)"
        )


def sample_of(model: nn.Module, sample: Tensor | None) -> Tensor:
    """One input for the shapes, (1, ...): the given one, or zeros as wide as the Linear that a model begins with."""
    if sample is not None:
        if not isinstance(sample, Tensor) or not sample.is_floating_point():
            raise TypeError("sample must be a floating-point tensor, (1, ...) or (...)")
        return (sample if sample.dim() > 1 else sample.unsqueeze(0))[:1]
    first = next((m for m in model.modules() if not list(m.children())), None)
    width = getattr(first, "in_features", None)
    if width is None:
        raise ValueError("the model does not begin with a Linear: give sample=, one input, for the shape")
    return torch.zeros(1, width)


def check_inputs(model: nn.Module, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """(x, logits) of a classifier's batch.

    Raises:
        TypeError, ValueError: naming the input, the reason and the remedy.
    """
    if not isinstance(x, Tensor) or x.dtype not in _FORMATS:
        told = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a tensor (batch, ...) of float32 or float64, got {told}")
    if x.dim() < 2 or not x.numel():
        raise ValueError(f"x needs a batch dimension first and at least one sample, got shape {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"x holds NaN or ±inf, first in sample {_first(~torch.isfinite(x))}")
    own = next((p.dtype for p in model.parameters()), x.dtype)
    if own != x.dtype:
        raise ValueError(f"x is of {x.dtype} and the model of {own}: give x.to({own})")
    with torch.no_grad():
        logits = model(x.clone())  # a layer may overwrite its input, and this is the caller's
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        told = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"a certified radius is of a classifier with outputs (batch, classes), at least two; this model gives "
            "{told} "
            f"for {len(x)} samples"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(f"the model gives NaN or ±inf for sample {_first(~torch.isfinite(logits))}")
    check_labels(y, len(x), logits.shape[1])
    return x.detach(), logits


def check_labels(y: Any, batch: int, classes: int) -> None:
    """Raises TypeError or ValueError for labels that are no classes of the model, one for each sample."""
    if y is None:
        return
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        told = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y must be a tensor of whole numbers, the classes, got {told}")
    if y.shape != (batch,):
        raise ValueError(f"y must hold one class for each of {batch} samples, got shape {tuple(y.shape)}")
    wrong = (y < 0) | (y >= classes)
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise ValueError(f"y holds class {int(y[i])} (sample {i}); the model's classes are 0 to {classes - 1}")


def check_clip(clip: Any, x: Tensor) -> tuple[float, float] | None:
    """The clip as two numbers; raises where it is none, or x leaves it."""
    if clip is None:
        return None
    try:
        low, high = (float(v) for v in clip)
    except (TypeError, ValueError) as error:
        raise TypeError(f"clip is a pair of numbers (lowest, highest), got {clip!r}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"clip must be finite with lowest < highest, got ({low:g}, {high:g})")
    outside = ((x < low) | (x > high)).flatten(1).any(1)
    if bool(outside.any()):
        raise ValueError(f"sample {int(outside.nonzero()[0])} of x lies outside clip ({low:g}, {high:g})")
    return low, high


def _first(wrong: Tensor) -> int:
    return int(wrong.flatten(1).any(1).nonzero()[0])
