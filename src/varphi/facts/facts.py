"""Facts: what is proved or measured about one activation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from varphi.numbers import Expression, cache

from .interval import Interval
from .results import Bounds, Kink, Limits, Piece, Places, Range, Saturation, decode, encode, readable

if TYPE_CHECKING:
    from .analysis import Analysis

# Changes whenever the code could give other facts for the same formula, so that older ones on disk are not used.
VERSION = 2

HIGHEST_ORDER = 4
_NAMES = (
    "range", "lipschitz", "slope_range", "derivative_bounds", "smoothness", "kinks", "domain", "monotone",
    "turning_points", "inflections", "convexity", "zeros", "fixed_points", "parity", "homogeneity", "limits",
)  # fmt: skip


class Facts:
    """What is proved about one function of one real variable; each fact is found when first asked for, then kept.

    Proved statements hold for every real number in the domain (the formula with exact real arithmetic; a float64
    constant in it is the number that float64 is), ±inf by limits.

    Args:
        expression: the formula in `x`.
        activation: what the measured facts (`moments`, `gain`, `cost`, `accuracy`) are about; None: only proved ones.
        name: how the function is called.
        parameters: values of its parameters, for display.
        lower, upper: the part of the line the facts are about.

    Attributes are read-only. See `Facts.range`, `.lipschitz`, `.slope_range`, `.derivative_bounds`, `.smoothness`,
    `.kinks`, `.monotone`, `.turning_points`, `.inflections`, `.convexity`, `.zeros`, `.fixed_points`, `.parity`,
    `.homogeneity`, `.limits`, `.saturation(eps)`, `.on(lower, upper)`, `.moments(mu, sigma)`, `.gain`, `.cost`,
    `.accuracy(dtype)`.
    """

    def __init__(
        self,
        expression: Expression,
        activation: Any = None,
        name: str = "",
        parameters: Mapping[str, Any] | None = None,
        lower: float = -math.inf,
        upper: float = math.inf,
    ) -> None:
        unknown = expression.variables - {"x"}
        if unknown:
            raise ValueError(f"facts need a formula in x alone; {', '.join(sorted(unknown))} have no value")
        set_once = object.__setattr__
        set_once(self, "expression", expression)
        set_once(self, "activation", activation)
        set_once(self, "name", name or repr(expression))
        set_once(self, "parameters", dict(parameters or {}))
        set_once(self, "_ends", (lower, upper))
        set_once(self, "_store", _Store(expression, lower, upper))

    expression: Expression
    activation: Any
    name: str
    parameters: dict[str, Any]
    _ends: tuple[float, float]
    _store: _Store

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"facts cannot be changed: {name!r} is what it is")

    def __repr__(self) -> str:
        values = "".join(f", {k}={v:g}" for k, v in self.parameters.items())
        part = "" if self._ends == (-math.inf, math.inf) else f" on [{self._ends[0]:g}, {self._ends[1]:g}]"
        return f"<facts about {self.name}{values}{part}>"

    @cached_property
    def _analysis(self) -> Analysis:
        from .analysis import Analysis

        return Analysis(self.expression, *map(_place, self._ends))

    def _fact(self, name: str, find: Callable[[Analysis], Any]) -> Any:
        return self._store.get(name, lambda: find(self._analysis))

    # ---------------------------------------------------------------------------------------- proved

    @property
    def range(self) -> Range:
        """The values of f: inf and sup, whether they are attained, and where f is exactly 0 on an interval."""
        return self._fact("range", lambda a: a.range())

    @property
    def lipschitz(self) -> Interval:
        """sup |f'|: the least Lipschitz constant; inf where f jumps."""
        return self._fact("lipschitz", lambda a: a.lipschitz)

    @property
    def slope_range(self) -> Bounds:
        """inf f' and sup f', one-sided at kinks."""
        return self.derivative_bounds[1]

    @property
    def derivative_bounds(self) -> tuple[Bounds, ...]:
        """inf and sup of f^(k) for k = 0, ..., 4, one-sided at kinks."""
        return self._fact("derivative_bounds", lambda a: tuple(a.bounds(k) for k in range(HIGHEST_ORDER + 1)))

    @property
    def smoothness(self) -> int | float:
        """k where f is C^k and not C^(k+1); math.inf for all k; -1 for a function that jumps."""
        value = self._fact("smoothness", lambda a: a.smoothness)
        return value if math.isinf(value) else int(value)

    @property
    def kinks(self) -> tuple[Kink, ...]:
        """Where a derivative jumps: location, the lowest order that does, and the jump (right less left)."""
        return self._fact("kinks", lambda a: a.kinks)

    @property
    def domain(self) -> tuple[tuple[float, float], ...]:
        """The intervals on which f is defined."""
        return self._fact("domain", lambda a: a.domain())

    @property
    def monotone(self) -> str:
        """ "increasing", "nondecreasing", "decreasing", "nonincreasing", "constant", "neither" or "undecided"."""
        return self._fact("monotone", lambda a: a.monotone())

    @property
    def turning_points(self) -> Places:
        """Where f changes between rising and falling."""
        return self._fact("turning_points", lambda a: a.turning_points())

    @property
    def inflections(self) -> Places:
        """Where f changes between convex and concave."""
        return self._fact("inflections", lambda a: a.inflections())

    @property
    def convexity(self) -> tuple[Piece, ...]:
        """The stretches on which f is convex, concave or linear."""
        return self._fact("convexity", lambda a: a.convexity())

    @property
    def zeros(self) -> Places:
        """Where f(x) = 0."""
        return self._fact("zeros", lambda a: a.zeros())

    @property
    def fixed_points(self) -> Places:
        """Where f(x) = x."""
        return self._fact("fixed_points", lambda a: a.fixed_points())

    @property
    def parity(self) -> str:
        """ "even", "odd", "none" or "undecided"."""
        return self._fact("parity", lambda a: a.parity())

    @property
    def homogeneity(self) -> int | None:
        """p with f(λx) = λ^p f(x) for every λ > 0; None where there is no such p."""
        return self._fact("homogeneity", lambda a: a.homogeneity())

    @property
    def limits(self) -> Limits:
        """What f does at -inf and +inf: its limit, and how it grows."""
        return self._fact("limits", lambda a: a.limits())

    def saturation(self, eps: float = 1e-3) -> Saturation:
        """The outermost points where |f'| is not below eps, left and right; None where it never stays below.

        Raises:
            ValueError: unless eps is finite and > 0.
        """
        if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 < eps < math.inf:
            raise ValueError(f"eps must be a finite number > 0, got {eps!r}")
        return self._fact(f"saturation {float(eps).hex()}", lambda a: a.saturation(eps))

    def on(self, lower: float, upper: float) -> Facts:
        """The same facts on [lower, upper]; ±inf allowed.

        Raises:
            ValueError: unless lower < upper, both numbers.
        """
        for value in (lower, upper):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise ValueError(f"an interval needs two numbers, got [{lower!r}, {upper!r}]")
        if not lower < upper:
            raise ValueError(f"an interval needs lower < upper, got [{lower!r}, {upper!r}]")
        low, high = max(float(lower), self._ends[0]), min(float(upper), self._ends[1])
        if not low < high:
            raise ValueError(f"[{lower!r}, {upper!r}] lies outside [{self._ends[0]!r}, {self._ends[1]!r}]")
        return Facts(self.expression, self.activation, self.name, self.parameters, low, high)

    def undecided(self) -> list[str]:
        """The names of facts that are not fully decided."""
        return [name for name in _NAMES if _is_undecided(getattr(self, name))]

    def as_dict(self) -> dict[str, Any]:
        """Every proved fact as plain data (numbers, strings, lists; infinities as "inf" and "-inf")."""
        facts = {name: readable(getattr(self, name)) for name in _NAMES}
        ends = [readable(e) for e in self._ends]
        return {"name": self.name, "formula": repr(self.expression), "parameters": self.parameters, "on": ends, **facts}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    # ---------------------------------------------------------------------------------------- measured

    def moments(self, mu: float = 0.0, sigma: float = 1.0) -> Any:
        """E f, E f², E f'², E f''² under N(mu, sigma²)."""
        from . import moments

        return moments.moments(self._measurable(), mu, sigma)

    @property
    def gain(self) -> Any:
        """The factor on weights that keeps the variance of a layer's input."""
        from . import moments

        return moments.gain(self._measurable())

    @property
    def backward_gain(self) -> Any:
        """The factor on weights that keeps the variance of a layer's gradient."""
        from . import moments

        return moments.backward_gain(self._measurable())

    @property
    def mean_field(self) -> Any:
        """Signal propagation in wide random networks: fixed points q*, χ₁, the edge of chaos, the correlation map."""
        from . import moments

        return moments.mean_field(self._measurable())

    @property
    def cost(self) -> Any:
        """Time per element relative to a copy, on this machine."""
        from . import cost

        return cost.cost(self._measurable())

    def accuracy(self, dtype: Any = None) -> Any:
        """The worst error of the kernels of f and its derivatives in units in the last place, and where."""
        from . import accuracy

        return (
            accuracy.accuracy(self._measurable(), dtype) if dtype is not None else accuracy.accuracy(self._measurable())
        )

    def _measurable(self) -> Any:
        if self.activation is None:
            raise ValueError(f"{self.name} is a bare formula; measured facts need an activation: vp.facts(vp.get(...))")
        return self.activation


