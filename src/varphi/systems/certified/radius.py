"""Certified radii of a classifier: how far from each sample no input has another class."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from varphi.bounds import UncertifiedOperation, certified_radius
from varphi.bounds.api import bounds
from varphi.bounds.region import region
from varphi.progress import Moved, bar

from .attack import Nearest, nearest
from .certificate import Certificates
from .checks import SoundnessError, check_clip, check_inputs, check_model, check_norm
from .network import EXACT, Structure, plain
from .products import LOCAL_STEPS, Constants
from .slopes import UnboundedSlope

Method: TypeAlias = Literal[
    "auto", "crown", "alpha-crown", "crown-split", "ibp", "lipschitz", "local-lipschitz", "pairwise", "product"
]
_METHODS: tuple[Method, ...] = get_args(Method)
_BOUNDING: dict[str, Literal["ibp", "crown", "alpha-crown"]] = {
    "ibp": "ibp",
    "crown": "crown",
    "alpha-crown": "alpha-crown",
    "auto": "crown",
}
_BATCH = 64
_DOUBLINGS = 30
_TURNS = 40
# So that the margin stays above 0 on the whole closed ball.
_INSIDE = 1 - 2.0**-30

Margins: TypeAlias = Callable[[Tensor, Any], Tensor]


def radius(
    model: nn.Module,
    x: Float[Tensor, "batch ..."],
    y: Int[Tensor, " batch"] | None = None,
    norm: float = 2,
    method: Method = "auto",
    *,
    tol: float = 1e-3,
    clip: tuple[float, float] | None = None,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    attack_steps: int = 60,
    seed: int = 0,
    progress: bool = True,
) -> Certificates:
    """For each sample, a radius within which a classifier provably gives no other class.

    Args:
        model: in eval mode, (batch, ...) -> (batch, classes); of what `vp.bounds` reads, with any activation.
        x: samples, of the model's format.
        y: their classes. None: whatever the model gives, and nothing is said about accuracy.
        norm: of the distance: 1, 2 or math.inf.
        method: of the proof, from the cheapest to the tightest:
            "product": margin / (√2·Π‖W‖·αⁿ), the chapter's bound, with every layer's true norm;
            "pairwise": the margin to each rival over what their difference can change by, ‖w_y - w_j‖·Π‖W‖·αⁿ⁻¹;
            "lipschitz": the same with the layered recursion in place of the product, with multipliers for each pair of
            classes that decides a radius;
            "local-lipschitz": with slopes between what they are within the radius itself;
            "ibp", "crown", "alpha-crown", "crown-split": bounds of the margin over the ball, at radii found by search;
            "auto": the larger of "lipschitz", where the model has a global constant at all, and "crown".
        tol: of the search, relative to the attack's radius.
        clip: the numbers that inputs can have, such as (0, 1). The attack stays within; for norm=inf the proof uses it
            too, for the others it covers the whole ball, which is more than is asked.
        arithmetic: of the bounds, as for `vp.bounds`; by default rounding of the model's own format is paid for.
        attack_steps: of each walk of the attack.
        seed: of the attack's random starts.
        progress: a bar on standard error, where one takes more than two seconds.

    Returns:
        Certificates. A misclassified sample has radius 0, says so, and is in no average.

    Raises:
        UncertifiedOperation, UnboundedSlope: something in the model has no bound; the message names it.
        SoundnessError: a proof and an attack contradict each other.
        TypeError, ValueError: for anything else that cannot be certified, in words.

    Example:
        >>> found = radius(model, x, y, norm=2)
        >>> print(found.table())
    """
    question, logits = _asked(model, x, y, norm, (method,), tol, clip, arithmetic)
    with bar(f"certifying {len(x)} samples", progress) as moved:
        return question.answers(logits, y is not None, (method,), attack_steps, seed, moved)[method]


def compare(
    model: nn.Module,
    x: Float[Tensor, "batch ..."],
    y: Int[Tensor, " batch"] | None = None,
    norm: float = 2,
    methods: Sequence[Method] = ("product", "pairwise", "lipschitz", "ibp", "crown", "auto"),
    *,
    tol: float = 1e-3,
    clip: tuple[float, float] | None = None,
    arithmetic: Literal["sound32", "float64", "fast"] | None = None,
    attack_steps: int = 60,
    seed: int = 0,
    progress: bool = True,
) -> dict[Method, Certificates]:
    """What each method proves of the same samples, beside one attack; arguments as for `radius`.

    Example:
        >>> for method, found in compare(model, x, y).items():
        ...     print(method, found.median(), found.seconds["proof"])
    """
    question, logits = _asked(model, x, y, norm, tuple(methods), tol, clip, arithmetic)
    with bar(f"certifying {len(x)} samples by {len(methods)} methods", progress) as moved:
        return question.answers(logits, y is not None, tuple(methods), attack_steps, seed, moved)


def _asked(
    model: nn.Module, x: Any, y: Any, norm: float, methods: tuple[Method, ...], tol: float, clip: Any, arithmetic: Any
) -> tuple[_Question, Tensor]:
    check_norm(norm)
    check_model(model)
    unknown = next((m for m in methods if m not in _METHODS), None)
    if unknown is not None or not methods:
        raise ValueError(f"method is one of {', '.join(map(repr, _METHODS))}, got {unknown!r}")
    if isinstance(tol, bool) or not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise ValueError(f"tol must be between 0 and 1, got {tol!r}")
    x, logits = check_inputs(model, x, y)
    limits = check_clip(clip, x)
    return _Question(plain(model), x, _labels(y, logits), float(norm), limits, arithmetic, float(tol)), logits


def _labels(y: Tensor | None, logits: Tensor) -> Tensor:
    return logits.argmax(1) if y is None else y.to(logits.device).long()


@dataclass(frozen=True, eq=False)
class _Question:
    """A batch to be certified."""

    model: nn.Module
    x: Tensor
    y: Tensor
    norm: float
    clip: tuple[float, float] | None
    arithmetic: Any
    tol: float
    # Rates of differences of two outputs, which no sample changes.
    known: dict[tuple[float, ...], float] = field(default_factory=dict)

    def some(self, index: Tensor) -> _Question:
        return replace(self, x=self.x[index], y=self.y[index])

    def answers(
        self,
        logits: Tensor,
        labelled: bool,
        methods: tuple[Method, ...],
        attack_steps: int,
        seed: int,
        moved: Moved,
    ) -> dict[Method, Certificates]:
        predicted, classes, size = logits.argmax(1), logits.shape[1], len(self.x)
        correct = (predicted == self.y) & (self._margins_at_centre(classes) > 0)
        index = correct.nonzero().squeeze(1)
        attacked, adversarial = torch.zeros(size, dtype=torch.float64, device=self.x.device), self.x.clone()
        found: dict[Method, _Found] = {m: _Found.empty(size, self.x.device) for m in methods}
        parts, attack_seconds = index.split(_BATCH) if len(index) else (), 0.0
        for number, part in enumerate(parts):
            here, start = self.some(part), time.perf_counter()
            hit = nearest(self.model, here.x, here.y, self.norm, self.clip, steps=attack_steps, seed=seed + number)
            attacked[part], adversarial[part] = hit.distance, hit.x
            attack_seconds += time.perf_counter() - start
            for turn, method in enumerate(methods):
                done = (number + turn / len(methods)) / len(parts)
                share = 1 / (len(parts) * len(methods))
                proof = _Proof(here, classes, hit, lambda s, d=done, w=share: moved(d + w * s))
                found[method].fill(part, proof, method)
        reason = tuple(self._reason(i, predicted, correct) for i in range(size))
        for answer in found.values():
            _compare(answer.radius, attacked, answer.names)
        return {
            method: Certificates(
                answer.radius,
                answer.margin,
                attacked,
                adversarial,
                self.y,
                predicted,
                correct,
                reason,
                tuple(answer.names),
                self.norm,
                labelled,
                self._assumptions(method),
                {"attack": attack_seconds, "proof": answer.seconds},
            )
            for method, answer in found.items()
        }

    def _reason(self, i: int, predicted: Tensor, correct: Tensor) -> str:
        if bool(correct[i]):
            return ""
        if int(predicted[i]) != int(self.y[i]):
            return f"misclassified: the model gives class {int(predicted[i])}"
        return "the classes are too close to tell apart in spite of rounding"

    def _margins_at_centre(self, classes: int) -> Tensor:
        found = []
        for part in torch.arange(len(self.x), device=self.x.device).split(_BATCH):
            here = self.some(part)
            found.append(here.margins(here.rows(classes), "ibp")(torch.zeros(len(part)), slice(None)))
        return torch.cat(found)

    def rows(self, classes: int) -> Float[Tensor, "batch rivals classes"]:
        """e_y - e_j for every rival j."""
        unit = torch.eye(classes, dtype=self.x.dtype, device=self.x.device)
        all_rows = unit[self.y].unsqueeze(1) - unit
        return all_rows[unit[self.y] == 0].view(len(self.y), classes - 1, classes)

    def margins(self, rows: Tensor, method: Literal["ibp", "crown", "alpha-crown"]) -> Margins:
        """The least proved margin over all rivals, at a radius for each of some samples."""

        def least(radii: Tensor, index: Any) -> Tensor:
            x, own = self.x[index], rows[index]
            where: tuple[Any, Any] = (x, radii)
            if self.clip is not None and self.norm == math.inf:
                where = (self._box(x, radii), None)
            found = bounds(self.model, *where, self.norm, method, own, self.arithmetic, progress=False).lower
            return found.double().amin(1)

        def at_all(radii: Tensor, index: Any) -> Tensor:
            try:
                return least(radii, index)
            except ValueError:
                if not bool((radii > 0).any()):
                    raise
            # Some radius is so large that something is unbounded there: one by one, these prove nothing.
            rows_of = torch.arange(len(self.x), device=self.x.device)[index]
            return torch.cat([_or_nothing(least, radii[i : i + 1], rows_of[i : i + 1]) for i in range(len(rows_of))])

        return at_all

    def _box(self, x: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
        assert self.clip is not None
        wide = x.double()
        size = radii.view(-1, *[1] * (x.dim() - 1))
        lower = torch.nextafter(wide - size, torch.full_like(wide, -math.inf)).clamp_min(self.clip[0])
        upper = torch.nextafter(wide + size, torch.full_like(wide, math.inf)).clamp_max(self.clip[1])
        return torch.minimum(lower, wide), torch.maximum(upper, wide)

    def _assumptions(self, method: Method) -> tuple[str, ...]:
        lipschitz = "Lipschitz proofs are of the model with exact arithmetic on its weights as they are now"
        rounding = "bounds are of the model in its own arithmetic, rounding included"
        if self.arithmetic == "fast":
            rounding = "arithmetic='fast': bounds may be off by rounding"
        told = {"auto": (lipschitz, rounding)}.get(method, (rounding if method in _ADAPTIVE else lipschitz,))
        if self.clip is None:
            return told
        where = "proof and attack" if self.norm == math.inf else "the attack (the proof covers the whole ball)"
        return (*told, f"inputs lie within {self.clip}: used by {where}")


_ADAPTIVE = ("ibp", "crown", "alpha-crown", "crown-split")


def _or_nothing(least: Callable[[Tensor, Any], Tensor], radii: Tensor, index: Tensor) -> Tensor:
    try:
        return least(radii, index)
    except ValueError:
        return torch.full((1,), -math.inf, dtype=torch.float64, device=radii.device)


@dataclass(eq=False)
class _Found:
    """What one method proves, filled part by part."""

    radius: Tensor
    margin: Tensor
    names: list[str]
    seconds: float = 0.0

    @staticmethod
    def empty(size: int, device: torch.device) -> _Found:
        zero = torch.zeros(size, dtype=torch.float64, device=device)
        return _Found(zero, zero.clone(), [""] * size)

    def fill(self, part: Tensor, proof: _Proof, method: Method) -> None:
        start = time.perf_counter()
        self.radius[part], self.margin[part], names = proof.by(method)
        for i, name in zip(part.tolist(), names, strict=True):
            self.names[i] = name
        self.seconds += time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class _Proof:
    """A part of a batch, all of it classified correctly, with what the attack found."""

    question: _Question
    classes: int
    hit: Nearest
    moved: Moved

    def by(self, method: Method) -> tuple[Tensor, Tensor, list[str]]:
        """(radius, margin there, what proved it)."""
        if method == "crown-split":
            return self._split()
        if method in ("ibp", "crown", "alpha-crown"):
            return self._searched(method, *self._nothing())
        if method != "auto":
            return self._by_constant(method)
        try:
            known = self._by_constant("lipschitz")
        except (UnboundedSlope, UncertifiedOperation):  # no global constant exists; on a ball planes may still be drawn
            known = self._nothing()
        return self._searched("auto", *known)

    def _nothing(self) -> tuple[Tensor, Tensor, list[str]]:
        zero = torch.zeros(len(self.question.x), dtype=torch.float64, device=self.question.x.device)
        return zero, zero, [""] * len(zero)

    # ---------------------------------------------------------------------------------------- bounds

    def _searched(
        self, method: str, certified: Tensor, margin: Tensor, names: list[str]
    ) -> tuple[Tensor, Tensor, list[str]]:
        """The largest radius with a positive margin, above those that are certified already."""
        kind = _BOUNDING[method]
        margins = self.question.margins(self.question.rows(self.classes), kind)
        if kind == "alpha-crown":  # each call is dear: begin where plain planes end
            certified, margin, names = self._searched("crown", certified, margin, names)
        low, at_low = _largest(margins, certified, self.hit.distance, self.question.tol, self.moved)
        raised = low > certified
        return (
            torch.where(raised, low, certified),
            torch.where(raised, at_low, margin),
            [kind if r else n or kind for r, n in zip(raised.tolist(), names, strict=True)],
        )

    def _split(self) -> tuple[Tensor, Tensor, list[str]]:
        """Where planes leave a gap to the attack, the ball is cut into cells."""
        q = self.question
        certified, margin, names = self._searched("crown", *self._nothing())
        open_ = (certified < self.hit.distance * (1 - 2 * q.tol)).nonzero().squeeze(1)
        if not len(open_):
            return certified, margin, names
        limit = self.hit.distance[open_]
        largest = float(limit[torch.isfinite(limit)].amax()) if bool(torch.isfinite(limit).any()) else None
        rows = q.rows(self.classes)[open_]
        found = certified_radius(
            q.model,
            q.x[open_],
            rows,
            q.norm,
            "crown-split",
            q.tol,
            arithmetic=q.arithmetic,
            largest=largest,
            progress=False,  # the bar of all samples stands already
        ).certified
        for i, value in zip(open_.tolist(), found.tolist(), strict=True):
            if value > float(certified[i]):
                certified[i], margin[i], names[i] = value, 0.0, "crown-split"
        return certified, margin, names

    # ---------------------------------------------------------------------------------------- constants

    def _by_constant(self, method: str) -> tuple[Tensor, Tensor, list[str]]:
        q = self.question
        with torch.no_grad():
            structure = Structure(q.model, q.x[:1])
            rows = q.rows(self.classes).double()
            exact = bounds(
                q.model, q.x.double(), 0.0, 2, "ibp", rows, "float64"
            ).lower  # (batch, rivals), of exact arithmetic
            everywhere = Constants(structure)
            rates, names = self._rates(everywhere, rows, exact, method)
            if method in _LAYERED:
                rates, names = self._each(everywhere, rows, exact, rates, names)
            found = self._from(rates, names, exact)
            return self._local(structure, rows, exact, *found) if method == "local-lipschitz" else found

    def _from(self, rates: Tensor, names: Tensor, exact: Tensor) -> tuple[Tensor, Tensor, list[str]]:
        every = (exact / rates.clamp_min(_LEAST_RATE) * _INSIDE).clamp_min(0)
        certified, worst = every.min(1)
        name = names.expand_as(every).gather(1, worst.unsqueeze(1)).squeeze(1)
        margin = (exact - rates * certified.unsqueeze(1)).amin(1)
        return certified, margin.clamp_min(0), [_RATES[int(i)] for i in name]

    @property
    def _through_2(self) -> float:
        """‖·‖₂ is at most so many times the norm: ‖·‖₂ <= ‖·‖₁, and <= √n·‖·‖_∞."""
        return math.sqrt(self.question.x[0].numel()) * (1 + 2.0**-50) if self.question.norm == math.inf else 1.0

    def _rates(self, constants: Constants, rows: Tensor, exact: Tensor, method: str) -> tuple[Tensor, Tensor]:
        """How fast each margin can fall, per unit of the norm, and by which method it is known."""
        p = self.question.norm
        if method == "product":
            rate = constants.product(2.0) * math.sqrt(2) * (1 + 2.0**-50) * self._through_2
            return rate.view(-1, 1).expand(rows.shape[:2]), torch.zeros(1, 1, dtype=torch.long)
        options = [constants.pairwise(rows, p), constants.pairwise(rows, 2.0) * self._through_2]
        layered = constants.layered_rows(rows, exact) if method in _LAYERED else None
        if layered is not None:
            options.append(layered * self._through_2)
        rate, which = torch.stack(torch.broadcast_tensors(*options)).min(0)
        kinds = torch.tensor([1, 1, 2] if constants.run is None else [3, 3, 3])
        return rate, kinds[which]

    def _each(
        self, constants: Constants, rows: Tensor, exact: Tensor, rates: Tensor, names: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The rate that decides a sample's radius, by multipliers of its own, until no other one decides."""
        settled = torch.zeros_like(rates, dtype=torch.bool)
        while True:
            worst = (exact / rates.clamp_min(_LEAST_RATE)).argmin(1, keepdim=True)
            if bool(settled.gather(1, worst).all()):
                return rates, names
            own = self._each_of(constants, rows.take_along_dim(worst.unsqueeze(2), 1).squeeze(1))
            if own is None:
                return rates, names
            own, known = own.unsqueeze(1) * self._through_2, rates.gather(1, worst)
            rates = rates.scatter(1, worst, torch.minimum(own, known))
            names = names.scatter(1, worst, torch.where(own < known, _RATES.index("layered"), names.gather(1, worst)))
            settled = settled.scatter(1, worst, True)

    def _each_of(self, constants: Constants, rows: Float[Tensor, "batch out"]) -> Float[Tensor, " batch"] | None:
        """Each pair of classes is computed once for all samples, whichever of the two is the true one."""
        known = self.question.known
        keys = [max(tuple(row), tuple(-v for v in row)) for row in rows.tolist()]
        fresh = [key for key in dict.fromkeys(keys) if key not in known]
        if fresh:
            found = constants.layered_each(torch.tensor(fresh, dtype=torch.float64))
            if found is None:
                return None
            known.update(zip(fresh, found.tolist(), strict=True))
        return torch.tensor([known[key] for key in keys], dtype=torch.float64)

    def _local(
        self, structure: Structure, rows: Tensor, exact: Tensor, certified: Tensor, margin: Tensor, names: list[str]
    ) -> tuple[Tensor, Tensor, list[str]]:
        """The largest r at which the constants of the ball of radius r still keep every margin above 0."""
        q = self.question

        def margins(radii: Tensor, index: Any) -> Tensor:
            where = region(q.x[index].double(), radii, q.norm, EXACT)
            constants = Constants(structure, structure.intervals(where), LOCAL_STEPS)
            rates, _ = self._rates(constants, rows[index], exact[index], "local-lipschitz")
            return (exact[index] - rates * radii.unsqueeze(1) * (1 + 2.0**-50)).amin(1)

        low, at_low = _largest(margins, certified, self.hit.distance, max(q.tol, 1e-2), self.moved)
        raised = low > certified
        told = ["local-lipschitz" if r else n for r, n in zip(raised.tolist(), names, strict=True)]
        return torch.where(raised, low, certified), torch.where(raised, at_low, margin), told


