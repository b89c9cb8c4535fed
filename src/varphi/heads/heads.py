"""Heads: the last step of a model, which guarantees that its output obeys a constraint.

A head is an `nn.Module` without weights (unless its activation learns a parameter). It knows its range, its inverse,
and how to start or revive the layer before it. `head(kind, ...)` makes one; `kinds()` lists what there is.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike, as_activation

from .health import HeadReport
from .links import LINKS, Link


class Range(NamedTuple):
    """The ends of a range; whether they are reached is for the head's `constraint` to say."""

    lower: float
    upper: float


class Head(nn.Module, ABC):
    """From unconstrained pre-activations z to values y that obey a constraint.

    Attributes:
        kind: as in `head(kind)`.
        constraint: the set of allowed values, as `torch.distributions` describes it.
        bijective: whether `inverse` undoes it, so that it can be a `Transform`.
        bounds: the ends of the range of every single component, as the formula has them; `range` proves them.
    """

    kind: str
    constraint: constraints.Constraint
    bijective: bool
    bounds: Range

    @abstractmethod
    def forward(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]: ...

    @abstractmethod
    def inverse(self, y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The z with head(z) = y; where several have it, one with a useful slope.

        Raises:
            ValueError: for a y that is not in the range, naming value, range and remedy.
        """

    @abstractmethod
    def slopes(self, z: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs"]:
        """How strongly the output reacts to each pre-activation: |∂y/∂z_j|, a norm where y has many components."""

    @abstractmethod
    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        """ln |det ∂y/∂z|, accurate where the slope itself would underflow."""

    def healthy(self, z: Tensor) -> Tensor:
        """For each pre-activation, a value at which it has a slope."""
        return torch.zeros(z.shape[-1], dtype=z.dtype, device=z.device)

    def inputs(self, outputs: int) -> int:
        """How many pre-activations give `outputs` components (the order n of the matrix, where y is one)."""
        return outputs

    @torch.no_grad()
    def report(self, z: Float[Tensor, "*samples outputs"], threshold: float = 1e-3) -> HeadReport:
        """What the head does with pre-activations: exact zeros, dead outputs, saturation.

        Args:
            z: samples along the leading dimensions, outputs along the last; a vector is one output.
            threshold: a slope below this share of the activation's largest counts as saturated.
        """
        z = _samples(self.kind, z)
        y, slopes = self(z), self.slopes(z)
        return HeadReport(
            samples=z.shape[0],
            outputs=z.shape[1],
            exact_zeros=float((y == 0).double().mean()),
            dead=(slopes == 0).all(dim=0),
            saturated=float((slopes < threshold * self._largest_slope()).double().mean()),
            nonfinite=float((~y.isfinite()).double().mean()),
            threshold=threshold,
        )

    def _largest_slope(self) -> float | Tensor:
        return 1.0

    @torch.no_grad()
    def init_bias_(self, layer: nn.Module | Tensor, y_mean: float | Tensor) -> Tensor:
        """Set the bias of the layer before the head so that its output starts at the mean of the data.

        Args:
            layer: the layer (anything with a `bias`), or the bias itself.
            y_mean: the mean of the targets: a number, or one for each output.

        Returns:
            The bias, changed in place.

        Raises:
            ValueError: for a mean outside the range, a layer without bias, or sizes that do not fit.
        """
        bias = _bias(layer)
        target = torch.as_tensor(y_mean, dtype=bias.dtype, device=bias.device)
        start = self.inverse(target)
        try:
            return bias.copy_(start.expand_as(bias))
        except RuntimeError:
            raise ValueError(
                f"{self.kind} head: a mean of shape {tuple(target.shape)} needs {tuple(start.shape)} pre-activations, "
                f"but the bias has shape {tuple(bias.shape)}; give one mean for each output"
            ) from None

    @torch.no_grad()
    def revive_(self, layer: nn.Module, x: Float[Tensor, "*samples features"]) -> Bool[Tensor, " outputs"]:
        """Bring dead outputs back: shift their bias so that the median pre-activation has a slope again.

        Outputs that react to at least one sample stay as they are.

        Args:
            layer: the layer before the head.
            x: what that layer sees, for a representative batch.

        Returns:
            Which outputs were dead.

        Raises:
            ValueError: where the pre-activations are not finite, since no bias repairs NaN weights.
        """
        bias = _bias(layer)
        z = _samples(self.kind, layer(x))
        if not bool(z.isfinite().all()):
            raise ValueError(
                f"{self.kind} head: the layer's outputs are not finite, so a new bias cannot revive them; "
                "reset its weights (layer.reset_parameters()) or check the inputs for NaN"
            )
        dead = (self.slopes(z) == 0).all(dim=0)
        shifted = bias + self.healthy(z) - z.median(dim=0).values
        bias.copy_(torch.where(dead, shifted, bias))
        return dead

    def transform(self) -> Transform:
        """The head as a `torch.distributions.Transform`, for `TransformedDistribution`.

        Raises:
            TypeError: for a head that is not one-to-one.
        """
        from .transform import HeadTransform

        if not self.bijective:
            raise TypeError(
                f"a {self.kind} head is not one-to-one, so it has no density and no Transform; "
                f"one-to-one are: {', '.join(ONE_TO_ONE)}"
            )
        return HeadTransform(self)

    @property
    def range(self) -> Range:
        """The ends of the range of each component."""
        return self.bounds

    def _reject(self, y: Tensor, inside: Tensor, allowed: str, remedy: str) -> None:
        """An error that shows the first value of y outside the range, if there is one."""
        if bool(inside.all()):
            return
        value = y if y.dim() == 0 else y[~inside.expand_as(y)].reshape(-1)[0]
        raise ValueError(f"{self.kind} head: the target {float(value):g} is outside its range {allowed}; {remedy}")


class ElementwiseHead(Head):
    """shift + scale · f(z), each component by itself.

    The result is kept inside the open range in floating point too: where rounding would put a value on an end that the
    formula never reaches, it becomes the nearest float inside (0 becomes the smallest normal float), so that its
    logarithm stays finite. The gradient is that of the formula.
    """

    def __init__(
        self,
        kind: str,
        activation: ActivationLike,
        *,
        lower: float | None = None,
        upper: float | None = None,
        remedy: str,
        parameters: dict[str, Any],
        allowed: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.kind = kind
        self.activation: Activation = as_activation(activation, **parameters)
        self.link = _link(kind, self.activation, allowed)
        self.scale = 1.0
        if lower is not None and upper is not None:
            self.scale = (upper - lower) / (self.link.upper - self.link.lower)
        self.shift = 0.0 if lower is None else lower - self.scale * self.link.lower
        self.bounds = Range(
            self.shift + self.scale * self.link.lower if lower is None else lower,
            self.shift + self.scale * self.link.upper if upper is None else upper,
        )
        self.constraint = _constraint(*self.bounds, closed=self.link.closed)
        self.bijective = self.link.bijective
        self.remedy = remedy

    def forward(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        y = self.activation(z)
        if self.scale != 1.0:
            y = self.scale * y
        if self.shift != 0.0:
            y = self.shift + y
        return y if self.link.closed else _kept_inside(y, *self.bounds)

    def inverse(self, y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        y = _floating(self.kind, y)
        lower, upper = self.bounds
        inside = (y >= lower) & (y < upper) if self.link.closed else (y > lower) & (y < upper)
        opening = "[" if self.link.closed else "("
        self._reject(y, inside, f"{opening}{lower:g}, {upper:g})", self.remedy)
        if self.link.bounded:
            return self.link.inverse(y - lower, upper - y)
        return self.link.inverse((y - self.shift) / self.scale, **self._parameters_now())

    def slopes(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.scale * self.activation.derivatives(z, 1)[1].abs()

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        return math.log(abs(self.scale)) + self.link.log_slope(z, **self._parameters_now())

    def healthy(self, z: Tensor) -> Tensor:
        return torch.full((z.shape[-1],), self.link.healthy, dtype=z.dtype, device=z.device)

    @property
    def range(self) -> Range:
        """The ends of the range, from the proved range of the activation."""
        from varphi.facts.api import facts

        proved = facts(self.activation).range
        return Range(self.shift + self.scale * proved.lower, self.shift + self.scale * proved.upper)

    def _parameters_now(self) -> dict[str, Any]:
        """The activation's parameters as they are: tensors where they are learned."""
        activation = self.activation
        return {
            p.name: activation.current(p.name) if p.name in activation.learn else activation.values[p.name]
            for p in activation.definition.parameters
        }

    def _largest_slope(self) -> float:
        # Of the activations in LINKS only the logistic sigmoid has a largest slope other than 1; exp has none.
        return self.scale * (0.25 if self.activation.name == "sigmoid" else 1.0)

    def extra_repr(self) -> str:
        return f"{self.kind!r}, range ({self.bounds[0]:g}, {self.bounds[1]:g})"


def positive(activation: ActivationLike = "softplus", **parameters: Any) -> Head:
    """y > 0: softplus (default), squareplus or exp.

    Args:
        activation: "softplus" is linear for large z and nearly exp for small; "squareplus" has no exponential and heavy
            lower tail; "exp" is the log link of a GLM, and infinite in float32 from z = 88.8 on.
        parameters: of the activation, `beta=5.0`.
    """
    remedy = (
        "its mean must be > 0; for targets that are all 0 there is nothing to fit, for true zeros see 'nonnegative'"
    )
    return ElementwiseHead(
        "positive", activation, remedy=remedy, parameters=parameters, allowed=("softplus", "squareplus", "exp")
    )


def nonnegative() -> Head:
    """y >= 0 with exact zeros: ReLU. It can die; see `init_bias_`, `report` and `revive_`.

    Not to be confused with torch's `transform_to(constraints.nonnegative)`, which is exp: never 0, infinite at z = 89.
    """
    remedy = "a target below 0 needs 'lower_bounded' with its own lower end, or 'real'"
    return ElementwiseHead("nonnegative", "relu", remedy=remedy, parameters={}, allowed=("relu",))


def lower_bounded(lower: float, activation: ActivationLike = "softplus", **parameters: Any) -> Head:
    """y > lower: `positive`, shifted."""
    end = _finite("lower_bounded", "lower", lower)
    return ElementwiseHead(
        "lower_bounded",
        activation,
        lower=end,
        remedy="choose a smaller lower",
        parameters=parameters,
        allowed=("softplus", "squareplus", "exp"),
    )


def interval(lower: float = 0.0, upper: float = 1.0, activation: ActivationLike = "sigmoid") -> Head:
    """lower < y < upper: the logistic sigmoid (default) or tanh, scaled.

    Args:
        lower, upper: the ends, finite.
        activation: "sigmoid", or "tanh" (the same family, with pre-activations half as large).
    """
    low, high = _finite("interval", "lower", lower), _finite("interval", "upper", upper)
    if not low < high:
        raise ValueError(f"interval head: lower must be below upper, got lower={lower!r}, upper={upper!r}")
    return ElementwiseHead(
        "interval",
        activation,
        lower=low,
        upper=high,
        remedy="choose ends that enclose every target, with some room",
        parameters={},
        allowed=("sigmoid", "tanh"),
    )


def real() -> Head:
    """No constraint: the identity, so that code written for heads also takes the plain case."""
    return ElementwiseHead("real", "identity", remedy="targets must be finite", parameters={}, allowed=("identity",))


def head(kind: str, **options: Any) -> Head:
    """A head by its kind.

    Args:
        kind: "positive", "nonnegative", "lower_bounded", "interval", "simplex", "ordered", "unit_norm",
            "positive_definite" or "real".
        options: of that kind: `activation=` and its parameters, `lower=`, `upper=`.

    Raises:
        ValueError, TypeError: for an unknown kind or option, naming what there is.

    Example:
        >>> head = vp.head("positive", activation="softplus", beta=5.0)
        >>> head.init_bias_(model[-1], y_mean=y.mean())
    """
    makers = kinds()
    key = str(kind).strip().lower().replace("-", "_").replace(" ", "_")
    if key not in makers:
        close = difflib.get_close_matches(key, makers, n=2)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"there is no head {kind!r}.{hint} Kinds: {', '.join(makers)}")
    maker = makers[key]
    accepted = inspect.signature(maker).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    unknown = [] if takes_any else [name for name in options if name not in accepted]
    missing = [
        n for n, p in accepted.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD and n not in options
    ]
    if unknown or missing:
        takes = ", ".join(accepted) or "no options"
        wrong = f"has no option {unknown[0]!r}" if unknown else f"needs {missing[0]}="
        raise TypeError(f"a {key} head {wrong}; it takes {takes}")
    return maker(**options)


