"""The answer to "how far from each sample does the class stay the same?"."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from varphi.study.data import plain_data

_SHOWN = 8


class Summary(NamedTuple):
    """A batch in a few numbers. Radii are medians over the samples that are classified correctly, and over these only.

    Attributes:
        samples, correct: how many.
        accuracy: correct / samples; NaN where no labels were given.
        certified, attacked: median radii; NaN without correct samples.
        gap: median of certified / attacked, 1 where nothing is left open.
    """

    samples: int
    correct: int
    accuracy: float
    certified: float
    attacked: float
    gap: float


@dataclass(frozen=True, eq=False, repr=False)
class Certificates:
    """For each sample of a batch: no input within `radius` has another class; one at `attacked` has.

    Attributes:
        radius: (batch,), float64, proved, in units of the input; 0 for a misclassified sample.
        margin: (batch,), proved: how far the class stays ahead of every other within the radius; 0 where only its sign
            is proved.
        attacked: (batch,), the distance of the nearest input of another class that was found; inf where none was.
        adversarial: (batch, ...), these inputs.
        label, predicted: (batch,), classes.
        correct: (batch,), whether label and prediction agree and the margin at the sample itself is proved positive.
        reason: why a radius is 0; "" elsewhere.
        method: what proved each radius.
        norm: 1, 2 or inf.
        labelled: whether labels were given; otherwise they are the predictions.
        assumptions: what the proofs take for granted.
        seconds: of the attack and of the proofs.
    """

    radius: Float[Tensor, " batch"]
    margin: Float[Tensor, " batch"]
    attacked: Float[Tensor, " batch"]
    adversarial: Float[Tensor, "batch ..."]
    label: Int[Tensor, " batch"]
    predicted: Int[Tensor, " batch"]
    correct: Bool[Tensor, " batch"]
    reason: tuple[str, ...]
    method: tuple[str, ...]
    norm: float
    labelled: bool
    assumptions: tuple[str, ...]
    seconds: dict[str, float]

    def __len__(self) -> int:
        return len(self.radius)

    def median(self) -> float:
        """The median certified radius of the samples that are classified correctly; NaN where none is."""
        return _median(self.radius[self.correct])

    def summary(self) -> Summary:
        """Accuracy and medians, side by side."""
        radius, attacked = self.radius[self.correct], self.attacked[self.correct]
        # Constant on the whole space: nothing found, nothing missing.
        gap = torch.where(torch.isfinite(attacked), radius / attacked.clamp_min(1e-300), torch.isinf(radius).double())
        count = int(self.correct.sum())
        accuracy = count / len(self) if self.labelled else math.nan
        return Summary(len(self), count, accuracy, _median(radius), _median(attacked), _median(gap))

    def certified_accuracy(self, radii: Sequence[float] | Tensor) -> Float[Tensor, " radii"]:
        """The share of all samples that are classified correctly and certified to each radius."""
        wanted = torch.as_tensor(radii, dtype=torch.float64, device=self.radius.device)
        return ((self.radius >= wanted.unsqueeze(1)) & self.correct).double().mean(1)

    def attacked_accuracy(self, radii: Sequence[float] | Tensor) -> Float[Tensor, " radii"]:
        """The share of all samples that are classified correctly and not changed by the attack within each radius."""
        wanted = torch.as_tensor(radii, dtype=torch.float64, device=self.radius.device)
        return ((self.attacked > wanted.unsqueeze(1)) & self.correct).double().mean(1)

    def __repr__(self) -> str:
        s = self.summary()
        name = _norm_name(self.norm)
        told = f"accuracy {s.accuracy:.1%}" if self.labelled else "no labels: certificates of the predictions"
        found = f"{s.samples} samples, {told}"
        if not s.correct:
            return f"Certificates({found}; none is classified correctly, so there is no radius)"
        return (
            f"Certificates({found}; median over the {s.correct} correct ones: no other class within {s.certified:.4g} "
            f"({name}, proved), one found at {s.attacked:.4g} ({s.gap:.0%} of the way is proved))"
        )

    def table(self, rows: int = _SHOWN) -> str:
        """The first samples, one a line, as text."""
        head = f"{'sample':>6} {'class':>6} {'certified':>10} {'attack':>10} {'proved':>7} {'margin':>10}  by"
        lines = [head]
        for i in range(min(rows, len(self))):
            radius, attacked = float(self.radius[i]), float(self.attacked[i])
            if self.reason[i]:
                lines.append(f"{i:>6} {int(self.label[i]):>6} {0.0:>10.4g} {'':>10} {'':>7} {'':>10}  {self.reason[i]}")
                continue
            share = f"{radius / attacked:.0%}" if math.isfinite(attacked) and attacked > 0 else ""
            lines.append(
                f"{i:>6} {int(self.label[i]):>6} {radius:>10.4g} {attacked:>10.4g} {share:>7} "
                f"{float(self.margin[i]):>10.3g}  {self.method[i]}"
            )
        if rows < len(self):
            lines.append(f"... {len(self) - rows} more")
        return "\n".join([*lines, repr(self)])

    def to_dict(self, adversarial: bool = False) -> dict[str, Any]:
        """Plain data, for JSON.

        Args:
            adversarial: with the inputs that the attack found.
        """
        s = self.summary()
        lists = ("radius", "margin", "attacked", "label", "predicted", "correct")
        kept: dict[str, Any] = {name: plain_data(getattr(self, name).tolist()) for name in lists}
        told = ("reason", "method", "norm", "labelled", "assumptions", "seconds")
        kept |= {name: plain_data(getattr(self, name)) for name in told}
        if adversarial:
            kept["adversarial"] = self.adversarial.tolist()
        return {"summary": plain_data(s), **kept}

    def to_json(self, adversarial: bool = False) -> str:
        """The same as text; ±inf and NaN as the strings that `float` reads."""
        return json.dumps(self.to_dict(adversarial), indent=2)


def _median(values: Tensor) -> float:
    if not len(values):
        return math.nan
    ordered = values.sort().values
    low, high = float(ordered[(len(values) - 1) // 2]), float(ordered[len(values) // 2])
    return low if low == high else (low + high) / 2


def _norm_name(norm: float) -> str:
    return {1.0: "L1", 2.0: "L2", math.inf: "L∞"}[float(norm)]
