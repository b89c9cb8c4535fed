"""One candidate trained once: the user's model with the candidate in it, through the user's training."""

from __future__ import annotations

import copy
import inspect
import math
import numbers
import textwrap
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from varphi.study.declaration import Outcome
from varphi.study.ranking import Best
from varphi.study.search import Point

from .candidates import Candidate
from .health import FIGURES, health
from .model import Source, forked, seeded
from .places import Place
from .watching import Watch

# fit(model, **tuned numbers) -> a number, or measures by name.
Fit: TypeAlias = Callable[..., Any]
# probe(model) -> the loss on a batch, a tensor of one element.
Probe: TypeAlias = Callable[[nn.Module], Tensor]

SECONDS, NONFINITE = "training time", "passes with NaN or inf"
STAGES = ("start", "end")
# What decides among tuned points: the lowest wins.
DECIDING = "cost that chooses"
RESERVED = (SECONDS, NONFINITE, DECIDING)


def curve(stage: str, figure: str) -> str:
    """The name under which a figure of gradient health is stored, one number for each place."""
    return f"{stage}: {figure}"


class UnusableFit(ValueError):
    """A training whose result is no measure; the message says what it gave and what is needed."""


@dataclass
class Trial:
    """What the study engine calls: trial(setting, seeds, points) -> Outcome.

    Attributes:
        source: where models come from.
        fit: the user's training.
        candidates: from a label to what competes under it.
        places: where the activation stands.
        measures: what is asked of fit; the first decides.
        best: whether low or high values of it win.
        tuned_by: the measure that chooses among points; "" where nothing is tuned.
        probe: the user's loss on a batch, for gradient health; None to look on at the training itself.
    """

    source: Source
    fit: Fit
    candidates: Mapping[str, Candidate]
    places: tuple[Place, ...]
    measures: tuple[str, ...]
    best: Best
    tuned_by: str = ""
    probe: Probe | None = None
    _refused: str = field(default="", repr=False)
    _has_run: bool = field(default=False, repr=False)

    def __call__(self, setting: Mapping[str, Any], seeds: Sequence[int], points: Sequence[Point]) -> Outcome:
        if self._refused:
            # The first training has shown that none can be used: the others are spared.
            raise UnusableFit(self._refused)
        candidate = self.candidates[setting["activation"]]
        found = [self._at(candidate, seed, point, len(points) > 1) for seed in seeds for point in points]
        if all(isinstance(one, Exception) for one in found):
            raise next(one for one in found if isinstance(one, Exception))
        done = [self._nothing() if isinstance(one, Exception) else one for one in found]
        shape = (len(seeds), len(points))
        measures = {name: np.array([one[0][name] for one in done]).reshape(shape).T for name in done[0][0]}
        curves = {
            name: np.array([one[1][name] for one in done]).reshape(*shape, -1).swapaxes(0, 1) for name in done[0][1]
        }
        return Outcome(measures, curves)

    def _at(self, candidate: Candidate, seed: int, point: Point, tuning: bool) -> _Measured | Exception:
        try:
            measured = self._run(candidate, seed, point)
        except UnusableFit as error:
            self._refused = "" if self._has_run else str(error)
            raise
        except Exception as error:
            if not tuning:
                raise
            # One learning rate too high is no failure of the candidate: there are others.
            warnings.warn(f"{candidate.label}, seed {seed}, {point}: {type(error).__name__}: {error}", stacklevel=2)
            return error
        self._has_run = True
        return measured

    def _run(self, candidate: Candidate, seed: int, point: Point) -> _Measured:
        with seeded(seed):
            model = self.source.with_candidate(candidate, seed)
            start = self._probed(model)
            arguments = {keyword(name): value for name, value in point.items()}
            if _takes(self.fit, "seed"):
                arguments["seed"] = seed
            with Watch(model, self.places) as watch:
                begin = time.perf_counter()
                returned = self.fit(model, **arguments)
                _synchronise()
                seconds = time.perf_counter() - begin
            measures = measured(returned, self.measures, self.best)
            end = self._probed(model)
        if self.probe is None:
            start, end = health(watch.first, len(self.places)), health(watch.last, len(self.places))
        measures |= {SECONDS: seconds, NONFINITE: watch.nonfinite}
        if self.tuned_by:
            measures[DECIDING] = (1.0 if self.best == "lowest" else -1.0) * measures[self.tuned_by]
        curves = {curve(s, f): v for s, found in zip(STAGES, (start, end), strict=True) for f, v in found.items()}
        return measures, curves

    def _probed(self, model: nn.Module) -> dict[str, np.ndarray]:
        """The figures of a copy of the model on the user's batch; the training notices nothing of it."""
        if self.probe is None:
            return {}
        with forked():
            scratch = copy.deepcopy(model)
            with Watch(scratch, self.places) as watch:
                loss = self.probe(scratch)
                if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                    raise UnusableFit(
                        "probe must return the loss on a batch, a tensor of one element with a gradient, got "
                        f"{_shown(loss)}"
                    )
                loss.backward()
        return health(watch.first, len(self.places))

    def _nothing(self) -> _Measured:
        """What is stored for a point whose training raised."""
        names = (*self.measures, SECONDS, NONFINITE, *([DECIDING] if self.tuned_by else ()))
        curves = {curve(s, f): np.full(len(self.places), math.nan) for s in STAGES for f in FIGURES}
        return dict.fromkeys(names, math.nan), curves


