"""One trial of the study: networks trained for every seed, then certified by every method beside one attack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.study import Outcome, Point, Setting

from .certificate import Certificates
from .data import split
from .lipschitz import lipschitz
from .radius import Method, compare
from .training import CONSTRAINED, EQUAL_WEIGHTS, shaped, trained

# Which methods are asked, about how many images; the dear ones about a few.
METHODS: tuple[Method, ...] = ("product", "pairwise", "lipschitz", "ibp", "crown")
INF_METHODS: tuple[Method, ...] = ("product", "crown")
FEW_METHODS: tuple[Method, ...] = ("crown", "local-lipschitz", "alpha-crown", "crown-split")
# What a measure's name begins with: L2 about all images, L∞ about all, L2 about a few.
ALL, INF, FEW = "", "inf_", "few_"
# Of the search for a radius, relative to the attack's.
TOLERANCE = 5e-3
# Radii at which the curves of certified accuracy are read, by the same beginnings.
RADII = {ALL: np.linspace(0.0, 1.2, 61), INF: np.linspace(0.0, 0.2, 61)}

Asked: TypeAlias = "dict[Method, Certificates]"


def trial(
    setting: Setting,
    seeds: Sequence[int],
    points: Sequence[Point],
    *,
    epochs: int,
    constrained_epochs: int,
    samples: int,
    few: Mapping[str, int],
    attack_steps: int,
) -> Outcome:
    """One setting of the study `certified`; see `study.declaration.Trial`.

    Args:
        samples: of each network's held-out images, the first so many are certified.
        few: for each net, of how many seeds the dear methods are asked about one image: the first that is classified
            correctly. Of the others their measures are NaN.
    """
    net, training = setting["net"], setting["training"]
    limit = constrained_epochs if training == CONSTRAINED else epochs
    with one_thread():
        found = trained(net, setting["activation"], training, tuple(seeds), limit)
        data = split(seeds)
        rows = []
        for i, model in enumerate(found.models):
            x, y = shaped(net, data.held_out.x[i]), data.held_out.y[i]
            labels = None if training == EQUAL_WEIGHTS else y[:samples]
            accuracy = {"accuracy": _accuracy(model, x, y)}
            measures, curves = certified(model, x[:samples], labels, int(i < few[net]), attack_steps)
            rows.append((accuracy | measures, curves))
    measures = {name: np.array([row[0][name] for row in rows]) for name in rows[0][0]}
    measures["epochs"], measures["reached"] = np.array(found.epochs), np.array(found.reached, float)
    curves = {name: np.stack([row[1][name] for row in rows]) for name in rows[0][1]}
    return Outcome(measures, curves)


def certified(
    model: nn.Module, x: Tensor, labels: Tensor | None, few: int, attack_steps: int
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, " radii"]]]:
    """What is proved of one network, and its curves over `RADII`.

    Args:
        labels: None: radii are of the network's own predictions.
        few: how many images the dear methods are asked about, the first that are classified correctly.
    """

    def ask(methods: tuple[Method, ...], norm: float, x: Tensor, labels: Tensor | None) -> Asked:
        return compare(model, x, labels, norm, methods, tol=TOLERANCE, attack_steps=attack_steps, progress=False)

    asked = {ALL: ask(METHODS, 2, x, labels), INF: ask(INF_METHODS, math.inf, x, labels)}
    first = asked[ALL]["product"]
    chosen = first.correct.nonzero().squeeze(1)[:few]
    measures = _nothing(FEW, FEW_METHODS)
    if len(chosen):
        measures = _medians(FEW, ask(FEW_METHODS, 2, x[chosen], first.label[chosen]))
    constant = lipschitz(model, sample=x)
    measures |= {
        "certified": max(best_median(asked[ALL]), 0.0),
        "margin": float(_margins(model, x, first).median()) if bool(first.correct.any()) else math.nan,
        "lipschitz_product": constant.bounds["product"],
        "lipschitz_layered": constant.bounds["layered"],
        "lipschitz_attained": constant.lower,
    }
    curves: dict[str, np.ndarray] = {}
    for which, found in asked.items():
        measures |= _medians(which, found)
        curves |= _curves(which, found)
    return measures, curves


def _medians(which: str, found: Asked) -> dict[str, float]:
    """Median radii over the correct images, and the seconds that each of these took."""
    first = next(iter(found.values()))
    correct = max(int(first.correct.sum()), 1)
    measures = {
        f"{which}attacked": first.summary().attacked,
        f"{which}attack_seconds": first.seconds["attack"] / correct,
    }
    for method, answer in found.items():
        measures[f"{which}radius_{method}"] = answer.median()
        measures[f"{which}seconds_{method}"] = answer.seconds["proof"] / correct
    return measures


def _nothing(which: str, methods: Sequence[Method]) -> dict[str, float]:
    """The same where they are asked about no image."""
    names = ["attacked", "attack_seconds", *(f"{what}_{m}" for m in methods for what in ("radius", "seconds"))]
    return {f"{which}{name}": math.nan for name in names}


def _curves(which: str, found: Asked) -> dict[str, Float[np.ndarray, " radii"]]:
    radii = RADII[which].tolist()
    curves = {f"{which}{method}": answer.certified_accuracy(radii).numpy() for method, answer in found.items()}
    return curves | {f"{which}attack": next(iter(found.values())).attacked_accuracy(radii).numpy()}


@torch.no_grad()
def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((model(x).argmax(1) == y).double().mean())


def best_median(found: Asked) -> float:
    """The median over correct samples of each one's largest certified radius."""
    correct = next(iter(found.values())).correct
    if not bool(correct.any()):
        return math.nan
    return float(np.median(torch.stack([c.radius[correct] for c in found.values()]).amax(0).numpy()))


@torch.no_grad()
def _margins(model: nn.Module, x: Tensor, found: Certificates) -> Tensor:
    logits = model(x[found.correct]).double()
    label = found.label[found.correct].unsqueeze(1)
    return logits.gather(1, label)[:, 0] - logits.scatter(1, label, -math.inf).amax(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices this small gain little from a second thread, and lose much where another process has the core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
