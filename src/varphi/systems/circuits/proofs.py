"""Proofs about all parameters of a box at once: one steady state, or two stable ones.

Where the level of one gene fixes all others (auto-regulation, a toggle, any ring), steady states are the fixed points
of one function Φ of that level: the loop, cut open there. Ball arithmetic bounds Φ and its slope over cells of levels
and boxes of parameters. Where Φ(y) - y has one sign, there is no steady state; where its slope has one, at most one.
What stays open is cut further, first the levels, then the parameters.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from varphi.numbers import hill as hill_of
from varphi.numbers.ball import Ball

from .circuit import Circuit, refuse_impossible

Box = dict[str, tuple[float, float]]
Claim = Literal["monostable", "bistable"]
_FINEST = 2.0**-24
_MOST_CELLS = 200


@dataclass(frozen=True)
class Proof:
    """What was found out about a claim.

    Attributes:
        claim: "monostable": exactly one steady state; "bistable": two stable ones and an unstable one between them.
        verdict: "PROVED" for every parameter of the box, "REFUTED" by a witness, or "UNDECIDED".
        reason: in words.
        witness: parameters for which the claim is proved to be false, if it is refuted.
        boxes: into how many boxes of parameters the box was cut.
        open_share: the part of the box that stayed undecided, by volume.
    """

    claim: Claim
    verdict: Literal["PROVED", "REFUTED", "UNDECIDED"]
    reason: str
    witness: dict[str, float] | None
    boxes: int
    open_share: float


def certify(circuit: Circuit, claim: Claim, box: Mapping[str, tuple[float, float]], *, most_boxes: int = 400) -> Proof:
    """Decide a claim for every parameter of a box, rigorously.

    Args:
        circuit: parameters outside the box have its values, read as exact binary numbers.
        box: ends of each parameter, by name as in `circuit.parameters`.
        most_boxes: into how many boxes it may be cut.

    Raises:
        ValueError: for an unknown claim or parameter, impossible values, or a circuit in which no one gene fixes all
            others, or with a gate or mRNA that proofs do not cover.
    """
    if claim not in ("monostable", "bistable"):
        raise ValueError(f"claim is 'monostable' or 'bistable', got {claim!r}")
    unknown = set(box) - set(circuit.parameters)
    if unknown:
        raise ValueError(f"no parameter {min(unknown)!r}; there are {', '.join(circuit.parameters)}")
    for name, (low, high) in box.items():
        refuse_impossible({name: [low, high]})
        if low > high:
            raise ValueError(f"the box of {name} must be (low, high), got ({low!r}, {high!r})")
    loop = _Loop(circuit)
    whole: Box = {name: (float(low), float(high)) for name, (low, high) in box.items()}
    if claim == "monostable":
        slope = loop.steepest(whole)
        if slope < 1:
            return Proof(claim, "PROVED", f"contraction: the slope of the loop is at most {slope:.6g}", None, 1, 0.0)
    return _searched(loop, claim, whole, most_boxes)


def _searched(loop: _Loop, claim: Claim, whole: Box, most: int) -> Proof:
    """Cut the box until every part is decided, the largest open part first."""
    waiting: list[tuple[float, int, Box]] = [(-1.0, 0, whole)]
    made = 1
    while waiting:
        share, _, box = heapq.heappop(waiting)
        found = loop.steady_states(box)
        if found is not None and not _holds(claim, found):
            return _refuted(claim, _middle(box), found, made)
        if found is not None:
            continue
        middle = _middle(box)
        there = loop.steady_states({name: (v, v) for name, v in middle.items()})
        if there is not None and not _holds(claim, there):
            return _refuted(claim, middle, there, made)
        halves = _halves(box)
        if halves is None or made + 2 > most:
            rest = -share - sum(s for s, _, _ in waiting)
            told = f"{rest:.2g} of the box stayed open after {made} boxes"
            return Proof(claim, "UNDECIDED", told, None, made, rest)
        for half in halves:
            made += 1
            heapq.heappush(waiting, (share / 2, made, half))
    told = "one steady state" if claim == "monostable" else "two stable steady states and an unstable one between them"
    return Proof(claim, "PROVED", f"{told}, by interval arithmetic on {made} boxes", None, made, 0.0)


def _holds(claim: Claim, found: str) -> bool:
    return len(found) == 1 if claim == "monostable" else found == "SUS"


def _refuted(claim: Claim, witness: dict[str, float], found: str, made: int) -> Proof:
    told = f"{len(found)} steady state{'s' if len(found) != 1 else ''} at the witness, proved by interval arithmetic"
    return Proof(claim, "REFUTED", told, witness, made, 1.0)


def _middle(box: Box) -> dict[str, float]:
    return {name: (low + high) / 2 for name, (low, high) in box.items()}


def _halves(box: Box) -> tuple[Box, Box] | None:
    """The box cut where it is widest, relative to its place."""
    widths = {name: (high - low) / (abs(low) + abs(high)) for name, (low, high) in box.items() if high > low}
    if not widths or max(widths.values()) < 1e-12:
        return None
    name = max(widths, key=lambda n: widths[n])
    low, high = box[name]
    middle = (low + high) / 2
    return {**box, name: (low, middle)}, {**box, name: (middle, high)}


class _Loop:
    """Φ: the level of one gene, through all others, to the level that it would then have."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        for name, gene in circuit.genes.items():
            if gene.gate == "OR" and len(gene.regulators) > 1:
                raise ValueError(f"proofs do not cover competition: {name} has the gate OR with several regulators")
            if gene.transcript is not None:
                raise ValueError(f"proofs do not cover mRNA as a state: {name} has a transcript")
        self.cut, self.order = _opened(circuit)

    def parameters(self, box: Box) -> dict[str, Ball]:
        plain = {name: Ball(value) for name, value in self.circuit.parameters.items()}
        return plain | {name: Ball(low, high) for name, (low, high) in box.items()}

    def most(self, p: Mapping[str, Ball]) -> float:
        """A level that the cut gene never reaches."""
        gene = self.circuit.genes[self.cut]
        full = len(gene.regulators) if gene.gate == "SUM" else 1
        top = (p[f"basal_{self.cut}"] + p[f"beta_{self.cut}"] * full) / p[f"alpha_{self.cut}"]
        return 1.01 * top.upper + 1e-9

    def at(self, y: Ball, p: Mapping[str, Ball]) -> tuple[Ball, Ball]:
        """Φ and Φ' over a cell."""
        known: dict[str, tuple[Ball, Ball]] = {name: (p[name], Ball(0)) for name in self.circuit.inputs}
        known[self.cut] = y, Ball(1)
        for name in (*self.order, self.cut):
            result = self._made(name, known, p)
            if name == self.cut:
                return result
            known[name] = result
        raise AssertionError("the cut gene comes last")

    def _made(self, name: str, known: Mapping[str, tuple[Ball, Ball]], p: Mapping[str, Ball]) -> tuple[Ball, Ball]:
        gene = self.circuit.genes[name]
        total, slope = (Ball(0), Ball(0)) if gene.gate == "SUM" and gene.regulators else (Ball(1), Ball(0))
        for r in gene.regulators:
            level, moves = known[r.source]
            h, steep = _hill(r.sign, level, p[f"K_{r.source}_{name}"], p[f"n_{r.source}_{name}"])
            change = steep * moves
            total, slope = (
                (total + h, slope + change) if gene.gate == "SUM" else (total * h, slope * h + total * change)
            )
        alpha, beta = p[f"alpha_{name}"], p[f"beta_{name}"]
        return (p[f"basal_{name}"] + beta * total) / alpha, beta * slope / alpha

    def steepest(self, box: Box, cells: int = 64) -> float:
        """A bound of |Φ'| over all levels."""
        p = self.parameters(box)
        top = self.most(p)
        steep = 0.0
        for i in range(cells):
            slope = self.at(Ball(top * i / cells, top * (i + 1) / cells), p)[1]
            steep = max(steep, slope.upper, -slope.lower)
        return steep

    def steady_states(self, box: Box) -> str | None:
        """The steady states for every parameter of the box, lowest first: S where Φ' < 1, U where Φ' > 1; None if open.

        S is stable where the loop is positive throughout, which is the only case with more than one.
        """
        p = self.parameters(box)
        top = self.most(p)
        cells = self._cells(0.0, top, p)
        if cells is None:
            return None
        found = ""
        at = 0
        while at < len(cells):
            low, high, sign, slope = cells[at]
            at += 1
            if sign:
                continue
            # Neighbours with the same slope are one cell.
            while at < len(cells) and cells[at][2:] == (0, slope):
                high = cells[at][1]
                at += 1
            kind = self._crossing(low, high, slope, p)
            if kind is None:
                return None
            found += kind
        return found

    def _crossing(self, low: float, high: float, slope: int, p: Mapping[str, Ball]) -> str | None:
        """The steady state in a cell where Φ(y) - y rises or falls throughout: "S", "U", "" for none, None if open."""
        left, right = (self._gap(end, p) for end in (low, high))
        if slope < 0:
            # At 0 the gap is Φ(0) >= 0: a steady state there counts.
            if (left > 0 or low == 0) and right < 0:
                return "S"
            return "" if (left < 0 or right > 0) and low > 0 else None
        if left < 0 < right:
            return "U"
        return "" if left > 0 or right < 0 else None

    def _gap(self, y: float, p: Mapping[str, Ball]) -> int:
        """The sign of Φ(y) - y at a level; 0 if open."""
        gap = self.at(Ball(y), p)[0] - Ball(y)
        return 1 if gap.lo > 0 else -1 if gap.hi < 0 else 0

    def _cells(self, low: float, high: float, p: Mapping[str, Ball]) -> list[tuple[float, float, int, int]] | None:
        """Cells from left to right: ends, the sign of Φ(y) - y (0 open), and that of its slope there (0 open)."""
        result: list[tuple[float, float, int, int]] = []
        stack = [(low, high)]
        seen = 0
        while stack:
            a, b = stack.pop()
            seen += 1
            if seen > _MOST_CELLS:
                return None
            y = Ball(a, b)
            value, slope = self.at(y, p)
            gap = value - y
            sign = 1 if gap.lo > 0 else -1 if gap.hi < 0 else 0
            steep = slope - 1
            rise = 1 if steep.lo > 0 else -1 if steep.hi < 0 else 0
            if sign or rise:
                result.append((a, b, sign, rise))
            elif b - a < _FINEST * high:
                return None
            else:
                # Cells are finer towards 0, where switches with small K are.
                middle = (a + b) / 2 if a > 0 else b / 4
                stack += [(middle, b), (a, middle)]
        return result


