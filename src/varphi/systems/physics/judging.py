"""What the three studies have in common: the activations in their groups, and verdicts on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from varphi.study import Claim
from varphi.study.results import Results
from varphi.study.statistics import number, paired
from varphi.study.verdict import Verdict, judged

from . import peer
from .trial import OURS, PEERS_ACTIVATION

SMOOTH = ("tanh", "sin", "softplus", "gelu", "silu")
# C^∞ or C², C¹, C¹, C⁰: certified by `varphi facts`, and tested against it.
ACTIVATIONS = (*SMOOTH, "relu3", "relu2", "elu", "relu")
NOT_C2 = ("relu2", "elu", "relu")
# From a few words on a condition to the levels of factors besides activation and solver.
Conditions = Mapping[str, Mapping[str, str]]
MEASURES = {
    "error": "relative L2 error at 2048 fresh points",
    "residual": "root mean square of the equation's residual at these points, where it exists",
    "fall": "the root mean square of the residual where trained, at the end over that after the first iteration",
    "iterations": "of Levenberg-Marquardt; of DeepXDE those of Adam and L-BFGS together",
    "seconds": "CPU time of the training, one thread, the search for a first scale included; of DeepXDE that of the "
    "chosen learning rate",
}


def errors(results: Results, activation: str, solver: str = OURS, **levels: str) -> np.ndarray:
    """Of every seed; infinite where there is none."""
    found = results.values("error", activation=activation, solver=solver, **levels)
    return np.where(np.isnan(found), np.inf, found)


def middle(results: Results, activation: str, solver: str = OURS, **levels: str) -> float:
    """The median error."""
    return float(np.median(errors(results, activation, solver, **levels)))


def medians(results: Results, **levels: str) -> dict[str, float]:
    """Of every activation."""
    return {n: middle(results, n, **levels) for n in results.levels("activation")}


def smoothness_judged(results: Results, conditions: Conditions) -> Verdict:
    """Whether each activation that is not C² ends with a larger error than each that is."""
    names, family = [], []
    present = results.levels("activation")
    for told, levels in conditions.items():
        for rough in (n for n in NOT_C2 if n in present):
            for smooth in (n for n in ACTIVATIONS if n in present and n not in NOT_C2):
                a, b = (np.log(errors(results, n, **levels)) for n in (rough, smooth))
                at = f", {told}" if told else ""
                names.append((rough, f"against {smooth}{at}"))
                family.append(paired(a, b, f"ln error, {rough} - {smooth}{at}"))
    found = judged(family, conditions=names)
    shown = "; ".join(
        f"{'median error' if not told else f'median error, {told}'}: "
        + ", ".join(f"{n} {number(v)}" for n, v in medians(results, **levels).items())
        for told, levels in list(conditions.items())[:1]
    )
    return Verdict(found.status, f"{shown}; {found.evidence}", found.condition, found.comparisons)


def smoothness_claim(problem: str, ends: str, conditions: Conditions) -> Claim:
    """The chapter's claim of smoothness, for another problem than its own.

    Args:
        problem: in a word.
        ends: how its conditions are met, "hard" or "soft".
    """
    return Claim(
        name=f"an activation must be as smooth as the equation's order ({problem})",
        quote="The residual of the equation needs derivatives of the network's output, so the activation must be "
        "smooth to that order (C^k).",
        measure=f"Strong form, {ends} conditions, logarithm of the relative L2 error: each activation that is not C² "
        "(relu, elu, relu²) minus each that is (tanh, sin, softplus, gelu, silu, relu³), paired over seeds. "
        "Supported if every difference is positive (95 %, Holm), 'only if' where some are, refuted if none is and "
        "one is negative.",
        judge=lambda results: smoothness_judged(results, conditions),
    )


def peer_claim(conditions: Conditions) -> Claim:
    """That a fit is more accurate than DeepXDE's training, and takes less time."""

    def judge(results: Results) -> Verdict:
        if peer.NAME not in results.levels("solver"):
            return Verdict("undecided", peer.ABSENT)
        names, family, told = [], [], []
        for condition, levels in conditions.items():
            at = f", {condition}" if condition else ""
            for measure, what, unit in (("error", "error", ""), ("seconds", "CPU time", " s")):
                theirs, ours = (
                    results.values(measure, activation=PEERS_ACTIVATION, solver=solver, **levels)
                    for solver in (peer.NAME, OURS)
                )
                names.append((f"{what} counts{at}", what))
                family.append(paired(np.log(theirs), np.log(ours), f"ln {what}, {peer.NAME} - {OURS}{at}"))
                middles = (f"{number(float(np.median(v)))}{unit}" for v in (ours, theirs))
                told.append(f"{what}{at}: {' against '.join(middles)}")
        found = judged(family, conditions=names)
        evidence = f"medians, {OURS} against {peer.NAME}: {'; '.join(told)}; {found.evidence}"
        return Verdict(found.status, evidence, found.condition, found.comparisons)

    return Claim(
        name=f"more accurate than {peer.NAME}, in less time",
        quote="[Not the chapter's sentence, but what this system is held against:] from the same first weights, at the "
        f"same points and with the same conditions, a fit ends with a smaller error than that of {peer.NAME}, sooner.",
        measure=f"{PEERS_ACTIVATION}; {peer.NAME} with Adam at three learning rates (the lowest loss goes on) and then "
        "L-BFGS, for as many iterations as the size says: ln of the relative L2 error and ln of the CPU time at the "
        "end, its own minus ours, paired over seeds. Supported if all are positive (95 %, Holm), 'only if' where some "
        f"are, refuted if none is and one is negative; undecided where {peer.NAME} is not installed.",
        judge=judge,
    )


