"""How heavy the tails of a model's gradient are, sample by sample, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn

from varphi.activation.lookup import as_activation
from varphi.facts.api import facts

from .heads import BoundedHead

Pairs = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
# A slope below this share of the largest counts as saturated.
SATURATED = 0.1
_FEWEST = 50


@dataclass(frozen=True)
class TailIndex:
    """Hill's estimate of the α in P(|g| > t) ~ t^(-α): moments of order α and above are infinite.

    Attributes:
        index: the estimate; inf where the largest values are all equal.
        low, high: its 95 % interval for exact Pareto tails beyond the threshold (the choice of k and a tail that only
            approaches a power law are not in it).
        k: how many of the largest values it rests on.
        samples: of how many.
    """

    index: float
    low: float
    high: float
    k: int
    samples: int

    def __str__(self) -> str:
        return f"{self.index:.2f} [{self.low:.2f}, {self.high:.2f}] (k = {self.k} of {self.samples})"


def tail_index(sizes: Float[np.ndarray, " n"], k: int | None = None) -> TailIndex:
    """Hill's estimator (Annals of Statistics 3, 1975) of the tail of positive numbers.

    Args:
        sizes: at least 50 of them; zeros are allowed.
        k: how many of the largest to use; if not given, the k between 10 and a tenth of the positive ones whose fitted
            Pareto tail lies nearest to the empirical one in Kolmogorov-Smirnov distance (Clauset, Shalizi & Newman,
            SIAM Review 51, 2009). A tail that only approaches a power law comes out too heavy: Student's t
            with 3 degrees of freedom at 2.6 from 512 samples, Cauchy at 1.05.

    Raises:
        ValueError: for too few numbers, negative or non-finite ones, or a k out of range.
    """
    ordered = np.sort(np.asarray(sizes, float))[::-1]
    if ordered.ndim != 1 or len(ordered) < _FEWEST or not np.isfinite(ordered).all() or ordered[-1] < 0:
        raise ValueError(f"a tail index needs at least {_FEWEST} finite numbers >= 0, got shape {ordered.shape}")
    positive = ordered[ordered > 0]
    if len(positive) < 30:
        raise ValueError(f"only {len(positive)} of {len(ordered)} values are above 0: there is no tail to estimate")
    if k is not None and not 2 <= k < len(positive):
        raise ValueError(f"k must lie between 2 and {len(positive) - 1}, got {k}")
    logs = np.log(positive)
    spacings = np.cumsum(logs[:-1]) / np.arange(1, len(logs)) - logs[1:]
    chosen = k or _nearest_pareto(logs, spacings)
    mean = float(spacings[chosen - 1])
    if mean <= 0:
        return TailIndex(math.inf, math.inf, math.inf, chosen, len(ordered))
    # k · α/α̂ is gamma(k) distributed for Pareto tails.
    low, high = stats.gamma.ppf([0.025, 0.975], chosen) / chosen / mean
    return TailIndex(1 / mean, float(low), float(high), chosen, len(ordered))


def _nearest_pareto(logs: np.ndarray, spacings: np.ndarray) -> int:
    ks = np.arange(10, max(11, len(logs) // 10))
    distances = [_distance(logs[:k] - logs[k], spacings[k - 1]) for k in ks]
    return int(ks[int(np.argmin(distances))])


def _distance(excess: np.ndarray, mean: float) -> float:
    """Between the empirical and the fitted share beyond each of the k largest values."""
    if mean <= 0:
        return math.inf
    k = len(excess)
    fitted, steps = np.exp(-excess / mean), np.arange(k + 1) / k
    return float(max(np.abs(fitted - steps[1:]).max(), np.abs(fitted - steps[:-1]).max()))


def top_share(sizes: Float[np.ndarray, "... n"], part: float = 0.01) -> Float[np.ndarray, "..."]:
    """The share of the sum that the largest values have together; their number is rounded up."""
    count = math.ceil(part * np.shape(sizes)[-1])
    ordered = np.sort(np.asarray(sizes, float), axis=-1)
    with np.errstate(invalid="ignore"):
        return ordered[..., -count:].sum(-1) / ordered.sum(-1)


@dataclass(frozen=True)
class GradientTails:
    """What `gradient_tails` found.

    Attributes:
        sizes: for each sample, the norm of its own gradient.
        of: with respect to what.
        tail: the tail index of the sizes; None where too few samples have a gradient.
        top_share: the share of the sizes' sum that the largest 1 % of samples carry (an equal share would be 1 %).
        saturated: from the name of a bounded activation to the share of its values where the slope is below a tenth of
            the largest.
        advice: in plain words.
    """

    sizes: Float[np.ndarray, " samples"] = field(repr=False)
    of: str
    tail: TailIndex | None
    top_share: float
    saturated: dict[str, float]

    @property
    def advice(self) -> str:
        return " ".join(text for holds, text in _ADVICE if holds(self)) or _CALM

    def __str__(self) -> str:
        saturated = ", ".join(f"{name} {share:.1%}" for name, share in self.saturated.items()) or "no such layer"
        index = str(self.tail) if self.tail else "not to be told from so few samples with a gradient"
        return (
            f"gradient of each of {len(self.sizes)} samples with respect to {self.of}: tail index {index}; the largest "
            f"1 % carry {self.top_share:.1%}; saturated: {saturated}. {self.advice}"
        )

    def plot(self, axes: Any = None) -> Any:
        """Draw the Hill plot: the index against k, with its interval and the chosen k; returns matplotlib's axes."""
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(figsize=(5.0, 3.2), layout="constrained").subplots()
        most = int((self.sizes > 0).sum()) // 2
        found = [tail_index(self.sizes, k) for k in range(5, most)]
        ks = [t.k for t in found]
        axes.plot(ks, [t.index for t in found])
        axes.fill_between(ks, [t.low for t in found], [t.high for t in found], alpha=0.2)
        if self.tail:
            axes.axvline(self.tail.k, linestyle="--", linewidth=0.8, color="0.5")
        axes.axhline(2, linewidth=0.8, color="0.5")
        axes.set_xlabel("k largest gradients")
        axes.set_ylabel("tail index")
        return axes


