"""How far computed values of an activation and of its derivatives lie from the exact ones, in units in the last place.

What is judged is what a user gets: the layer's forward pass, its backward pass and `derivatives`, on a CPU, in one
floating-point format. What it is judged by is ball arithmetic at exact inputs (`facts.reference`), which shares no
rule with the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from varphi.activation import backend
from varphi.activation.definition import Definition
from varphi.activation.formula import Formula
from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike, as_activation
from varphi.numbers import Expression, evaluate

from .moments import breakpoints, steps
from .reference import Reference

Route = Callable[[Tensor], Tensor]

_SUSPECTS = 400  # points of largest estimated error, per measure and route, that balls decide
_SAMPLE = 3000  # points on which balls check the estimate itself
_DOUBTED = 20_000  # at most so many points are decided because the estimate failed near them
_AGREEMENT = 0.25  # ulp: how far the estimate may be from the ball where it is believed


@dataclass(frozen=True)
class Accuracy:
    """The worst error found of a computed derivative of an activation.

    Attributes:
        name: the activation.
        dtype: the floating-point format.
        derivative: which one was judged; 0 is the function itself.
        ulps: |computed - exact| in units in the last place of the exact value, at the worst point: the spacing of the
            format there, which below its smallest normal number stays the spacing of the subnormals. Correct rounding
            gives 0.5; inf stands for NaN or an infinity where the exact value is an ordinary number.
        x, computed, exact: the worst point, what was computed and (rounded to float64) what is right.
            Next to a jump of the derivative either side's value is right.
        route: the code path it came from: "forward", "backward", "derivatives" or "operations".
        mixed_ulps: the worst error in units of ulp(f) or of the change of f over one ulp of x, whichever is larger.
            Beside a zero of f no method that rounds its steps is exact in `ulps`; this measure stays small
            for a stable one (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, sec. 1.5).
        points: how many inputs were computed.
        certified: at how many of them the error was taken against ball arithmetic; elsewhere a float64 estimate, which
            agreed with the balls wherever they were compared, was below the worst.
        undecided: certified points left out: poles, points outside the domain, exponents beyond any format.
        faults: wrong answers to NaN and ±inf, in words; empty if none.
        method: always "measured".
    """

    name: str
    dtype: torch.dtype
    derivative: int
    ulps: float
    x: float
    computed: float
    exact: float
    route: str
    mixed_ulps: float
    points: int
    certified: int
    undecided: int
    faults: tuple[str, ...] = ()
    method: str = "measured"


def accuracy(activation: ActivationLike, dtype: torch.dtype = torch.float32, derivative: int = 0) -> Accuracy:
    """The worst error of varphi's own f^(derivative) in `dtype`, over the whole range of the format.

    Args:
        activation: a name, a formula, an activation, a torch callable or module.
        dtype: float32, float64, bfloat16 or float16. Of the 16-bit formats every number is tried.
        derivative: 0 for the function, 1 for its slope, and so on.

    Raises:
        TypeError, ValueError: for another dtype or order.
        UnsupportedOperation: where the definition uses an operation that has no exact reference.
    """
    layer = as_activation(activation)
    return _judge(layer, _routes(layer, derivative), dtype, derivative)


def operations_accuracy(
    activation: ActivationLike, dtype: torch.dtype = torch.float32, derivative: int = 0
) -> Accuracy:
    """`accuracy` of the torch operations that stand in for the kernel under torch.compile, torch.func and on a GPU."""
    layer = as_activation(activation)
    formula = layer.definition.formula(layer.values)
    for _ in range(derivative):
        formula = formula.derivative()
    route = {"operations": lambda x: backend.by_operations(formula, x, layer.arguments())}
    return _judge(layer, route, dtype, derivative)


def torch_accuracy(activation: ActivationLike, dtype: torch.dtype = torch.float32, derivative: int = 0) -> Accuracy:
    """The worst error of torch's own operation for the same function: `accuracy` of what the definition names.

    Raises:
        ValueError: where torch has no such operation, or the activation's parameters are not at their defaults.
    """
    layer = as_activation(activation)
    return _judge(layer, _torch_routes(layer, derivative), dtype, derivative)


def _routes(layer: Activation, derivative: int) -> dict[str, Route]:
    tower = {"derivatives": lambda x: layer.derivatives(x, derivative)[derivative]}
    return {**_autograd_routes(layer, derivative), **tower}


def _autograd_routes(function: Callable[[Tensor], Tensor], derivative: int) -> dict[str, Route]:
    if derivative == 0:
        return {"forward": function}
    return {"backward": lambda x: _backward(function, x)} if derivative == 1 else {}


def _backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        function(leaf).backward(torch.ones_like(leaf))
    return torch.zeros_like(x) if leaf.grad is None else leaf.grad


def _torch_routes(layer: Activation, derivative: int) -> dict[str, Route]:
    definition = layer.definition
    if definition.torch is None:
        raise ValueError(f"{layer.name} names no operation of torch to compare with")
    if layer.numbers() != definition.values({}):
        raise ValueError(f"{layer!r}: torch's {definition.torch} is compared at the default parameters only")
    routes = _autograd_routes(torch_operation(definition), derivative)
    if not routes:
        raise ValueError(
            f"torch computes derivatives 0 and 1 of {definition.torch} itself, got derivative={derivative}"
        )
    return routes


def torch_operation(definition: Definition) -> Callable[[Tensor], Tensor]:
    """torch.nn's class for a definition, at its defaults, in evaluation mode."""
    kind: Any = getattr(nn, definition.torch or "")
    # nn.Threshold alone has no defaults; it takes the definition's parameters in their order.
    module = kind(*definition.values({}).values()) if definition.torch == "Threshold" else kind()
    module.eval().requires_grad_(False)
    return lambda x: module.to(x.dtype)(x)


