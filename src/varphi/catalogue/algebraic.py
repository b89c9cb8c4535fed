"""Polynomials and rational functions: no exponential, exact in few operations."""

from varphi.activation.constraint import Positive, PositiveInteger
from varphi.activation.registry import activation
from varphi.numbers import clamp, maximum, where, with_slope


@activation(latex=r"x", source="classical; Rosenblatt, Psychol. Rev. 65, 1958", torch="Identity", aliases=("linear",))
def identity(x):
    """No activation: the network stays linear."""
    return x


@activation(latex=r"x^2", source="Gilad-Bachrach et al., CryptoNets, ICML 2016", aliases=("quadratic",))
def square(x):
    """The cheapest non-linearity under homomorphic encryption: even, convex, unbounded slope."""
    return x * x


@activation(latex=r"x^3", source="Chen & Manning, EMNLP 2014", aliases=("cubic",))
def cube(x):
    """Odd, flat at zero: products of three inputs in one unit."""
    return x * x * x


@activation(latex=r"x^n", source="Livni, Shalev-Shwartz & Shamir, NIPS 2014, arXiv 1410.1141")
def power(x, n: PositiveInteger = 4):
    """A monomial: even or odd as n is."""
    return x**n


@activation(
    latex=r"\max(0,x)^p",
    source="Li, Tang & Yu, Commun. Comput. Phys. 27, 2020, arXiv 1903.05858",
    aliases=("rectified_power_unit",),
)
def repu(x, p: PositiveInteger = 4):
    """A power of ReLU: p - 1 continuous derivatives and exact zeros."""
    return maximum(x, 0) ** p


@activation(latex=r"x^2+x", source="Noel et al., 2021, arXiv 2111.04020", aliases=("shifted_quadratic_unit",))
def squ(x):
    """A parabola through zero with slope 1 there: two zeros, so one unit can learn XOR."""
    return x * (x + 1)


@activation(latex=r"x-x^3", source="Noel et al., 2021, arXiv 2111.04020", aliases=("non_monotonic_cubic_unit",))
def ncu(x):
    """Three zeros and slope 1 at the origin: falls in both tails against its middle."""
    return with_slope(x, x * ((1 - x) * (1 + x)), 1 - 3 * x * x)


@activation(latex=r"v-\frac{v^3}{3}", source="FitzHugh, Biophys. J. 1, 1961; Nagumo, Arimoto & Yoshizawa, 1962")
def fitzhugh_nagumo(x):
    """The cubic nullcline of excitable membranes: turning points at ±1."""
    return with_slope(x, x * (1 - x * x / 3), (1 - x) * (1 + x))


@activation(
    latex=r"\frac{x^2}{8}+\frac{x}{2}+\frac{1}{4}", source="Chou et al., Faster CryptoNets, 2018, arXiv 1811.09953"
)
def crypto_quadratic(x):
    """A parabola near Swish with coefficients that are powers of two, for encrypted inference."""
    return (x * (0.125 * x + 0.5)) + 0.25


@activation(
    latex=r"\frac{p_3x^3+p_2x^2+p_1x+p_0}{q_2x^2+1}",
    source="Boullé, Nakatsukasa & Townsend, NeurIPS 2020, arXiv 2004.01902",
)
def rational(x):
    """The best rational of type (3, 2) to ReLU on [-1, 1]: the start of rational networks."""
    tail = 1.5957 / 2.383
    return 0.5 * x + tail - (tail - 0.0218) / (1 + 2.383 * x * x)


@activation(
    latex=r"x\ \mathrm{if}\ x>0,\ x+\frac{x^2}{4}\ \mathrm{if}\ -2\leq x\leq 0,\ -1\ \mathrm{else}",
    source="Wuraola, Patel & Nguang, Neurocomputing 442, 2021",
)
def sqlu(x):
    """ELU by a parabola: the identity above zero, exactly -1 below -2."""
    lower = clamp(x, -2, 0)
    return maximum(x, 0) + lower * (1 + 0.25 * lower)


@activation(
    latex=r"x^2(2-|x|)\ \mathrm{if}\ |x|\leq1,\ |x|\ \mathrm{else}",
    source="Vallés-Pérez et al., 2023, arXiv 2301.05993",
)
def soft_modulus(x):
    """The absolute value with a polynomial in its corner: continuously differentiable, exact beyond 1."""
    r = abs(x)
    return where(r > 1, r, x * x * (2 - r))


@activation(
    latex=r"\frac{x^2}{2}\ \mathrm{if}\ |x|\leq\delta,\ \delta(|x|-\frac{\delta}{2})\ \mathrm{else}",
    source="Huber, Ann. Math. Stat. 35, 1964",
)
def huber(x, delta: Positive = 1.0):
    """Quadratic near zero, linear far out: a smooth absolute value whose slope is a hard tanh."""
    inner = clamp(x, -delta, delta)
    return 0.5 * inner * inner + delta * (abs(x) - abs(inner))
