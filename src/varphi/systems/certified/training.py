"""The networks of the study, trained for all seeds at once: plainly until they are as accurate as each other, or within
1-Lipschitz layers towards their certificate."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varphi.activation.lookup import get
from varphi.facts.api import facts
from varphi.study.replicas import replicate

from .data import CLASSES, SIDE, Split, split
from .layers import CertificateLoss, LipschitzConv2d, LipschitzLinear

MLP, CNN = "mlp 64-64", "cnn"
EQUAL_WEIGHTS, EQUAL_ACCURACY, CONSTRAINED = "equal weights", "equal accuracy", "1-Lipschitz"
RATE, BATCH = 2e-3, 100
# Training stops when so many of the validation images are right.
ACCURACY = 0.95
# Of the certificate that 1-Lipschitz networks are trained towards.
TARGET, TEMPERATURE = 0.5, 20.0
_LOOKS = 4  # an epoch


class Trained(NamedTuple):
    """Networks in eval mode, one for each seed.

    Attributes:
        models: input (batch, 64) for an MLP, (batch, 1, 8, 8) for a CNN.
        epochs: of training, for each.
        reached: whether each has the accuracy that it was to stop at.
    """

    models: list[nn.Module]
    epochs: list[float]
    reached: list[bool]


class Scaled(nn.Module):
    """f(x) / α, with α the proved sup|f'|: 1-Lipschitz."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.activation = get(name)
        self.share = 1.0 / facts(self.activation).lipschitz.upper

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x) * self.share


def network(net: str, activation: str, constrained: bool = False) -> nn.Sequential:
    """A new network, its weights drawn by torch's own rules."""
    linear, conv = (LipschitzLinear, LipschitzConv2d) if constrained else (nn.Linear, nn.Conv2d)

    def curve() -> nn.Module:
        return Scaled(activation) if constrained else get(activation)

    if net == MLP:
        return nn.Sequential(linear(SIDE**2, 64), curve(), linear(64, 64), curve(), linear(64, CLASSES))
    return nn.Sequential(
        conv(1, 4, 3, padding=1),
        curve(),
        conv(4, 8, 3, stride=2, padding=1),
        curve(),
        nn.Flatten(),
        linear(8 * (SIDE // 2) ** 2, CLASSES),
    )


def shaped(net: str, x: Tensor) -> Tensor:
    """Images as a network takes them."""
    return x if net == MLP else x.unflatten(-1, (1, SIDE, SIDE))


def trained(net: str, activation: str, training: str, seeds: tuple[int, ...], epochs: int) -> Trained:
    """The networks of one setting.

    Args:
        training: "equal weights": those that ReLU was trained with, under another activation; "equal accuracy": trained
            until `ACCURACY` of the validation images are right; "1-Lipschitz": of 1-Lipschitz layers, for all epochs.
        epochs: at most.
    """
    if training == EQUAL_WEIGHTS:
        source = _plainly(net, "relu", seeds, epochs)
        return source._replace(models=[_with_weights(network(net, activation), m) for m in source.models])
    if training == EQUAL_ACCURACY:
        return _plainly(net, activation, seeds, epochs)
    return _constrained(net, activation, seeds, epochs)


def _with_weights(model: nn.Module, source: nn.Module) -> nn.Module:
    model.load_state_dict(source.state_dict())
    return model.eval()


@functools.lru_cache(maxsize=4)
def _plainly(net: str, activation: str, seeds: tuple[int, ...], epochs: int) -> Trained:
    replicas = replicate(lambda: network(net, activation), seeds=seeds)
    data = split(seeds)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.mT, y, reduction="none").mean(1).sum()

    models: list[nn.Module | None] = [None] * len(seeds)
    when = [float(epochs)] * len(seeds)
    for epoch in _steps(replicas, net, data, seeds, epochs, loss):
        accuracy = _accuracy(replicas, net, data)
        for i in (accuracy >= ACCURACY).nonzero().flatten().tolist():
            if models[i] is None:
                models[i], when[i] = copy.deepcopy(replicas.module(i)), epoch
        if all(m is not None for m in models):
            break
    found = [replicas.module(i) if m is None else m for i, m in enumerate(models)]
    return Trained([m.eval() for m in found], when, [m is not None for m in models])


def _constrained(net: str, activation: str, seeds: tuple[int, ...], epochs: int) -> Trained:
    with warnings.catch_warnings():
        # Layers of one's own run under vmap, which is what is wanted here.
        warnings.simplefilter("ignore")
        replicas = replicate(lambda: network(net, activation, constrained=True), seeds=seeds)
    data, certificate = split(seeds), CertificateLoss(TARGET, TEMPERATURE)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return certificate(out.flatten(0, 1), y.flatten()) * len(out)

    for _ in _steps(replicas, net, data, seeds, epochs, loss):
        pass
    reached = (_accuracy(replicas, net, data) >= ACCURACY).tolist()
    return Trained([replicas.module(i).eval() for i in range(len(seeds))], [float(epochs)] * len(seeds), reached)


def _steps(
    replicas: nn.Module,
    net: str,
    data: Split,
    seeds: tuple[int, ...],
    epochs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[float]:
    """Train; stops to be looked at some times in each epoch, yielding how many have passed."""
    optimiser = torch.optim.Adam(replicas.parameters(), RATE)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    count = data.fit.x.shape[1] // BATCH
    looks = {round(count * (i + 1) / _LOOKS) for i in range(_LOOKS)}
    for epoch in range(epochs):
        order = torch.stack([torch.randperm(data.fit.x.shape[1], generator=g) for g in generators])
        for step in range(count):
            rows = order[:, step * BATCH : (step + 1) * BATCH]
            x = shaped(net, data.fit.x.gather(1, rows.unsqueeze(-1).expand(-1, -1, SIDE**2)))
            optimiser.zero_grad()
            loss(replicas(x, each=True), data.fit.y.gather(1, rows)).backward()
            optimiser.step()
            if step + 1 in looks:
                yield epoch + (step + 1) / count


@torch.no_grad()
def _accuracy(replicas: nn.Module, net: str, data: Split) -> Tensor:
    out = replicas(shaped(net, data.validation.x), each=True)
    return (out.argmax(-1) == data.validation.y).float().mean(1)
