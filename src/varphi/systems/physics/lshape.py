"""Which activations solve Poisson's equation on an L, whose re-entrant corner makes the slope unbounded?"""

from __future__ import annotations

from varphi.study import Contest, Figure, Size, Study
from varphi.study.results import Results

from .judging import ACTIVATIONS, MEASURES, answers, peer_claim, smoothness_claim, tool_claim
from .references import corner_references
from .trial import SOLVERS, applies, corner_trial

_ONLY = {"": {}}


def _figures(results: Results) -> list[Figure]:
    from .figures import corner_figures

    return corner_figures(results)


STUDY = Study(
    name="physics_lshape",
    title="Poisson's equation on an L by nets",
    question="On a domain with a re-entrant corner, which activations solve Poisson's equation in the strong form, and "
    "how do nets compare with finite elements?",
    data="none: -Δu = f on (-1, 1)² without its quarter x, y > 0, u = 0 on the boundary; f is such that u = r^(2/3) "
    "sin(2θ/3) (1 - x²)(1 - y²), r and θ from the re-entrant corner",
    factors={"activation": ACTIVATIONS, "solver": SOLVERS},
    trial=corner_trial,
    applies=applies,
    measures=MEASURES,
    claims=(
        smoothness_claim("L-shape", "soft", _ONLY),
        peer_claim(_ONLY),
        tool_claim("an L", _ONLY),
    ),
    sizes={
        "full": Size(
            seeds=10,
            takes="about 10 minutes on one core, 13 more with DeepXDE",
            options={"iterations": 100, "adam": 3000, "lbfgs": 1000},
        ),
        "demo": Size(
            seeds=8,
            takes="about 3 minutes on one core, 3 more with DeepXDE",
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
    references=corner_references,
    figures=_figures,
    packages=("scipy", "matplotlib", "scikit-fem", "deepxde"),
)
