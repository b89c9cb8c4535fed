"""Which activation should close a model whose output is never negative? The chapter's claims, on real counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from varphi.activation.lookup import get
from varphi.study import Claim, Contest, Figure, Setting, Size, Study, Tuning
from varphi.study.ranking import Ranking
from varphi.study.results import Results, Row
from varphi.study.statistics import Share, number, paired, share
from varphi.study.verdict import Verdict, judged

from .data import ORIGIN
from .references import references
from .training import HEADS, HIDDEN, trial

RELU = "relu"
SOFTPLUS = "softplus"


def _applies(setting: Setting) -> bool:
    # The noiseless target is there to measure a bias: one loss and a start that let every head learn are enough.
    if setting["target"] == "clipped":
        return (setting["loss"], setting["start"]) == ("mse", "mean")
    # revive_ leaves heads alone that are not dead, and no other head is dead at -3.
    return setting["start"] != "-3 revived" or setting["activation"] == RELU


# Claims --------------------------------------------------------------------------------------------------------------


def _runs(results: Results, measure: str, activation: str) -> Share:
    """How many runs (settings × seeds) of an activation have a measure above 0."""
    return share(np.concatenate([row.values(measure) > 0 for row in results.where(activation=activation)]))


def _only_relu(results: Results, measure: str) -> Verdict:
    shares = {name: _runs(results, measure, name) for name in results.levels("activation")}
    others = {name: found for name, found in shares.items() if name != RELU}
    offenders = [name for name, s in others.items() if s.count]
    innocent = [name for name in others if name not in offenders]
    none = share(np.zeros(sum(others[name].total for name in innocent), bool))
    told = "; ".join(
        [
            *(f"{name} in {shares[name]} runs" for name in (RELU, *offenders)),
            f"{', '.join(innocent)} in {none} together",
        ]
    )
    if offenders:
        return Verdict("refuted", told)
    return Verdict("supported" if shares[RELU].count else "undecided", told)


def _exact_zeros(results: Results) -> Verdict:
    found = _only_relu(results, "zeros")
    exact = _only_relu(results, "zeros_in_float64")
    if found.status == "refuted" and exact.status == "supported":
        condition = "computed in enough digits: in float32 a softplus underflows to 0 where βz < -104"
        return Verdict("only if", f"{found.evidence}; the same weights in float64: {exact.evidence}", condition)
    return found


def _dead_outputs(results: Results) -> Verdict:
    return _only_relu(results, "dead")


def _bias_near_zero(results: Results) -> Verdict:
    conditions, family = [], []
    for net in results.levels("net"):
        setting = {"net": net, "loss": "mse", "start": "mean"}
        for target, measure, condition in (
            ("clipped", "at_true_zeros", "the truth is exactly 0 on a region of inputs"),
            ("visits", "bias_at_low_end", "the target is a noisy count"),
        ):
            soft, hard = (results.values(measure, target=target, activation=a, **setting) for a in (SOFTPLUS, RELU))
            conditions.append((condition, net))
            # On the noiseless target any prediction above the true 0 is bias; on counts its size is what compares.
            family.append(paired(np.abs(soft), np.abs(hard), f"softplus - ReLU, {condition}, {net}"))
    touched = _runs(results, "zeros", SOFTPLUS)
    found = judged(family, conditions=conditions)
    if touched.count:
        return Verdict("refuted", f"softplus predicted an exact 0 in {touched} runs", comparisons=found.comparisons)
    evidence = f"softplus exactly 0 in {touched.count} of {touched.total} runs; extra bias in visits: {found.evidence}"
    return Verdict(found.status, evidence, found.condition, found.comparisons)


def _one_lipschitz(results: Results) -> Verdict:
    from varphi.facts.api import facts

    bounds = {name: facts(get(name)).lipschitz for name in (RELU, SOFTPLUS)}
    told = ", ".join(f"{name}: sup|f′| in [{b.lower:.15g}, {b.upper:.15g}]" for name, b in bounds.items())
    steepest = max(row.values("steepest").max() for row in results.rows if row.setting["activation"] in bounds)
    evidence = f"certified {told}; steepest slope seen in training {number(float(steepest))}"
    if all(b.upper <= 1 + 1e-12 for b in bounds.values()):
        return Verdict("supported", evidence)
    if any(b.lower > 1 for b in bounds.values()):
        return Verdict("refuted", evidence)
    return Verdict("undecided", evidence)


def _more_stable(results: Results) -> Verdict:
    conditions, family = [], []
    for net, loss in itertools.product(results.levels("net"), results.levels("loss")):
        spread = [_spread_over_starts(results, a, net, loss) for a in (RELU, SOFTPLUS)]
        conditions.append(("the bias may start badly", f"{net}, {loss}"))
        family.append(paired(spread[0], spread[1], f"ReLU - softplus, spread over starts, {net}, {loss}"))
        scatter = [_scatter_over_seeds(results, a, net, loss) for a in (RELU, SOFTPLUS)]
        conditions.append(("only the seed varies", f"{net}, {loss}"))
        family.append(paired(scatter[0], scatter[1], f"ReLU - softplus, scatter over seeds, {net}, {loss}"))
    lost = {a: _lost(results, a) for a in (RELU, SOFTPLUS)}
    found = judged(family, conditions=conditions)
    evidence = f"dead or diverged: ReLU {lost[RELU]}, softplus {lost[SOFTPLUS]}; in held-out RMSE: {found.evidence}"
    return Verdict(found.status, evidence, found.condition, found.comparisons)


def _plain_starts(results: Results) -> list[str]:
    return [start for start in results.levels("start") if not start.endswith("revived")]


def _spread_over_starts(results: Results, activation: str, net: str, loss: str) -> np.ndarray:
    """For each seed, the largest minus the smallest held-out RMSE among the starts."""
    setting = {"target": "visits", "activation": activation, "net": net, "loss": loss}
    return np.ptp([results.values("rmse", start=s, **setting) for s in _plain_starts(results)], axis=0)


def _scatter_over_seeds(results: Results, activation: str, net: str, loss: str) -> np.ndarray:
    """For each seed, how far its held-out RMSE lies from the median seed's, started at the data's mean."""
    rmse = results.values("rmse", target="visits", activation=activation, net=net, loss=loss, start="mean")
    return np.abs(rmse - np.median(rmse))


def _lost(results: Results, activation: str) -> Share:
    rows = [
        r for r in results.where(activation=activation, target="visits") if not r.setting["start"].endswith("revived")
    ]
    return share(np.concatenate([(r.values("dead") > 0) | (r.values("diverged") > 0) for r in rows]))


CLAIMS = (
    Claim(
        name="exact zeros only from ReLU",
        quote="ReLU can output exactly zero, which matters for modelling quantities that can truly be zero [...] "
        "Softplus can only approach zero asymptotically and cannot output exact zeros.",
        measure="Runs (settings × seeds) with at least one held-out prediction equal to 0. Supported if ReLU has such "
        "runs and no other activation has; 'only if' where the others' zeros are gone when the same weights are "
        "evaluated in float64; refuted if another has them there too. (The clause on float64 was added after a first "
        "run had shown the underflow of softplus(5z) in float32; without it that run reads 'refuted'.)",
        judge=_exact_zeros,
    ),
    Claim(
        name="dead outputs only from ReLU",
        quote="If a neuron's pre-activation stays negative, its gradient is always zero and it stops learning (the "
        "'dying ReLU' problem). [...] Softplus [...] has a derivative that is always positive, so neurons do not die.",
        measure="Runs in which, after training, f′(z) is exactly 0 on every training row. Supported if ReLU has such "
        "runs and no other activation has; refuted if another has.",
        judge=_dead_outputs,
    ),
    Claim(
        name="softplus is biased near zero",
        quote="Softplus [...] cannot output exact zeros, which may introduce a small systematic bias in tasks that "
        "need exact zeros.",
        measure="|mean of prediction - truth|, softplus minus ReLU, paired over seeds (squared error, start at the "
        "mean): on a noiseless target, over held-out rows whose truth is 0; on the visits, over the tenth of held-out "
        "rows with the lowest predictions. Supported if larger for softplus under each, 'only if' where in some (95 %, "
        "Holm); refuted if softplus ever predicts an exact 0, or is nowhere worse and somewhere better.",
        judge=_bias_near_zero,
    ),
    Claim(
        name="ReLU and softplus are 1-Lipschitz",
        quote="Both functions are Lipschitz continuous (ReLU is 1-Lipschitz, and so is Softplus), which helps to "
        "control the behaviour of gradients and keeps them from exploding because of the activation itself.",
        measure="The certified supremum of |f′| over the real line, from ball arithmetic. Supported if both are "
        "at most 1.",
        judge=_one_lipschitz,
    ),
    Claim(
        name="softplus trains more stably",
        quote="Softplus is smooth and differentiable everywhere, with a derivative that is always positive; it avoids "
        "dying neurons and may lead to a more stable optimisation.",
        measure="Held-out RMSE of the visits (finite also where the deviance is not), ReLU minus softplus, paired over "
        "seeds: (a) largest minus smallest over the bias starts 0, mean, -3; (b) distance from the median seed at the "
        "start 'mean'; for each net and loss. Supported if larger for ReLU under each, 'only if' where in some (95 %, "
        "Holm), refuted if in none and smaller in some. Beside it, runs that end dead or diverged.",
        judge=_more_stable,
    ),
)


# Answer --------------------------------------------------------------------------------------------------------------


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    contest, found = _best_ranking(results)
    relu = [row for row in results.where(activation=RELU, target="visits")]
    infinite = share(np.concatenate([np.isinf(row.values("deviance")) for row in relu]))
    dead = {start: _dead_at(relu, start) for start in results.levels("start")}
    told = ", ".join(f"{s.count} of {s.total} from {start}" for start, s in dead.items())
    return (
        f"By held-out Poisson deviance of the visits, started at the data's mean ({contest.at['net']}, "
        f"{contest.at['loss']} loss, the best of {len(results.rankings)}): {found.sentence()} ReLU's exact zeros make "
        f"its deviance infinite in {infinite.count} of {infinite.total} runs, and ReLU heads ended dead in {told}."
    )


def _best_ranking(results: Results) -> tuple[Contest, Ranking]:
    """The ranking of the net and loss with the lowest median."""
    return min(results.rankings, key=lambda ranked: ranked[1].places[0].median)


def _dead_at(rows: Sequence[Row], start: str) -> Share:
    return share(np.concatenate([row.values("dead") > 0 for row in rows if row.setting["start"] == start]))


def _figures(results: Results) -> list[Figure]:
    from .figures import figures

    return figures(results)


# The study -----------------------------------------------------------------------------------------------------------

STUDY = Study(
    name="constrained",
    title="Non-negative regression",
    question="For a target that is never negative and often exactly zero, what does the choice between ReLU, "
    "softplus(β), squareplus, exp and no constraint do to held-out deviance, to predicted zeros, to the bias near "
    "zero, to dead outputs and to the stability of training?",
    data=ORIGIN,
    factors={
        "target": ("visits", "clipped"),
        "net": tuple(HIDDEN),
        "loss": ("mse", "poisson"),
        "start": ("mean", "0", "-3", "-3 revived"),
        "activation": tuple(HEADS),
    },
    trial=trial,
    measures={
        "validation_loss": "mean of the trained loss over the validation rows; it chooses the learning rate",
        "deviance": "mean Poisson deviance over the held-out rows; ∞ where a positive count was given likelihood 0",
        "rmse": "root mean squared error over the held-out rows, in visits",
        "zeros": "share of held-out predictions that are exactly 0",
        "zeros_in_float64": "the same with the trained weights evaluated in float64",
        "negative": "share of held-out predictions below 0",
        "at_true_zeros": "mean prediction over held-out rows whose target is 0, in visits",
        "bias_at_low_end": "mean of prediction - target over the tenth of held-out rows with the lowest predictions",
        "dead": "1 where f′(z) is exactly 0 on every training row after training, else 0",
        "dead_at_start": "the same before training",
        "diverged": "1 where a held-out prediction is NaN or infinite, else 0",
        "steepest": "largest |f′(z)| over the training rows after training",
    },
    tuning=Tuning("learning rate", by="validation_loss"),
    claims=CLAIMS,
    sizes={
        "full": Size(
            seeds=20,
            tuning=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
            takes="about 20 minutes on one core",
            options={"epochs": 40, "batch": 500},
        ),
        "demo": Size(
            seeds=10,
            tuning=(0.003, 0.01, 0.03, 0.1, 0.3),
            takes="about 80 seconds on one core",
            options={"epochs": 10, "batch": 500},
            factors={"start": ("mean", "-3", "-3 revived")},
        ),
        "smoke": Size(
            seeds=6,
            tuning=(0.03, 0.1),
            takes="about 5 seconds",
            options={"epochs": 1, "batch": 500},
            factors={"net": ("linear",), "start": ("mean", "-3"), "activation": ("relu", "softplus", "exp")},
        ),
    },
    answer=_answer,
    applies=_applies,
    headline=("deviance", "rmse", "zeros", "negative", "dead", "diverged"),
    contests=tuple(
        Contest(
            f"Held-out Poisson deviance, {net}, {loss} loss",
            "deviance",
            among=("activation",),
            at={"target": "visits", "net": net, "loss": loss, "start": "mean"},
        )
        for net, loss in itertools.product(HIDDEN, ("mse", "poisson"))
    ),
    references=references,
    figures=_figures,
    packages=("statsmodels", "pandas", "matplotlib"),
)