_RATES = ("product", "pairwise", "layered", "local-lipschitz")
_LAYERED = ("lipschitz", "local-lipschitz")
_LEAST_RATE = 1e-300


def _largest(margins: Margins, low: Tensor, high: Tensor, tol: float, moved: Moved) -> tuple[Tensor, Tensor]:
    """The largest radii with a positive margin between `low`, certified, and `high`, where none can be.

    By false position, kept away from both ends, with halving in every third turn: each radius that is returned was
    itself tried and proved.
    """
    low, high = low.clone(), high.clone()
    everything = torch.arange(len(low), device=low.device)
    low, high = _bracketed(margins, low, high)
    at_low, at_high = torch.full_like(low, math.nan), torch.full_like(low, math.nan)
    proved = torch.full_like(low, math.nan)
    for turn in range(_TURNS):
        index = everything[(high - low > tol * high) & torch.isfinite(high)]
        if not len(index):
            break
        tried = _between(low[index], high[index], at_low[index], at_high[index], turn)
        value = margins(tried, index)
        good = value > 0
        up, down = index[good], index[~good]
        low[up], at_low[up], proved[up] = tried[good], value[good], value[good]
        high[down], at_high[down] = tried[~good], value[~good]
        moved(min(1.0, 1 - len(index) / len(low) * (1 - turn / _TURNS)))
    return low, torch.where(torch.isnan(proved), 0.0, proved)


def _between(low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor, turn: int) -> Tensor:
    width = high - low
    share = at_low / (at_low - at_high)
    known = torch.isfinite(share) & (turn % 3 != 2)
    return low + width * torch.where(known, share.clamp(0.05, 0.95), 0.5)


def _bracketed(margins: Margins, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """A finite upper end where the attack gave none: doubled until nothing is proved; inf where all is."""
    open_ = (~torch.isfinite(high)).nonzero().squeeze(1)
    size = torch.full_like(low, 1e-3).maximum(low)
    for _ in range(_DOUBLINGS):
        if not len(open_):
            return low, high
        size[open_] = 2 * size[open_]
        good = margins(size[open_], open_) > 0
        low[open_[good]] = size[open_[good]]
        high[open_[~good]] = size[open_[~good]]
        open_ = open_[good]
    return low, high


def _compare(certified: Tensor, attacked: Tensor, by: list[str]) -> None:
    wrong = certified > attacked * (1 + 1e-9)
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise SoundnessError(
            f"sample {i}: {by[i]} proves the class within {float(certified[i])!r}, and an input of another class is at "
            f"{float(attacked[i])!r}"
        )
