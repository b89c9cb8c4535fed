"""One trial: a model with one head, trained for every seed and learning rate at once.

A replica is one seed with one learning rate. All replicas of a trial are one set of batched matrix products; a seed's
initial weights and order of rows are the same in every setting, so settings are compared seed by seed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation.lookup import get
from varphi.heads.heads import ElementwiseHead, Head, head
from varphi.study import Outcome, Point, Setting
from varphi.study.optimisers import Adam

from .data import Part, split

# The heads under test, by the name of the level.
HEADS = {
    "relu": ("nonnegative", {}),
    "softplus": ("positive", {}),
    "softplus β=5": ("positive", {"beta": 5.0}),
    "squareplus": ("positive", {"activation": "squareplus"}),
    "exp": ("positive", {"activation": "exp"}),
    "identity": ("real", {}),
}
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
HIDDEN = {"linear": 0, "mlp32": 32}
# As in torch.nn.PoissonNLLLoss(log_input=False): what keeps log(0) finite while training. No measure has it.
_EPS = 1e-8
_CHECKPOINTS = 10


class Replicas:
    """Many copies of one small net, features → (tanh layer →) one pre-activation; all weights in one tensor.

    Rows run along the last dimension: the matrix products and kernels then work on long contiguous lines.

    Attributes:
        flat: every weight, (replicas, weights); the others are views of it.
    """

    def __init__(self, features: int, hidden: int, seeds: Sequence[int], copies: int) -> None:
        sizes = [(features, hidden), (hidden, 1)] if hidden else [(features, 1)]
        # torch.nn.Linear's own start: uniform in ±1/sqrt(inputs), drawn seed by seed.
        drawn = [_drawn(sizes, torch.Generator().manual_seed(seed)) for seed in seeds]
        self.flat = torch.stack(drawn).repeat(copies, 1)
        self.sizes = sizes
        self.tanh = get("tanh")

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights (replicas, out, in) and biases (replicas, out, 1) of each layer."""
        found, start = [], 0
        for n, m in self.sizes:
            weight, bias = self.flat[:, start : start + n * m], self.flat[:, start + n * m : start + (n + 1) * m]
            found.append((weight.reshape(-1, m, n), bias.reshape(-1, m, 1)))
            start += (n + 1) * m
        return found

    @property
    def bias(self) -> Float[Tensor, " replicas"]:
        """The bias before the head, of each replica."""
        return self.flat[:, -1]

    def double(self) -> Replicas:
        """The same nets in float64."""
        wide = copy.copy(self)
        wide.flat = self.flat.double()
        return wide

    def __call__(self, x: Float[Tensor, "features rows"] | Float[Tensor, "replicas features rows"]) -> Tensor:
        """Pre-activations of the head, (replicas, rows)."""
        h = x if x.dim() == 3 else x.expand(self.flat.shape[0], *x.shape)
        *inner, (weight, bias) = self.layers
        for w, b in inner:
            h = self.tanh(torch.baddbmm(b, w, h))
        return torch.baddbmm(bias, weight, h)[:, 0]


def _drawn(sizes: list[tuple[int, int]], generator: torch.Generator) -> Tensor:
    parts = [(2 * torch.rand((n + 1) * m, generator=generator) - 1) / math.sqrt(n) for n, m in sizes]
    return torch.cat(parts)


class _OutputLayer(nn.Module):
    """The replicas as one layer with an output each, which is how a head sees them."""

    def __init__(self, replicas: Replicas) -> None:
        super().__init__()
        self.replicas = replicas
        self.bias = replicas.bias

    def forward(self, x: Tensor) -> Float[Tensor, "rows replicas"]:
        return self.replicas(x).T


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], *, epochs: int, batch: int) -> Outcome:
    """Train and measure one setting; see `study.declaration.Trial`."""
    before = torch.get_num_threads()
    # Matrices this small gain little from a second thread, and lose much where another process has the core.
    torch.set_num_threads(1)
    try:
        return _trained(setting, seeds, [point["learning rate"] for point in points], epochs, batch)
    finally:
        torch.set_num_threads(before)


