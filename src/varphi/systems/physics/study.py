"""Which activations solve the chapter's boundary value problem, in the strong and in the weak form?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varphi.study import Claim, Contest, Figure, Size, Study
from varphi.study.results import Results
from varphi.study.statistics import number
from varphi.study.verdict import Verdict

from .judging import ACTIVATIONS, MEASURES, errors, medians, peer_claim, smoothness_judged, told
from .references import line_references
from .trial import HARD, OURS, SOFT, SOLVERS, WEAK, applies, line_trial

_STRONG = {form: {"form": form} for form in (HARD, SOFT)}
# A curve that nobody would call solved, and one that is.
WRONG, SOLVED, EXPRESSED = 0.1, 1e-4, 0.05


def _suitable(results: Results) -> Verdict:
    counts = {
        (name, form): int((errors(results, name, form=form) <= SOLVED).sum())
        for name in ("tanh", "sin")
        for form in _STRONG
    }
    total = len(results.seeds)
    told = "; ".join(f"{n}, {f}: {c} of {total} at most {SOLVED:g}" for (n, f), c in counts.items())
    good = [f"{n}, {f}" for (n, f), c in counts.items() if c == total]
    if len(good) == len(counts):
        return Verdict("supported", told)
    return Verdict("only if", told, " or ".join(good)) if good else Verdict("refuted", told)


def _unsuitable(results: Results) -> Verdict:
    bad = {form: errors(results, "relu", form=form) for form in _STRONG}
    falls = {form: results.values("fall", activation="relu", solver=OURS, form=form) for form in _STRONG}
    told = "; ".join(
        f"{form}: error {number(float(e.min()))} to {number(float(e.max()))}, residual fell to "
        f"{np.median(falls[form]):.0%}"
        for form, e in bad.items()
    )
    wrong = [form for form, e in bad.items() if (e >= WRONG).all()]
    if len(wrong) == len(bad):
        return Verdict("supported", told)
    return Verdict("only if", told, " or ".join(wrong)) if wrong else Verdict("refuted", told)


def _expressible(results: Results) -> Verdict:
    weak, strong = (errors(results, "relu", form=form) for form in (WEAK, HARD))
    told = (
        f"relu in the weak form: error {number(float(weak.min()))} to {number(float(weak.max()))}; in the strong "
        f"form {number(float(strong.min()))} to {number(float(strong.max()))}"
    )
    if (weak <= EXPRESSED).all():
        return Verdict("refuted", told)
    if (weak >= WRONG).all():
        return Verdict("supported", told)
    return Verdict("undecided", told)


CLAIMS = (
    Claim(
        name="an activation must be as smooth as the equation's order",
        quote="The residual of the equation needs derivatives of the network's output, so the activation must be "
        "smooth to that order (C^k). For a second-order boundary value problem such as -u''(x) = f(x) it must be at "
        "least twice differentiable (C²).",
        measure="Strong form, logarithm of the relative L2 error: each activation that is not C² (relu, elu, relu²) "
        "minus each that is (tanh, sin, softplus, gelu, silu, relu³), paired over seeds, with hard and with soft ends. "
        "Supported if every difference is positive (95 %, Holm), 'only if' where some are, refuted if none is and one "
        "is negative.",
        judge=lambda results: smoothness_judged(results, _STRONG),
    ),
    Claim(
        name="tanh and sin suit the strong form",
        quote="Smooth functions such as tanh(z) or sin(z) are suitable.",
        measure=f"Seeds with a relative L2 error of at most {SOLVED:g}, strong form: supported if all of both "
        "activations with hard and with soft ends, 'only if' where all of some, else refuted.",
        judge=_suitable,
    ),
    Claim(
        name="ReLU does not suit the strong form",
        quote="ReLU (only C⁰) does not suit this strong form, since it has no well-defined, non-zero second derivative "
        "to match the terms of the equation.",
        measure=f"Relative L2 error of relu in the strong form: supported if at least {WRONG:g} on every seed with "
        "hard and with soft ends, 'only if' where with one, else refuted. How far the residual fell is told beside it.",
        judge=_unsuitable,
    ),
    Claim(
        name="only a smooth activation can express the solutions",
        quote="Here the choice of a smooth activation is the precondition for the model to be able to express the "
        "equation's space of solutions at all.",
        measure="The same relu net on the weak form of the same problem: if every seed's relative L2 error is at "
        f"most {EXPRESSED:g}, the net can express the solution and it was the form that failed: refuted. Supported if "
        f"every error is at least {WRONG:g}.",
        judge=_expressible,
    ),
    peer_claim(_STRONG),
)


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    weak = medians(results, form=WEAK)["relu"]
    return f"In the strong form, hard ends, {told(results, form=HARD)} In the weak form relu reaches {number(weak)}."


def _figures(results: Results) -> list[Figure]:
    from .figures import line_figures

    return line_figures(results)


STUDY = Study(
    name="physics",
    title="A boundary value problem by nets",
    question="Which activations solve a second-order boundary value problem in the strong form, what does relu do in "
    "it, and is it the activation or the form that fails?",
    data="none: -u'' = π² sin πx on [0, 1], u(0) = u(1) = 0, u = sin πx",
    factors={"activation": ACTIVATIONS, "form": (HARD, SOFT, WEAK), "solver": SOLVERS},
    trial=line_trial,
    applies=applies,
    measures=MEASURES,
    claims=CLAIMS,
    sizes={
        "full": Size(
            seeds=12,
            takes="about 10 minutes on one core, 10 more with DeepXDE",
            options={"iterations": 120, "adam": 2000, "lbfgs": 1000},
        ),
        "demo": Size(
            seeds=10,
            takes="about 2 minutes on one core, 4 more with DeepXDE",
            options={"iterations": 60, "adam": 1000, "lbfgs": 300},
            factors={"activation": ("tanh", "sin", "relu3", "relu2", "relu")},
        ),
        "smoke": Size(
            seeds=2,
            takes="about 15 seconds",
            options={"iterations": 25, "adam": 40, "lbfgs": 20},
            factors={"activation": ("tanh", "sin", "relu3", "relu")},
        ),
    },
    answer=_answer,
    batched=False,
    headline=("error", "residual", "fall", "seconds"),
    contests=tuple(
        Contest(f"Relative L2 error, {form}", "error", among=("activation", "solver"), at={"form": form})
        for form in (HARD, SOFT, WEAK)
    ),
    references=line_references,
    figures=_figures,
    packages=("scipy", "matplotlib", "deepxde"),
)
