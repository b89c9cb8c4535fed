"""Softplus and its relatives: smooth, positive, asymptotically a rectifier."""

from varphi.activation.constraint import Positive
from varphi.activation.registry import activation
from varphi.numbers import softplus, squareplus


@activation(
    latex=r"\frac1\beta\ln(1+e^{\beta x})",
    source="Dugas et al., NIPS 2000; Glorot, Bordes & Bengio, AISTATS 2011",
    torch="Softplus",
    aliases=("smooth_relu",),
)
def softplus_(x, beta: Positive = 1.0):
    """Smooth rectifier: positive everywhere, its slope the logistic function."""
    return softplus(beta * x) / beta


@activation(latex=r"\frac12\left(x+\sqrt{x^2+b}\right)", source="Barron, arXiv 2112.11687")
def squareplus_(x, b: Positive = 4.0):
    """Algebraic softplus: no exponential, tails that decay as 1/x."""
    return squareplus(x, b)
