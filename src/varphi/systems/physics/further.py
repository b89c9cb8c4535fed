"""What the studies of one problem in the strong form have in common, whatever the problem."""

from __future__ import annotations

from collections.abc import Callable

from varphi.study import Contest, Figure, Size, Study
from varphi.study.declaration import Trial
from varphi.study.results import Results

from .judging import ACTIVATIONS, MEASURES, answers, peer_claim, smoothness_claim, tool_claim
from .problem import Problem
from .trial import SOLVERS, applies

_ONLY = {"": {}}
_SOME, _FEW = ("tanh", "sin", "relu3", "relu2", "relu"), ("tanh", "relu3", "relu")


def further_study(
    *,
    name: str,
    title: str,
    question: str,
    data: str,
    trial: Trial,
    ends: str,
    called: tuple[str, str],
    iterations: int,
    takes: tuple[str, str],
    references: Callable[..., dict[str, dict[str, float]]],
    drawn: tuple[Callable[[], Problem], str],
    packages: tuple[str, ...] = (),
) -> Study:
    """A study of one problem: which activations solve it, and how nets compare with classical solvers.

    Args:
        name, title, question, data, trial, references: the study's own; see `Study`.
        ends: how its conditions are met, "hard" or "soft".
        called: the problem as a claim's name has it in brackets, and as a sentence has it.
        iterations: of Levenberg-Marquardt at full size.
        takes: how long the sizes "full" and "demo" take.
        drawn: the problem whose truth is drawn, and what is said of it.
        packages: what is used besides scipy, matplotlib and DeepXDE.
    """

    def figures(results: Results) -> list[Figure]:
        from .figures import further_figures

        problem, told = drawn
        return further_figures(results, told, problem())

    word, phrase = called
    full, demo = takes
    return Study(
        name=name,
        title=title,
        question=question,
        data=data,
        factors={"activation": ACTIVATIONS, "solver": SOLVERS},
        trial=trial,
        applies=applies,
        measures=MEASURES,
        claims=(smoothness_claim(word, ends, _ONLY), peer_claim(_ONLY), tool_claim(phrase, _ONLY)),
        sizes={
            "full": Size(10, takes=full, options={"iterations": iterations, "adam": 3000, "lbfgs": 1000}),
            "demo": Size(
                8,
                takes=demo,
                options={"iterations": 60, "adam": 1000, "lbfgs": 400},
                factors={"activation": _SOME},
            ),
            "smoke": Size(
                2,
                takes="about 20 seconds",
                options={"iterations": 8, "adam": 40, "lbfgs": 20},
                factors={"activation": _FEW},
            ),
        },
        answer=answers(),
        batched=False,
        headline=("error", "residual", "fall", "seconds"),
        contests=(Contest("Relative L2 error", "error", among=("activation", "solver"), at={}),),
        references=references,
        figures=figures,
        packages=("scipy", "matplotlib", *packages, "deepxde"),
    )
