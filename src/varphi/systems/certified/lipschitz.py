"""How fast a model's output can change: an enclosure of its Lipschitz constant, everywhere or on a region."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.bounds.nodes import Curve, Maximum, Product
from varphi.bounds.region import Region
from varphi.bounds.region import region as region_of
from varphi.study.data import plain_data

from .checks import SoundnessError, check_model, check_norm, sample_of
from .network import EXACT, Structure, plain
from .products import Constants
from .spectral import UNIT

_POINTS, _ROUNDS, _KEPT = 256, 20, 32
# A Jacobian of more elements is not written out for its 2-norm; so many are held at once; points shrink with it.
_LARGE, _AT_ONCE, _WORK = 2**12, 2**20, 2**22
_TURNS, _FEW_POINTS = 12, 32


class Ball(NamedTuple):
    """{x : ‖x - centre‖ <= radius}, in the norm 1, 2 or inf.

    Attributes:
        centre: (1, ...) or one sample's shape.
        radius: finite, >= 0.
        norm: 1, 2 or math.inf.
    """

    centre: Tensor
    radius: float
    norm: float = 2


RegionLike: TypeAlias = "Ball | tuple[Tensor, Tensor] | None"


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """Between what is attained and what is proved: lower <= the least Lipschitz constant <= upper.

    Attributes:
        lower: the operator norm of the Jacobian at `at`, as float64 gives it, less 1e-9 of it.
        upper: proved, rounding included.
        at: (1, ...), the input at which `lower` is seen.
        norm: p, of input and output.
        bounds: from each method to its bound; `upper` is the least.
        region: in words.
        assumptions: what the proof takes for granted.
    """

    lower: float
    upper: float
    at: Tensor
    norm: float
    bounds: dict[str, float]
    region: str
    assumptions: tuple[str, ...]

    @property
    def method(self) -> str:
        """The method with the least bound."""
        return min(self.bounds, key=lambda name: self.bounds[name])

    def __repr__(self) -> str:
        rest = ", ".join(f"{name} {value:.6g}" for name, value in self.bounds.items())
        return (
            f"Lipschitz constant ({_norm_name(self.norm)}, {self.region}) in [{self.lower:.6g}, {self.upper:.6g}]; "
            f"upper bounds: {rest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; the point `at` as nested lists."""
        kept = ("lower", "upper", "norm", "method", "bounds", "region", "assumptions")
        return {**{name: plain_data(getattr(self, name)) for name in kept}, "at": self.at.tolist()}


