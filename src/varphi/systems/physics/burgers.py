"""Which activations solve Burgers' equation in time, whose front steepens?"""

from __future__ import annotations

from .further import further_study
from .references import front_references
from .trial import VISCOSITY, front, front_trial

STUDY = further_study(
    name="physics_burgers",
    title="Burgers' equation by nets",
    question="For an equation in time whose solution steepens to a front, which activations solve it in the strong "
    "form, and how do nets compare with classical solvers?",
    data=f"none: u_t + u u_x = {VISCOSITY} u_xx on [-1, 1] × [0, 1], u = -sin πx at t = 0, u = 0 at both ends; the "
    "truth by Cole and Hopf",
    trial=front_trial,
    ends="hard",
    called=("Burgers", "Burgers' equation"),
    iterations=120,
    takes=(
        "about 14 minutes on one core, 10 more with DeepXDE",
        "about 4 minutes on one core, 3 more with DeepXDE",
    ),
    references=front_references,
    drawn=(front, "Burgers' equation, whose front at x = 0 steepens until about t = 0.4"),
)
