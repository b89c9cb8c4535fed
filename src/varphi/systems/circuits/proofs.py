"""Proofs about all parameters of a box at once: one steady state, or two stable ones.

Where the level of one gene fixes all others (auto-regulation, a toggle, any ring), steady states are the fixed points
of one function Φ of that level: the loop, cut open there. Ball arithmetic bounds Φ and its slope over cells of levels
and boxes of parameters. Where Φ(y) - y has one sign, there is no steady state; where its slope has one, at most one.
What stays open is cut further, first the levels, then the parameters.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from flint import arb

from varphi.numbers import Expression
from varphi.numbers import hill as hill_of
from varphi.numbers.ball import Ball
from varphi.numbers.expression import constant
from varphi.numbers.jet import partial

from .circuit import Circuit, Gene, refuse_impossible
from .intervals import hill_slope
from .laws import Dual, sign_of_slope, signed_terms, value_and_slope
from .model import Model

if TYPE_CHECKING:
    from .subject import Subject

Box = dict[str, tuple[float, float]]
Claim = Literal["monostable", "bistable"]
_FINEST = 2.0**-24
_MOST_CELLS = 200


class Undecided(ArithmeticError):
    """Something that could not be bounded; the message says what."""


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


def certify(circuit: Subject, claim: Claim, box: Mapping[str, tuple[float, float]], *, most_boxes: int = 400) -> Proof:
    """Decide a claim for every parameter of a box, rigorously.

    Args:
        circuit: a circuit, or a model whose states each change as x' = a - b x, where b does not depend on x;
            parameters outside the box have its values, read as exact binary numbers.
        claim: "monostable" (exactly one steady state with levels from 0 on) or "bistable" (two stable ones and an
            unstable one between them).
        box: ends of each parameter, by name as in the equations, or as in the text that a circuit was read from.
        most_boxes: into how many boxes it may be cut.

    Raises:
        ValueError: for an unknown claim or parameter, impossible values, or equations in which no one species fixes all
            others, or with rates that proofs do not cover.
    """
    if claim not in ("monostable", "bistable"):
        raise ValueError(f"claim is 'monostable' or 'bistable', got {claim!r}")
    whole: Box = {}
    for name, (low, high) in box.items():
        names = circuit.resolved({name: [low, high]})
        if low > high:
            raise ValueError(f"the box of {name} must be (low, high), got ({low!r}, {high!r})")
        if len(names) > 1:
            raise ValueError(f"{name!r} stands for {', '.join(names)}: give a box for each")
        whole |= dict.fromkeys(names, (float(low), float(high)))
    try:
        loop = _loop(circuit, whole)
        if claim == "monostable":
            slope = loop.steepest(whole)
            if slope < 1:
                return Proof(
                    claim, "PROVED", f"contraction: the slope of the loop is at most {slope:.6g}", None, 1, 0.0
                )
        return _searched(loop, claim, whole, most_boxes)
    except Undecided as reason:
        return Proof(claim, "UNDECIDED", str(reason), None, 1, 1.0)


def _loop(circuit: Subject, box: Box) -> _Loop:
    if isinstance(circuit, Circuit):
        refuse_impossible(box)
        return _CircuitLoop(circuit)
    assert isinstance(circuit, Model)
    return _ModelLoop(circuit, box)


def _searched(loop: _Loop, claim: Claim, whole: Box, most: int) -> Proof:
    """Cut the box until every part is decided, the largest open part first."""
    waiting: list[tuple[float, int, Box]] = [(-1.0, 0, whole)]
    made = 1
    while waiting:
        share, _, box = heapq.heappop(waiting)
        found = loop.steady_states(box)
        if found is not None and not _holds(claim, found):
            return _refuted(claim, _middle(box), found, made)
        if found is not None and claim == "bistable" and loop.unstable:
            told = f"there are three steady states, but whether two are stable is open: {loop.unstable}"
            return Proof(claim, "UNDECIDED", told, None, made, -share + sum(-s for s, _, _ in waiting))
        if found is not None:
            continue
        middle = _middle(box)
        there = loop.steady_states({name: (v, v) for name, v in middle.items()})
        if there is not None and not _holds(claim, there):
            return _refuted(claim, middle, there, made)
        halves = _halves(box)
        if halves is None or made + 2 > most:
            rest = -share - sum(s for s, _, _ in waiting)
            near = ", ".join(f"{k} = {v:.6g}" for k, v in middle.items())
            told = f"{rest:.2g} of the box stayed open after {made} boxes" + (
                f", the largest part around {near}: there steady states come too near to each other (or the bounds are "
                "too wide) to be told apart" if near else ": steady states come too near to each other to be told apart"
            )  # fmt: skip
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
    """Φ: the level of one species, through all others, to the level that it would then have.

    Attributes:
        names: the species, each after those that it follows from; the last is where the loop is cut.
        usual: the values of parameters outside the box.
        unstable: why Φ' < 1 may not mean that a steady state is stable; "" where it does.
    """

    names: list[str]
    usual: Mapping[str, float]
    unstable: str

    @property
    def cut(self) -> str:
        return self.names[-1]

    def level(self, name: str, known: Mapping[str, Dual], p: Mapping[str, Ball]) -> Dual:
        """The level of a species at rest, and its slope by the level at the cut, from those of the others."""
        raise NotImplementedError

    def most(self, p: Mapping[str, Ball]) -> float:
        """A level that the cut species never reaches; infinite if none is known."""
        return 1.01 * self.at(Ball(0, arb.pos_inf()), p)[0].upper + 1e-9

    def parameters(self, box: Box) -> dict[str, Ball]:
        plain = {name: Ball(value) for name, value in self.usual.items()}
        return plain | {name: Ball(low, high) for name, (low, high) in box.items()}

    def at(self, y: Ball, p: Mapping[str, Ball]) -> Dual:
        """Φ and Φ' over a cell."""
        known: dict[str, Dual] = {self.cut: (y, Ball(1))}
        result: Dual = known[self.cut]
        for name in self.names:
            result = self.level(name, known, p)
            if name != self.cut:
                known[name] = result
        return result

    def bounded(self, p: Mapping[str, Ball]) -> float:
        """`most`, if it is known."""
        top = self.most(p)
        if not math.isfinite(top):
            raise Undecided(f"no bound of the level of {self.cut} is known")
        return top

    def steepest(self, box: Box, cells: int = 64) -> float:
        """A bound of |Φ'| over all levels."""
        p = self.parameters(box)
        top = self.bounded(p)
        steep = 0.0
        for i in range(cells):
            slope = self.at(Ball(top * i / cells, top * (i + 1) / cells), p)[1]
            steep = max(steep, slope.upper, -slope.lower)
        return steep

    def steady_states(self, box: Box) -> str | None:
        """The steady states for every parameter of the box, lowest first: S where Φ' < 1, U where Φ' > 1; None if open.

        S is stable where `unstable` gives no reason to doubt it.
        """
        p = self.parameters(box)
        top = self.bounded(p)
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


