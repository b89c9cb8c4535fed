"""Gated units: the input times a sigmoid of itself, smooth and non-monotone."""

from varphi.activation.constraint import Positive
from varphi.activation.registry import activation
from varphi.numbers import normal_cdf, sigmoid, softplus, tanh


@activation(
    latex=r"x\,\sigma(x)",
    source="Hendrycks & Gimpel, arXiv 1606.08415; Elfwing, Uchibe & Doya, arXiv 1702.03118",
    torch="SiLU",
    aliases=("swish",),
)
def silu(x):
    """The input gated by its own logistic; Swish at beta = 1."""
    return x * sigmoid(x)


@activation(latex=r"x\,\Phi(x)", source="Hendrycks & Gimpel, arXiv 1606.08415", torch="GELU")
def gelu(x):
    """The input times the probability that a standard normal lies below it."""
    return x * normal_cdf(x)


@activation(latex=r"x\,\tanh(\ln(1+e^x))", source="Misra, BMVC 2020, arXiv 1908.08681", torch="Mish")
def mish(x):
    """Self-gated, smooth, non-monotone."""
    return x * tanh(softplus(x))