def kinds() -> dict[str, Callable[..., Head]]:
    """From the name of a kind to what makes it."""
    from . import vectors

    return {
        "positive": positive,
        "nonnegative": nonnegative,
        "lower_bounded": lower_bounded,
        "interval": interval,
        "simplex": vectors.simplex,
        "ordered": vectors.Ordered,
        "unit_norm": vectors.UnitNorm,
        "positive_definite": vectors.PositiveDefinite,
        "real": real,
    }


ONE_TO_ONE = (
    "positive",
    "lower_bounded",
    "interval",
    "simplex with via='stick_breaking'",
    "ordered",
    "positive_definite",
)


def _kept_inside(y: Tensor, lower: float, upper: float) -> Tensor:
    """y with values on (or beyond) an open end moved to the nearest float inside; the gradient passes unchanged."""
    if math.isfinite(lower):
        inside = _above(lower, y.dtype)
        y = torch.where(y < inside, y - y.detach() + inside, y)
    if math.isfinite(upper):
        inside = -_above(-upper, y.dtype)
        y = torch.where(y > inside, y - y.detach() + inside, y)
    return y


@functools.cache
def _above(end: float, dtype: torch.dtype) -> float:
    """The smallest normal number of this dtype above `end`."""
    if end == 0.0:
        return torch.finfo(dtype).tiny
    start = torch.tensor(end, dtype=dtype)
    step = torch.nextafter(start, torch.tensor(math.inf, dtype=dtype))
    # Rounded up to the dtype, the end itself may already lie inside.
    return float(start) if float(start) > end else float(step)


