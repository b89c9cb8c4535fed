"""One trial of the study: networks trained for every seed, then certified by every method beside one attack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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

METHODS: tuple[Method, ...] = ("product", "pairwise", "lipschitz", "ibp", "crown")
# Of the search for a radius, relative to the attack's.
TOLERANCE = 5e-3
# Radii at which the curves of certified accuracy are read.
RADII = np.linspace(0.0, 1.2, 61)


def trial(
    setting: Setting,
    seeds: Sequence[int],
    points: Sequence[Point],
    *,
    epochs: int,
    constrained_epochs: int,
    samples: int,
    attack_steps: int,
) -> Outcome:
    """One setting of the study `certified`; see `study.declaration.Trial`."""
    net, training = setting["net"], setting["training"]
    limit = constrained_epochs if training == CONSTRAINED else epochs
    with one_thread():
        found = trained(net, setting["activation"], training, tuple(seeds), limit)
        data = split(seeds)
        rows = []
        for i, model in enumerate(found.models):
            x, y = shaped(net, data.held_out.x[i]), data.held_out.y[i]
            rows.append(certified(model, x, y, samples, attack_steps, own_labels=training == EQUAL_WEIGHTS))
    measures = {name: np.array([row[0][name] for row in rows]) for name in rows[0][0]}
    measures["epochs"], measures["reached"] = np.array(found.epochs), np.array(found.reached, float)
    curves = {name: np.stack([row[1][name] for row in rows]) for name in rows[0][1]}
    return Outcome(measures, curves)


def certified(
    model: nn.Module, x: Tensor, y: Tensor, samples: int, attack_steps: int, own_labels: bool
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, " radii"]]]:
    """What is measured of one network, and its curves over `RADII`."""
    with torch.no_grad():
        accuracy = float((model(x).argmax(1) == y).double().mean())
    x, y = x[:samples], y[:samples]
    labels = None if own_labels else y
    found = compare(model, x, labels, methods=METHODS, tol=TOLERANCE, attack_steps=attack_steps, progress=False)
    constant = lipschitz(model, sample=x)
    first = found["product"]
    summary = first.summary()
    measures = {
        "accuracy": accuracy,
        "attacked": summary.attacked,
        "certified": max(best_median(found), 0.0),
        "margin": float(_margins(model, x, first).median()) if summary.correct else math.nan,
        "lipschitz_product": constant.bounds["product"],
        "lipschitz_layered": constant.bounds["layered"],
        "lipschitz_attained": constant.lower,
        "attack_seconds": first.seconds["attack"],
    }
    for method, answer in found.items():
        measures[f"radius_{method}"] = answer.median()
        measures[f"seconds_{method}"] = answer.seconds["proof"]
    curves = {method: answer.certified_accuracy(RADII.tolist()).numpy() for method, answer in found.items()}
    curves["attack"] = first.attacked_accuracy(RADII.tolist()).numpy()
    return measures, curves


def best_median(found: dict[Method, Certificates]) -> float:
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
