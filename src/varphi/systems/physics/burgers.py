"""Which activations solve Burgers' equation in time, whose front steepens?"""

from __future__ import annotations

from varphi.study import Contest, Figure, Size, Study
from varphi.study.results import Results

from .judging import ACTIVATIONS, MEASURES, answers, peer_claim, smoothness_claim, tool_claim
from .references import front_references
from .trial import SOLVERS, VISCOSITY, applies, front_trial

_ONLY = {"": {}}


def _figures(results: Results) -> list[Figure]:
    from .figures import front_figures

    return front_figures(results)


STUDY = Study(
    name="physics_burgers",
    title="Burgers' equation by nets",
    question="For an equation in time whose solution steepens to a front, which activations solve it in the strong "
    "form, and how do nets compare with classical solvers?",
    data=f"none: u_t + u u_x = {VISCOSITY} u_xx on [-1, 1] × [0, 1], u = -sin πx at t = 0, u = 0 at both ends; the "
    "truth by Cole and Hopf",
    factors={"activation": ACTIVATIONS, "solver": SOLVERS},
    trial=front_trial,
    applies=applies,
    measures=MEASURES,
    claims=(
        smoothness_claim("Burgers", "hard", _ONLY),
        peer_claim(_ONLY),
        tool_claim("Burgers' equation", _ONLY),
    ),
    sizes={
        "full": Size(
            seeds=10,
            takes="about 14 minutes on one core, 10 more with DeepXDE",
            options={"iterations": 120, "adam": 3000, "lbfgs": 1000},
        ),
        "demo": Size(
            seeds=8,
            takes="about 4 minutes on one core, 3 more with DeepXDE",
            options={"iterations": 60, "adam": 1000, "lbfgs": 400},
            factors={"activation": ("tanh", "sin", "relu3", "relu2", "relu")},
        ),
        "smoke": Size(
            seeds=2,
            takes="about 20 seconds",
            options={"iterations": 8, "adam": 40, "lbfgs": 20},
            factors={"activation": ("tanh", "relu3", "relu")},
        ),
    },
    answer=answers(),
    batched=False,
    headline=("error", "residual", "fall", "seconds"),
    contests=(Contest("Relative L2 error", "error", among=("activation", "solver"), at={}),),
    references=front_references,
    figures=_figures,
    packages=("scipy", "matplotlib", "deepxde"),
)