def _trained(setting: Setting, seeds: Sequence[int], learning_rates: list[float], epochs: int, batch: int) -> Outcome:
    data = split(setting["target"])
    kind, options = HEADS[setting["activation"]]
    close = head(kind, **options)
    assert isinstance(close, ElementwiseHead)
    table = data.fit.x.T.contiguous()
    model = Replicas(len(data.fit.x), HIDDEN[setting["net"]], seeds, len(learning_rates))
    started = _start(model, close, setting["start"], data.fit)
    rates = torch.tensor(learning_rates).repeat_interleave(len(seeds))
    loss = {"mse": squared_error, "poisson": poisson_nll}[setting["loss"]]
    curve = []
    marks = {round(epochs * (i + 1) / _CHECKPOINTS) for i in range(_CHECKPOINTS)}
    adam = Adam([model.flat], rates)
    (group,) = adam.param_groups
    steps = epochs * math.ceil(len(data.fit.y) / batch)
    for step, rows in enumerate(batches(len(data.fit.y), batch, seeds, epochs)):
        model.flat.requires_grad_(True)
        x, y = table[rows].mT.repeat(len(learning_rates), 1, 1), data.fit.y[rows].repeat(len(learning_rates), 1)
        each = loss(close.activation(model(x)), y).mean(dim=1)
        (model.flat.grad,) = torch.autograd.grad(each.sum(), model.flat)
        model.flat.requires_grad_(False)
        group["lr"] = 1 - step / steps
        adam.step()
        if (step + 1) * epochs % steps == 0 and (step + 1) * epochs // steps in marks:
            curve.append(_mean_loss(model, close, loss, data.validation))
    measures = _measured(model, close, loss, data.fit, data.validation, data.held_out) | {"dead_at_start": started}
    shape = (len(learning_rates), len(seeds))
    return Outcome(
        measures={name: np.asarray(v, float).reshape(shape) for name, v in measures.items()},
        curves={"validation_loss": np.stack(curve, axis=-1).reshape(*shape, len(curve))},
    )


def batches(rows: int, batch: int, seeds: Sequence[int], epochs: int) -> Iterator[Tensor]:
    """Indices of each step's rows, (seeds, batch): every seed its own order, the same in every setting."""
    generators = [torch.Generator().manual_seed(seed + 1_000_003) for seed in seeds]
    for _ in range(epochs):
        order = torch.stack([torch.randperm(rows, generator=g) for g in generators])
        yield from order.split(batch, dim=1)


def squared_error(mu: Tensor, y: Tensor) -> Tensor:
    """(μ - y)², elementwise."""
    return (mu - y).square()


def poisson_nll(mu: Tensor, y: Tensor) -> Tensor:
    """μ - y ln(μ + 1e-8), elementwise: the Poisson negative log-likelihood without its constant."""
    return mu - y * torch.log(mu + _EPS)


def _start(model: Replicas, close: Head, start: str, fit: Part) -> np.ndarray:
    """Set the bias before the head as the setting says; returns which replicas start dead."""
    layer = _OutputLayer(model)
    if start == "mean":
        close.init_bias_(layer.bias, fit.y.mean())
    else:
        layer.bias.fill_(float(start.split()[0]))
    if start.endswith("revived"):
        close.revive_(layer, fit.x)
    return close.report(layer(fit.x)).dead.numpy()


@torch.no_grad()
def _mean_loss(model: Replicas, close: ElementwiseHead, loss: Loss, part: Part) -> np.ndarray:
    return loss(close.activation(model(part.x)), part.y).double().mean(dim=1).numpy()


@torch.no_grad()
def _measured(
    model: Replicas, close: ElementwiseHead, loss: Loss, fit: Part, validation: Part, held_out: Part
) -> dict[str, np.ndarray]:
    mu = close.activation(model(held_out.x)).double().numpy()
    y = held_out.y.double().numpy()
    exact = close.activation(model.double()(held_out.x.double()))
    slopes = close.activation.derivatives(model(fit.x), 1)[1].abs()
    lowest = np.argsort(mu, axis=1, kind="stable")[:, : len(y) // 10]
    return {
        "validation_loss": _mean_loss(model, close, loss, validation),
        "deviance": np.array([poisson_deviance(y, row) for row in mu]),
        "rmse": np.sqrt(((mu - y) ** 2).mean(axis=1)),
        "zeros": (mu == 0).mean(axis=1),
        "zeros_in_float64": (exact == 0).double().mean(dim=1).numpy(),
        "negative": (mu < 0).mean(axis=1),
        "at_true_zeros": mu[:, y == 0].mean(axis=1),
        "bias_at_low_end": np.take_along_axis(mu - y, lowest, axis=1).mean(axis=1),
        "dead": (slopes == 0).all(dim=1).numpy(),
        "diverged": ~np.isfinite(mu).all(axis=1),
        "steepest": slopes.amax(dim=1).numpy(),
    }


def poisson_deviance(y: Float[np.ndarray, " rows"], mu: Float[np.ndarray, " rows"]) -> float:
    """Mean Poisson deviance, 2 (y ln(y/μ) - y + μ).

    Infinite, and left so, where an exact zero is predicted for a positive count or a negative number for any: such a
    prediction has no likelihood. NaN where a prediction is NaN.
    """
    if np.isnan(mu).any():
        return math.nan
    if bool(((mu < 0) | ((mu == 0) & (y > 0))).any()):
        return math.inf
    positive = y > 0
    logs = np.zeros_like(mu)
    logs[positive] = y[positive] * np.log(y[positive] / mu[positive])
    return float(2 * (logs - y + mu).mean())
