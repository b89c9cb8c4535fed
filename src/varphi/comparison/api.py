"""`vp.compare(model, fit)`: which activation does this model do best with?"""

from __future__ import annotations

import dataclasses
import math
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from varphi.activation.lookup import ActivationLike
from varphi.study import engine
from varphi.study.ranking import Best
from varphi.study.results import Results
from varphi.study.statistics import fewest_seeds

from . import declared
from .candidates import USUAL, Candidate, candidates
from .declared import Ends
from .fingerprint import fingerprint
from .model import ModelLike, Source, chosen_use, own_label, seeded
from .places import Place, places
from .result import Comparison
from .trial import RESERVED, Fit, Probe, Trial, UnusableFit, check_fit


def compare(
    model: ModelLike,
    fit: Fit,
    activations: Iterable[ActivationLike] = USUAL,
    *,
    seeds: int | Sequence[int] | None = None,
    measure: str | Sequence[str] | None = None,
    best: Best = "lowest",
    replace: str | None = None,
    inputs: Iterable[Any] = (),
    tune: Mapping[str, Ends] | None = None,
    points: int = 8,
    tune_by: str | None = None,
    probe: Probe | None = None,
    storage: str | Path | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> Comparison:
    """Train a model with one activation after another, and rank them.

    The model's own activation takes part as the baseline. Every activation is trained once for each seed; the same seed
    means the same initial weights and the same random numbers in `fit`, so activations are compared seed by seed.
    Finished trainings are stored, and the same call goes on where it was stopped.

    Args:
        model: a function without arguments that makes the model, or a module. Of a module every seed gets a copy, whose
            submodules are initialised anew by their `reset_parameters()`.
        fit: trains the model it is given and returns a number, or a mapping of measures to numbers; called as
            `fit(model)`, with each tuned number as a keyword, and with `seed=` if it has such an argument.
        activations: what to compare: names, "softplus(beta=3)", formulas, activations, torch callables or modules.
        seeds: how many seeds, or which; if not given, the fewest that could tell any two of the activations apart.
        measure: the measure that decides, a key of what fit returns; several, where others are to be shown with it.
        best: whether "lowest" or "highest" wins.
        replace: which of the model's activations is exchanged, where it has several.
        inputs: arguments for one call of the model, where its forward cannot be read without running it.
        tune: numbers to tune, from a name to (low, high) or a `Range`: {"learning rate": (1e-4, 1e-1)} is passed to fit
            as `learning_rate`. A range of positive numbers over a factor of 10 or more is logarithmic.
        points: how many points every activation tries, the same for all, where something is tuned.
        tune_by: the measure by which a point is chosen (its median over seeds, in the sense of `best`); `measure` if
            not given, which is then the best of so many.
        probe: a function of the model that returns the loss on a batch. With it, gradient health is that of this batch
            before and after the training; without it, that of the first and the last pass of the training.
        storage: where trainings are kept: a path (SQLite file, default `varphi.db`) or URL, as of `varphi study`.
        jobs: how many processes of this machine work on it.
        progress: whether to show a bar on standard error.

    Returns:
        The evidence. `print` shows it; `.report(path)` writes a page; `.to_dict()` is for JSON.

    Raises:
        UnknownActivation: for an unknown name, with the nearest.
        TypeError, ValueError: for a model without activations or that cannot be initialised again, a `fit` that cannot
            be called or gives no number, measures and numbers that cannot be used; before any training, where possible.
        StorageError: for a storage that cannot be used.
        StudyInterrupted: after Ctrl-C; every finished training is stored.
    """
    trial, space = _trial(model, fit, activations, measure, best, replace, inputs, tune, tune_by, probe)
    count = fewest_seeds(math.comb(len(trial.candidates), 2)) if seeds is None else seeds
    told = [c.identity for c in trial.candidates.values()]
    study = declared.study(
        trial,
        seeds=count if isinstance(count, int) else len(count),
        fingerprint=fingerprint(model, fit, probe, told, trial.source.replaced, trial.source.inputs),
        space=space,
        points=points,
    )
    _check_jobs(jobs, trial)
    results = engine.run(study, storage=storage, seeds=count, jobs=jobs, progress=progress)
    _refuse_what_gave_nothing(results)
    # An activation that failed is a result: nothing is missing because of it.
    return Comparison(dataclasses.replace(results, missing=()), trial.places)


def _trial(
    model: ModelLike,
    fit: Fit,
    activations: Iterable[ActivationLike],
    measure: str | Sequence[str] | None,
    best: Best,
    replace: str | None,
    inputs: Iterable[Any],
    tune: Mapping[str, Ends] | None,
    tune_by: str | None,
    probe: Probe | None,
) -> tuple[Trial, dict[str, Any]]:
    """What will be run, and the ranges of what is tuned; everything that can be refused before it is."""
    if not isinstance(model, nn.Module) and not callable(model):
        raise TypeError(f"the model must be a torch.nn.Module or a function that makes one, got {model!r}")
    if best not in ("lowest", "highest"):
        raise ValueError(f"best is 'lowest' or 'highest', got {best!r}")
    space = declared.ranges(tune or {})
    check_fit(fit, tuple(space))
    measures = _measures(measure, tune_by, bool(space))
    source = Source(model, inputs=tuple(inputs))
    uses = source.uses()
    source = dataclasses.replace(source, replaced=chosen_use(uses, replace))
    replaced = [use for use in uses if use.activation == source.replaced]
    competing = candidates(activations, own_label(replaced))
    trial = Trial(
        source=source,
        fit=fit,
        candidates={c.label: c for c in competing},
        places=_tried(source, competing, replaced),
        measures=measures,
        best=best,
        tuned_by=(tune_by or measures[0]) if space else "",
        probe=probe,
    )
    return trial, space


def _measures(measure: str | Sequence[str] | None, tune_by: str | None, tuned: bool) -> tuple[str, ...]:
    if tune_by is not None and not tuned:
        raise ValueError(f"tune_by={tune_by!r} chooses among points, but nothing is tuned: tune={{name: (low, high)}}")
    given = (measure,) if isinstance(measure, str) else tuple(measure or ("result",))
    for name in RESERVED:
        if name in given:
            raise ValueError(f"the name {name!r} is taken by what varphi measures itself; give the measure another one")
    return tuple(dict.fromkeys([*given, *([tune_by] if tune_by else [])]))


def _tried(source: Source, competing: Sequence[Candidate], uses: Sequence[Any]) -> tuple[Place, ...]:
    """The places of the activation, once every candidate has been put there."""
    with seeded(0):
        for candidate in competing:
            source.with_candidate(candidate, 0)
        return places(source.fresh(0), uses)


def _check_jobs(jobs: int, trial: Trial) -> None:
    """Whether other processes can be given the trial."""
    if jobs == 1:
        return
    remedy = "write the model and fit at the top level of a file, or use jobs=1"
    own = getattr(sys.modules["__main__"], "__file__", None)
    mine = [part for part in (trial.fit, trial.source.model, trial.probe) if _module_of(part) == "__main__"]
    if mine and own is None:
        raise ValueError(f"other processes cannot import {mine[0]!r}, which was written in this session: {remedy}")
    try:
        pickle.dumps(trial)
    except Exception as error:
        raise ValueError(f"other processes cannot be given this comparison ({error}): {remedy}") from None


def _module_of(part: Any) -> str:
    return getattr(part, "__module__", None) or type(part).__module__


def _refuse_what_gave_nothing(results: Results) -> None:
    """Raise where no training gave a number: the fault is fit's, not an activation's."""
    study = results.study
    told = [_last_line(failure.traceback) for failure in results.errors]
    unusable = [line.partition(": ")[2] for line in told if line.partition(": ")[0].endswith(UnusableFit.__qualname__)]
    if unusable and not results.rows:
        raise UnusableFit(unusable[-1])
    (contest,) = study.contests
    rows = [row.measures[contest.measure] for row in results.rows]
    if rows and all(bool((values != values).all()) for values in rows):
        raise ValueError(f"fit returned {contest.measure} = NaN for every activation and seed: nothing can be compared")


def _last_line(traceback: str) -> str:
    return traceback.strip().splitlines()[-1] if traceback.strip() else ""
