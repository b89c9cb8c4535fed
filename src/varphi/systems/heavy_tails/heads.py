"""A head with a bounded range that the data decide."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from varphi.activation.lookup import ActivationLike, as_activation
from varphi.facts.api import facts
from varphi.heads.heads import Head, Range
from varphi.heads.links import LINKS

from .losses import MADN

_RULE = re.compile(r"\s*median\s*(?:±|\+-|\+/-)\s*(?P<times>\d+(?:\.\d*)?|\.\d+)\s*\*?\s*MADN\s*", re.IGNORECASE)
# Where an inverse is looked for: dense near 0, out to where every bounded activation of the catalogue is flat.
_PLACES = np.concatenate([-np.geomspace(1e12, 1e-3, 600), [0.0], np.geomspace(1e-3, 1e12, 600)])


class BoundedHead(Head):
    """lower + (upper - lower) · (f(z) - inf f)/(sup f - inf f), for a bounded activation f.

    The ends of f's range are proved by `vp.facts`, so that the map onto (lower, upper) is the exact one for any
    bounded activation, and they are carried by the state dict. Rounding may put a value on an end, never beyond.

    Args:
        range: (lower, upper), numbers or tensors that broadcast against the output; or "median±3 MADN" (any number for
            3): then `calibrate_(y)` has to be called before the head is used.
        activation: a name, formula, activation, torch callable or module with a bounded range.

    Raises:
        ValueError: for an unbounded activation, naming its range; for one with learned parameters; for a range that
            is none.
    """

    kind = "bounded"
    lower: Tensor
    upper: Tensor

    def __init__(
        self, range: str | tuple[float | Tensor, float | Tensor] = "median±3 MADN", activation: ActivationLike = "tanh"
    ) -> None:
        super().__init__()
        self.activation = as_activation(activation)
        if self.activation.learn:
            raise ValueError(
                f"a bounded head's range is proved once, but {self.activation.name} learns "
                f"{', '.join(self.activation.learn)}, which could move it; use fixed parameters"
            )
        proved = facts(self.activation)
        self.infimum, self.supremum = proved.range.lower, proved.range.upper
        if not (math.isfinite(self.infimum) and math.isfinite(self.supremum)):
            raise ValueError(
                f"a bounded head needs a bounded activation, but the range of {self.activation.name} is "
                f"{proved.range}; tanh, sigmoid, softsign or atan are bounded, and varphi.heads.head('real') is no head"
            )
        self.steepest = float(proved.lipschitz.upper)
        self.bijective = proved.monotone in ("increasing", "decreasing")
        self.times: float | None = None
        lower, upper = self._ends(range)
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)

    def _ends(self, given: str | tuple[float | Tensor, float | Tensor]) -> tuple[Tensor, Tensor]:
        if isinstance(given, str):
            found = _RULE.fullmatch(given)
            if found is None or float(found["times"]) == 0:
                raise ValueError(f"range is (lower, upper) or 'median±3 MADN' with any number > 0 for 3, got {given!r}")
            self.times = float(found["times"])
            return torch.tensor(math.nan), torch.tensor(math.nan)
        lower, upper = (torch.as_tensor(end, dtype=_floating(end)) for end in given)
        if not bool(((lower < upper) & lower.isfinite() & upper.isfinite()).all()):
            raise ValueError(f"range must be finite with lower < upper, got {given!r}")
        return torch.broadcast_tensors(lower, upper)[0].clone(), torch.broadcast_tensors(lower, upper)[1].clone()

    @torch.no_grad()
    def calibrate_(self, y: Float[Tensor, "..."], dim: int | None = 0) -> BoundedHead:
        """Set the range to median ± k MADN of the targets, MADN = 1.4826 · median |y - median|.

        Args:
            y: targets. They need not lie inside the range: outliers should not.
            dim: the dimension along which the samples lie (0: one range for each output of (samples, outputs));
                None: one range for all.

        Raises:
            ValueError: where the head was given its range, or where the targets have no spread.
        """
        if self.times is None:
            raise ValueError(f"this head's range was given as {self._told()}; only 'median±k MADN' is calibrated")
        values, along = (y.flatten(), 0) if dim is None else (y, dim)
        # Samples along the last dimension stay broadcastable against (replicas, samples).
        keep = along in (-1, values.dim() - 1) and values.dim() > 1
        middle = values.median(along, keepdim=True).values
        spread = self.times * MADN * (values - middle).abs().median(along, keepdim=True).values
        if not bool(((spread > 0) & spread.isfinite()).all()):
            raise ValueError(
                "the targets have no spread to calibrate by: more than half of them are equal, or some are not finite; "
                "give range=(lower, upper)"
            )
        lower, upper = middle - spread, middle + spread
        self.lower, self.upper = (lower, upper) if keep else (lower.squeeze(along), upper.squeeze(along))
        return self

    def forward(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        self._check_calibrated()
        share = (self.activation(z) - self.infimum) / (self.supremum - self.infimum)
        return torch.lerp(self.lower.to(z.dtype), self.upper.to(z.dtype), share.clamp(0.0, 1.0))

    def inverse(self, y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The z with head(z) = y; of several, the one found nearest to 0.

        Raises:
            ValueError: for a y outside the open range, or one that float64 cannot tell from an end.
        """
        self._check_calibrated()
        y = torch.as_tensor(y, dtype=_floating(y))
        below, above = y - self.lower, self.upper - y
        self._reject(y, (below > 0) & (above > 0), self._told(), "choose a wider range")
        link = LINKS.get(self.activation.name)
        if link is not None and link.bounded:
            return link.inverse(below, above)
        share = (below.double() / (below.double() + above.double())).numpy()
        target = self.infimum + share * (self.supremum - self.infimum)
        found = np.vectorize(self._root, otypes=[float])(target)
        return torch.as_tensor(found, dtype=y.dtype)

    def _root(self, target: float) -> float:
        from scipy.optimize import brentq

        signs = np.sign(self._value(_PLACES) - target)
        crossings = np.flatnonzero(signs[:-1] * signs[1:] <= 0)
        if not len(crossings):
            raise ValueError(f"{self.activation.name} comes no nearer to {target!r} than rounding; widen the range")
        nearest = crossings[np.argmin(np.abs(_PLACES[crossings]))]
        left, right = _PLACES[nearest : nearest + 2]
        root: Any = brentq(lambda z: self._value(np.array([z]))[0] - target, left, right, xtol=1e-300)
        return float(root)

    def _value(self, z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.activation(torch.from_numpy(z)).numpy()

    def slopes(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self._stretch(z) * self.activation.derivatives(z, 1)[1].abs()

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        link = LINKS.get(self.activation.name)
        log_slope = (
            link.log_slope(z) if link is not None and link.bounded else self.activation.derivatives(z, 1)[1].abs().log()
        )
        return self._stretch(z).log() + log_slope

    def saturation(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """|f'(z)| as a share of the largest slope of f: 1 where the head reacts most, 0 where it is flat."""
        return self.activation.derivatives(z, 1)[1].abs() / self.steepest

    def healthy(self, z: Tensor) -> Tensor:
        places = torch.linspace(-8, 8, 1601, dtype=z.dtype, device=z.device)
        best = places[self.activation.derivatives(places, 1)[1].abs().argmax()]
        return best.expand(z.shape[-1])

    @property
    def constraint(self) -> constraints.Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        return constraints.interval(self.lower, self.upper)

    @property
    def bounds(self) -> Range:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Range(float(self.lower.min()), float(self.upper.max()))

    def _stretch(self, z: Tensor) -> Tensor:
        self._check_calibrated()
        return ((self.upper - self.lower) / (self.supremum - self.infimum)).to(z.dtype)

    def _largest_slope(self) -> Tensor:
        return self.steepest * (self.upper - self.lower) / (self.supremum - self.infimum)

    def _check_calibrated(self) -> None:
        if bool(self.lower.isnan().any()):
            raise RuntimeError(f"the range median±{self.times:g} MADN needs targets: call head.calibrate_(y) first")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A calibration has the shape of its targets: the buffers take the shape of what is loaded.
        for name in ("lower", "upper"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _told(self) -> str:
        if self.lower.numel() == 1:
            return f"({float(self.lower):g}, {float(self.upper):g})"
        return f"({self.lower.flatten().tolist()}, {self.upper.flatten().tolist()})"

    def extra_repr(self) -> str:
        rule = f"median±{self.times:g} MADN" if self.times is not None else "range"
        calibrated = not bool(self.lower.isnan().any())
        return f"{rule} {self._told() if calibrated else '(not calibrated)'}"


def _floating(value: Any) -> torch.dtype:
    is_floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.dtype if is_floating else torch.get_default_dtype()