_CALM = "Every sample has its fair say; nothing to change for the gradient's sake."
_ADVICE: tuple[tuple[Callable[[GradientTails], bool], str], ...] = (
    (
        lambda g: g.tail is not None and g.tail.high < 2 and g.top_share > 0.05,
        "The gradient's variance is infinite: a few samples decide every step, and more data will not average them "
        "out. Use a loss with bounded influence (CauchyNLL, AutoHuber): a bounded output activation is no substitute.",
    ),
    (
        lambda g: g.top_share > 0.1 and not (g.tail is not None and g.tail.high < 2),
        "A few samples carry much of the gradient: look at them before training on, or use AutoHuber.",
    ),
    (
        lambda g: any(share > 0.5 for share in g.saturated.values()),
        "More than half of a layer is saturated and learns slowly: check the scale of its inputs, or widen the "
        "range of a bounded head.",
    ),
)


def gradient_tails(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: Pairs,
    *,
    of: Literal["parameters", "output"] = "parameters",
    chunk: int = 256,
) -> GradientTails:
    """How a model's gradient is spread over the samples.

    Model and loss are put into `eval()` meanwhile: dropout is off, an automatic scale stays what it was.

    Args:
        model: any module that takes a batch of inputs, samples first.
        loss: of (prediction, target), as in training.
        data: (x, y) with samples first, or an iterable of such pairs (a DataLoader).
        of: the gradient with respect to the "parameters" (its norm over all), or to the model's "output".
        chunk: how many samples at a time; memory is this many times the number of parameters.

    Raises:
        ValueError: for fewer than 50 samples, inputs and targets that do not match, or a gradient that is not finite.
    """
    if of not in ("parameters", "output"):
        raise ValueError(f"of is 'parameters' or 'output', got {of!r}")
    pairs = cast("list[tuple[Tensor, Tensor]]", [data] if isinstance(data, tuple) else list(data))
    modules = [m for m in (model, loss) if isinstance(m, nn.Module)]
    modes = [m.training for m in modules]
    for module in modules:
        module.eval()
    try:
        each = _by_parameters(model, loss) if of == "parameters" else _by_output(model, loss)
        parts = [_sizes(each, x, y, chunk) for x, y in pairs]
        saturated = _saturated(model, torch.cat([x for x, _ in pairs]))
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
    sizes = np.concatenate(parts)
    if len(sizes) < _FEWEST:
        raise ValueError(f"{len(sizes)} samples say nothing of a tail; give at least {_FEWEST}")
    if not np.isfinite(sizes).all():
        bad = int(np.flatnonzero(~np.isfinite(sizes))[0])
        raise ValueError(f"the gradient of sample {bad} is not finite: check its input, its target and the weights")
    tail = tail_index(sizes) if (sizes > 0).sum() >= _FEWEST else None
    share = float(top_share(sizes)) if sizes.any() else 0.0
    return GradientTails(sizes, of, tail, share, saturated)


def _sizes(each: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, chunk: int) -> np.ndarray:
    if len(x) != len(y):
        raise ValueError(f"{len(x)} inputs do not match {len(y)} targets")
    parts = [each(a, b) for a, b in zip(x.split(chunk), y.split(chunk), strict=True)]
    return torch.cat(parts).detach().double().cpu().numpy()


def _by_parameters(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not weights:
        raise ValueError("the model has no parameter that requires a gradient; use of='output'")

    def one(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return _scalar(loss(torch.func.functional_call(model, weights, (x[None],)), y[None]))

    def norms(x: Tensor, y: Tensor) -> Tensor:
        slopes = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(weights, x, y)
        return torch.stack([g.flatten(1).double().norm(dim=1) for g in slopes.values()]).norm(dim=0)

    return norms


def _by_output(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def norms(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = model(x)
        one = torch.func.grad(lambda output, target: _scalar(loss(output[None], target[None])))
        return torch.func.vmap(one)(outputs, y).flatten(1).double().norm(dim=1)

    return norms


def _scalar(value: Tensor) -> Tensor:
    return value.sum()


@torch.no_grad()
def _saturated(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Of every bounded activation: how many of its values have less than a tenth of its largest slope."""
    seen: dict[str, Tensor] = {}
    slopes = {name: _slopes_of(module) for name, module in model.named_modules()}
    inside_heads = {f"{name}.activation".lstrip(".") for name, m in model.named_modules() if isinstance(m, BoundedHead)}
    hooks = [
        module.register_forward_hook(lambda _m, inputs, _o, name=name: seen.update({name: inputs[0]}))
        for name, module in model.named_modules()
        if slopes[name] is not None and name not in inside_heads
    ]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name or type(model).__name__: float((slope(seen[name]) < SATURATED).double().mean())
        for name, slope in slopes.items()
        if slope is not None and name in seen
    }


def _slopes_of(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """|f'| as a share of its supremum, for a module that is a bounded elementwise activation; else None."""
    if isinstance(module, BoundedHead):
        return module.saturation
    if any(True for _ in module.children()):
        return None
    try:
        activation = as_activation(module)
    except (TypeError, ValueError):
        return None
    proved = facts(activation)
    if not math.isfinite(proved.range.width):
        return None
    steepest = proved.lipschitz.upper
    return lambda z: activation.derivatives(z, 1)[1].abs() / steepest