# Measures, one number each, and curves, one number for each place.
_Measured: TypeAlias = "tuple[dict[str, float], dict[str, np.ndarray]]"


def keyword(name: str) -> str:
    """A tuned number's name as a keyword of fit: "learning rate" as learning_rate."""
    return name.strip().replace(" ", "_").replace("-", "_")


def check_fit(fit: Fit, tuned: Sequence[str]) -> None:
    """Whether fit can be called as it will be.

    Raises:
        TypeError: where it cannot, with its signature.
    """
    if not callable(fit):
        raise TypeError(f"fit must be a function fit(model) that trains and returns a number, got {fit!r}")
    try:
        signature = inspect.signature(fit)
    except ValueError:
        return
    given = [*map(keyword, tuned), *(["seed"] if _takes(fit, "seed") else [])]
    try:
        signature.bind(None, **dict.fromkeys(given))
    except TypeError as error:
        call = ", ".join(["model", *(f"{name}=..." for name in given)])
        raise TypeError(f"fit will be called as fit({call}), but it is fit{signature}: {error}") from None


def _takes(function: Fit, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except ValueError:
        return False


def measured(returned: Any, measures: Sequence[str], best: Best) -> dict[str, float]:
    """The asked-for measures out of what fit returned.

    Raises:
        UnusableFit: for nothing, a measure that is absent, or what is no number.
    """
    if returned is None:
        raise UnusableFit("fit returned nothing; it must return a number, or a mapping of measures to numbers")
    if not isinstance(returned, Mapping):
        if len(measures) > 1:
            raise UnusableFit(f"fit must return a mapping with {', '.join(measures)}, got {_shown(returned)}")
        return {measures[0]: _number(measures[0], returned, best)}
    absent = [name for name in measures if name not in returned]
    if absent:
        given = ", ".join(map(repr, returned)) or "nothing"
        raise UnusableFit(f"fit returned no measure {absent[0]!r}; it returned {given}; name one with measure=")
    found = {name: _number(name, returned[name], None) for name in measures[1:]}
    return {measures[0]: _number(measures[0], returned[measures[0]], best)} | found


def _number(name: str, value: Any, best: Best | None) -> float:
    if isinstance(value, Tensor | np.ndarray | np.generic) and np.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UnusableFit(f"fit returned {name} = {_shown(value)}, a {type(value).__name__}; a number is needed")
    number = float(value)
    if best is not None and number == (-math.inf if best == "lowest" else math.inf):
        raise UnusableFit(f"fit returned {name} = {number}, better than any number can be; best={best!r} is asked for")
    return number


def _shown(value: Any) -> str:
    """A value in one short line."""
    return textwrap.shorten(repr(value), 80, placeholder=" ...")


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
