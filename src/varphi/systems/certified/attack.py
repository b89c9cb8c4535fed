"""The nearest input of another class that can be found: an upper limit to every certified radius.

Each start walks down the margin to one rival class inside a ball whose radius shrinks while the walk is across the
boundary and grows while it is not (Rony et al., CVPR 2019, arXiv 1811.09600), beginning at the distance at which the
linearised margin is zero (Moosavi-Dezfooli et al., CVPR 2016). What is found is drawn towards the sample by bisection.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_GROWTH = 0.05
_HALVINGS = 16
# The k-th further start is at random, so many times k as far as the linearised boundary, at most _FAR times.
_REACH, _FAR = 0.5, 3.0
# Coordinates moved at once in L1: where the margin is linear one is best, elsewhere one alone is slow.
_COORDINATES = (1, 2, 4)
# At least so many walks from each sample.
_WALKS = 18
_MOST_POINTS = 8192


class Nearest(NamedTuple):
    """The nearest inputs of another class that were found.

    Attributes:
        x: (batch, ...), in the model's own format; the sample itself where none was found.
        distance: (batch,), float64, of x from the sample, rounded up; inf where none was found.
    """

    x: Tensor
    distance: Tensor


def nearest(
    model: nn.Module,
    x: Float[Tensor, "batch ..."],
    y: Int[Tensor, " batch"],
    norm: float = 2,
    clip: tuple[float, float] | None = None,
    *,
    rivals: int = 9,
    starts: int | None = None,
    steps: int = 60,
    seed: int = 0,
) -> Nearest:
    """Search for the nearest input that the model gives another class than y, in its own arithmetic and in float64.

    Args:
        model: a classifier in eval mode, differentiable by autograd.
        x: samples that the model gives class y.
        norm: 1, 2 or inf.
        clip: inputs stay within these numbers.
        rivals: how many other classes are aimed at, the nearest by margin first.
        starts: for each of them; the first from the sample, the others around it at random. None: as many as make 18
            walks, at least 2.
        steps: of each walk.
        seed: of the random starts.
    """
    with torch.no_grad():
        logits = model(x.clone()).double()
    others = logits.scatter(1, y.unsqueeze(1), -math.inf).argsort(1, descending=True)
    targets = others[:, : min(rivals, logits.shape[1] - 1)]
    starts = max(2, -(-_WALKS // targets.shape[1])) if starts is None else starts
    generator = torch.Generator().manual_seed(seed)
    best, place = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device), x.clone()
    if not len(x):
        return Nearest(place, best)
    share = max(1, _MOST_POINTS // (targets.shape[1] * starts))
    wide = copy.deepcopy(model).double()
    for rows in torch.arange(len(x), device=x.device).split(share):
        walk = _Walk(model, wide, x[rows], y[rows], targets[rows], float(norm), clip, starts)
        found, distance = walk.run(steps, generator)
        place[rows], best[rows] = found, distance
    return Nearest(place, best)


class _Walk:
    """Many walks from a few samples: (starts · targets · batch) points, batch last."""

    def __init__(
        self,
        model: nn.Module,
        wide: nn.Module,
        x: Tensor,
        y: Tensor,
        targets: Tensor,
        norm: float,
        clip: tuple[float, float] | None,
        starts: int,
    ) -> None:
        self.model, self.wide, self.norm, self.clip = model, wide, norm, clip
        self.batch, self.copies, self.first = len(x), starts * targets.shape[1], targets.shape[1] * len(x)
        self.x = x.repeat(self.copies, *[1] * (x.dim() - 1))
        self.y = y.repeat(self.copies)
        self.target = targets.T.flatten().repeat(starts)
        self.centre = self.x.flatten(1).double()
        self.start = torch.arange(len(self.x), device=x.device).div(self.first, rounding_mode="floor")

    def run(self, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        margin, gradient = self._margin(self.x)
        slope = torch.linalg.vector_norm(gradient, ord=_dual(self.norm), dim=1).clamp_min(1e-30)
        radius = (margin.abs() / slope).clamp(max=1e6) * 1.05 + 1e-9
        noise = torch.randn(self.centre.shape, generator=generator, dtype=torch.float64).to(self.x.device)
        noise[: self.first] = 0.0
        reach = (_REACH * self.start).clamp(max=_FAR)
        delta = self._kept(self._scaled(noise, reach * radius))
        best = torch.full((len(self.x),), math.inf, dtype=torch.float64, device=self.x.device)
        kept = delta
        for step in range(steps):
            point = self._point(delta)
            margin, gradient = self._margin(point)
            across = self._other(point)
            size = self._size(point)
            better = across & (size < best)
            best = torch.where(better, size, best)
            kept = torch.where(better.unsqueeze(1), delta, kept)
            radius = torch.where(across, torch.minimum(radius, size) * (1 - _GROWTH), radius * (1 + _GROWTH))
            stride = radius * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            delta = self._kept(self._shrunk(delta - stride.unsqueeze(1) * self._steepest(gradient), radius))
        return self._drawn_in(kept, best)

    def _margin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = self.model(x.clone())
            margin = (out.gather(1, self.y.unsqueeze(1)) - out.gather(1, self.target.unsqueeze(1)))[:, 0]
            (gradient,) = torch.autograd.grad(margin.sum(), x, allow_unused=True)
        gradient = torch.zeros_like(x) if gradient is None else gradient
        return margin.detach().double(), gradient.flatten(1).double().nan_to_num(0.0, 0.0, 0.0)

    @torch.no_grad()
    def _other(self, x: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        """Whether the class is another one, for the model as it runs."""
        return _beaten(self.model(x.clone()), self.y[rows])

    def _point(self, delta: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        """Inputs in the model's own format, within the clip."""
        found = (self.centre[rows] + delta).to(self.x.dtype)
        if self.clip is not None:
            found = found.clamp(*self.clip)
        return found.view(-1, *self.x.shape[1:])

    def _size(self, point: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        d = point.flatten(1).double() - self.centre[rows]
        return torch.linalg.vector_norm(d, ord=self.norm, dim=1) * (1 + (d.shape[1] + 8) * 2.0**-52)

    def _scaled(self, delta: Tensor, size: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(delta, ord=self.norm, dim=1).clamp_min(1e-300)
        return delta * (size / length).unsqueeze(1)

    def _shrunk(self, delta: Tensor, radius: Tensor) -> Tensor:
        if self.norm == math.inf:
            return torch.minimum(torch.maximum(delta, -radius.unsqueeze(1)), radius.unsqueeze(1))
        length = torch.linalg.vector_norm(delta, ord=self.norm, dim=1).clamp_min(1e-300)
        return delta * (radius / length).clamp(max=1.0).unsqueeze(1)

    def _kept(self, delta: Tensor) -> Tensor:
        return delta if self.clip is None else (self.centre + delta).clamp(*self.clip) - self.centre

    def _steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length 1 along which the margin falls fastest, with its sign turned."""
        if self.norm == math.inf:
            return gradient.sign()
        if self.norm == 2:
            return gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-300)
        most = gradient.abs().topk(min(max(_COORDINATES), gradient.shape[1]), 1).indices
        count = torch.tensor(_COORDINATES, device=gradient.device)[self.start % len(_COORDINATES)]
        kept = torch.arange(most.shape[1], device=gradient.device) < count.unsqueeze(1)
        step = torch.zeros_like(gradient).scatter_(1, most, gradient.gather(1, most) * kept)
        return step / step.abs().sum(1, keepdim=True).clamp_min(1e-300)

    def _drawn_in(self, delta: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """The best walk of each sample, moved towards it as far as the class stays another."""
        order = size.view(self.copies, self.batch).argsort(0)[: min(4, self.copies)]
        rows = (order * self.batch + torch.arange(self.batch, device=order.device)).flatten()
        delta, found = delta[rows], torch.isfinite(size[rows])
        low, high = torch.zeros_like(size[rows]), torch.ones_like(size[rows])
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            across = self._other(self._point(delta * middle.unsqueeze(1), rows), rows)
            low, high = torch.where(across, low, middle), torch.where(across, middle, high)
        point = self._point(delta * high.unsqueeze(1), rows)
        with torch.no_grad():
            sure = found & self._other(point, rows) & _beaten(self.wide(point.double()), self.y[rows])
        # Drawn in, a point may be of another class in one format only; the walk's own end is checked instead.
        far = self._point(delta, rows)
        with torch.no_grad():
            safe = found & self._other(far, rows) & _beaten(self.wide(far.double()), self.y[rows])
        point = torch.where(sure.view(-1, *[1] * (point.dim() - 1)), point, far)
        distance = torch.where(sure | safe, self._size(point, rows), math.inf).view(-1, self.batch)
        best = distance.argmin(0)
        chosen = point.view(-1, self.batch, *point.shape[1:])[best, torch.arange(self.batch)]
        value = distance.gather(0, best.unsqueeze(0))[0]
        here = self.x[: self.batch]
        return torch.where(torch.isfinite(value).view(-1, *[1] * (here.dim() - 1)), chosen, here), value


def _beaten(logits: Tensor, y: Tensor) -> Tensor:
    """Whether some other class is strictly ahead."""
    own = logits.gather(1, y.unsqueeze(1))[:, 0]
    return logits.scatter(1, y.unsqueeze(1), -math.inf).amax(1) > own


def _dual(norm: float) -> float:
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[norm]