def _opened(circuit: Circuit) -> tuple[str, list[str]]:
    """A gene without which no loop is left, and the others in the order in which they follow from it."""
    for cut in circuit.genes:
        order: list[str] = []
        known = {cut, *circuit.inputs}
        while True:
            ready = [
                name for name, gene in circuit.genes.items()
                if name not in known and all(r.source in known for r in gene.regulators)
            ]  # fmt: skip
            if not ready:
                break
            order += ready
            known |= set(ready)
        if known >= set(circuit.genes):
            return cut, order
    raise ValueError(
        "proofs need one gene that lies on every loop of the circuit; this one has loops apart from each other"
    )


def _hill(sign: int, x: Ball, K: Ball, n: Ball) -> tuple[Ball, Ball]:
    """A Hill function and its slope by x over balls; x from 0 on."""
    x = x if x.lo >= 0 else Ball(0, x.hi)
    rises = hill_of(x, K, n)
    value = rises if sign > 0 else 1 - rises
    slope = _slope(x, K, n)
    return value, slope if sign > 0 else -slope


def _slope(x: Ball, K: Ball, n: Ball) -> Ball:
    """∂/∂x of x^n/(K^n + x^n): it rises to its maximum at K((n-1)/(n+1))^(1/n), where n > 1, and falls beyond."""
    if not n.lo > 1:
        # It falls, or rises and falls: least at an end.
        least = min(_slope_at(Ball(end), K, n).lower for end in (x.lo, x.hi))
        return Ball(least, _largest_from(x, K, n))
    top = K * ((n - 1) / (n + 1)) ** (1 / n)
    ends = [_slope_at(Ball(end), K, n) for end in (x.lo, x.hi)]
    if x.hi <= top.lo or x.lo >= top.hi:
        return Ball(min(e.lower for e in ends), max(e.upper for e in ends))
    # In between: the largest slope of all, L(n)/K with L = (n-1)^((n-1)/n) (n+1)^((n+1)/n)/(4n).
    most = (n - 1) ** ((n - 1) / n) * (n + 1) ** ((n + 1) / n) / (4 * n * K)
    return Ball(min(e.lower for e in ends), max(most.upper, *(e.upper for e in ends)))


def _largest_from(x: Ball, K: Ball, n: Ball) -> float:
    """A bound of the slope for n that may be 1 or less: where it falls throughout, at the left end."""
    if n.hi <= 1:
        return _slope_at(Ball(x.lo), K, n).upper
    if not x.lo > 0:
        return 1 / K.lower if n.lo >= 1 else math.inf
    # n on both sides of 1: n h (1 - h)/x with h (1 - h) <= 1/4.
    return (n / (4 * x)).upper


def _slope_at(x: Ball, K: Ball, n: Ball) -> Ball:
    if x.hi <= 0:
        if n.lo > 1:
            return Ball(0)
        return 1 / K if n.lo >= 1 and n.hi <= 1 else Ball(0, math.inf)
    h: Any = hill_of(x, K, n)
    # h(1 - h) over an interval of h: at most 1/4, and smallest at an end.
    ends = [Ball(e) * (1 - Ball(e)) for e in (h.lo, h.hi)]
    most = 0.25 if h.lower <= 0.5 <= h.upper else max(e.upper for e in ends)
    return n * Ball(max(0.0, min(e.lower for e in ends)), most) / x