class _CircuitLoop(_Loop):
    def __init__(self, circuit: Circuit) -> None:
        self.circuit, self.usual = circuit, circuit.parameters
        self.names = _opened(
            {name: {r.source for r in g.regulators} for name, g in circuit.genes.items()}, circuit.inputs
        )
        doubtful = [n for n, g in circuit.genes.items() if _turns(g)]
        turned = f"with two repressors beside it an activator of {doubtful[0]} may repress" if doubtful else ""
        self.unstable = turned or _not_positive(circuit.edges, list(circuit.genes), _mrna(circuit))

    def most(self, p: Mapping[str, Ball]) -> float:
        gene = self.circuit.genes[self.cut]
        top = (p[f"basal_{self.cut}"] + p[f"beta_{self.cut}"] * _fullest(gene)) / p[f"alpha_{self.cut}"]
        return 1.01 * (top * self.translation(self.cut, p)).upper + 1e-9

    def translation(self, name: str, p: Mapping[str, Ball]) -> Ball:
        """Product for each unit of what is transcribed."""
        if self.circuit.genes[name].transcript is None:
            return Ball(1)
        return p[f"translation_{name}"] / p[f"alpha_m{name}"]

    def level(self, name: str, known: Mapping[str, Dual], p: Mapping[str, Ball]) -> Dual:
        gene = self.circuit.genes[name]
        acting: list[_Acting] = []
        for r in gene.regulators:
            level, moves = known.get(r.source) or (p[r.source], Ball(0))
            acting.append((r.sign, level, moves, p[f"K_{r.source}_{name}"], p[f"n_{r.source}_{name}"]))
        total, slope = _joined(gene.gate, acting)
        scale = self.translation(name, p) / p[f"alpha_{name}"]
        return (p[f"basal_{name}"] + p[f"beta_{name}"] * total) * scale, p[f"beta_{name}"] * slope * scale


