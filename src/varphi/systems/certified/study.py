"""Which activation gives the larger certified radius, and what decides it? The chapter's claims, on digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varphi.activation.lookup import get
from varphi.study import Claim, Contest, Figure, Size, Study
from varphi.study.results import Results, Row
from varphi.study.statistics import Comparison, number, paired
from varphi.study.verdict import Verdict, judged

from .data import ORIGIN
from .training import ACCURACY, CNN, CONSTRAINED, EQUAL_ACCURACY, EQUAL_WEIGHTS, MLP
from .trial import FEW, FEW_METHODS, INF, INF_METHODS, METHODS, trial

ACTIVATIONS = ("relu", "tanh", "sigmoid", "softplus", "gelu", "silu", "mish", "sin", "elu")
_NAMES = {
    "product": "the chapter's bound, margin / (√2·Π‖W‖·αⁿ)",
    "pairwise": "the same for each pair of classes, margin / (‖w_y - w_j‖·Π‖W‖·αⁿ)",
    "lipschitz": "the smaller of that and the layered recursion",
    "ibp": "intervals",
    "crown": "CROWN",
    "local-lipschitz": "layered recursion with slopes of the ball itself",
    "alpha-crown": "CROWN with slopes optimised",
    "crown-split": "CROWN with the ball cut into cells",
}
# One (MLP) to six seconds (CNN) an image: too dear for all of them.
_FEW = "the first correct image of each of the first seeds, as many as the option `few` says (NaN for the others)"
_SECONDS = "wall time of the proof for each correct image"


# Claims --------------------------------------------------------------------------------------------------------------


def _steadier(results: Results) -> Verdict:
    """Rank correlation over activations, for each seed; and 1-Lipschitz layers against none."""
    conditions, family = [], []
    for net in results.levels("net"):
        rows = results.where(net=net, training=EQUAL_ACCURACY)
        steepness = np.stack([row.values("lipschitz_layered") for row in rows])
        attacked = np.stack([row.values("attacked") for row in rows])
        ranks = np.array([_spearman(-a, b) for a, b in zip(steepness.T, attacked.T, strict=True)])
        conditions.append(("over activations at equal accuracy", net))
        family.append(paired(ranks, np.zeros_like(ranks), f"rank correlation of 1/L and attack radius, {net}"))
        first, second = (_mean_over_activations(results, net, t) for t in (CONSTRAINED, EQUAL_ACCURACY))
        conditions.append(("the layers are 1-Lipschitz", net))
        family.append(paired(first, second, f"attack radius, 1-Lipschitz - plain, {net}"))
    return judged(family, conditions=conditions)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    ranks = np.stack([np.argsort(np.argsort(v)).astype(float) for v in (a, b)])
    return float(np.corrcoef(ranks)[0, 1])


def _mean_over_activations(results: Results, net: str, training: str) -> np.ndarray:
    return np.mean([row.values("attacked") for row in results.where(net=net, training=training)], axis=0)


def _bounded(results: Results) -> Verdict:
    ratios = {}
    for name in ("product", "layered"):
        values = [row.values(f"lipschitz_{name}") / row.values("lipschitz_attained") for row in results.rows]
        ratios[name] = np.concatenate(values)
    told = "; ".join(
        f"{name} / attained: median {np.median(r):.3f}, from {r.min():.4f} to {r.max():.3g}"
        for name, r in ratios.items()
    )
    wrong = int((ratios["product"] < 1).sum())
    total = len(ratios["product"])
    if wrong:
        return Verdict("refuted", f"the product is below what is attained in {wrong} of {total} networks; {told}")
    return Verdict("supported", f"{total} networks; {told}")


def _slopes(results: Results) -> Verdict:
    from varphi.facts.api import facts

    found = {name: facts(get(name)).lipschitz for name in ("sigmoid", "relu")}
    told = ", ".join(f"sup|f′| of {name} in [{b.lower:.15g}, {b.upper:.15g}]" for name, b in found.items())
    right = 0.25 in found["sigmoid"] and 1.0 in found["relu"] and all(b.width < 1e-12 for b in found.values())
    return Verdict("supported" if right else "refuted", told)


def _log_ratio(results: Results, measure: str, larger: str, smaller: str, net: str, training: str) -> Comparison:
    setting = {"net": net, "training": training}
    first, second = (np.log(results.values(measure, activation=a, **setting)) for a in (larger, smaller))
    return paired(first, second, f"ln {measure}, {larger} - {smaller}, {training}, {net}")


def _smaller_constant(results: Results) -> Verdict:
    conditions, family = [], []
    for net in results.levels("net"):
        for training in (EQUAL_WEIGHTS, EQUAL_ACCURACY):
            conditions.append((f"at {training}", net))
            family.append(_log_ratio(results, "lipschitz_product", "relu", "sigmoid", net, training))
    return _with_medians(results, judged(family, conditions=conditions), "lipschitz_product")


def _larger_radius(results: Results) -> Verdict:
    conditions, family = [], []
    for net in results.levels("net"):
        for training, measure, what in (
            (EQUAL_WEIGHTS, "radius_product", "by the chapter's bound at equal weights"),
            (EQUAL_ACCURACY, "radius_product", "by the chapter's bound at equal accuracy"),
            (EQUAL_ACCURACY, "certified", "by the best bound at equal accuracy"),
        ):
            conditions.append((what, net))
            family.append(_log_ratio(results, measure, "sigmoid", "relu", net, training))
    return _with_medians(results, judged(family, conditions=conditions), "radius_product")


def _with_medians(results: Results, found: Verdict, measure: str) -> Verdict:
    told = []
    for net in results.levels("net"):
        for training in (EQUAL_WEIGHTS, EQUAL_ACCURACY):
            values = [results.values(measure, net=net, training=training, activation=a) for a in ("relu", "sigmoid")]
            relu, sigmoid = (number(float(np.median(v))) for v in values)
            told.append(f"{net}, {training}: ReLU {relu}, sigmoid {sigmoid}")
    evidence = f"median {measure}: {'; '.join(told)}; logarithms: {found.evidence}"
    return Verdict(found.status, evidence, found.condition, found.comparisons)


CLAIMS = (
    Claim(
        name="a small Lipschitz constant makes a model robust",
        quote="With a small Lipschitz constant a small perturbation of the input changes the output only a little, "
        "which makes the model more robust.",
        measure="Robustness is the median distance of the nearest adversarial input that the attack finds. (a) For "
        "each seed, Spearman's rank correlation over activations, at equal accuracy, of that with 1/L, L the proved "
        "layered bound; (b) the same distance, mean over activations, with 1-Lipschitz layers minus without. "
        "Supported if both are above 0 for each net (95 %, Holm), 'only if' where one is.",
        judge=_steadier,
    ),
    Claim(
        name="the product over the layers bounds the network",
        quote="The network's Lipschitz constant can be bounded by the product of the norms of its layers' weight "
        "matrices and of the Lipschitz constants of its activations; that of f is limited by α_f = sup|f'(t)|.",
        measure="The proved product over the largest ‖Jacobian‖₂ that a search finds, in every network. Supported if "
        "never below 1, else refuted. Beside it the same for the layered recursion.",
        judge=_bounded,
    ),
    Claim(
        name="sup|f'| is 0.25 for the sigmoid, 1 for ReLU",
        quote="An activation whose derivative has a small upper bound, such as the sigmoid (0.25) compared with ReLU "
        "(1).",
        measure="The certified supremum of |f′| over the real line, from ball arithmetic. Supported if the enclosures "
        "hold 0.25 and 1 and are narrower than 1e-12.",
        judge=_slopes,
    ),
    Claim(
        name="a sigmoid network has the smaller Lipschitz constant",
        quote="With such an activation one can, in theory, build a network with a smaller global Lipschitz constant "
        "than with ReLU.",
        measure="Logarithm of the proved product bound, ReLU minus sigmoid, paired over seeds, at equal weights and "
        "at equal accuracy. Supported if above 0 under both for each net (95 %, Holm), 'only if' where in some.",
        judge=_smaller_constant,
    ),
    Claim(
        name="its certified radius is larger",
        quote="This translates directly into a larger certified radius: the region around an input in which no "
        "adversarial perturbation changes the prediction.",
        measure="Logarithm of the median certified radius (L2), sigmoid minus ReLU, paired over seeds: the chapter's "
        "bound at equal weights (radii of the predictions, whatever they are), the chapter's bound at equal accuracy, "
        "the best bound of each sample at equal accuracy. Supported if above 0 under each for each net (95 %, Holm), "
        "'only if' where in some; refuted if in none and below 0 in some.",
        judge=_larger_radius,
    ),
)


# Answer --------------------------------------------------------------------------------------------------------------


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    net = results.levels("net")[0]
    rows = results.where(net=net, training=EQUAL_ACCURACY)
    best = max(rows, key=lambda row: float(np.median(row.values("certified"))))
    relu = results.one(net=net, training=EQUAL_ACCURACY, activation="relu")
    constrained = max(
        results.where(net=net, training=CONSTRAINED), key=lambda row: float(np.median(row.values("certified")))
    )

    def told(row: Row, measure: str) -> str:
        return number(float(np.median(row.values(measure))))

    return (
        f"At equal accuracy ({net}) the largest median certified radius is {best.setting['activation']}'s, "
        f"{told(best, 'certified')} (attack {told(best, 'attacked')}); with ReLU the chapter's bound gives "
        f"{told(relu, 'radius_product')}, the pairwise one {told(relu, 'radius_pairwise')}, the layered recursion "
        f"{told(relu, 'radius_lipschitz')} and CROWN {told(relu, 'radius_crown')}. Trained within 1-Lipschitz layers "
        f"the largest is {constrained.setting['activation']}'s, {told(constrained, 'certified')} at an accuracy of "
        f"{told(constrained, 'accuracy')}, beside {told(best, 'accuracy')}."
    )


def _figures(results: Results) -> list[Figure]:
    from .figures import figures

    return figures(results)


# The study -----------------------------------------------------------------------------------------------------------

STUDY = Study(
    name="certified",
    title="Certified robustness",
    question="Does an activation with a small slope give a larger certified radius, at equal weights and at equal "
    "accuracy; what does each way of proving a radius cost and give; and what does training within 1-Lipschitz layers?",
    data=ORIGIN,
    factors={
        "net": (MLP, CNN),
        "training": (EQUAL_WEIGHTS, EQUAL_ACCURACY, CONSTRAINED),
        "activation": ACTIVATIONS,
    },
    trial=trial,
    measures={
        "accuracy": "share of the 397 held-out images that are classified correctly",
        "reached": f"1 where training stopped because {ACCURACY:.0%} of 200 validation images were right, else 0",
        "epochs": "of training",
        "certified": "median over correct images of the largest radius (L2) that any method asked about all proves",
        **{f"radius_{m}": f"median certified radius (L2): {_NAMES[m]}" for m in METHODS},
        "attacked": "median distance (L2) of the nearest adversarial input found; no certified radius can be larger",
        **{f"{INF}radius_{m}": f"median certified radius (L∞): {_NAMES[m]}" for m in INF_METHODS},
        f"{INF}attacked": "median distance (L∞) of the nearest adversarial input found",
        **{f"{FEW}radius_{m}": f"median certified radius (L2), {_FEW}: {_NAMES[m]}" for m in FEW_METHODS},
        f"{FEW}attacked": f"median distance (L2) of the nearest adversarial input found, {_FEW}",
        "margin": "median margin of the logits",
        "lipschitz_product": "global Lipschitz constant (L2), proved, by the product of the layers' norms",
        "lipschitz_layered": "the same by the layered recursion",
        "lipschitz_attained": "the largest ‖Jacobian‖₂ found",
        **{f"seconds_{m}": f"{_SECONDS} (L2): {_NAMES[m]}" for m in METHODS},
        **{f"{INF}seconds_{m}": f"{_SECONDS} (L∞): {_NAMES[m]}" for m in INF_METHODS},
        **{f"{FEW}seconds_{m}": f"{_SECONDS} (L2), {_FEW}: {_NAMES[m]}" for m in FEW_METHODS},
        "attack_seconds": "wall time of the attack (L2) for each correct image",
        f"{INF}attack_seconds": "the same in L∞",
        f"{FEW}attack_seconds": f"the same in L2, {_FEW}",
    },
    claims=CLAIMS,
    sizes={
        "full": Size(
            seeds=10,
            takes="about 40 minutes on one core",
            options={
                "epochs": 80,
                "constrained_epochs": 40,
                "samples": 20,
                "few": {MLP: 10, CNN: 3},
                "attack_steps": 60,
            },
        ),
        "demo": Size(
            seeds=8,
            takes="about 2.5 minutes on one core",
            options={"epochs": 80, "constrained_epochs": 12, "samples": 12, "few": {MLP: 2}, "attack_steps": 30},
            factors={"net": (MLP,), "activation": ("relu", "tanh", "sigmoid", "gelu")},
        ),
        "smoke": Size(
            seeds=2,
            takes="about 20 seconds",
            options={"epochs": 4, "constrained_epochs": 1, "samples": 4, "few": {MLP: 1}, "attack_steps": 5},
            factors={"net": (MLP,), "activation": ("relu", "sigmoid")},
        ),
    },
    answer=_answer,
    headline=(
        "accuracy",
        "certified",
        *(f"radius_{m}" for m in METHODS),
        "attacked",
        f"{INF}radius_crown",
        f"{INF}attacked",
    ),
    contests=tuple(
        Contest(
            f"Best certified radius, {net}, {training}",
            "certified",
            among=("activation",),
            at={"net": net, "training": training},
            best="highest",
        )
        for net in (MLP, CNN)
        for training in (EQUAL_ACCURACY, CONSTRAINED)
    ),
    figures=_figures,
    packages=("scikit-learn", "matplotlib"),
)
