"""Exponentials and logarithms: growth and compression without bound."""

from varphi.activation.constraint import Positive
from varphi.activation.registry import activation
from varphi.numbers import asinh, exp, expm1, log1p, sinh, where


@activation(
    latex=r"e^x",
    source="Nelder & Wedderburn, J. R. Stat. Soc. A 135, 1972 (log link)",
    aliases=("exponential",),
)
def exp_(x):
    """Positive with multiplicative steps: the inverse of the log link, overflowing beyond 88 in float32."""
    return exp(x)


@activation(latex=r"\frac{e^{\alpha x}-1}{\alpha}+\alpha", source="Godfrey & Gashler, IC3K 2015, arXiv 1602.01321")
def soft_exponential(x, alpha: Positive = 0.5):
    """From the identity as alpha falls to 0, to e^x at alpha = 1, continuously (the branch alpha > 0)."""
    return expm1(alpha * x) / alpha + alpha


@activation(latex=r"\mathrm{sgn}(x)\ln(1+|x|)", source="Hafner et al., DreamerV3, 2023, arXiv 2301.04104")
def symlog(x):
    """The identity near zero, logarithmic in both tails: targets of any scale."""
    return where(x > 0, log1p(abs(x)), -log1p(abs(x)))


@activation(latex=r"\mathrm{sgn}(x)(e^{|x|}-1)", source="Hafner et al., DreamerV3, 2023, arXiv 2301.04104")
def symexp(x):
    """The inverse of symlog: odd, exponential in both tails."""
    return where(x > 0, expm1(abs(x)), -expm1(abs(x)))


@activation(
    latex=r"\mathrm{arsinh}(x)",
    source="Burbidge, Magee & Robb, J. Am. Stat. Assoc. 83, 1988",
    aliases=("arcsinh", "inverse_hyperbolic_sine"),
)
def asinh_(x):
    """Odd, logarithmic in both tails, analytic at zero: symlog without the bend."""
    return asinh(x)


@activation(latex=r"\sinh(x)", source="classical; Lambert, 1768")
def sinh_(x):
    """Odd, exponential in both tails, slope 1 at zero."""
    return sinh(x)