def _link(kind: str, activation: Activation, allowed: tuple[str, ...]) -> Link:
    names = (activation.definition.name, *activation.definition.aliases)
    found = next((name for name in names if name in allowed), None)
    if found is None:
        raise ValueError(f"a {kind} head can be built on {', '.join(allowed)}; got {activation.name!r}")
    return LINKS[found]


def _constraint(lower: float, upper: float, *, closed: bool) -> constraints.Constraint:
    if math.isfinite(lower) and math.isfinite(upper):
        return constraints.interval(lower, upper)
    if not math.isfinite(lower):
        return constraints.real
    return constraints.greater_than_eq(lower) if closed else constraints.greater_than(lower)


def _finite(kind: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{kind} head: {name} must be a finite number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{kind} head: {name} must be a finite number, got {value!r}")
    return number


def _floating(kind: str, y: Any) -> Tensor:
    y = torch.as_tensor(y)
    if y.is_complex():
        raise TypeError(f"{kind} head: targets are real numbers, got {y.dtype}")
    return y if y.is_floating_point() else y.to(torch.get_default_dtype())


def _samples(kind: str, z: Tensor) -> Tensor:
    """z as (samples, outputs)."""
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError(f"{kind} head: pre-activations are a floating-point tensor, got {getattr(z, 'dtype', type(z))}")
    if z.numel() == 0:
        raise ValueError(f"{kind} head: there are no pre-activations in a tensor of shape {tuple(z.shape)}")
    return z.reshape(-1, z.shape[-1]) if z.dim() > 1 else z.reshape(-1, 1)


def _bias(layer: nn.Module | Tensor) -> Tensor:
    bias = layer if isinstance(layer, Tensor) else getattr(layer, "bias", None)
    if not isinstance(bias, Tensor):
        raise ValueError(f"{type(layer).__name__} has no bias to set; build it with bias=True")
    return bias.detach() if isinstance(layer, Tensor) else bias
