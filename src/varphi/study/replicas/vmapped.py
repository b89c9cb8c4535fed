"""Replicas of a model that is not made of known layers: `torch.func.vmap` over its stacked parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm


class Vmapped:
    """The models of all replicas, one call of vmap for each that differs in more than its tensors.

    Args:
        models: one for each group of replicas; all groups are of one size.
        replicas: how many there are together.

    Raises:
        ValueError: for a batch normalisation with running statistics, which vmap cannot update.
    """

    def __init__(self, models: Sequence[nn.Module], replicas: int) -> None:
        self.models, self.size = tuple(models), replicas // len(models)
        for path, module in models[0].named_modules():
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                raise ValueError(
                    f"{path} ({type(module).__name__}) keeps running statistics, which cannot be updated under "
                    "torch.func.vmap; use track_running_stats=False, or LayerNorm or GroupNorm"
                )

    def __call__(self, tensors: Mapping[str, Tensor], inputs: Sequence[Tensor], each: bool, modes: nn.Module) -> Tensor:
        """The output, from the stacked tensors by name and inputs that all replicas share, or their own.

        The parts of `modes` say which parts of the model are in training mode.
        """
        if not tensors and not each:  # nothing else would tell vmap how many replicas there are
            inputs, each = [x.expand(self.size * len(self.models), *x.shape) for x in inputs], True
        parts = []
        for i, model in enumerate(self.models):
            copy_modes(modes, model)
            here = slice(i * self.size, (i + 1) * self.size)
            own = {name: t[here] for name, t in tensors.items()}
            args = tuple(x[here] for x in inputs) if each else tuple(inputs)
            run = vmap(_caller(model), in_dims=(0, 0 if each else None), randomness="different")
            parts.append(run(own, args))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _caller(model: nn.Module) -> Callable[[dict[str, Tensor], tuple[Tensor, ...]], Tensor]:
    return lambda tensors, args: functional_call(model, tensors, args)


def copy_modes(source: nn.Module, target: nn.Module) -> None:
    """Put each part of one model into the mode of the same part of another."""
    for path, module in source.named_modules():
        target.get_submodule(path).training = module.training