def lipschitz(
    model: nn.Module,
    norm: float = 2,
    region: RegionLike = None,
    *,
    sample: Tensor | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Lipschitz:
    """An enclosure of a model's Lipschitz constant from (input, p) to (output, p).

    Args:
        model: in eval mode, as for `vp.bounds`: linear layers, convolutions, pooling, batch normalisation, sums,
            concatenations and any activation. 1-Lipschitz layers and parametrised weights are read as the numbers that
            they are now.
        norm: p, one of 1, 2 and math.inf.
        region: None: all inputs. Ball(centre, radius, norm), or the corners (lower, upper) of a box: only these, with
            slopes between what they are on the proved intervals of each activation's input there.
        sample: inputs (n, ...): where the search for the lower side begins; needed for the shape where the model does
            not begin with a Linear.
        steps: of the descent on the recursion's multipliers; None: 40, fewer in layers of more than 128 neurons.
        seed: of the search for the lower side.

    Returns:
        The enclosure. Its bounds are "product": of the norms of what is linear between activations, and of their
        steepest slopes (through any graph); "layered": the layer-by-layer form of LipSDP, through all but
        products of tensors, up to 1024 numbers a layer; for p = 2, and for other p through ‖·‖₂.

    Raises:
        UncertifiedOperation, UnboundedSlope: where no bound exists, with the name of the module or activation.
        ValueError, TypeError: for training mode, formats other than float32 and float64, a bad region.

    Example:
        >>> lipschitz(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).eval()).upper
    """
    check_norm(norm)
    check_model(model)
    where, told = _region(region)
    model = plain(model)
    start = sample_of(model, where.centre if where is not None else sample)
    structure = Structure(model, start)
    with torch.no_grad():
        run = None if where is None else structure.intervals(where)
        constants = Constants(structure, run, steps)
        found = {"product": float(constants.product(norm).max())}
        layered = constants.layered()
    if layered is not None:
        found["layered"] = float(layered.max()) * _factor(structure, norm)
    given = start if where is not None or sample is None else sample
    at, lower = attained(structure.model, given, norm, where, seed)
    result = Lipschitz(lower, min(found.values()), at, float(norm), found, told, _assumptions(structure))
    if lower > result.upper:
        raise SoundnessError(f"a Lipschitz constant of {lower!r} is attained above the proved bound: {result!r}")
    return result


def _factor(structure: Structure, norm: float) -> float:
    """‖J‖_p <= this · ‖J‖₂."""
    sizes = {2.0: 1, 1.0: structure.output.size, math.inf: structure.input.size}
    return math.sqrt(sizes[float(norm)]) * (1 + 4 * UNIT)


def _assumptions(structure: Structure) -> tuple[str, ...]:
    bent = sum(isinstance(n, (Curve, Maximum, Product)) for n in structure.bases)
    return (
        "the model with exact arithmetic on its weights as they are now; float64 rounding of the proof is paid for",
        f"{bent} nonlinear parts, their slopes from ball arithmetic",
    )


def _region(region: RegionLike) -> tuple[Region | None, str]:
    if region is None:
        return None, "all inputs"
    if isinstance(region, Ball):
        centre = region.centre if region.centre.dim() > 1 else region.centre.unsqueeze(0)
        told = f"{_norm_name(region.norm)} ball of radius {region.radius:g}"
        found = region_of(centre, region.radius, region.norm, EXACT)
    elif isinstance(region, tuple) and len(region) == 2 and all(isinstance(t, Tensor) for t in region):
        lower, upper = (t if t.dim() > 1 else t.unsqueeze(0) for t in region)
        found, told = region_of((lower, upper), None, math.inf, EXACT), "a box"
    else:
        raise TypeError(f"region is None, Ball(centre, radius, norm) or a box (lower, upper), got {region!r}")
    if len(found.centre) != 1:
        raise ValueError(f"a region is one ball or box, got {len(found.centre)} centres")
    return found, told


def _norm_name(norm: float) -> str:
    return {1.0: "L1", 2.0: "L2", math.inf: "L∞"}[float(norm)]


# ------------------------------------------------------------------------------------------------ from below


def attained(
    model: nn.Module, sample: Tensor, norm: float, where: Region | None, seed: int
) -> tuple[Float[Tensor, "1 ..."], float]:
    """An input with a large Jacobian, and that Jacobian's operator norm (1e-9 of it taken off).

    From the given inputs and random ones, the best are moved at random, by less and less.
    """
    wide = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(seed)
    size = sample[0].numel() * model(sample[:1].to(_format(model), copy=True)).numel()
    most = _FEW_POINTS if norm == 2 and size > _LARGE else _POINTS
    many = max(4, min(most, _WORK // size))
    few, rounds = max(1, min(_KEPT, many // 8)), _ROUNDS if many == _POINTS else 4
    given = sample[:many].detach().double().cpu()

    def draw(around: Tensor, size: Tensor | float) -> Tensor:
        moved = around + size * torch.randn(around.shape, generator=generator, dtype=torch.float64)
        return moved if where is None else _within(moved, where)

    reach = 1.0 if where is None else float(where.radius.max())
    some = given[torch.randint(len(given), (many,), generator=generator)]
    starts = [given, draw(some, 0.3 * reach)]
    if where is None:
        starts += [draw(torch.zeros_like(some), size) for size in (0.3, 1.0, 3.0)]
    points = torch.cat(starts)
    values = _jacobian_norms(wide, points, norm)
    for step in range(rounds):
        best = values.topk(min(few, len(values))).indices
        kept, sizes = points[best], values[best]
        share = torch.rand(4 * len(kept), *[1] * (kept.dim() - 1), generator=generator, dtype=torch.float64)
        fresh = draw(kept.repeat(4, *[1] * (kept.dim() - 1)), reach * share**3 * 0.85**step)
        points = torch.cat([kept, fresh])
        values = torch.cat([sizes, _jacobian_norms(wide, fresh, norm)])
    i = int(values.argmax())
    return points[i : i + 1], float(values[i]) * (1 - 1e-9)


def _format(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters()), torch.get_default_dtype())


def _within(points: Tensor, where: Region) -> Tensor:
    if where.radius.dim() > 1:
        return torch.minimum(torch.maximum(points, where.centre - where.radius), where.centre + where.radius)
    d = (points - where.centre).flatten(1)
    length = torch.linalg.vector_norm(d, ord=where.norm, dim=1, keepdim=True).clamp_min(1e-300)
    share = (where.radius / length).clamp(max=1.0) * (1 - 1e-12)
    return where.centre + (d * share).view_as(points)


def _jacobian_norms(model: nn.Module, points: Tensor, norm: float) -> Float[Tensor, " points"]:
    def one(x: Tensor) -> Tensor:
        return model(x.unsqueeze(0).clone()).flatten()

    size = points[0].numel() * one(points[0]).numel()
    if norm == 2 and size > _LARGE:
        return torch.cat([_stretched(model, chunk) for chunk in points.split(_FEW_POINTS)])
    found = []
    for chunk in points.split(max(1, min(128, _AT_ONCE // size))):
        jacobian = torch.func.vmap(torch.func.jacrev(one))(chunk).flatten(2).detach()
        found.append(_largest(jacobian) if norm == 2 else torch.linalg.matrix_norm(jacobian, ord=norm))
    return torch.cat(found).nan_to_num(0.0)


def _largest(j: Float[Tensor, "points out in"]) -> Float[Tensor, " points"]:
    """‖J‖₂ by the eigenvalues of the smaller of JJᵀ and JᵀJ, which is quicker than J's singular values."""
    gram = j @ j.mT if j.shape[-2] <= j.shape[-1] else j.mT @ j
    return torch.linalg.eigvalsh(gram.nan_to_num(0.0))[..., -1].clamp_min(0).sqrt()


def _stretched(model: nn.Module, points: Tensor) -> Float[Tensor, " points"]:
    """‖J·v‖ for a v of length 1 that was turned towards the longest image: from below, whatever v is."""
    with torch.enable_grad():
        x = points.detach().requires_grad_()
        y = model(x.clone()).flatten(1)
        u = torch.zeros_like(y, requires_grad=True)
        # Jᵀu is linear in u; its derivative along v is J·v.
        (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)
    v, size = torch.ones_like(points), torch.zeros(len(points), dtype=points.dtype)
    for _ in range(_TURNS):
        v = v / torch.linalg.vector_norm(v.flatten(1), dim=1).clamp_min(1e-300).view(-1, *[1] * (v.dim() - 1))
        (image,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
        size = torch.linalg.vector_norm(image, dim=1)
        (v,) = torch.autograd.grad(y, x, image, retain_graph=True)
    return size.nan_to_num(0.0)
