"""Spikes and their surrogates: steps for the forward pass, and the slopes that stand in for theirs backwards."""

from math import pi
from math import sqrt as _root

from varphi.activation.constraint import Positive
from varphi.activation.registry import activation
from varphi.numbers import atan, exp, maximum, sech, sign, squareplus, tanh, where, with_slope


@activation(
    latex=r"1\ \mathrm{if}\ x\geq0,\ 0\ \mathrm{else}",
    source="McCulloch & Pitts, Bull. Math. Biophys. 5, 1943",
    aliases=("step", "binary_step"),
)
def heaviside(x):
    """A spike when the threshold is reached: slope zero wherever it has one."""
    return where(x >= 0, 1, 0)


@activation(
    latex=r"\mathrm{sgn}(x)",
    source="Rosenblatt, Psychol. Rev. 65, 1958; Hopfield, PNAS 79, 1982",
    aliases=("bipolar_step", "signum"),
)
def sign_(x):
    """-1, 0 or 1: the state of a Hopfield unit, the forward pass of binary networks."""
    return sign(x)


@activation(
    latex=r"\max(0, 1-|\beta x|)", source="Esser et al., PNAS 113, 2016; Bellec et al., NeurIPS 2018, arXiv 1803.09574"
)
def triangle_surrogate(x, beta: Positive = 1.0):
    """A spike's slope as a triangle: exactly zero far from the threshold."""
    return maximum(1 - abs(beta * x), 0)


@activation(
    latex=r"\frac{1}{(1+\beta|x|)^2}",
    source="Zenke & Ganguli, Neural Computation 30, 2018, arXiv 1705.11146",
    aliases=("fast_sigmoid_surrogate",),
)
def superspike(x, beta: Positive = 10.0):
    """The slope of a fast sigmoid: algebraic tails, so distant units still learn."""
    return (1 / (1 + beta * abs(x))) ** 2


@activation(
    latex=r"\frac{1}{\pi}\arctan\left(\tfrac{\pi}{2}\alpha x\right)+\frac{1}{2}",
    source="Fang et al., ICCV 2021, arXiv 2007.05785",
)
def atan_spike(x, alpha: Positive = 2.0):
    """The primitive whose slope is the arctangent surrogate: a step softened with algebraic tails."""
    return (2 / pi) * atan(2 * squareplus(0.5 * pi * alpha * x, 1))


@activation(latex=r"\frac{\alpha/2}{1+(\frac{\pi}{2}\alpha x)^2}", source="Fang et al., ICCV 2021, arXiv 2007.05785")
def atan_surrogate(x, alpha: Positive = 2.0):
    """A spike's slope as a Cauchy bump of height alpha/2."""
    scaled = 0.5 * pi * alpha * x
    return 0.5 * alpha / (1 + scaled * scaled)


@activation(
    latex=r"\frac{1}{a}\ \mathrm{if}\ |x|<\tfrac{a}{2},\ 0\ \mathrm{else}",
    source="Wu et al., STBP, Front. Neurosci. 12, 2018, arXiv 1706.02609",
    aliases=("boxcar",),
)
def rectangular_surrogate(x, width: Positive = 1.0):
    """A spike's slope as a box of area one: learning only within half a width of the threshold."""
    return where(abs(x) < 0.5 * width, 1 / width, 0)


@activation(
    latex=r"\beta\,\sigma(\beta x)\,\sigma(-\beta x)",
    source="Neftci, Mostafa & Zenke, IEEE Signal Process. Mag. 36, 2019, arXiv 1901.09948",
    aliases=("logistic_density",),
)
def sigmoid_surrogate(x, beta: Positive = 1.0):
    """The slope of a logistic: exponential tails."""
    return 0.25 * beta * sech(0.5 * beta * x) ** 2


@activation(latex=r"\alpha e^{-\beta|x|}", source="Shrestha & Orchard, SLAYER, NeurIPS 2018, arXiv 1810.08646")
def slayer_surrogate(x, alpha: Positive = 1.0, beta: Positive = 1.0):
    """A spike's slope as a two-sided exponential: the density of an escape rate."""
    return alpha * exp(-beta * abs(x))


@activation(
    latex=r"(1+h)\,N(x;0,s)-h\,N(x;s,6s)-h\,N(x;-s,6s)",
    source="Yin, Corradi & Bohté, Nature Machine Intelligence 3, 2021, arXiv 2103.12593",
)
def multi_gaussian_surrogate(x, s: Positive = 0.5, h: Positive = 0.15):
    """A spike's slope as a Gaussian between two shallow negative ones: discourages units far from threshold."""
    z = x / s
    centre = exp(-0.5 * z * z)
    side = exp(-0.5 * (z - 1) * (z - 1) / 36) + exp(-0.5 * (z + 1) * (z + 1) / 36)
    side = with_slope(z, side, -side * (z - tanh(z / 36)) / 36)
    return ((1 + h) * centre - h * side / 6) / (_root(2 * pi) * s)
