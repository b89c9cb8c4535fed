"""Which activations solve Poisson's equation on an L, whose re-entrant corner makes the slope unbounded?"""

from __future__ import annotations

from .further import further_study
from .references import corner_references
from .trial import corner, corner_trial

STUDY = further_study(
    name="physics_lshape",
    title="Poisson's equation on an L by nets",
    question="On a domain with a re-entrant corner, which activations solve Poisson's equation in the strong form, and "
    "how do nets compare with finite elements?",
    data="none: -Δu = f on (-1, 1)² without its quarter x, y > 0, u = 0 on the boundary; f is such that u = r^(2/3) "
    "sin(2θ/3) (1 - x²)(1 - y²), r and θ from the re-entrant corner",
    trial=corner_trial,
    ends="soft",
    called=("L-shape", "an L"),
    iterations=100,
    takes=(
        "about 10 minutes on one core, 13 more with DeepXDE",
        "about 3 minutes on one core, 3 more with DeepXDE",
    ),
    references=corner_references,
    drawn=(
        corner,
        "−Δu = f on an L, u = 0 on its boundary, with a slope that is unbounded at the re-entrant corner",
    ),
    packages=("scikit-fem",),
)
