"""One trial: a small net with one head and one loss, trained for every seed and learning rate at once.

A replica is one seed with one learning rate. All replicas of a trial are one set of batched matrix products; a seed's
data, initial weights and order of rows are the same in every setting, so settings are compared seed by seed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation.lookup import get
from varphi.study.optimisers import SGD, Adam, PerReplica

from .heads import BoundedHead
from .losses import AutoHuber, AutoTukey, CauchyNLL, StudentTNLL

HEADS: dict[str, str | tuple[float, float] | None] = {
    "identity": None,
    "tanh": (-1.0, 1.0),
    "median±3 MADN": "median±3 MADN",
}
LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "squared": lambda replicas: nn.MSELoss(reduction="none"),
    "absolute": lambda replicas: nn.L1Loss(reduction="none"),
    "Huber": lambda replicas: AutoHuber(reduction="none", replicas=replicas),
    "Tukey": lambda replicas: AutoTukey(reduction="none", replicas=replicas),
    "Cauchy": lambda replicas: CauchyNLL(reduction="none", replicas=replicas),
    "t3": lambda replicas: StudentTNLL(3.0, reduction="none", replicas=replicas),
}
WIDTHS = (32, 32)


class Replicas:
    """Many copies of one net, features → hidden layers → one pre-activation; rows run along the last dimension.

    Attributes:
        flat: every weight, (replicas, weights).
    """

    def __init__(
        self, features: int, seeds: Sequence[int], copies: int, widths: Sequence[int] = WIDTHS, hidden: str = "tanh"
    ) -> None:
        ends = (features, *widths, 1)
        self.sizes = list(itertools.pairwise(ends))
        # torch.nn.Linear's own start: uniform in ±1/sqrt(inputs), drawn seed by seed.
        drawn = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            parts = [(2 * torch.rand((n + 1) * m, generator=generator) - 1) / math.sqrt(n) for n, m in self.sizes]
            drawn.append(torch.cat(parts))
        self.flat = torch.stack(drawn).repeat(copies, 1)
        self.activation = get(hidden)

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights (replicas, out, in) and biases (replicas, out, 1) of each layer."""
        found, start = [], 0
        for n, m in self.sizes:
            end = start + (n + 1) * m
            weight, bias = self.flat[:, start : start + n * m], self.flat[:, start + n * m : end]
            found.append((weight.reshape(-1, m, n), bias.reshape(-1, m, 1)))
            start = end
        return found

    def __call__(self, x: Float[Tensor, "replicas features rows"]) -> Float[Tensor, "replicas rows"]:
        h = x
        *inner, (weight, bias) = self.layers
        for w, b in inner:
            h = self.activation(torch.baddbmm(b, w, h))
        return torch.baddbmm(bias, weight, h)[:, 0]


@dataclass(frozen=True)
class Method:
    """An optimiser, and how many rows it sees in a step (None: all of them)."""

    optimiser: Callable[[Sequence[Tensor], Tensor], PerReplica]
    batch: int | None = None


_momentum = functools.partial(SGD, momentum=0.9)
METHODS = {"Adam": Method(Adam), "SGD": Method(_momentum), "SGD, batches of 32": Method(_momentum, 32)}


@dataclass
class Fit:
    """Trained replicas.

    Attributes:
        predict: from inputs (replicas, features, rows) to predictions (replicas, rows).
        net, head, loss: its parts; the head is None for the identity.
        checkpoints: what `watch` returned, in order.
    """

    net: Replicas
    head: BoundedHead | None
    loss: nn.Module
    checkpoints: list[Tensor] = field(default_factory=list)

    def predict(self, x: Tensor) -> Tensor:
        return self.close(self.net(x))

    def close(self, z: Tensor) -> Tensor:
        return z if self.head is None else self.head(z)


def trained(
    x: Float[Tensor, "seeds features rows"],
    y: Float[Tensor, "seeds rows"],
    seeds: Sequence[int],
    rates: Sequence[float],
    *,
    head: str,
    loss: str,
    method: str,
    steps: int,
    watch: Callable[[Fit], Tensor] | None = None,
    every: int = 20,
    widths: Sequence[int] = WIDTHS,
    hidden: str = "tanh",
) -> Fit:
    """Train every seed with every learning rate; replicas are ordered rate by rate, seed by seed.

    The rate falls from its value to 0 along half a cosine (Loshchilov & Hutter, arXiv 1608.03983): the last steps then
    average over the noise of the first. A method with small batches takes `steps` of them too.
    """
    replicas = len(rates) * len(seeds)
    x, y = x.repeat(len(rates), 1, 1), y.repeat(len(rates), 1)
    net = Replicas(x.shape[1], seeds, len(rates), widths, hidden)
    fit = Fit(net, _head(head, y), LOSSES[loss](replicas))
    if isinstance(fit.loss, (CauchyNLL, StudentTNLL)):
        fit.loss.calibrate_(y)
    weights = [net.flat, *fit.loss.parameters()]
    chosen = METHODS[method]
    optimiser = chosen.optimiser(weights, torch.tensor(rates, dtype=y.dtype).repeat_interleave(len(seeds)))
    (group,) = optimiser.param_groups
    order = None if chosen.batch is None else _batches(x.shape[-1], chosen.batch, seeds)
    for step in range(steps):
        a, b = (x, y) if order is None else _taken(x, y, next(order).repeat(len(rates), 1))
        net.flat.requires_grad_(True)
        total = fit.loss(fit.predict(a), b).mean(dim=1).sum()
        for weight, gradient in zip(weights, torch.autograd.grad(total, weights), strict=True):
            weight.grad = gradient
        net.flat.requires_grad_(False)
        group["lr"] = 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.step()
        if watch is not None and (step + 1) % every == 0:
            fit.checkpoints.append(watch(fit))
    fit.loss.eval()
    return fit


def _head(name: str, y: Tensor) -> BoundedHead | None:
    given = HEADS[name]
    if given is None:
        return None
    head = BoundedHead(given)
    return head.calibrate_(y, dim=-1) if isinstance(given, str) else head


def _batches(rows: int, batch: int, seeds: Sequence[int]) -> Iterator[Tensor]:
    """Indices of each step's rows, (seeds, batch): every seed its own order, the same in every setting."""
    generators = [torch.Generator().manual_seed(seed + 1_000_003) for seed in seeds]
    while True:
        order = torch.stack([torch.randperm(rows, generator=g) for g in generators])
        yield from order[:, : rows - rows % batch].split(batch, dim=1)


def _taken(x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    return x.gather(2, rows[:, None].expand(-1, x.shape[1], -1)), y.gather(1, rows)


def output_gradients(fit: Fit, x: Tensor, y: Tensor) -> Float[Tensor, "replicas rows"]:
    """For each sample, the derivative of its own loss with respect to its pre-activation."""
    with torch.no_grad():
        z = fit.net(x)
    z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(fit.loss(fit.close(z), y).sum(), z)
    return gradient