@dataclass(frozen=True)
class _Format:
    """A floating-point format: `digits` bits of significand, normal exponents from `lowest` to `highest`."""

    dtype: torch.dtype
    patterns: torch.dtype
    digits: int
    lowest: int
    highest: int

    @property
    def overflow(self) -> float:
        """Where rounding to nearest gives infinity; in float64, infinity itself."""
        return math.inf if self.highest >= 1023 else (2 - 2.0**-self.digits) * 2.0**self.highest

    def pattern(self, value: float) -> int:
        return int(torch.tensor(abs(value), dtype=self.dtype).view(self.patterns))

    def numbers(self, patterns: np.ndarray) -> Tensor:
        """The finite numbers of both signs with these patterns, sorted, each once."""
        inside = np.unique(np.clip(patterns, 0, self.pattern(torch.finfo(self.dtype).max)))
        positive = torch.from_numpy(inside).to(self.patterns).view(self.dtype)
        return torch.cat([-positive.flip(0), positive])

    def around(self, values: Any, reach: int) -> np.ndarray:
        """The patterns of `values` and of their neighbours up to `reach` steps away."""
        finite = np.asarray(values, dtype=np.float64)
        tensor = torch.from_numpy(np.abs(finite[np.isfinite(finite)])).to(self.dtype)
        patterns = tensor.view(self.patterns).to(torch.int64).numpy()
        return (patterns[:, None] + np.arange(-reach, reach + 1)).ravel()

    def spacing_exponent(self, values: np.ndarray) -> np.ndarray:
        """The k of the spacing 2^k of the format at `values`."""
        exponent = np.where(np.isinf(values), self.highest + 1, np.frexp(values)[1] - 1)
        exponent = np.where(values == 0, self.lowest, exponent)
        return np.clip(exponent, self.lowest, self.highest) - (self.digits - 1)


_FORMATS = {
    torch.float32: _Format(torch.float32, torch.int32, 24, -126, 127),
    torch.float64: _Format(torch.float64, torch.int64, 53, -1022, 1023),
    torch.bfloat16: _Format(torch.bfloat16, torch.int16, 8, -126, 127),
    torch.float16: _Format(torch.float16, torch.int16, 11, -14, 15),
}


