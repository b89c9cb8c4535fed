"""Shrinkage: thresholding rules that set small inputs to zero or draw them towards it."""

from typing import Annotated

from varphi.activation.constraint import Constraint, NonNegative, Positive
from varphi.activation.registry import activation
from varphi.numbers import clamp, maximum, minimum, sigmoid, tanhshrink, where

AboveTwo = Annotated[float, Constraint(lower=2.0)]


@activation(
    latex=r"x\ \mathrm{if}\ |x|>\lambda,\ 0\ \mathrm{else}",
    source="Donoho & Johnstone, Biometrika 81, 1994",
    torch="Hardshrink",
    aliases=("hardshrink", "hard_threshold"),
)
def hard_shrink(x, lam: NonNegative = 0.5):
    """Keep or kill: inputs within lambda of zero become zero, the rest stay."""
    return where(abs(x) > lam, x, 0)


@activation(
    latex=r"\mathrm{sgn}(x)\max(|x|-\lambda,0)",
    source="Donoho, IEEE Trans. Inf. Theory 41, 1995; Daubechies, Defrise & De Mol, 2004",
    torch="Softshrink",
    aliases=("softshrink", "soft_threshold"),
)
def soft_shrink(x, lam: NonNegative = 0.5):
    """The proximal map of lambda·|x|: the step that makes ISTA and LISTA sparse."""
    return maximum(x - lam, 0) + minimum(x + lam, 0)


@activation(latex=r"x-\tanh(x)", source="PyTorch, torch.nn, 2017", torch="Tanhshrink", aliases=("tanhshrink",))
def tanh_shrink(x):
    """What tanh leaves over: cubic near zero, the identity minus ±1 far out."""
    return tanhshrink(x)


@activation(
    latex=r"x-\frac{\lambda^2}{x}\ \mathrm{if}\ |x|>\lambda,\ 0\ \mathrm{else}",
    source="Gao, J. Comput. Graph. Stat. 7, 1998; Breiman, Technometrics 37, 1995",
)
def garrote_shrink(x, lam: Positive = 0.5):
    """Non-negative garrote: continuous like soft shrinkage, unbiased for large inputs like hard."""
    return where(x > 0, maximum(x - lam, 0), minimum(x + lam, 0)) * (1 + lam / maximum(abs(x), lam))


@activation(
    latex=(
        r"0\ \mathrm{if}\ |x|\leq\lambda,\ "
        r"\mathrm{sgn}(x)\frac{(\lambda+w)(|x|-\lambda)}{w}\ \mathrm{if}\ |x|\leq\lambda+w,\ x\ \mathrm{else}"
    ),
    source="Gao & Bruce, Statistica Sinica 7, 1997",
)
def firm_shrink(x, lam: Positive = 0.5, width: Positive = 0.5):
    """Zero up to lambda, the identity beyond lambda + width, a line between: the proximal map of the MCP penalty."""
    rise = clamp(soft_shrink(x, lam), -width, width)
    return (1 + lam / width) * rise + soft_shrink(x, lam + width)


@activation(
    latex=(
        r"\mathrm{sgn}(x)\max(0,|x|-\lambda)\ \mathrm{if}\ |x|\leq2\lambda,\ "
        r"\frac{(a-1)x-\mathrm{sgn}(x)a\lambda}{a-2}\ \mathrm{if}\ |x|\leq a\lambda,\ x\ \mathrm{else}"
    ),
    source="Fan & Li, J. Am. Stat. Assoc. 96, 2001",
    aliases=("scad",),
)
def scad_shrink(x, lam: Positive = 0.5, a: AboveTwo = 3.7):
    """Soft shrinkage for small inputs, the identity beyond a·lambda, a steeper line between."""
    soft = clamp(soft_shrink(x, lam), -lam, lam)
    steep = clamp(soft_shrink(x, 2 * lam), -(a - 2) * lam, (a - 2) * lam)
    return soft + (a - 1) / (a - 2) * steep + soft_shrink(x, a * lam)


@activation(latex=r"x\,\sigma(\tau(|x|-\lambda))", source="Atto, Pastor & Mercier, ICASSP 2008")
def sigmoid_shrink(x, tau: Positive = 10.0, lam: NonNegative = 0.5):
    """A smooth hard shrinkage: attenuates what is below lambda, keeps what is above."""
    return x * sigmoid(tau * (abs(x) - lam))
