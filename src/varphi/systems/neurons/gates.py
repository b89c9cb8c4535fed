"""Gates: how the open fraction of a channel follows the membrane potential V.

Three ways to write one down, each a formula in V (mV) over varphi's functions, a catalogue activation or a Python
function; each with numbers that stay changeable by name:

    Gate("n", rates("0.1*explinear((V+55)/10)", "0.125*exp(-(V+65)/80)"), power=4)
    Gate("m", boltzmann(half=-20, slope=15), instantaneous=True)
    Gate("w", steady("sigmoid(2*(V-V3)/V4)", tau="1/(phi*cosh((V-V3)/(2*V4)))"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from varphi.activation.parsing import read
from varphi.numbers import Expression, evaluate, sigmoid, variable
from varphi.numbers.expression import constant

from .units import POTENTIAL, TIME, quantity

VOLTAGE = "V"
Formula = str | float | Expression | Callable[[Any], Any]


@dataclass(frozen=True)
class Kinetics:
    """How a gate moves: dx/dt = α(V)(1 - x) - β(V)x, or (x∞(V) - x)/τ(V).

    Attributes:
        alpha, beta: opening and closing rate (1/ms); or None.
        steady, tau: x∞ and the time constant (ms; None: the gate has none and must be instantaneous); or None.
        numbers: named numbers of the formulas, belonging to this gate alone.
        units: their units.
    """

    alpha: Formula | None = None
    beta: Formula | None = None
    steady: Formula | None = None
    tau: Formula | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)


def rates(alpha: Formula, beta: Formula) -> Kinetics:
    """Kinetics by an opening and a closing rate, both in 1/ms as formulas in V.

    x/(1 - e^-x) is written explinear(x): so it has no hole at 0.
    """
    return Kinetics(alpha=alpha, beta=beta)


def steady(value: Formula, tau: Formula | None = None) -> Kinetics:
    """Kinetics by the steady state x∞(V) and the time constant τ(V) in ms."""
    return Kinetics(steady=value, tau=tau)


def boltzmann(half: float | str, slope: float | str, tau: Formula | None = None) -> Kinetics:
    """x∞ = 1/(1 + e^-((V - half)/slope)); half and slope in mV, a negative slope inactivates; τ in ms.

    The gate's numbers are `half` and `slope`, and `tau` where it is a number.
    """
    numbers = {"half": quantity(half, POTENTIAL, "half"), "slope": quantity(slope, POTENTIAL, "slope")}
    units = {"half": POTENTIAL, "slope": POTENTIAL}
    if numbers["slope"] == 0:
        raise ValueError("slope is 0 mV: a Boltzmann gate needs a slope that is not zero (5 to 20 mV is usual)")
    if isinstance(tau, str) and _is_quantity(tau):
        tau = quantity(tau, TIME, "tau")
    if isinstance(tau, (int, float)):
        numbers["tau"], units["tau"], tau = quantity(tau, TIME, "tau"), TIME, "tau"
    shape = sigmoid((variable(VOLTAGE) - variable("half")) / variable("slope"))
    return Kinetics(steady=shape, tau=tau, numbers=numbers, units=units)


def _called(function: Callable[[Any], Any]) -> Expression:
    try:
        return constant(function(variable(VOLTAGE)))
    except (ArithmeticError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the function {getattr(function, '__name__', function)!r} cannot be applied to V ({error}): write it with "
            "varphi.numbers' exp, sigmoid, explinear, where, ..., not with those of math or numpy"
        ) from None


def _is_quantity(text: str) -> bool:
    return text.strip()[:1].isdigit()


@dataclass(frozen=True)
class Gate:
    """A gate of a current.

    Attributes:
        name: of the state, as in "m".
        kinetics: `rates(...)`, `boltzmann(...)` or `steady(...)`.
        power: how many such gates a channel has.
        instantaneous: whether x is x∞(V) at every moment, and no state.
        range: what x∞ must lie in, proved when the model is built; None for a recovery variable that is no fraction.
    """

    name: str
    kinetics: Kinetics
    power: int = 1
    instantaneous: bool = False
    range: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in (VOLTAGE, "I", "C", "t"):
            raise ValueError(f"{self.name!r} cannot name a gate: a letter and then letters or digits; not V, I, C, t")
        if not isinstance(self.kinetics, Kinetics):
            raise TypeError(
                f"the gate {self.name} needs kinetics: rates(alpha, beta), boltzmann(half, slope) or "
                f"steady(formula, tau); got {self.kinetics!r}"
            )
        if isinstance(self.power, bool) or not isinstance(self.power, int) or self.power < 1:
            raise ValueError(f"the power of the gate {self.name} is a whole number from 1, got {self.power!r}")
        if not self.instantaneous and self.kinetics.alpha is None and self.kinetics.tau is None:
            raise ValueError(f"the gate {self.name} has no time constant: give tau, or instantaneous=True")

    def parameter(self, name: str) -> str:
        """The flat name of one of the gate's own numbers: `half` of m is `half_m`."""
        return f"{name}_{self.name}"