def tool_claim(title: str, conditions: Conditions) -> Claim:
    """That a classical solver is both more accurate and faster than every net."""

    def judge(results: Results) -> Verdict:
        known = {n: v for n, v in results.references.items() if "error" in v}
        if not known:
            return Verdict("undecided", f"no reference was run: {', '.join(results.references) or 'none'}")
        rows = [r for levels in conditions.values() for r in results.where(**levels)]
        best, soonest = (min(float(np.nanmin(r.values(m))) for r in rows) for m in ("error", "seconds"))
        better = [n for n, v in known.items() if v["error"] < best and v["seconds"] < soonest]
        told = f"best net of all seeds: error {number(best)}; soonest: {soonest:.2g} s; " + "; ".join(
            f"{n}: {number(v['error'])} in {v['seconds']:.2g} s" for n, v in known.items()
        )
        return Verdict("supported" if better else "refuted", told)

    return Claim(
        name=f"a classical solver is the tool for {title}",
        quote="[Not the chapter's sentence, but what every net here is held against:] where a classical solver exists, "
        "it is more accurate than a net, and faster.",
        measure="Supported if one solver without a net has both a smaller relative L2 error than the best seed of the "
        "best setting and a smaller CPU time than the soonest; else refuted.",
        judge=judge,
    )


def told(results: Results, **levels: str) -> str:
    """Best and worst activation, the peer, and the best solver without a net, in one sentence each."""
    found = medians(results, **levels)
    best, worst = (choose(found, key=lambda n: found[n]) for choose in (min, max))
    parts = [
        f"the most accurate is {best} (median error {number(found[best])}), the least {worst} ({number(found[worst])})"
    ]
    if peer.NAME in results.levels("solver"):
        theirs = middle(results, PEERS_ACTIVATION, peer.NAME, **levels)
        parts.append(f"{peer.NAME} with {PEERS_ACTIVATION} reaches {number(theirs)}")
    else:
        parts.append(peer.ABSENT)
    known = {n: v for n, v in results.references.items() if "error" in v}
    if known:
        name = min(known, key=lambda n: known[n]["error"])
        parts.append(
            f"without a net, {name} reaches {number(known[name]['error'])} in {known[name]['seconds'] * 1e3:.1f} ms"
        )
    return "; ".join(parts) + "."


def answers(**levels: str) -> Callable[[Results, Sequence[Verdict]], str]:
    """A study's answer."""
    return lambda results, verdicts: _begun(told(results, **levels))


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]