class _ModelLoop(_Loop):
    """Of a model in which each state is made, and lost in proportion: x' = a - b x, where b does not depend on x."""

    def __init__(self, model: Model, box: Box) -> None:
        system = model.system()
        self.usual = system.parameters
        self.parts: dict[str, tuple[Expression, Expression]] = {}
        needs = {}
        for name, rate in zip(system.states, system.rates, strict=True):
            if "t" in rate.variables:
                raise ValueError(f"proofs need rates that do not depend on the time; that of {name} does")
            made, lost = _made_and_lost(name, rate)
            self.parts[name] = made, lost
            needs[name] = (made.variables | lost.variables) & set(system.states)
        self.names = _opened(needs, ())
        self.states = set(system.states)
        values = {k: Ball(v) for k, v in system.parameters.items()} | {k: Ball(a, b) for k, (a, b) in box.items()}
        edges = []
        for target, rate in zip(system.states, system.rates, strict=True):
            for source in system.states:
                if source != target and source in rate.variables:
                    edges.append((source, target, sign_of_slope(rate, source, values, system.states) or 0))
        self.unstable = _not_positive(edges, list(system.states), [])

    def level(self, name: str, known: Mapping[str, Dual], p: Mapping[str, Ball]) -> Dual:
        made, lost = (self.value(e, known, p) for e in self.parts[name])
        if not lost[0].lo > 0:
            raise Undecided(f"the loss of {name} is not proved to be above 0")
        if not made[0].lo >= 0:
            raise Undecided(f"what is made of {name} is not proved to be above 0")
        return made[0] / lost[0], (made[1] - made[0] / lost[0] * lost[1]) / lost[0]

    def value(self, e: Expression, known: Mapping[str, Dual], p: Mapping[str, Ball]) -> Dual:
        """An expression and its slope by the level where the loop is cut."""
        values = {v: known[v] if v in self.states else (p[v], Ball(0)) for v in e.variables}
        return value_and_slope(e, values)


def _made_and_lost(name: str, rate: Expression) -> tuple[Expression, Expression]:
    """a and b of x' = a - b x."""
    made, lost = constant(0), constant(0)
    for sign, term in signed_terms(rate, 1):
        if sign > 0:
            made = constant(made + term)
            continue
        each = partial(term, name)
        if name in each.variables or name not in term.variables:
            raise ValueError(f"proofs need losses in proportion to what is lost; that of {name} is not: {term!r}")
        lost = constant(lost + each)
    if lost.is_constant and lost.value == 0:
        raise ValueError(f"proofs need a loss of each species; {name} has none")
    return made, lost


_Acting: TypeAlias = "tuple[int, Ball, Ball, Ball, Ball]"
"""A regulator: its sign, level, the level's slope, K and n."""


def _joined(gate: str, acting: list[_Acting]) -> Dual:
    """A gate and its slope."""
    if gate == "OR" and len(acting) > 1:
        return _competition(acting)
    if gate == "SUM" and acting:
        parts = [_hill(sign, x, K, n, moves) for sign, x, moves, K, n in acting]
        return sum((h for h, _ in parts), start=Ball(0)), sum((s for _, s in parts), start=Ball(0))
    total, slope = Ball(1), Ball(0)
    for sign, x, moves, K, n in acting:
        h, steep = _hill(sign, x, K, n, moves)
        total, slope = total * h, slope * h + total * steep
    return total, slope


