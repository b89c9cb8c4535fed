"""How far does the chapter's rule hold: type I by a saddle-node on the cycle, type II by a Hopf point?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varphi.study import Claim, Figure, Size, Study
from varphi.study.results import Results
from varphi.study.statistics import share
from varphi.study.verdict import Verdict

from .trial import FAMILIES, FAST_GATE, LOW, SLOW_GATE, trial

# Exceptions up to this share do not make a rule another rule.
_RARE = 0.05
_FEWEST = 5


def _values(results: Results, family: str) -> dict[str, np.ndarray]:
    names = ("saddle_node", "onset", "exponent", "below", "fires")
    return {name: results.values(name, family=family) for name in names}


def _counted(events: np.ndarray) -> str:
    found = share(events)
    return f"{found.count} of {found.total}"


def _saddle_nodes(results: Results) -> Verdict:
    told, low_on, jump_off, exceptions = [], [], [], False
    for family in results.levels("family"):
        m = _values(results, family)
        fold = (m["saddle_node"] == 1) & (m["fires"] == 1) & np.isfinite(m["below"])
        if fold.sum() < _FEWEST:
            told.append(f"{family}: {fold.sum()} that fire after a saddle-node")
            continue
        on, low = m["below"][fold] == 0, m["onset"][fold] < LOW
        low_on.append(low[on])
        jump_off.append(~low[~on])
        exceptions |= bool((~on).mean() > _RARE)
        told.append(
            f"{family}: on the cycle {_counted(on)} saddle-nodes that fire"
            + (f", of these {_counted(low[on])} from below {LOW:g} Hz (median exponent "
               f"{np.median(m['exponent'][fold][on]):.3f})" if on.any() else "")
            + (f"; off it, {_counted(~low[~on])} jump to {np.median(m['onset'][fold][~on]):.3g} Hz (median)"
               if (~on).any() else "")
        )  # fmt: skip
    evidence = "; ".join(told)
    if not low_on:
        return Verdict("undecided", evidence)
    low, off = np.concatenate(low_on), np.concatenate(jump_off)
    if not low.size or low.mean() < 1 - _RARE:
        return Verdict("refuted", evidence)
    if exceptions and off.size and off.mean() >= 1 - _RARE:
        return Verdict("only if", evidence, "the saddle-node lies on the cycle")
    return Verdict("supported" if not exceptions else "undecided", evidence)


def _hopf_points(results: Results) -> Verdict:
    told, jumps, of_jumps = [], [], []
    for family in results.levels("family"):
        m = _values(results, family)
        hopf = (m["saddle_node"] == 0) & (m["fires"] == 1)
        jump = (m["fires"] == 1) & (m["onset"] >= LOW)
        if hopf.any():
            jumps.append(m["onset"][hopf] >= LOW)
        if jump.any():
            of_jumps.append(m["saddle_node"][jump] == 0)
            coexisting = m["below"][hopf] == 1
            told.append(
                f"{family}: {_counted(jumps[-1]) if hopf.any() else '0 of 0'} Hopf points begin with at least "
                f"{LOW:g} Hz, {int(coexisting.sum())} of them with firing already below; {_counted(of_jumps[-1])} "
                "jumps are Hopf points"
            )
    evidence = "; ".join(told)
    if not jumps or sum(map(len, jumps)) < _FEWEST:
        return Verdict("undecided", evidence or "no Hopf point fires")
    if np.concatenate(jumps).mean() < 1 - _RARE:
        return Verdict("refuted", evidence)
    if np.concatenate(of_jumps).mean() < 1 - _RARE:
        return Verdict("only if", evidence, "saddle-nodes off the cycle, which jump too, are left aside")
    return Verdict("supported", evidence)


def _low(results: Results, family: str) -> np.ndarray:
    """Type I (1), type II (0), or NaN where it does not fire."""
    m = _values(results, family)
    return np.where(m["fires"] == 1, (m["onset"] < LOW).astype(float), np.nan)


def _shapes(results: Results) -> Verdict:
    told, both = [], []
    for family in results.levels("family"):
        low = _low(results, family)
        fires = low[np.isfinite(low)]
        if not fires.size:
            continue
        both.append(_RARE <= fires.mean() <= 1 - _RARE)
        told.append(f"{family}: type I {_counted(fires == 1)} that fire")
    if not both:
        return Verdict("undecided", "nothing fires")
    changed = np.zeros(0, bool)
    if {SLOW_GATE, FAST_GATE} <= set(results.levels("family")):
        slow, fast = _low(results, SLOW_GATE), _low(results, FAST_GATE)
        pairs = np.isfinite(slow) & np.isfinite(fast)
        changed = slow[pairs] != fast[pairs]
        if changed.size:
            told.append(f"with the same shapes, a faster gate (φ = 0.23) changes the type of {_counted(changed)}")
    evidence = "; ".join(told)
    if not any(both):
        return Verdict("refuted", evidence)
    if changed.size and changed.mean() > _RARE:
        return Verdict("only if", evidence, "the gates' speeds are given")
    return Verdict("supported", evidence)


CLAIMS = (
    Claim(
        name="type I: SNIC, from arbitrarily low rates",
        quote="Type I excitability usually goes with a saddle-node on an invariant circle (SNIC): the neuron can begin "
        "to fire at an arbitrarily low frequency, and the f-I curve is continuous.",
        measure="Membranes with random gates whose rest is lost in a saddle-node and that then fire. On the cycle: "
        "firing does not go on just below that current. Supported if at least 95 % of those on the cycle begin below "
        f"{LOW:g} Hz (where the law of the saddle-node foretells 0.2 Hz) and in no family more than 5 % lie off it; "
        "'only if' the saddle-node lies on the cycle where more lie off it and at least 95 % of those jump; refuted if "
        "fewer than 95 % of those on the cycle begin so low.",
        judge=_saddle_nodes,
    ),
    Claim(
        name="type II: Hopf, with a jump in the rate",
        quote="Type II excitability goes with a Hopf bifurcation: once the neuron fires, it does so at a non-zero "
        "finite frequency, and the f-I curve has a jump.",
        measure="Membranes with random gates that fire just above the loss of rest; a jump begins with at least "
        f"{LOW:g} Hz. Refuted if fewer than 95 % of the Hopf points jump; supported if they do and at least 95 % of "
        "all jumps are Hopf points; 'only if' saddle-nodes off the cycle are left aside where fewer are.",
        judge=_hopf_points,
    ),
    Claim(
        name="the gates' shapes decide the type",
        quote="The exact shapes of these biological 'activation functions', and how they act on each other, decide "
        "the neuron's type of excitability.",
        measure="Half-activation and slope (or shifts) drawn at random, all else kept: refuted if in no family at "
        "least 5 % of those that fire are of the rarer type; 'only if' the gates' speeds are given where more than 5 % "
        "of the same shapes change their type from φ = 1/15 to φ = 0.23 (Morris–Lecar); else supported.",
        judge=_shapes,
    ),
)


def _answer(results: Results, verdicts: Sequence[Verdict]) -> str:
    rows = []
    for family in results.levels("family"):
        m = _values(results, family)
        fires = m["fires"] == 1
        low = fires & (m["onset"] < LOW)
        hopf = fires & (m["saddle_node"] == 0)
        off = fires & (m["saddle_node"] == 1) & (m["onset"] >= LOW)
        rows.append(
            f"{family}: of {int(fires.sum())} that fire, {int(low.sum())} begin at arbitrarily low rates (all after "
            f"saddle-nodes: {'yes' if (m['saddle_node'][low] == 1).all() else 'no'}), {int(hopf.sum())} after a Hopf "
            f"point, {int(off.sum())} jump after a saddle-node off the cycle"
        )
    return "; ".join(rows) + "."


def _figures(results: Results) -> list[Figure]:
    from .figures import study_figures

    return study_figures(results)


STUDY = Study(
    name="neurons",
    title="Types of excitability",
    question="Does a membrane begin to fire at arbitrarily low rates exactly when its rest is lost in a saddle-node on "
    "the cycle, and with a jump exactly when in a Hopf point; and do the shapes of its gates decide which?",
    data="Membranes with published equations; two numbers of their gates' shapes drawn uniformly for each seed.",
    factors={"family": tuple(FAMILIES)},
    trial=trial,
    measures={
        "fires": "1 where it fires just above the current at which rest is lost, 0 where it comes to another rest; NaN "
        "where rest is never lost, or unresolved",
        "saddle_node": "1 where rest is lost in a saddle-node, 0 in a Hopf point; NaN where it is not lost",
        "onset": "frequency just above the loss, Hz: where the law of the saddle-node foretells a period of 5 s, or "
        "2 % above a Hopf point; 0 where it comes to another rest",
        "exponent": "of frequency ~ distance^exponent between that distance and four times it",
        "below": "1 where firing, once begun, goes on just below the current at which rest is lost, else 0",
        "on_cycle": "1 where the period follows the law of a saddle-node on the cycle, else 0",
    },
    claims=CLAIMS,
    sizes={
        "full": Size(seeds=400, takes="about half a minute on one core"),
        "demo": Size(seeds=100, takes="about 15 seconds on one core"),
        "smoke": Size(seeds=24, takes="about 5 seconds", factors={"family": (SLOW_GATE, FAST_GATE, "I_Na,p + I_K")}),
    },
    answer=_answer,
    headline=("fires", "saddle_node", "onset", "exponent", "below"),
    figures=_figures,
    packages=("numba", "matplotlib"),
)
