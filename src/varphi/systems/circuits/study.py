"""What do feed-forward loops do when their input is switched on, over random parameter sets? The chapter's claims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varphi.study import Claim, Contest, Figure, Outcome, Point, Setting, Size, Study
from varphi.study.results import Results
from varphi.study.statistics import Comparison, paired
from varphi.study.verdict import Verdict, judged

from .chance import random_circuit, share_between
from .circuit import FFL, Circuit
from .sampling import Range, sampled

SIMPLE = "simple"
RANDOM = "random"
LOOPS = (*FFL, SIMPLE, RANDOM)
GATES = ("AND", "OR")
STEEPNESS = (1.0, 2.0, 4.0)
# Two decades around the input's level, 1, and around its time, 1; set before the study was run.
RANGES = {
    **{name: Range(0.1, 10.0) for name in ("alpha_Y", "alpha_Z", "beta_Y", "beta_Z")},
    **{name: Range(0.1, 10.0) for name in ("K_X_Y", "K_X_Z", "K_Y_Z")},
}
# How many random circuits share a seed's parameter sets.
_CIRCUITS = 10
# A pulse has returned if a tenth of its height, or less, is left.
_LEFT = 0.1


def _applies(setting: Setting) -> bool:
    return setting["loop"] != SIMPLE or setting["gate"] == "AND"


def trial(setting: Setting, seeds: Sequence[int], points: Sequence[Point], *, sets: int) -> Outcome:
    """One loop with one gate and one steepness, over `sets` parameter sets for each seed; see `declaration.Trial`."""
    if setting["loop"] == RANDOM:
        return _random_trial(setting, seeds, sets)
    n = setting["n"]
    circuit = Circuit.simple(n=n) if setting["loop"] == SIMPLE else Circuit.ffl(setting["loop"], setting["gate"], n=n)
    drawn = [sampled(RANGES, sets, seed) for seed in seeds]
    given = {name: np.concatenate([d[name] for d in drawn]) for name in RANGES if name in circuit.parameters}
    return Outcome(_measured(circuit, given, len(seeds)) | {"between": np.full(len(seeds), np.nan)})


def _random_trial(setting: Setting, seeds: Sequence[int], sets: int) -> Outcome:
    """Each seed's sets are shared among circuits of its own."""
    rows = []
    for seed in seeds:
        random = np.random.default_rng([seed, 1])
        found = []
        for i in range(_CIRCUITS):
            circuit = random_circuit(random, setting["gate"], setting["n"])
            free = {name: Range(0.1, 10.0) for name in circuit.parameters if name.partition("_")[0] in _FREE}
            found.append(_measured(circuit, sampled(free, sets // _CIRCUITS, _CIRCUITS * seed + i), 1))
        # Of no pulse none returns: circuits without one have no share there.
        row = {name: np.nanmean([f[name][0] for f in found]) if any(np.isfinite(f[name][0]) for f in found) else np.nan
               for name in found[0]}  # fmt: skip
        rows.append(row | {"between": share_between(np.array([f["pulse"][0] for f in found]), sets // _CIRCUITS)})
    return Outcome({name: np.array([row[name] for row in rows]) for name in rows[0]})


_FREE = ("alpha", "beta", "K")


def _measured(circuit: Circuit, given: dict[str, np.ndarray], seeds: int) -> dict[str, np.ndarray]:
    """The measures of each seed's sets, all of equal number."""
    answer = circuit.respond(("X", 0.0, 1.0), "Z", parameters=given, threads=1, progress=False)
    pulses, times = answer.pulses(), answer.response()
    height = np.abs(pulses.peak - answer.first)
    returned = np.abs(answer.last - answer.first) <= _LEFT * height  # NaN compares as no
    sound = answer.settled & (answer.status <= 2)

    def share(which: np.ndarray, among: np.ndarray) -> np.ndarray:
        a, b = ((x & sound).reshape(seeds, -1).sum(1) for x in (which & among, among))
        return np.divide(a, b, out=np.full(seeds, np.nan), where=b > 0)

    every = np.ones(len(sound), bool)
    with np.errstate(invalid="ignore"):
        late = times.delay > 0.01 * np.log(2) / given["alpha_Z"]
        delay = (times.delay * given["alpha_Z"] / np.log(2)).reshape(seeds, -1)
    middle = np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in delay])
    return {
        "pulse": share(pulses.present, every),
        "returns": share(returned, pulses.present),
        "late": share(late, every),
        "monotone": share(answer.monotone(), every),
        "delay": middle,
        "failed": (~sound).reshape(seeds, -1).mean(1),
    }


# Claims --------------------------------------------------------------------------------------------------------------


def _where(gate: str, n: float) -> str:
    return f"{gate}, n = {n:g}"


def _shares(results: Results, loop: str, measures: dict[str, str]) -> tuple[list[Comparison], list[tuple[str, str]]]:
    """Each measure minus one half, for each gate and steepness."""
    family, conditions = [], []
    for gate in results.levels("gate"):
        for n in results.levels("n"):
            for measure, what in measures.items():
                found = np.nan_to_num(results.values(measure, loop=loop, gate=gate, n=n))  # of no pulse none returns
                family.append(paired(found, np.full(len(found), 0.5), f"{measure} - 1/2, {loop}, {_where(gate, n)}"))
                conditions.append((what, _where(gate, n)))
    return family, conditions


def _mean(shares: np.ndarray) -> str:
    return f"{np.nanmean(shares):.1%}" if np.isfinite(shares).any() else "of none"


def _told(results: Results, loop: str, measures: Sequence[str]) -> str:
    parts = []
    for gate in results.levels("gate"):
        for n in results.levels("n"):
            row = results.one(loop=loop, gate=gate, n=n)
            shares = ", ".join(f"{m} {_mean(row.values(m))}" for m in measures)
            parts.append(f"{_where(gate, n)}: {shares}")
    return f"{loop}: " + "; ".join(parts)


def _pulse(results: Results) -> Verdict:
    family, conditions = _shares(results, "I1", {"pulse": "a pulse is meant", "returns": "the return is meant"})
    found = judged(family, conditions=conditions)
    told = _told(results, "I1", ("pulse", "returns"))
    return Verdict(found.status, f"{told}; {found.evidence}", found.condition, found.comparisons)


def _late(results: Results) -> Verdict:
    family, conditions = _shares(results, "C1", {"late": "the delay is meant", "monotone": "monotony is meant"})
    found = judged(family, conditions=conditions)
    told = _told(results, "C1", ("late", "monotone"))
    return Verdict(found.status, f"{told}; {found.evidence}", found.condition, found.comparisons)


def _topology(results: Results) -> Verdict:
    family, conditions = [], []
    for gate in results.levels("gate"):
        for n in results.levels("n"):
            for other in ("C1", RANDOM):
                one, two = (results.values("pulse", loop=loop, gate=gate, n=n) for loop in ("I1", other))
                family.append(paired(one, two, f"pulse, I1 - {other}, {_where(gate, n)}"))
                conditions.append(("the topology is meant", _where(gate, n)))
        steep, flat = max(results.levels("n")), min(results.levels("n"))
        one, two = (results.values("pulse", loop="I1", gate=gate, n=n) for n in (steep, flat))
        family.append(paired(one, two, f"pulse, I1, n = {steep:g} - n = {flat:g}, {gate}"))
        conditions.append(("switch-like steepness is meant", gate))
    found = judged(family, conditions=conditions)
    told = _told(results, RANDOM, ("pulse", "between"))
    return Verdict(found.status, f"{told}; {found.evidence}", found.condition, found.comparisons)


CLAIMS = (
    Claim(
        name="an incoherent feed-forward loop makes a pulse and adapts",
        quote="As its direct activating path is fast and its indirect repressing path slow, the incoherent loop "
        "answers a step of the signal upstream with a short pulse of output, and then returns to near its baseline.",
        measure="I1, X from 0 to 1, parameter sets log-uniform over two decades: (a) the share of sets whose output "
        "passes its last level by more than 1 % of its peak, minus 1/2; (b) the share of these whose last level is "
        "within a tenth of the pulse's height of the first, minus 1/2; over seeds, for each gate and steepness. "
        "Supported if both are above 0 everywhere (95 %, Holm), 'only if' where in some; refuted if nowhere above and "
        "somewhere below.",
        judge=_pulse,
    ),
    Claim(
        name="a coherent one answers late and monotonically",
        quote="The coherent feed-forward loop, with positive regulation only, usually shows a delayed, monotone "
        "response instead.",
        measure="C1, the same steps and sets: (a) the share of sets whose half-time is more than 1 % above that of "
        "simple regulation, ln 2/α_Z, minus 1/2; (b) the share whose output never turns, minus 1/2. Judged as above.",
        judge=_late,
    ),
    Claim(
        name="topology and nonlinearity alone make the pulse",
        quote="Making a pulse and adapting are entirely due to the loop's topology and to its nonlinear, switch-like "
        "regulatory 'activation functions'.",
        measure="Share of sets with a pulse: I1 minus C1 on the same sets, and I1 minus random circuits of its size "
        "(two genes, three regulations, random signs), for each gate and steepness (topology), and I1 at the largest n "
        "minus I1 at n = 1 for each gate (switch-like). Supported if all are above 0 (95 %, Holm), 'only if' where "
        "some; refuted if none is and some is below. 'Entirely' has a number beside it: the part of the variance of "
        "pulse or none that lies between random circuits rather than between parameter sets of one.",
        judge=_topology,
    ),
)


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    steep = max(results.levels("n"))
    row, other = (results.one(loop=loop, gate="AND", n=steep) for loop in ("I1", "C1"))
    return (
        f"With AND gates and n = {steep:g}, {np.mean(row.values('pulse')):.0%} of random I1 loops make a pulse and "
        f"{_mean(row.values('returns'))} of these pulses return to within a tenth of their height; "
        f"{np.mean(other.values('pulse')):.0%} of C1 loops make one, {np.mean(other.values('late')):.0%} of them are "
        f"late, {np.mean(other.values('monotone')):.0%} monotone."
    )


def _figures(results: Results) -> list[Figure]:
    from .figures import figures

    return figures(results)


STUDY = Study(
    name="circuits",
    title="Feed-forward loops over random parameters",
    question="Which feed-forward loops answer a step with a pulse, with a delay, or monotonically; how often, over "
    "random parameters; and is it the topology or the steepness of the Hill functions that does it?",
    data="Simulated: differential equations of the loops; rates, levels and thresholds log-uniform over two decades.",
    factors={"loop": LOOPS, "gate": GATES, "n": STEEPNESS},
    trial=trial,
    measures={
        "pulse": "share of parameter sets whose output passes its last level by more than 1 % of its peak",
        "returns": "share of these pulses of which at most a tenth of the height is left",
        "late": "share of sets with a half-time more than 1 % above that of simple regulation",
        "monotone": "share of sets whose output goes to its last level without turning",
        "delay": "median of (half-time - ln 2/α_Z) in units of ln 2/α_Z; negative is faster than simple regulation",
        "between": "of random circuits: the part of the variance of pulse or none that lies between circuits",
        "failed": "share of sets that came to no rest or could not be simulated; they count nowhere else",
    },
    claims=CLAIMS,
    sizes={
        "full": Size(seeds=20, takes="about 15 minutes on one core", options={"sets": 5000}),
        "demo": Size(seeds=20, takes="about 3 minutes on one core", options={"sets": 500}),
        "smoke": Size(
            seeds=8,
            takes="about half a minute",
            options={"sets": 40},
            factors={"loop": ("C1", "I1", SIMPLE, RANDOM), "n": (1.0, 4.0)},
        ),
    },
    answer=_answer,
    applies=_applies,
    headline=("pulse", "returns", "late", "monotone", "delay"),
    contests=(
        Contest(
            "Share of parameter sets with a pulse, AND gate, n = 2", "pulse", among=("loop",), best="highest",
            at={"gate": "AND", "n": 2.0},
        ),
    ),
    figures=_figures,
    packages=("matplotlib",),
)  # fmt: skip