def _competition(acting: list[_Acting]) -> Dual:
    """Σ (r or 1)/(1 + Σ r), r = (x/K)^n, and its slope.

    By one regulator, the others fixed, it is a Hill function of K' = K d^(1/n) between c/d, where it does not bind, and
    1 or 0, where it alone does; d = 1 + the others' r, and c/d is the others' competition and, for a repressor, 1/d.
    """
    value: Ball | None = None
    total = Ball(0)
    for i, (sign, x, moves, K, n) in enumerate(acting):
        others = acting[:i] + acting[i + 1 :]
        bound = sum((_ratio(o) for o in others), start=Ball(1))
        without = (_competition(others) if len(others) > 1 else _hill_of(others[0]))[0]
        if sign < 0:
            without = without + 1 / bound
        alone = Ball(1) if sign > 0 else Ball(0)
        far = K * bound ** (1 / n)
        rises = hill_of(_from_zero(x), far, n)
        own = without * (1 - rises) + alone * rises
        # Both ends are met with one weight: an interval between them.
        own = _met(own, Ball(min(without.lower, alone.lower), max(without.upper, alone.upper)))
        value = own if value is None else _met(value, own)
        if not (moves.lo == 0 and moves.hi == 0):
            total = total + (alone - without) * hill_slope(_from_zero(x), far, n) * moves
    assert value is not None
    return value, total


def _met(a: Ball, b: Ball) -> Ball:
    """What two enclosures of one number have in common."""
    return Ball(max(a.lower, b.lower), min(a.upper, b.upper))


def _ratio(acting: _Acting) -> Ball:
    _, x, _, K, n = acting
    return (_from_zero(x) / K) ** n


def _hill_of(acting: _Acting) -> Dual:
    sign, x, moves, K, n = acting
    return _hill(sign, x, K, n, moves)


def _from_zero(x: Ball) -> Ball:
    return x if x.lo >= 0 else Ball(0, x.hi)


def _fullest(gene: Gene) -> int:
    """The most that a gate gives."""
    repressors = sum(r.sign < 0 for r in gene.regulators)
    full = {"SUM": len(gene.regulators), "OR": max(1, repressors)}
    return max(1, full.get(gene.gate, 1))


def _turns(gene: Gene) -> bool:
    """Whether an activator may repress: in competition with two repressors or more, each of which gives as much."""
    repressors = sum(r.sign < 0 for r in gene.regulators)
    return gene.gate == "OR" and repressors > 1 and repressors < len(gene.regulators)


def _mrna(circuit: Circuit) -> list[str]:
    return [n for n, g in circuit.genes.items() if g.transcript is not None]


def _not_positive(edges: Iterable[tuple[str, str, int]], states: list[str], slow: list[str]) -> str:
    """Why Φ' < 1 may not mean stable: it does for one state, and where all loops are positive (a monotone system)."""
    if len(states) == 1 and not slow:
        return ""
    side: dict[str, int] = {}
    links = [(a, b, sign) for a, b, sign in edges if a in states and b in states]
    for begin in states:
        if begin in side:
            continue
        side[begin] = 1
        waiting = [begin]
        while waiting:
            at = waiting.pop()
            for a, b, sign in links:
                if sign == 0:
                    return f"the sign of {a} on {b} is open"
                for one, other in ((a, b), (b, a)):
                    if one == at:
                        if other not in side:
                            side[other] = side[at] * sign
                            waiting.append(other)
                        elif side[other] != side[at] * sign:
                            return "its loops are not all positive, so that a steady state may be left by oscillations"
    return ""


def _opened(needs: Mapping[str, set[str]], inputs: Iterable[str]) -> list[str]:
    """The species in an order in which each follows from those before and from the last, which is on every loop."""
    for cut in needs:
        order: list[str] = []
        known = {cut, *inputs}
        while ready := [name for name, from_ in needs.items() if name not in known and from_ <= known]:
            order += ready
            known |= set(ready)
        if known >= set(needs):
            return [*order, cut]
    raise ValueError(
        "proofs need one gene that lies on every loop of the circuit; this one has loops apart from each other"
    )


def _hill(sign: int, x: Ball, K: Ball, n: Ball, moves: Ball) -> Dual:
    """A Hill function over balls, and its slope where its argument's is `moves`; x from 0 on."""
    x = _from_zero(x)
    rises = hill_of(x, K, n)
    value = rises if sign > 0 else 1 - rises
    if moves.lo == 0 and moves.hi == 0:
        return value, Ball(0)
    slope = hill_slope(x, K, n) * moves
    return value, slope if sign > 0 else -slope