@dataclass(frozen=True)
class Motion:
    """A gate's formulas as expressions in V and the model's parameters.

    Attributes:
        steady: x∞.
        speed: 1/τ in 1/ms; None for an instantaneous gate.
        rate: dx/dt, with x under the gate's name; None likewise.
        positive: what must be positive everywhere, by name.
        nonnegative: what must not be negative.
    """

    steady: Expression
    speed: Expression | None
    rate: Expression | None
    positive: Mapping[str, Expression]
    nonnegative: Mapping[str, Expression]


def motion(gate: Gate, shared: Mapping[str, float]) -> Motion:
    """The expressions of a gate.

    Args:
        shared: the model's own parameters, which formulas may use.

    Raises:
        FormulaError, ValueError: a formula that cannot be read.
    """
    kinetics = gate.kinetics
    own = {name: variable(gate.parameter(name)) for name in kinetics.numbers}
    known = {VOLTAGE, *own, *shared}
    told = f"V and the parameters {', '.join(sorted(known - {VOLTAGE})) or '(none)'}"

    def expression(formula: Formula, what: str) -> Expression:
        found = _expression(formula, known, told)
        unknown = found.variables - known
        if unknown:
            raise ValueError(f"{what} of the gate {gate.name}: {min(unknown)!r} is unknown; it may use {told}")
        if not own:
            return found
        return constant(evaluate([found], {n: own.get(n, variable(n)) for n in found.variables})[0])

    x = variable(gate.name)
    if kinetics.alpha is not None and kinetics.beta is not None:
        alpha, beta = expression(kinetics.alpha, "alpha"), expression(kinetics.beta, "beta")
        both = alpha + beta
        rate = alpha * (1 - x) - beta * x
        dynamic = (None, None) if gate.instantaneous else (both, constant(rate))
        return Motion(constant(alpha / both), *dynamic, {"alpha + beta": both}, {"alpha": alpha, "beta": beta})
    if kinetics.steady is None:
        raise ValueError(f"the gate {gate.name} needs alpha and beta, or a steady state")
    steadily = constant(expression(kinetics.steady, "the steady state"))
    if gate.instantaneous or kinetics.tau is None:
        return Motion(steadily, None, None, {}, {})
    tau = expression(kinetics.tau, "tau")
    return Motion(steadily, constant(1 / tau), constant((steadily - x) / tau), {"tau": tau}, {})


def _expression(formula: Formula, known: set[str], told: str) -> Expression:
    if isinstance(formula, str):
        try:
            return constant(float(formula))
        except ValueError:
            return constant(read(formula, known.__contains__, told))
    if isinstance(formula, (int, float, Expression)):
        return constant(formula)
    if hasattr(formula, "definition"):  # an activation of the catalogue
        activation: Any = formula
        return constant(activation.definition.function(variable(VOLTAGE), **activation.values))
    if callable(formula):
        return _called(formula)
    raise TypeError(f"a formula is a text in V, an activation or a function of V, got {formula!r}")
