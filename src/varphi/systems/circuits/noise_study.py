"""Does the incoherent loop's pulse survive noise? Exact stochastic courses over random parameter sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varphi.study import Claim, Outcome, Point, Setting, Size, Study
from varphi.study.results import Results
from varphi.study.statistics import paired
from varphi.study.verdict import Verdict, judged

from .circuit import Circuit
from .measures import Pulse
from .noise import noisy_pulse
from .sampling import Range, sampled

# One decade around the input's level and time: with two, single courses would have millions of events.
RANGES = {
    name: Range(10**-0.5, 10**0.5) for name in ("alpha_Y", "alpha_Z", "beta_Y", "beta_Z", "K_X_Y", "K_X_Z", "K_Y_Z")
}
MOLECULES = (10.0, 100.0, 1000.0)
STEEPNESS = (1.0, 2.0, 4.0)


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], *, sets: int, runs: int) -> Outcome:
    """The loop at one steepness and number of molecules, over parameter sets with a pulse; see `declaration.Trial`."""
    circuit = Circuit.ffl("I1", "AND", n=setting["n"])
    rows = []
    for seed in seeds:
        given = sampled(RANGES, 20 * sets, seed)
        pulses = circuit.respond(("X", 0.0, 1.0), parameters=given, threads=1, progress=False).pulses()
        which = np.flatnonzero(pulses.present)[:sets]
        found = []
        for i in which:
            pulse = pulses[int(i)]
            assert isinstance(pulse, Pulse)
            values = {name: float(v[i]) for name, v in given.items()}
            told = noisy_pulse(
                circuit, ("X", 0.0, 1.0), pulse, setting["molecules"], parameters=values, runs=runs,
                seed=1000 * seed + int(i),
            )  # fmt: skip
            if told is not None:
                found.append(told)
        rows.append(
            {
                "of_mean": np.mean([f.of_mean for f in found]) if found else np.nan,
                "detected": np.mean([f.detected for f in found]) if found else np.nan,
                "mostly": np.mean([f.detected > 0.5 for f in found]) if found else np.nan,
                "lost": sets - len(found),
            }
        )
    return Outcome({name: np.array([row[name] for row in rows], float) for name in rows[0]})


def _survives(results: Results) -> Verdict:
    family, conditions = [], []
    for n in results.levels("n"):
        for molecules in results.levels("molecules"):
            where = f"n = {n:g}, {molecules:g} molecules"
            for measure, what in (("of_mean", "the mean course is meant"), ("detected", "single courses are meant")):
                values = results.values(measure, n=n, molecules=molecules)
                family.append(paired(values, np.full(len(values), 0.5), f"{measure} - 1/2, {where}"))
                conditions.append((what, where))
    return judged(family, conditions=conditions)


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    parts = []
    for molecules in results.levels("molecules"):
        for n in results.levels("n"):
            mean, single = (
                float(np.nanmean(results.values(m, n=n, molecules=molecules))) for m in ("of_mean", "detected")
            )
            parts.append(f"{molecules:g} molecules, n = {n:g}: {mean:.0%} of means, {single:.0%} of single courses")
    return "With a pulse in the differential equations, it is seen in: " + "; ".join(parts) + "."


STUDY = Study(
    name="circuits_noise",
    title="Pulses of few molecules",
    question="Where the differential equations of an incoherent feed-forward loop have a pulse, how often does it "
    "survive in the mean of exact stochastic courses, and in how many single courses can it be seen?",
    data="Simulated: exact stochastic courses (direct method); rates, levels and thresholds log-uniform over a decade.",
    factors={"molecules": MOLECULES, "n": STEEPNESS},
    trial=trial,
    measures={
        "of_mean": "share of parameter sets whose mean course has a pulse: above the mean at rest by more than 1 % and "
        "three standard errors",
        "detected": "share of single courses whose highest count in the pulse's window is above what 95 % of equally "
        "long windows at rest reach (0.05 without a pulse)",
        "mostly": "share of sets in which that is so for more than half of the courses",
        "lost": "sets without a pulse among those drawn, or with too many events",
    },
    claims=(
        Claim(
            name="the pulse survives noise",
            quote="[Not the chapter's: it speaks of the mean.] The pulse of the incoherent loop is there among few "
            "molecules too.",
            measure="I1 with AND, parameter sets with a pulse of more than 1 % in the differential equations, so many "
            "molecules at its peak: (a) the share of sets whose mean course has a pulse, minus 1/2; (b) the share of "
            "single courses in which it is seen, minus 1/2; over seeds, for each n and number. Supported if all are "
            "above 0 (95 %, Holm), 'only if' where some; refuted if none is and some is below.",
            judge=_survives,
        ),
    ),
    sizes={
        "full": Size(seeds=20, takes="about an hour on one core", options={"sets": 20, "runs": 200}),
        "demo": Size(seeds=10, takes="about 10 minutes on one core", options={"sets": 5, "runs": 100}),
        "smoke": Size(
            seeds=8, takes="about 15 seconds", options={"sets": 2, "runs": 20},
            factors={"molecules": (10.0, 100.0), "n": (2.0,)},
        ),
    },
    answer=_answer,
    headline=("of_mean", "detected", "mostly"),
    packages=(),
)  # fmt: skip
