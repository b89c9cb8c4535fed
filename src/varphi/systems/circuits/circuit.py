"""A gene circuit: genes, what switches each on or off, and its equations.

    loop = Circuit.ffl("I1", K={"XY": 0.1, "XZ": 0.1, "YZ": 0.5})
    loop.system()     # ordinary differential equations, for `dynamics.simulate`
    loop.network()    # reactions between counted molecules, for `dynamics.simulate_counts`

The product Y of a gene obeys Y' = basal + beta·G - alpha·Y, where G joins the Hill functions of its regulators by a
gate. Levels that nobody makes (a signal) are inputs: parameters of the equations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from varphi.activation.registry import find
from varphi.dynamics.stochastic import Network, Reaction
from varphi.dynamics.system import System
from varphi.numbers import Expression, evaluate, variable
from varphi.numbers.expression import constant

from .subject import Subject
from .units import Units

if TYPE_CHECKING:
    from pathlib import Path

    from .model import Model
    from .roadrunner import RoadrunnerModel

Value: TypeAlias = float | str
Gate: TypeAlias = Literal["AND", "OR", "SUM"]
GATES: tuple[Gate, ...] = ("AND", "OR", "SUM")

# The signs of X → Y, X → Z, Y → Z; Alon, Nature Reviews Genetics 8 (2007) 450.
FFL: dict[str, tuple[int, int, int]] = {
    "C1": (1, 1, 1), "C2": (-1, -1, 1), "C3": (1, -1, -1), "C4": (-1, 1, -1),
    "I1": (1, 1, -1), "I2": (-1, -1, -1), "I3": (1, -1, 1), "I4": (-1, 1, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Regulation:
    """A transcription factor that acts on a gene.

    Attributes:
        source: whose product it is, or an input.
        sign: 1 activates, -1 represses.
        K: the level at which it is half as strong as it can be.
        n: Hill's coefficient, the steepness.
    """

    source: str
    sign: Literal[1, -1]
    K: Value = 1.0
    n: float = 2.0


@dataclass(frozen=True)
class Transcript:
    """A gene's mRNA as a state of its own.

    Attributes:
        alpha: how fast it decays, 1/time.
        translation: how much product each makes, 1/time.
    """

    alpha: Value = 1.0
    translation: Value = 1.0


@dataclass(frozen=True)
class Gene:
    """A gene and its product.

    Attributes:
        regulators: what acts on it; none means that it is always on.
        gate: "AND" multiplies the regulators' Hill functions; "OR" lets them compete for one site (Mangan & Alon, PNAS
            100 (2003) 11980); "SUM" adds them.
        beta: the largest rate at which it is made, amount/time.
        alpha: the rate of decay and dilution, 1/time.
        basal: the rate at which it is made in any case, amount/time.
        start: the level at time 0, amount.
        transcript: its mRNA, if it is a state of its own; beta and basal are then the mRNA's.
    """

    regulators: tuple[Regulation, ...] = ()
    gate: Gate = "AND"
    beta: Value = 1.0
    alpha: Value = 1.0
    basal: Value = 0.0
    start: Value = 0.0
    transcript: Transcript | None = None


@dataclass(frozen=True)
class Circuit(Subject):
    """Genes that regulate each other, and inputs.

    Attributes:
        genes: by the name of their product.
        inputs: levels that are given, by name.
        units: what amounts and times are counted in.
        aliases: other names of parameters, each of one or several: those of the text that it was read from.

    Raises:
        ValueError: no gene; an unknown regulator or gate; a negative level or rate; K, n or alpha not above 0; a value
            whose unit is of another kind.
    """

    genes: Mapping[str, Gene]
    inputs: Mapping[str, Value] = field(default_factory=dict)
    units: Units = field(default_factory=Units)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.genes:
            raise ValueError("a circuit needs at least one gene")
        names = [*self.genes, *self.inputs]
        for name in names:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) or name == "t":
                raise ValueError(f"{name!r} cannot name a gene: use letters and digits, beginning with a letter, not t")
        both = set(self.genes) & set(self.inputs)
        if both:
            raise ValueError(f"{min(both)!r} is both a gene and an input")
        for name, gene in self.genes.items():
            self._check(name, gene)
        refuse_impossible(self.parameters)
        for name, level in self.starts.items():
            if not (math.isfinite(level) and level >= 0):
                raise ValueError(f"{name} starts at {level!r}: a level must be finite and not negative")

    def _check(self, name: str, gene: Gene) -> None:
        if gene.gate not in GATES:
            raise ValueError(f"{name} has the gate {gene.gate!r}; there are {', '.join(GATES)}")
        sources = [r.source for r in gene.regulators]
        for source in sources:
            if source not in self.genes and source not in self.inputs:
                raise ValueError(
                    f"{source!r} regulates {name}, but is neither a gene ({', '.join(self.genes)}) nor an input "
                    f"({', '.join(self.inputs) or 'none'})"
                )
        if len(set(sources)) < len(sources):
            raise ValueError(f"a regulator acts on {name} twice: {', '.join(sources)}")
        for r in gene.regulators:
            if r.sign not in (1, -1):
                raise ValueError(f"the sign of {r.source} on {name} is 1 (activates) or -1 (represses), got {r.sign!r}")

    # Usual circuits -------------------------------------------------------------------------------------------------

    @staticmethod
    def ffl(
        kind: str,
        gate: Gate = "AND",
        *,
        alpha: Value | Mapping[str, Value] = 1.0,
        beta: Value | Mapping[str, Value] = 1.0,
        basal: Value | Mapping[str, Value] = 0.0,
        K: Value | Mapping[str, Value] = 1.0,
        n: float | Mapping[str, float] = 2.0,
        X: Value = 1.0,
        units: Units | None = None,
    ) -> Circuit:
        """A feed-forward loop: the input X acts on Y and Z, and Y on Z.

        Args:
            kind: C1 to C4 (coherent) or I1 to I4 (incoherent), as numbered by Alon (2007).
            gate: how X and Y act on Z together.
            alpha, beta, basal: of Y and Z: one value for both, or by name.
            K, n: of the regulations "XY", "XZ" and "YZ": one value for all, or by name.
            X: the input's level.
            units: what values are counted in.

        Raises:
            ValueError: for an unknown kind or name, and as `Circuit`.
        """
        if kind not in FFL:
            raise ValueError(f"there is no feed-forward loop {kind!r}; there are {', '.join(FFL)}")
        xy, xz, yz = FFL[kind]
        each = {name: _each(value, ("Y", "Z"), name) for name, value in
                (("alpha", alpha), ("beta", beta), ("basal", basal))}  # fmt: skip
        half, steep = _each(K, ("XY", "XZ", "YZ"), "K"), _each(n, ("XY", "XZ", "YZ"), "n")

        def gene(name: str, *acting: tuple[str, Any]) -> Gene:
            regulators = tuple(Regulation(s, sign, half[s + name], steep[s + name]) for s, sign in acting)
            return Gene(regulators, gate, **{k: v[name] for k, v in each.items()})

        return Circuit({"Y": gene("Y", ("X", xy)), "Z": gene("Z", ("X", xz), ("Y", yz))}, {"X": X}, units or Units())

    @staticmethod
    def autoregulation(
        sign: Literal[1, -1], *, alpha: Value = 1.0, beta: Value = 1.0, basal: Value = 0.0, K: Value = 1.0,
        n: float = 2.0, units: Units | None = None,
    ) -> Circuit:  # fmt: skip
        """A gene X that regulates itself."""
        gene = Gene((Regulation("X", sign, K, n),), "AND", beta, alpha, basal)
        return Circuit({"X": gene}, {}, units or Units())

    @staticmethod
    def simple(*, alpha: Value = 1.0, beta: Value = 1.0, K: Value = 1.0, n: float = 2.0, X: Value = 1.0,
               units: Units | None = None) -> Circuit:  # fmt: skip
        """Simple regulation: the input X switches Z on. What other circuits are compared with."""
        return Circuit({"Z": Gene((Regulation("X", 1, K, n),), "AND", beta, alpha)}, {"X": X}, units or Units())

    @staticmethod
    def cascade(
        signs: Sequence[Literal[1, -1]], *, alpha: Value = 1.0, beta: Value = 1.0, basal: Value = 0.0, K: Value = 1.0,
        n: float = 2.0, X: Value = 1.0, units: Units | None = None,
    ) -> Circuit:  # fmt: skip
        """The input X acts on Y1, Y1 on Y2 and so on, each with its sign."""
        names = ["X", *(f"Y{i}" for i in range(1, len(signs) + 1))]
        genes = {
            name: Gene((Regulation(before, sign, K, n),), "AND", beta, alpha, basal)
            for before, name, sign in zip(names, names[1:], signs, strict=False)
        }
        return Circuit(genes, {"X": X}, units or Units())

    @staticmethod
    def toggle(
        *, alpha: Value = 1.0, beta: Value | Mapping[str, Value] = 1.0, basal: Value = 0.0, K: Value = 1.0,
        n: float | Mapping[str, float] = 2.0, units: Units | None = None,
    ) -> Circuit:  # fmt: skip
        """Two genes A and B that repress each other (Gardner, Cantor & Collins, Nature 403 (2000) 339).

        `beta` is of A and B, `n` of the regulations "AB" and "BA".
        """
        rate, steep = _each(beta, ("A", "B"), "beta"), _each(n, ("AB", "BA"), "n")
        genes = {
            "A": Gene((Regulation("B", -1, K, steep["BA"]),), "AND", rate["A"], alpha, basal),
            "B": Gene((Regulation("A", -1, K, steep["AB"]),), "AND", rate["B"], alpha, basal),
        }
        return Circuit(genes, {}, units or Units())

    @staticmethod
    def repressilator(
        genes: Sequence[str] = ("A", "B", "C"), *, alpha: Value = 1.0, beta: Value = 1.0, basal: Value = 0.0,
        K: Value = 1.0, n: float = 2.0, transcript: Transcript | None = None, units: Units | None = None,
    ) -> Circuit:  # fmt: skip
        """A ring of genes, each repressing the next (Elowitz & Leibler, Nature 403 (2000) 335).

        With `transcript` the mRNA is a state of its own, as in the paper. All but the first start at 0, the first at K,
        so that the ring leaves its symmetric rest.
        """
        made = {
            name: Gene((Regulation(genes[i - 1], -1, K, n),), "AND", beta, alpha, basal, 0.0 if i else K, transcript)
            for i, name in enumerate(genes)
        }
        return Circuit(made, {}, units or Units())

    @staticmethod
    def graph(
        edges: Iterable[tuple[str, str, Literal[1, -1]]],
        *,
        gates: Gate | Mapping[str, Gate] = "AND",
        inputs: Mapping[str, Value] | None = None,
        alpha: Value = 1.0,
        beta: Value = 1.0,
        basal: Value = 0.0,
        K: Value | Mapping[str, Value] = 1.0,
        n: float | Mapping[str, float] = 2.0,
        units: Units | None = None,
    ) -> Circuit:
        """A circuit from its edges (source, target, sign).

        Args:
            edges: 1 activates, -1 represses. What is no target and no input is an error.
            gates: of all genes, or by name.
            inputs: levels by name.
            alpha, beta, basal: of all genes; change one gene's by `with_parameters`.
            K, n: of all regulations, or by "A_B" for A's on B.
        """
        found = list(edges)
        if not found:
            raise ValueError("a circuit needs at least one edge")
        targets = list(dict.fromkeys(target for _, target, _ in found))
        labels = [f"{s}_{t}" for s, t, _ in found]
        half, steep, gate = _each(K, labels, "K"), _each(n, labels, "n"), _each(gates, targets, "gates")
        genes = {
            name: Gene(
                tuple(Regulation(s, sign, half[f"{s}_{t}"], steep[f"{s}_{t}"]) for s, t, sign in found if t == name),
                gate[name], beta, alpha, basal,
            )
            for name in targets
        }  # fmt: skip
        return Circuit(genes, dict(inputs or {}), units or Units())

    # Reading and writing --------------------------------------------------------------------------------------------

    @staticmethod
    def from_antimony(text: str, *, check_units: bool = True) -> Circuit | Model:
        """What an Antimony text says: a circuit where all its laws are a circuit's, else a model.

        A circuit's laws are productions by Hill, Michaelis or repressor functions (joined by a gate), and losses in
        proportion. Its parameters can then also be given by the text's own names (`aliases`). A model has the same
        measures, and `not_a_circuit` says what it is not a circuit for.

        Raises:
            ImportError: the package antimony is missing.
            ValueError: text that Antimony cannot read, with its reason; and as `from_sbml`.
        """
        from .antimony import from_antimony
        from .reading import circuit_or_model

        return circuit_or_model(from_antimony(text), check_units)

    @overload
    @staticmethod
    def from_sbml(
        source: str | Path, engine: Literal["varphi"] = "varphi", *, check_units: bool = True
    ) -> Circuit | Model: ...

    @overload
    @staticmethod
    def from_sbml(
        source: str | Path, engine: Literal["roadrunner"], *, check_units: bool = True
    ) -> RoadrunnerModel: ...

    @staticmethod
    def from_sbml(
        source: str | Path, engine: str = "varphi", *, check_units: bool = True
    ) -> Circuit | Model | RoadrunnerModel:
        """What an SBML file, or a text, says: a circuit or a model, as for `from_antimony`.

        Args:
            source: a file, or the text itself.
            engine: "roadrunner" for a model that libroadrunner (to be installed by you) simulates: time courses only.
            check_units: whether units that contradict each other are refused.

        Raises:
            ImportError: the package python-libsbml is missing.
            FileNotFoundError: no such file.
            ValueError: what is no SBML; impossible values (K = 0, n < 0, a negative concentration); units that clash.
            UnsupportedModel: a model with something that is not supported, by name.
        """
        from .reading import circuit_or_model
        from .roadrunner import RoadrunnerModel
        from .sbml import from_sbml

        if engine not in ("varphi", "roadrunner"):
            raise ValueError(f"engine is 'varphi' or 'roadrunner', got {engine!r}")
        if engine == "roadrunner":
            return RoadrunnerModel.read(source)
        return circuit_or_model(from_sbml(source), check_units)

    def to_sbml(self) -> str:
        """It as SBML, level 3 version 2: one compartment of size 1, a reaction for each making and each loss.

        Raises:
            ImportError: the package python-libsbml is missing.
        """
        from .writing import to_sbml

        return to_sbml(self)

    # Equations ------------------------------------------------------------------------------------------------------

    @property
    def edges(self) -> tuple[tuple[str, str, int], ...]:
        """Its graph: (source, target, sign)."""
        return tuple((r.source, name, r.sign) for name, gene in self.genes.items() for r in gene.regulators)

    @property
    def parameters(self) -> dict[str, float]:
        """All values by name, in the circuit's units: X for an input, alpha_Y, beta_Y, basal_Y, K_X_Y, n_X_Y."""
        return {name: value for name, (value, _) in self._values().items()}

    @property
    def starts(self) -> dict[str, float]:
        """The state at time 0."""
        found: dict[str, float] = {}
        for name, gene in self.genes.items():
            if gene.transcript is not None:
                found[f"m{name}"] = 0.0
            found[name] = self.units.number(gene.start, 1, 0, f"the start of {name}")
        return found

    def with_parameters(self, **changed: Value) -> Circuit:
        """The same circuit with other values, named as in `parameters`.

        Raises:
            ValueError: for an unknown name, and as `Circuit`.
        """
        changed = self._canonical(changed)
        unknown = set(changed) - set(self.parameters)
        if unknown:
            raise ValueError(f"no parameter {min(unknown)!r}; there are {', '.join(self.parameters)}")
        genes = {}
        for name, gene in self.genes.items():
            regulators = tuple(replace(r, **_chosen(changed, r, f"_{r.source}_{name}")) for r in gene.regulators)
            plain = _chosen(changed, gene, f"_{name}")
            transcript = gene.transcript
            if transcript is not None:
                inner = {"alpha": f"alpha_m{name}", "translation": f"translation_{name}"}
                transcript = replace(transcript, **{k: changed[v] for k, v in inner.items() if v in changed})
            genes[name] = replace(gene, regulators=regulators, transcript=transcript, **plain)
        return replace(self, genes=genes, inputs={k: changed.get(k, v) for k, v in self.inputs.items()})

    def system(self) -> System:
        """Its differential equations, with units."""
        rates: dict[str, Expression] = {}
        for name, gene in self.genes.items():
            made = self._made(name, gene)
            decay = variable(f"alpha_{name}") * variable(name)
            if gene.transcript is None:
                rates[name] = made - decay
            else:
                rates[f"m{name}"] = made - variable(f"alpha_m{name}") * variable(f"m{name}")
                rates[name] = variable(f"translation_{name}") * variable(f"m{name}") - decay
        units = {name: unit for name, (_, unit) in self._values().items()} | {"t": self.units.time}
        return System.of(rates, self.parameters, units=units | dict.fromkeys(rates, self.units.amount))

    def network(self, molecules: float = 1.0) -> Network:
        """Its reactions between counted molecules, for exact stochastic simulation: each is made and lost one by one.

        Args:
            molecules: how many molecules one unit of amount is; 1 if amounts are counts already.

        Raises:
            ValueError: for a number that is not above 0.
        """
        if not (math.isfinite(molecules) and molecules > 0):
            raise ValueError(f"molecules must be a finite number above 0, got {molecules!r}")
        size: Any = constant(int(molecules) if float(molecules).is_integer() else molecules)
        states = tuple(self.starts)
        levels = {name: variable(name) / size for name in states}
        reactions = []
        for name, gene in self.genes.items():
            made = _replaced(self._made(name, gene), levels) * size
            product = f"m{name}" if gene.transcript is not None else name
            reactions.append(Reaction(made, {product: 1}))
            if gene.transcript is not None:
                reactions.append(Reaction(variable(f"alpha_m{name}") * variable(product), {product: -1}))
                reactions.append(Reaction(variable(f"translation_{name}") * variable(product), {name: 1}))
            reactions.append(Reaction(variable(f"alpha_{name}") * variable(name), {name: -1}))
        return Network.of(reactions, states, self.parameters)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What can be measured: the products, mRNAs included."""
        return tuple(self.starts)

    def resolved(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Parameters by the names that the equations have.

        Raises:
            ValueError: for unknown names or impossible values.
        """
        given = super().resolved(self._canonical(parameters or {}))
        refuse_impossible(given)
        return given

    def _canonical(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name, with aliases replaced.

        Raises:
            ValueError: a value given twice.
        """
        found: dict[str, Any] = {}
        for name, value in given.items():
            for own in self.aliases.get(name, (name,)):
                if own in found:
                    raise ValueError(f"{own!r} is given twice, once as {name!r}")
                found[own] = value
        return found

    def decay(self, output: str, parameters: Mapping[str, Any]) -> Any:
        """How fast a product decays."""
        return {**self.parameters, **parameters}[f"alpha_{output}"]

    def refuse_step(self, step: tuple[str, Any, Any]) -> None:
        """Refuse a step of what is no input, or to an impossible level.

        Raises:
            ValueError: which, and what would be.
        """
        name, *levels = step
        if name not in self.inputs:
            raise ValueError(f"no input {name!r}; there are {', '.join(self.inputs) or 'none'}")
        for level in levels:
            refuse_impossible({name: level})

    def _made(self, name: str, gene: Gene) -> Expression:
        acting = [
            (r.sign, variable(r.source), variable(f"K_{r.source}_{name}"), variable(f"n_{r.source}_{name}"))
            for r in gene.regulators
        ]
        return variable(f"basal_{name}") + variable(f"beta_{name}") * gated(gene.gate, acting)

    def _values(self) -> dict[str, tuple[float, str]]:
        """Each parameter's value and unit."""
        found: dict[str, tuple[float, str]] = {}

        def put(name: str, value: Value, amount: int, time: int) -> None:
            found[name] = (self.units.number(value, amount, time, name), self.units.of(amount, time))

        for name, level in self.inputs.items():
            put(name, level, 1, 0)
        for name, gene in self.genes.items():
            put(f"alpha_{name}", gene.alpha, 0, -1)
            put(f"beta_{name}", gene.beta, 1, -1)
            put(f"basal_{name}", gene.basal, 1, -1)
            if gene.transcript is not None:
                put(f"alpha_m{name}", gene.transcript.alpha, 0, -1)
                put(f"translation_{name}", gene.transcript.translation, 0, -1)
            for r in gene.regulators:
                put(f"K_{r.source}_{name}", r.K, 1, 0)
                put(f"n_{r.source}_{name}", r.n, 0, 0)
        return found


def hill(sign: int, level: Any, K: Any, n: Any) -> Any:
    """The catalogue's Hill function of a level: activator (1) or repressor (-1).

    Below 0 it keeps its value at 0, so a level that rounding made negative is no error; its slope by the level is 0 up
    to and including 0, which for n <= 1 is the slope from the left.
    """
    known = find("hill_activator" if sign > 0 else "hill_repressor")
    assert known is not None
    return known.function(level, K=K, n=n)


def gated(gate: Gate, acting: Sequence[tuple[int, Any, Any, Any]]) -> Any:
    """G of regulators (sign, level, K, n); 1 without any."""
    if not acting:
        return constant(1)
    own = [hill(*regulator) for regulator in acting]
    if gate == "AND":
        return math.prod(own[1:], start=own[0])
    if gate == "SUM" or len(acting) == 1:
        return sum(own[1:], start=own[0])
    # Competition: Σ (r_i or 1)/(1 + Σ r_j), r = (x/K)^n, times Π 1/(1 + r_j) above and below, so that no r overflows.
    on, off = ([hill(sign, *rest) for _, *rest in acting] for sign in (1, -1))

    def others(i: int) -> Any:
        rest = [o for j, o in enumerate(off) if j != i]
        return math.prod(rest[1:], start=rest[0])

    free = math.prod(off[1:], start=off[0])
    bound = [on[i] * others(i) for i in range(len(acting))]
    heads = [bound[i] if regulator[0] > 0 else free for i, regulator in enumerate(acting)]
    return sum(heads[1:], start=heads[0]) / sum(bound, start=free)


def refuse_impossible(values: Mapping[str, Any]) -> None:
    """Refuse parameters that no circuit has: values by name, each a number or many.

    Raises:
        ValueError: which, and why.
    """
    for name, value in values.items():
        numbers = np.asarray(value, float)
        kind = name.partition("_")[0]
        above = kind in ("alpha", "K", "n") and "_" in name
        bad = ~(np.isfinite(numbers) & ((numbers > 0) if above else (numbers >= 0)))
        if bad.any():
            worst = float(numbers[bad].flat[0])
            hint = "; a gene that x switches off is a repressor, sign -1" if kind == "n" and worst < 0 else ""
            raise ValueError(f"{name} must be finite and {'above 0' if above else 'not negative'}, got {worst!r}{hint}")


def _chosen(changed: Mapping[str, Value], part: Gene | Regulation, ending: str) -> dict[str, Any]:
    """The new values of a part's own parameters: those whose names are a field's and this ending."""
    return {f.name: changed[f.name + ending] for f in fields(part) if f.name + ending in changed}


def _replaced(expression: Expression, values: Mapping[str, Any]) -> Expression:
    names: dict[str, Any] = {name: variable(name) for name in expression.variables}
    return evaluate([expression], names | {k: v for k, v in values.items() if k in names})[0]


def _each(value: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    """A value for each name: one for all, or given by name."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    odd = set(names) ^ set(value)
    if odd:
        raise ValueError(f"{what} must be given for {', '.join(names)}; {min(odd)!r} is missing or unknown")
    return dict(value)
