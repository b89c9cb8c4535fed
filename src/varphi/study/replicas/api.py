"""From a model to its replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from varphi.activation.lookup import ActivationLike

    from .module import Replicas


def replicate(
    module: nn.Module | Callable[[], nn.Module],
    seeds: int | Iterable[int] = 32,
    activations: Iterable[ActivationLike] | None = None,
    *,
    instead_of: ActivationLike | None = None,
) -> Replicas:
    """Many independent replicas of a model as one module, which trains them at once.

    A replica computes and learns what the model would alone, to rounding. Known layers become batched matrix products,
    grouped convolutions and varphi's own f and f'; a model with anything else runs under `torch.func.vmap`, with a
    warning that names what it was (`Replicas.how`).

    Args:
        module: a function that builds the model (its class, for example), or a model, which is left as it is. The
            weights of a replica are those of the model when it is built under `torch.manual_seed(seed)`. A given model
            is not built again: the `reset_parameters` of its layers are called in the order of `module.modules()`. Give
            the function where the order is another one or the model's `__init__` sets weights itself.
        seeds: their number, for 0, 1, 2, ..., or the seeds.
        activations: what to train each seed with: names, formulas, callables or modules. Replicas are then sorted by
            activation, and a seed's weights are the same under each.
        instead_of: the activation of the model that these replace; needed where it has more than one.

    Returns:
        A module with stacked parameters (replicas, ...). `replicas(x)` gives every replica the same (batch, ...),
        `replicas(x, each=True)` its own, (replicas, batch, ...); the result is (replicas, batch, ...). Train on the sum
        of the replicas' losses, not their mean.

    Raises:
        TypeError, ValueError: for a model whose weights cannot be drawn anew, no seeds or two that are equal, an
            activation with parameters to learn, or a model in which it is not clear what the activations replace.

    Example:
        >>> replicas = replicate(lambda: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), seeds=16)
        >>> optimiser = torch.optim.Adam(replicas.parameters())
        >>> ((replicas(x) - y) ** 2).mean(dim=(1, 2)).sum().backward()
        >>> best = replicas.module(3)  # an ordinary nn.Sequential
    """
    from .building import built

    return built(module, seeds, activations, instead_of)