def _place(end: float) -> Any:
    return end if math.isinf(end) else Fraction(end)


def _is_undecided(value: Any) -> bool:
    if isinstance(value, Interval):
        return value.method == "undecided"
    if isinstance(value, Places):
        return not value.complete and not value.infinite
    if isinstance(value, Bounds):
        unknown = isinstance(value, Range) and None in (value.lower_attained, value.upper_attained)
        return unknown or _is_undecided(value.infimum) or _is_undecided(value.supremum)
    if isinstance(value, str):
        return value == "undecided"
    if isinstance(value, tuple):
        return any(_is_undecided(v) for v in value)
    return getattr(value, "growth", "") == "undecided"


class _Store:
    """Facts found so far, in memory and on disk."""

    def __init__(self, expression: Expression, lower: float, upper: float) -> None:
        key = f"{expression.digest} {lower.hex()} {upper.hex()} {VERSION}"
        self._name = hashlib.sha256(key.encode()).hexdigest()[:40] + ".json"
        self._facts: dict[str, Any] | None = None

    def get(self, name: str, find: Callable[[], Any]) -> Any:
        if self._facts is None:
            self._facts = self._read()
        if name not in self._facts:
            value = find()
            # What another process has found meanwhile is kept.
            self._facts = self._read() | self._facts | {name: value}
            self._write()
        return self._facts[name]

    def _read(self) -> dict[str, Any]:
        content = cache.read("facts", self._name)
        return {} if content is None else {n: decode(v) for n, v in json.loads(content).items()}

    def _write(self) -> None:
        assert self._facts is not None
        cache.write("facts", self._name, json.dumps({n: encode(v) for n, v in self._facts.items()}).encode())
