"""Expectations of an activation and its derivatives over a Gaussian, and what follows: gains and mean-field theory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias, cast

import numpy as np
import torch
from flint import arb
from jaxtyping import Float64
from scipy.optimize import brentq

from varphi.activation.formula import Formula
from varphi.activation.lookup import ActivationLike, as_activation
from varphi.numbers import Expression, evaluate
from varphi.numbers import tensor as _tensor  # noqa: F401  (registers the system of tensors)

from .reference import Reference, working

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_NEGLIGIBLE = 90.0  # bits below the peak of an integrand
_DEPTH = 60
_PANELS = 20_000
_CLOSE = 50.0  # within it the grid for zeros is even and dense
_FLOAT_BITS = 500.0  # magnitudes beyond 2^±500 are multiplied as balls, not as floats

Array: TypeAlias = Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class Estimate:
    """A computed number and how far it may be from the exact one.

    A value of inf with error 0 is divergent: the integrand does not fall off. A value of inf with error inf is one for
    which no finite value could be established: a singularity, or a number beyond float64.
    """

    value: float
    error: float

    @property
    def lower(self) -> float:
        return self.value - self.error if self.error < math.inf else -math.inf

    @property
    def upper(self) -> float:
        return self.value + self.error

    @property
    def width(self) -> float:
        return 2 * self.error

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Moments:
    """Expectations over X ~ N(mu, sigma²); derivatives are those almost everywhere.

    At a kink f'' holds a point mass, and at a jump f' does, that no expectation here contains: taken in, E f''²
    (or E f'²) would be infinite. `kinks` and `jumps` say where they are.

    Attributes:
        mean, mean_square: E f, E f².
        slope, slope_square: E f', E f'².
        curvature_square: E f''².
        value_slope: E f f'.
        stretch: E Z f f' for the standard Z = (X - mu)/sigma; half the derivative of E f² by
            sigma, where mu = 0.
        kinks: where f is continuous and f' is not; sought up to |x| = 10⁶, of endless ones those within 50.
        jumps: where f is not continuous.
        method: always "computed": quadrature in float64 with an error estimate, not a proof.
    """

    mu: float
    sigma: float
    mean: Estimate
    mean_square: Estimate
    slope: Estimate
    slope_square: Estimate
    curvature_square: Estimate
    value_slope: Estimate
    stretch: Estimate
    kinks: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    method: str = "computed"

    @property
    def variance(self) -> float:
        """Var f."""
        return self.mean_square.value - self.mean.value**2


# The integrands as monomials, in the order of Moments' fields: powers of f, f', f'' and of z.
_MONOMIALS = {
    "mean": (1, 0, 0, 0),
    "mean_square": (2, 0, 0, 0),
    "slope": (0, 1, 0, 0),
    "slope_square": (0, 2, 0, 0),
    "curvature_square": (0, 0, 2, 0),
    "value_slope": (1, 1, 0, 0),
    "stretch": (1, 1, 0, 1),
}
_POWERS = np.array(list(_MONOMIALS.values()))


def moments(activation: ActivationLike | Expression, mu: float = 0.0, sigma: float = 1.0) -> Moments:
    """E f, E f², E f'², ... under N(mu, sigma²), each with an error estimate.

    The line is cut at the kinks and at the zeros of every part of the formula; each piece is integrated by panels of
    Gauss and Legendre, halved until they agree. How fast the integrand falls off is found first, by ball arithmetic:
    so an expectation that is infinite is reported as inf, and mass that lies far out (exp at sigma = 10) is not missed.

    Args:
        activation: a name, a formula, an activation, a torch callable or module, or an expression in x.
        mu, sigma: mean and standard deviation of the input; sigma > 0.

    Raises:
        ValueError: for a sigma that is not positive and finite, or a mu that is not finite; for an f that is undefined
            on part of the line.
    """
    mu, sigma = float(mu), float(sigma)
    if not math.isfinite(mu):
        raise ValueError(f"mu must be a finite number, got {mu!r}")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a finite number > 0, got {sigma!r}")
    return _integrator(_expression(activation)).moments(mu, sigma)


def gain(activation: ActivationLike) -> Estimate:
    """1/sqrt(E f²) under N(0,1): the scale of weights that keeps the second moment of a wide layer (He et al. 2015).

    √2 for relu, like torch.nn.init.calculate_gain. That table's 5/3 for tanh has no such derivation: tanh's is 1.5925;
    its 1 for sigmoid is no gain either.
    """
    return _inverse_root(moments(activation).mean_square)


def backward_gain(activation: ActivationLike) -> Estimate:
    """1/sqrt(E f'²) under N(0,1): the scale of weights that keeps the second moment of the gradient."""
    return _inverse_root(moments(activation).slope_square)


def _inverse_root(square: Estimate) -> Estimate:
    if square.value == 0:
        return Estimate(math.inf, 0.0)
    value = square.value**-0.5
    return Estimate(value, 0.5 * value * square.error / square.value if math.isfinite(square.value) else square.error)


def _expression(activation: ActivationLike | Expression) -> Expression:
    if isinstance(activation, Expression):
        return activation
    layer = as_activation(activation)
    return layer.definition.expression(layer.numbers())


@lru_cache(maxsize=256)
def _integrator(expression: Expression) -> _Integrator:
    return _Integrator(expression)


@dataclass(frozen=True)
class _Extent:
    """Between which z the integrands matter; which diverge or exceed float64; whether their factors overflow."""

    lower: float
    upper: float
    diverges: Array
    overflows: Array
    beyond_floats: bool


class _Integrator:
    """Expectations of one formula."""

    def __init__(self, expression: Expression) -> None:
        self.reference = Reference(expression)
        self.tower = Formula(expression).tower(2)
        self.breaks = breakpoints(expression)
        self.kinks, self.jumps = _classify(self.reference, breakpoints(expression, sharp=True))

    def moments(self, mu: float, sigma: float) -> Moments:
        extent = self._extent(mu, sigma)
        integrand = (self._by_balls if extent.beyond_floats else self._by_floats)(mu, sigma)
        finite = ~(extent.diverges | extent.overflows)[:, None, None]
        edges = self._edges(mu, sigma, extent.lower, extent.upper)
        value, error = integrate(lambda z: np.where(finite, integrand(z), 0.0), edges, shift=abs(mu) / sigma)
        value = np.where(finite.ravel(), value, math.inf)
        error = np.where(extent.diverges, 0.0, np.where(extent.overflows, math.inf, error))
        estimates = [Estimate(float(v), float(e)) for v, e in zip(value, error, strict=True)]
        return Moments(mu, sigma, *estimates, kinks=self.kinks, jumps=self.jumps)

    def _extent(self, mu: float, sigma: float) -> _Extent:
        z = _probe()
        logs = self._magnitudes(mu + sigma * z)
        density = -0.5 * z * z * math.log2(math.e)
        sizes = [sum(p * log for p, log in zip(powers[:3], logs, strict=True) if p) + density for powers in _POWERS]
        diverges = np.array([_grows(size) for size in sizes])
        peaks = np.array([np.nanmax(size, initial=-math.inf) for size in sizes])
        overflows = peaks > 1010
        matters = np.zeros(len(z), dtype=bool)
        for size, peak, outside in zip(sizes, peaks, diverges | overflows, strict=True):
            if not outside and peak > -math.inf:
                matters |= size > peak - _NEGLIGIBLE
        at = np.flatnonzero(matters)
        if not len(at):
            return _Extent(-1.0, 1.0, diverges, overflows, beyond_floats=False)
        first, last = max(at[0] - 1, 0), min(at[-1] + 1, len(z) - 1)
        steepest = np.nanmax(logs[:, first : last + 1], initial=-math.inf)
        beyond_floats = steepest > _FLOAT_BITS or max(-z[first], z[last]) > 37
        return _Extent(float(z[first]), float(z[last]), diverges, overflows, bool(beyond_floats))

    def _magnitudes(self, x: Array) -> Array:
        """log2 |f|, |f'|, |f''| at x; -inf for 0, NaN where undecided."""
        result = np.full((3, len(x)), np.nan)
        for i, point in enumerate(x.tolist()):
            for k, ball in enumerate(self.reference.at(point, 2)):
                if ball is not None:
                    result[k, i] = _log2(ball)
        undefined = np.isnan(result[0]) & (np.abs(_probe()) < 30)
        if undefined.any():
            where = x[np.flatnonzero(undefined)[0]]
            raise ValueError(
                f"no value of the formula can be established at x = {where:.6g}, where N(mu, sigma²) has mass"
            )
        return result

    def _edges(self, mu: float, sigma: float, lower: float, upper: float) -> Array:
        """Panels: even ones, cut at the breakpoints and finer and finer towards them."""
        even = np.linspace(lower, upper, 49)
        centres = (self.breaks - mu) / sigma
        centres = centres[(centres > lower) & (centres < upper)]
        steps = (upper - lower) / 48 * 4.0 ** -np.arange(1, 13)
        graded = (centres[:, None] + np.concatenate([-steps, [0.0], steps])).ravel()
        edges = np.unique(np.concatenate([even, graded]))
        return edges[(edges >= lower) & (edges <= upper)]

    def _by_floats(self, mu: float, sigma: float) -> Callable[[Array], Array]:
        def integrand(z: Array) -> Array:
            x = torch.from_numpy(mu + sigma * z)
            rows = [torch.as_tensor(r, dtype=x.dtype).expand_as(x).numpy() for r in evaluate(self.tower, {"x": x})]
            density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
            f, slope, curvature = rows
            half = f * density
            return np.stack(
                [half, f * half, slope * density, slope * slope * density, curvature * curvature * density,
                 half * slope, half * slope * z]
            )  # fmt: skip

        return integrand

    def _by_balls(self, mu: float, sigma: float) -> Callable[[Array], Array]:
        """The same, where f overflows float64 although its product with the density does not."""

        def at(z: float) -> list[float]:
            with working(128, 2):
                density = (-(arb(z) ** 2) / 2).exp() / (2 * arb.pi()).sqrt()
                f = [arb(0) if b is None else b for b in self.reference.at(arb(sigma) * z + mu, 2)]
                factors = [*f, arb(z)]
                products = [
                    math.prod((v**p for v, p in zip(factors, powers, strict=True) if p), start=density)
                    for powers in _POWERS.tolist()
                ]
                return [float(p.mid()) for p in products]

        return lambda z: np.array([at(v) for v in z.ravel().tolist()]).T.reshape(len(_POWERS), *z.shape)


def _log2(ball: arb) -> float:
    magnitude = abs(ball).mid()
    if magnitude == 0:
        return -math.inf
    return float(magnitude.log() / arb(2).log())


@lru_cache(maxsize=1)
def _probe() -> Array:
    """Standard deviations at which the size of an integrand is looked up: even to 40, then by factors to a million."""
    far = 40 * 1.25 ** np.arange(1, 48)
    return np.concatenate([-far[::-1], np.linspace(-40, 40, 161), far])


def _grows(size: Array) -> bool:
    """Whether an integrand, given as log2 of its size along the line, does not fall off at one of the ends."""
    for side in (size, size[::-1]):
        known = side[~np.isnan(side)]
        if len(known) > 1 and known[0] > -_NEGLIGIBLE and (not math.isnan(side[0]) or known[0] >= known[1]):
            return True
    return False


def integrate(integrand: Callable[[Array], Array], edges: Array, shift: float = 0.0) -> tuple[Array, Array]:
    """∫ of several integrands g over [edges[0], edges[-1]], with error estimates.

    Each panel is compared with its two halves, and halved again while they differ. The rounding of z itself counts
    too: it moves g(z) by |g'|·(|z| + shift)·2⁻⁵², with `shift` for a g that adds a number to z.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _integrate(integrand, edges, shift)


def _integrate(integrand: Callable[[Array], Array], edges: Array, shift: float) -> tuple[Array, Array]:
    left, right = edges[:-1], edges[1:]
    whole, size, swing = _panels(integrand, left, right)
    mass = size.sum(axis=1)
    rounding = 4e-15 * mass + 2**-52 * (swing * (np.maximum(np.abs(left), np.abs(right)) + shift)).sum(axis=1)
    total, error = np.zeros_like(mass), np.zeros_like(mass)
    for depth in range(_DEPTH):
        middle = 0.5 * (left + right)
        a, a_size, _ = _panels(integrand, left, middle)
        b, b_size, _ = _panels(integrand, middle, right)
        size, difference = a_size + b_size, np.abs(a + b - whole)
        mass = np.maximum(mass, size.sum(axis=1))
        settled = (difference <= 4e-15 * size + 1e-16 * mass[:, None]).all(axis=0)
        if depth == _DEPTH - 1 or (~settled).sum() > _PANELS:
            settled[:] = True
        total += (a + b)[:, settled].sum(axis=1)
        error += difference[:, settled].sum(axis=1)
        left, right = _joined(left, middle, ~settled), _joined(middle, right, ~settled)
        whole = _joined(a, b, ~settled)
        if settled.all():
            break
    error += rounding
    established = (error <= 1e-3 * mass) | (mass == 0)
    return np.where(established, total, math.inf), np.where(established, error, math.inf)


def _joined(a: Array, b: Array, chosen: Array) -> Array:
    return np.concatenate([a[..., chosen], b[..., chosen]], axis=-1)


def _panels(integrand: Callable[[Array], Array], left: Array, right: Array) -> tuple[Array, Array, Array]:
    """Over each panel: the integral of g, that of |g|, and by how much g goes up and down."""
    half = 0.5 * (right - left)
    values = integrand(left[:, None] + half[:, None] * (1 + _NODES))
    return (values @ _WEIGHTS) * half, (np.abs(values) @ _WEIGHTS) * half, np.abs(np.diff(values, axis=-1)).sum(axis=-1)


class NoCriticalPoint(ArithmeticError):
    """An activation, or a bias variance, for which no weight variance gives χ₁ = 1."""


@dataclass(frozen=True)
class CriticalPoint:
    """A point of the edge of chaos: at (sigma_w, sigma_b) the length q is a fixed point and χ₁ = 1.

    Attributes:
        q: the fixed point of the length map V; 0 for the limit of small lengths.
        length_slope: V'(q). Above 1 the fixed point repels: a network at these variances does not stay at it.
    """

    sigma_w: float
    sigma_b: float
    q: float
    length_slope: float

    @property
    def stable(self) -> bool:
        return self.length_slope <= 1 + 1e-9


class MeanField:
    """Signals in wide random networks with weights N(0, sigma_w²/width) and biases N(0, sigma_b²).

    The squared length of a layer's input follows q' = V(q) = sigma_w² E f(√q z)² + sigma_b², the slope
    χ₁ = sigma_w² E f'(√q* z)² at its fixed point q* tells order (< 1) from chaos (> 1).

    Sources: Poole et al., NIPS 2016, arXiv 1606.05340; Schoenholz et al., ICLR 2017, arXiv 1611.01232; the series of
    the correlation map: Daniely, Frostig & Singer, NIPS 2016, arXiv 1602.05897.
    """

    def __init__(self, activation: ActivationLike | Expression) -> None:
        self._name = repr(activation)
        self._integrator = _integrator(_expression(activation))
        self._spectra: dict[float, tuple[Array, float]] = {}

    def __repr__(self) -> str:
        return f"MeanField({self._name})"

    def at(self, q: float) -> Moments:
        """The moments of f(√q z)."""
        return self._integrator.moments(0.0, math.sqrt(q))

    def variance(self, q: float, sigma_w: float, sigma_b: float) -> float:
        """V(q) = sigma_w² E f(√q z)² + sigma_b²."""
        return sigma_w**2 * self.at(q).mean_square.value + sigma_b**2

    def fixed_point(self, sigma_w: float, sigma_b: float) -> float:
        """The q* that the length map reaches from q = 1: 0 where it dies out, inf where it grows without bound."""
        _check_deviations(sigma_w, sigma_b)

        def excess(q: float) -> float:
            return self.variance(q, sigma_w, sigma_b) - q

        start = excess(1.0)
        if abs(start) < 1e-13:
            return 1.0
        factor = 4.0 if start > 0 else 0.25
        near = far = 1.0
        while 1e-24 < far < 1e24:
            near, far = far, far * factor
            if excess(far) * start <= 0:
                return _root(excess, near, far)
        return math.inf if start > 0 else 0.0

    def chi(self, sigma_w: float, sigma_b: float) -> float:
        """χ₁ = sigma_w² E f'(√q* z)² at the fixed point: the factor by which a layer stretches a small difference.

        inf for an f with jumps: its slope is a point mass there.
        """
        if self._integrator.jumps:
            return math.inf
        q = self.fixed_point(sigma_w, sigma_b)
        return sigma_w**2 * self.at(min(max(q, _SMALL_LENGTH), 1e24)).slope_square.value

    def critical_at(self, q: float) -> CriticalPoint:
        """The (sigma_w, sigma_b) with fixed point q and χ₁ = 1.

        Raises:
            NoCriticalPoint: where sigma_b² would have to be negative, or f jumps or has no slope.
        """
        if not 0 < q < math.inf:
            raise ValueError(f"q must be a finite number > 0, got {q!r}")
        weight, bias = self._critical_squares(q)
        if bias < 0:
            raise NoCriticalPoint(f"{self._name}: χ₁ = 1 at q = {q:g} would need sigma_b² = {bias:.3g} < 0")
        return self._critical_point(weight, math.sqrt(bias), q)

    def _critical_point(self, weight: float, sigma_b: float, q: float) -> CriticalPoint:
        slope = weight * self.at(q).stretch.value / math.sqrt(q)
        return CriticalPoint(math.sqrt(weight), sigma_b, 0.0 if q == _SMALL_LENGTH else q, slope)

    def _critical_squares(self, q: float) -> tuple[float, float]:
        """(sigma_w², sigma_b²) with χ₁ = 1 and fixed point q; a sigma_b² of rounding size counts as 0."""
        if self._integrator.jumps:
            raise NoCriticalPoint(
                f"{self._name} jumps at {self._integrator.jumps[0]:g}: χ₁ is infinite for every sigma_w > 0"
            )
        m = self.at(q)
        if not (m.slope_square.value > 0 and math.isfinite(m.slope_square.value + m.mean_square.value)):
            raise NoCriticalPoint(f"{self._name}: E f'² = {m.slope_square.value:g} at q = {q:g}, so χ₁ is never 1")
        weight = 1 / m.slope_square.value
        bias = q - weight * m.mean_square.value
        return weight, 0.0 if abs(bias) < 1e-12 * q else bias

    def critical(self, sigma_b: float) -> CriticalPoint:
        """The edge of chaos at a bias deviation: the point with the smallest stable length, else with the smallest.

        At sigma_b = 0 it is often the limit q → 0, sigma_w = 1/|f'(0)|, given as q = 0; a homogeneous f (relu: √2)
        has it at every q.

        Raises:
            NoCriticalPoint: if there is none.
        """
        _check_deviations(1.0, sigma_b)
        weight, bias = self._critical_squares(_SMALL_LENGTH)
        if sigma_b == 0 and abs(bias) < 1e-6 * _SMALL_LENGTH:
            return self._critical_point(weight, 0.0, _SMALL_LENGTH)

        def excess(q: float) -> float:
            return self._critical_squares(q)[1] - sigma_b**2

        lengths = np.geomspace(1e-8, 1e6, 57).tolist()
        values = [excess(q) for q in lengths]
        known = pairwise(zip(lengths, values, strict=True))
        brackets = [(left, right) for (left, a), (right, b) in known if (a < 0) != (b < 0)]
        roots = [_root(excess, *bracket) for bracket in brackets]
        points = [self._critical_point(self._critical_squares(q)[0], sigma_b, q) for q in roots]
        if not points:
            raise NoCriticalPoint(
                f"{self._name}: no sigma_w makes χ₁ = 1 with sigma_b = {sigma_b:g}, at lengths from 1e-8 to 1e6"
            )
        return next((p for p in points if p.stable), points[0])

    def correlation(self, c: float, sigma_w: float, sigma_b: float) -> Estimate:
        """The correlation after a layer of two inputs of length q* with correlation c, in [-1, 1]."""
        if not -1 <= c <= 1:
            raise ValueError(f"a correlation lies in [-1, 1], got {c!r}")
        q = self._finite_fixed_point(sigma_w, sigma_b)
        if c == 1:
            return Estimate(self.variance(q, sigma_w, sigma_b) / q, 1e-13)
        squares, rest = self._spectrum(q)
        order = len(squares)
        last = rest * abs(c) ** order
        # The terms left out: all positive for c > 0, of either sign below.
        middle = 0.5 * last if c > 0 else 0.0
        series = float(np.polynomial.polynomial.polyval(c, squares)) + middle
        return Estimate((sigma_w**2 * series + sigma_b**2) / q, (sigma_w**2 * (last - middle) + 1e-13 * q) / q)

    def depth_scales(self, sigma_w: float, sigma_b: float) -> tuple[float, float]:
        """(ξ_q, ξ_c): over how many layers lengths and correlations approach their fixed points, by a factor e.

        ξ_c is that of the approach to correlation 1, -1/ln χ₁, in the ordered phase and inf at the edge; in the chaotic
        phase, that of the approach to the fixed point below 1.
        """
        q = self._finite_fixed_point(sigma_w, sigma_b)
        length_slope = sigma_w**2 * self.at(q).stretch.value / math.sqrt(q)
        chi = self.chi(sigma_w, sigma_b)
        return _scale(length_slope), _scale(chi if chi <= 1 + 1e-12 else self._chaotic_slope(q, sigma_w, sigma_b))

    def _chaotic_slope(self, q: float, sigma_w: float, sigma_b: float) -> float:
        """The slope of the correlation map at its fixed point below 1."""
        squares, _ = self._spectrum(q)
        series = np.polynomial.Polynomial(sigma_w**2 * squares / q) + sigma_b**2 / q
        fixed = _root(lambda c: float(series(c)) - c, 0.0, 1 - 1e-6) if series(0.0) > 0 else 0.0
        return float(series.deriv()(fixed))

    def _finite_fixed_point(self, sigma_w: float, sigma_b: float) -> float:
        q = self.fixed_point(sigma_w, sigma_b)
        if not 0 < q < math.inf:
            raise ValueError(
                f"{self._name}: at sigma_w = {sigma_w:g}, sigma_b = {sigma_b:g} the length goes to {q:g}; "
                "correlations need a finite one"
            )
        return q

    def _spectrum(self, q: float) -> tuple[Array, float]:
        """a_n² of f(√q z) = Σ a_n he_n(z)/√n!, and what is left of Σ a_n² = E f²."""
        if q not in self._spectra:
            self._spectra[q] = self._hermite_squares(q)
        return self._spectra[q]

    def _hermite_squares(self, q: float, terms: int = 256) -> tuple[Array, float]:
        sigma = math.sqrt(q)
        reach = 30.0
        edges = np.unique(np.concatenate([np.arange(-reach, reach + 0.1, 0.125), self._integrator.breaks / sigma]))
        edges = edges[np.abs(edges) <= reach]
        half = 0.5 * np.diff(edges)
        z = (edges[:-1, None] + half[:, None] * (1 + _NODES)).ravel()
        weights = (half[:, None] * _WEIGHTS).ravel()
        # With half of the density's exponent the Hermite functions stay of size 1.
        root = np.exp(-0.25 * z * z) / (2 * math.pi) ** 0.25
        f = weights * root * _values(self._integrator.tower[0], sigma * z)
        previous, current = np.zeros_like(z), root
        squares = np.empty(terms)
        for n in range(terms):
            squares[n] = float(f @ current) ** 2
            previous, current = current, (z * current - math.sqrt(n) * previous) / math.sqrt(n + 1)
        return squares, max(self.at(q).mean_square.value - float(squares.sum()), 0.0)


_SMALL_LENGTH = 1e-18


def mean_field(activation: ActivationLike | Expression) -> MeanField:
    """The mean-field theory of wide random networks with this activation."""
    return MeanField(activation)


def _root(function: Callable[[float], float], left: float, right: float) -> float:
    return cast(float, brentq(function, left, right, xtol=1e-300, rtol=np.float64(1e-14)))


def _scale(factor: float) -> float:
    if abs(factor) >= 1 - 1e-12:
        return math.inf
    return -1 / math.log(abs(factor)) if factor else 0.0


def _check_deviations(sigma_w: float, sigma_b: float) -> None:
    for name, value in (("sigma_w", sigma_w), ("sigma_b", sigma_b)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")


_SHARP = {"lt", "le", "gt", "ge", "eq", "ne", "abs", "sign", "maximum", "minimum", "hill"}


@lru_cache(maxsize=512)
def breakpoints(expression: Expression, sharp: bool = False) -> Array:
    """Where a formula may change character: the zeros of its parts; with `sharp`, those where its pieces meet."""
    found = [np.zeros(0) if sharp else np.zeros(1)]
    for node in expression.nodes():
        if node.operation in ("variable", "constant") or "x" not in node.variables:
            continue
        if node.operation in _SHARP:
            zeros = _zeros(_difference(node))
            found.append(zeros if len(zeros) <= 64 else zeros[np.abs(zeros) < _CLOSE])
        elif not sharp:
            zeros = _zeros(node)
            found.append(zeros if len(zeros) <= 16 else zeros[:0])
    return _distinct(np.concatenate(found))


def _difference(node: Expression) -> Expression:
    """What changes sign where the pieces of a comparison, a maximum or an absolute value meet."""
    if node.operation in ("abs", "sign"):
        return node.arguments[0]
    return node.arguments[0] - node.arguments[1]


def _grid() -> Array:
    geometric = np.geomspace(1e-8, 1e6, 500)
    return np.unique(np.concatenate([-geometric, np.linspace(-_CLOSE, _CLOSE, 4001), geometric]))


def _values(node: Expression, x: Array) -> Array:
    value = node.evaluate(x=torch.from_numpy(x))
    return torch.as_tensor(value, dtype=torch.float64).expand(x.shape).numpy()


def _zeros(node: Expression) -> Array:
    """Sign changes and isolated zeros of `node` over a grid, refined to neighbouring floats."""
    if node.is_constant:
        return np.zeros(0)
    x = _grid()
    signs = np.sign(np.nan_to_num(_values(node, x)))
    exact = np.flatnonzero((signs == 0) & (np.roll(signs, 1) != 0) & (np.roll(signs, -1) != 0))
    change = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    left, right = x[change], x[change + 1]
    for _ in range(11):  # each step cuts the brackets by 64
        inner = left[:, None] + (right - left)[:, None] * np.linspace(0, 1, 65)
        inside = np.sign(_values(node, inner))
        at = np.argmax(inside * signs[change][:, None] <= 0, axis=1).clip(1)
        rows = np.arange(len(left))
        left, right = inner[rows, at - 1], inner[rows, at]
    return np.concatenate([x[exact], right])


def _distinct(values: Array) -> Array:
    ordered = np.unique(values)
    if not len(ordered):
        return ordered
    apart = np.diff(ordered) > 1e-13 * np.maximum(1.0, np.abs(ordered[1:]))
    return ordered[np.concatenate([[True], apart])]


def _classify(reference: Reference, candidates: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the points where pieces meet, those where f' jumps and those where f does."""
    kinks, jumps = [], []
    for point in candidates.tolist():
        value, slope = (steps(reference, point, order) for order in (0, 1))
        if value:
            jumps.append(point)
        elif slope:
            kinks.append(point)
    return tuple(kinks), tuple(jumps)


def steps(reference: Reference, point: float, order: int) -> bool:
    """Whether f^(order) differs across `point` by an amount that does not shrink with the distance."""
    gaps = []
    for distance in (1e-6, 1e-9):
        left, right = (reference.at(point + side * distance, order)[order] for side in (-1, 1))
        if left is None or right is None:
            return False
        gaps.append(abs(float((right - left).mid())))
    return gaps[1] > 1e-12 and gaps[1] > 0.5 * gaps[0]
