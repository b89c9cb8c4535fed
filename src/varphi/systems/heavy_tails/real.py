"""The same comparison on real labels: outliers of their own, none, and slipped decimal points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from varphi.study import Claim, Contest, Figure, Outcome, Point, Setting, Size, Study, Tuning
from varphi.study.results import Results, Row
from varphi.study.statistics import holm, number, paired
from varphi.study.verdict import Verdict, judged

from .data import REAL, REAL_ORIGIN, real
from .peers import PEERS, linear
from .training import trained
from .trial import _classical, _one_thread, measured, regret, tensor

CLASSICAL = "linear"
# What the parts are for: labels that are wrong by a factor, in data where the truth is known to be otherwise.
ENGEL, PLAIN, SLIPPED = REAL
WIDTHS = (16, 16)


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], *, steps: int) -> Outcome:
    """One setting of the study `heavy_tails_real`; see `study.declaration.Trial`."""
    rates = [point["learning rate"] for point in points]
    samples, scale = real(setting["data"], seeds)
    if setting["loss"] in PEERS:
        found = _classical(setting["loss"], samples, linear)
        measures = {name: np.tile(values, (len(rates), 1)) for name, values in found.items()}
    else:
        with _one_thread():
            fit = trained(
                *(tensor(samples.x), tensor(samples.y), seeds, rates),
                head=setting["head"],
                loss=setting["loss"],
                method="Adam",
                hidden="gelu",
                widths=WIDTHS,
                steps=steps,
            )
            measures = {n: v.reshape(len(rates), -1) for n, v in measured(fit, samples, len(rates)).items()}
    measures["error"] = measures["error"] * scale
    return Outcome(measures | {"regret": regret(measures["validation_loss"])})


def _applies(setting: Setting) -> bool:
    return (setting["loss"] in PEERS) == (setting["head"] == CLASSICAL)


def _middle(values: np.ndarray) -> float:
    return float(np.median(np.where(np.isnan(values), math.inf, values)))


def _ratios(results: Results, data: str, first: Setting, second: Setting) -> tuple[np.ndarray, np.ndarray]:
    return np.log(results.values("error", data=data, **first)), np.log(results.values("error", data=data, **second))


def _suppression(results: Results) -> Verdict:
    conditions, family = [], []
    for data in results.levels("data"):
        first, second = ({"head": h, "loss": "squared"} for h in ("identity", "median±3 MADN"))
        conditions.append((f"the data are {data}", data))
        family.append(paired(*_ratios(results, data, first, second), f"ln error, identity - bounded, {data}"))
    return judged(family, conditions=conditions)


def _loss_repairs(results: Results) -> Verdict:
    conditions, family = [], []
    for data in results.levels("data"):
        first, second = ({"head": "identity", "loss": loss} for loss in ("squared", "Cauchy"))
        conditions.append((f"the data are {data}", data))
        family.append(paired(*_ratios(results, data, first, second), f"ln error, squared - Cauchy, {data}"))
    return judged(family, conditions=conditions)


CLAIMS = (
    Claim(
        name="a bounded head resists outliers (real labels)",
        quote="This saturation buys robustness to outliers, possibly at the price of learning speed.",
        measure="Logarithm of the median held-out |error| under squared loss, identity minus head of median±3 MADN, "
        "paired over splits, for each data set. Supported if larger for the identity on each (95 %, Holm), 'only if' "
        "where on some; refuted if nowhere larger and somewhere smaller.",
        judge=_suppression,
    ),
    Claim(
        name="a robust loss resists outliers (real labels)",
        quote="[Not the chapter's sentence, but what it is held against:] with a loss of bounded influence the "
        "outlier's excessive influence on the parameter update is weakened, whatever closes the model.",
        measure="Logarithm of the median held-out |error|, identity output, squared loss minus Cauchy likelihood, "
        "paired over splits, for each data set. Supported if larger for squared loss on each (95 %, Holm), 'only if' "
        "where on some; refuted if nowhere larger and somewhere smaller.",
        judge=_loss_repairs,
    ),
)


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    return "; ".join(_told(results, data) for data in results.levels("data")) + "."


def _told(results: Results, data: str) -> str:
    """The best row of a data set and, by the median held-out error, what is not told apart from it."""
    rows = sorted(results.where(data=data), key=lambda row: _middle(row.values("error")))
    best = rows[0]
    family = holm([paired(np.log(row.values("error")), np.log(best.values("error"))) for row in rows[1:]])
    ties = sum(c.sign == "undecided" for c in family)
    worst = rows[-1]
    return (
        f"{data}: {_name(best)} has the lowest median held-out error, {number(_middle(best.values('error')))} "
        f"({ties} of {len(family)} others not told apart), {_name(worst)} the highest, "
        f"{number(_middle(worst.values('error')))}"
    )


def _name(row: Row) -> str:
    return f"{row.setting['head']} with {row.setting['loss']}"


def _figures(results: Results) -> list[Figure]:
    from .figures import real_figures

    return real_figures(results)


STUDY = Study(
    name="heavy_tails_real",
    title="Regression with outliers in real labels",
    question="On real data with outliers of their own, without any, and with slipped decimal points: how do bounded "
    "heads and robust losses on a small net compare with squared loss and with classical robust lines?",
    data=REAL_ORIGIN,
    factors={
        "data": tuple(REAL),
        "head": ("identity", "median±3 MADN", CLASSICAL),
        "loss": ("squared", "absolute", "Huber", "Tukey", "Cauchy", "t3", *PEERS),
    },
    trial=trial,
    measures={
        "regret": "validation loss minus the smallest of the same seed over all learning rates; it chooses the rate",
        "validation_loss": "Cauchy negative log-likelihood of the rows to choose by, its scale their median |residual|",
        "error": "median |prediction - label| over the held-out rows, in the label's unit",
        "top_share": "share of the gradient (with respect to pre-activations) that the largest 1 % of samples carry",
        "tail": "Hill's tail index of that gradient; NaN where fewer than 50 samples have one",
        "saturated": "share of samples at which the head's slope is below a tenth of its largest",
    },
    tuning=Tuning("learning rate", by="regret"),
    claims=CLAIMS,
    sizes={
        "full": Size(
            seeds=40,
            tuning=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03),
            takes="about 8 minutes on one core",
            options={"steps": 400},
        ),
        "demo": Size(
            seeds=20,
            tuning=(0.003, 0.01, 0.03),
            takes="about 2 minutes on one core",
            options={"steps": 300},
            factors={"loss": ("squared", "Huber", "Cauchy", *PEERS)},
        ),
        "smoke": Size(
            seeds=8,
            tuning=(0.003, 0.01, 0.03),
            takes="about 15 seconds",
            options={"steps": 100},
            factors={"loss": ("squared", "Cauchy", "least squares", "Tukey (statsmodels RLM)")},
        ),
    },
    answer=_answer,
    applies=_applies,
    headline=("error", "top_share", "tail", "saturated"),
    figures=_figures,
    contests=tuple(
        Contest(f"Held-out error, {data}", "error", among=("head", "loss"), at={"data": data}) for data in REAL
    ),
    packages=("scikit-learn", "statsmodels", "matplotlib"),
)