def _format(dtype: torch.dtype) -> _Format:
    if dtype not in _FORMATS:
        raise TypeError(f"accuracy is measured in {', '.join(map(str, _FORMATS))}; got {dtype!r}")
    return _FORMATS[dtype]


def _grid(form: _Format, expression: Expression) -> np.ndarray:
    """Patterns of |x|: all of 16 bits; else every exponent, closer where activations bend, and the special points."""
    if form.patterns is torch.int16:
        return np.arange(1 << 15)
    top = form.pattern(torch.finfo(form.dtype).max)
    wide, close, middle = (
        (53_000, 50_000, (2.0**-12, 2.0**8)) if form.digits == 24 else (4_000, 4_000, (2.0**-20, 2.0**10))
    )
    low, high = map(form.pattern, middle)
    constants = [float(n.value) for n in expression.nodes() if n.is_constant]
    return np.concatenate(
        [
            # Odd strides, so that the low bits of the significand vary.
            np.arange(0, top + 1, top // wide | 1),
            np.arange(low, high, (high - low) // close | 1),
            form.around([0.0, 2.0**form.lowest, torch.finfo(form.dtype).max], 3),
            form.around(2.0 ** np.arange(max(form.lowest, -40), 40), 1),
            form.around(constants, 8),
        ]
    )


def _errors(y: np.ndarray, high: np.ndarray, low: np.ndarray, form: _Format) -> np.ndarray:
    """|y - (high + low)| in ulp of the exact value; inf for a NaN or a wrong infinity, NaN where it is undecided."""
    exponent = form.spacing_exponent(high)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.ldexp(np.abs((y - high) - low), -exponent)
        overflowed = np.isinf(y) & (np.sign(y) == np.sign(high))
        # An infinity that came too early counts as the number that would follow the largest.
        missing = np.ldexp(1 - np.ldexp(np.abs(high), -form.highest - 1), form.highest + 1 - exponent)
        error = np.where(overflowed, np.where(np.abs(high) >= form.overflow, 0.0, missing), error)
    error = np.where(np.isnan(y), np.inf, error)
    return np.where(np.isnan(high), np.nan, error)


def _mixed(error: np.ndarray, value: np.ndarray, slope: np.ndarray, x: np.ndarray, form: _Format) -> np.ndarray:
    """`error`, from units of ulp(value) to the larger of those and |slope|·ulp(x)."""
    with np.errstate(over="ignore", invalid="ignore"):
        change = np.ldexp(np.abs(slope), form.spacing_exponent(x) - form.spacing_exponent(value))
        return np.where(np.isinf(error), error, error / np.maximum(1.0, np.nan_to_num(change, nan=1.0)))


class _Judgement:
    """Computed values beside exact ones, at a growing set of points."""

    def __init__(self, expression: Expression, routes: Mapping[str, Route], form: _Format, order: int) -> None:
        self.reference = Reference(expression)
        self.routes = routes
        self.form = form
        self.order = order
        self.x = np.empty(0)
        self.high = np.empty((2, 0))
        self.low = np.empty((2, 0))
        self.computed: dict[str, np.ndarray] = {name: np.empty(0) for name in routes}
        self.sides: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.jumps = [p for p in breakpoints(expression, sharp=True).tolist() if steps(self.reference, p, order)]

    def add(self, x: Tensor, computed: Mapping[str, np.ndarray] | None = None) -> None:
        """Decide the error at the points x, not yet among those decided."""
        if computed is None:
            computed = _run(self.routes, x)
        wide = x.double().numpy()
        high, low = self.reference.values(wide, self.order + 1)
        self._note_jumps(wide)
        self.x = np.concatenate([self.x, wide])
        self.high = np.concatenate([self.high, high[self.order :]], axis=1)
        self.low = np.concatenate([self.low, low[self.order :]], axis=1)
        self.computed = {name: np.concatenate([self.computed[name], computed[name]]) for name in self.routes}

    def _note_jumps(self, x: np.ndarray) -> None:
        """Where x is next to a jump, so that the rounding of a constant decides the piece: the values on both sides."""
        spacing = np.ldexp(1.0, self.form.spacing_exponent(x))
        for i in {int(i) for jump in self.jumps for i in np.flatnonzero(np.abs(x - jump) <= spacing)}:
            sides = np.array([x[i] - spacing[i], x[i] + spacing[i]])
            high, low = self.reference.values(sides, self.order)
            self.sides[len(self.x) + i] = high[-1], low[-1]

    def errors(self, route: str) -> np.ndarray:
        computed = self.computed[route]
        error = _errors(computed, self.high[0], self.low[0], self.form)
        for i, (high, low) in self.sides.items():
            others = _errors(np.full(2, computed[i]), high, low, self.form)
            error[i] = np.nanmin([error[i], *others])
        return error

    def mixed(self, route: str) -> np.ndarray:
        return _mixed(self.errors(route), self.high[0], self.high[1], self.x, self.form)

    def climb(self) -> None:
        """Look around the worst points for worse ones."""
        for _ in range(2):
            worst = np.concatenate([self.x[_largest(self.errors(route), 12)] for route in self.routes])
            near = self.form.numbers(self.form.around(worst, 12))
            self.add(near[torch.from_numpy(~np.isin(near.double().numpy(), self.x))])


def _run(routes: Mapping[str, Route], x: Tensor) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: route(x).double().numpy() for name, route in routes.items()}


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` largest stand; NaN counts as least."""
    ranked = np.where(np.isnan(values), -1.0, values)
    return np.argsort(-ranked, kind="stable")[:count]


def _estimates(expression: Expression, x: Tensor, order: int) -> np.ndarray:
    """f^(order) and f^(order + 1) in float64 by torch operations: array (2, n)."""
    wide = x.double()
    rows = evaluate(Formula(expression).tower(order + 1)[order:], {"x": wide})
    return np.stack([torch.as_tensor(row, dtype=wide.dtype).expand_as(wide).numpy() for row in rows])


def _crossings(x: Tensor, values: np.ndarray) -> np.ndarray:
    """The points between which `values` change sign."""
    signs = np.sign(values)
    change = np.flatnonzero(signs[:-1] * signs[1:] < 0)[:200]
    wide = x.double().numpy()
    return np.concatenate([wide[change], wide[change + 1]])


def _judge(layer: Activation, routes: Mapping[str, Route], dtype: torch.dtype, order: int) -> Accuracy:
    form = _format(dtype)
    if isinstance(order, bool) or not isinstance(order, int) or order < 0:
        raise ValueError(f"derivative must be a whole number >= 0, got {order!r}")
    expression = layer.definition.expression(layer.numbers())
    judgement = _Judgement(expression, routes, form, order)
    x = form.numbers(_grid(form, expression))
    if dtype is torch.float64:
        judgement.add(x)
    else:
        x = _decide_suspects(judgement, expression, x)
    judgement.climb()
    return _verdict(layer.name, judgement, len(x), faults=_faults(routes, judgement))


def _decide_suspects(judgement: _Judgement, expression: Expression, x: Tensor) -> Tensor:
    """Decide by balls the points that a float64 estimate suspects, and all points around where it proves unreliable."""
    form, order = judgement.form, judgement.order
    zeros = form.numbers(form.around(_crossings(x, _estimates(expression, x, order)[0]), 6))
    x = torch.unique(torch.cat([x, zeros]))
    estimate = _estimates(expression, x, order)
    computed = _run(judgement.routes, x)
    suspected = np.zeros(len(x), dtype=bool)
    suspected[:: max(1, len(x) // _SAMPLE)] = True
    wide = x.double().numpy()
    for y in computed.values():
        error = _errors(y, estimate[0], np.zeros(len(x)), form)
        error = np.where(np.isnan(error), np.inf, error)  # no estimate: suspect
        suspected[_largest(error, _SUSPECTS)] = True
        suspected[_largest(_mixed(error, estimate[0], estimate[1], wide, form), _SUSPECTS)] = True
    judgement.add(x[suspected], {name: y[suspected] for name, y in computed.items()})
    doubted = _between_trusted(suspected, _agrees(estimate[0][suspected], judgement.high[0], form)) & ~suspected
    some = np.flatnonzero(doubted)
    some = some[:: 1 + len(some) // _DOUBTED]
    judgement.add(x[some], {name: y[some] for name, y in computed.items()})
    return x


def _agrees(estimate: np.ndarray, exact: np.ndarray, form: _Format) -> np.ndarray:
    """Where the estimate is right to a fraction of an ulp, or overflows like the exact value, or there is none."""
    bound = math.ldexp(1.0, form.highest + 2)
    error = _errors(np.clip(estimate, -bound, bound), np.clip(exact, -bound, bound), np.zeros(len(exact)), form)
    return np.isnan(exact) | (error <= _AGREEMENT)


def _between_trusted(checked: np.ndarray, agrees: np.ndarray) -> np.ndarray:
    """Of all points, in order, those next to a checked one that disagrees: up to the nearest that agree."""
    at = np.flatnonzero(checked)
    doubted = np.zeros(len(checked), dtype=bool)
    for i in np.flatnonzero(~agrees):
        left = at[i - 1] + 1 if i else 0
        right = at[i + 1] if i + 1 < len(at) else len(checked)
        doubted[left:right] = True
    return doubted


def _verdict(name: str, judgement: _Judgement, points: int, faults: tuple[str, ...]) -> Accuracy:
    if np.isnan(judgement.high[0]).all():
        raise ValueError(f"{name}: ball arithmetic decided no point of derivative {judgement.order}")
    errors = {route: judgement.errors(route) for route in judgement.routes}
    route = max(errors, key=lambda r: np.nanmax(errors[r]))
    worst = int(np.nanargmax(errors[route]))
    return Accuracy(
        name=name,
        dtype=judgement.form.dtype,
        derivative=judgement.order,
        ulps=float(errors[route][worst]),
        x=float(judgement.x[worst]),
        computed=float(judgement.computed[route][worst]),
        exact=float(judgement.high[0][worst]),
        route=route,
        mixed_ulps=max(float(np.nanmax(judgement.mixed(r))) for r in judgement.routes),
        points=max(points, len(judgement.x)),
        certified=len(judgement.x),
        undecided=int(np.isnan(judgement.high[0]).sum()),
        faults=faults,
    )


def _faults(routes: Mapping[str, Route], judgement: _Judgement) -> tuple[str, ...]:
    """What comes out for NaN and ±inf, where it is wrong."""
    special = torch.tensor([math.nan, math.inf, -math.inf], dtype=judgement.form.dtype)
    found = []
    for name, values in _run(routes, special).items():
        if not math.isnan(values[0]):
            found.append(f"{name}: NaN gives {values[0]:g}")
        for x, y in zip((math.inf, -math.inf), values[1:].tolist(), strict=True):
            limit = _settled(judgement, x)
            if limit is not None and not _close(y, limit, judgement.form):
                found.append(f"{name}: {x:g} gives {y:g}, not {limit:g}")
    return tuple(found)


def _close(y: float, limit: float, form: _Format) -> bool:
    return (
        y == limit or abs(y - limit) <= 8 * 2.0 ** (1 - form.digits) * abs(limit) or abs(y - limit) < 2.0**form.lowest
    )


def _settled(judgement: _Judgement, side: float) -> float | None:
    """The value that f^(order) has reached, or the infinity it overflows to, at the largest numbers of a side."""
    largest = torch.finfo(judgement.form.dtype).max
    points = np.copysign(np.array([largest / 2**20, largest / 3, largest]), side)
    high, _ = judgement.reference.values(points, judgement.order)
    values = np.where(np.abs(high[-1]) >= largest / 2, np.copysign(np.inf, high[-1]), high[-1])
    if np.isinf(values[-1]) and abs(high[-1][0]) > 2.0:
        return float(values[-1])
    if np.isfinite(values).all() and _close(values[0], values[-1], judgement.form):
        return float(values[-1])
    return None
