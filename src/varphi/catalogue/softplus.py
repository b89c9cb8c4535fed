"""Softplus and its relatives: smooth, asymptotically a rectifier."""

from varphi.activation.constraint import Positive, Real, UnitInterval
from varphi.activation.registry import activation
from varphi.numbers import (
    asinh,
    erfc,
    expm1,
    log1p,
    log_sigmoid,
    maximum,
    normal_cdf,
    normal_pdf,
    sigmoid,
    softplus,
    squareplus,
    tanh,
    with_slope,
)


@activation(
    latex=r"\frac{1}{\beta}\ln(1+e^{\beta x})",
    source="Dugas et al., NIPS 2000; Glorot, Bordes & Bengio, AISTATS 2011",
    torch="Softplus",
)
def softplus_(x, beta: Positive = 1.0):
    """Smooth rectifier: positive everywhere, its slope the logistic function."""
    return softplus(beta * x) / beta


@activation(latex=r"\frac{1}{2}\left(x+\sqrt{x^2+b}\right)", source="Barron, 2021, arXiv 2112.11687")
def squareplus_(x, b: Positive = 4.0):
    """Algebraic softplus: no exponential, tails that decay as 1/x."""
    return squareplus(x, b)


@activation(
    latex=r"\ln\left(\tfrac{1}{2} e^x + \tfrac{1}{2}\right)",
    source="Schütt et al., SchNet, NIPS 2017, arXiv 1706.08566",
    aliases=("ssp",),
)
def shifted_softplus(x):
    """Softplus moved to pass through zero: smooth potentials for molecules."""
    return with_slope(x, maximum(x, 0) + log1p(0.5 * expm1(-abs(x))), sigmoid(x))


@activation(latex=r"\ln\sigma(x)", source="classical; Cox, J. R. Stat. Soc. B 20, 1958", torch="LogSigmoid")
def log_sigmoid_(x):
    """The logarithm of the logistic function: negative everywhere, the identity for x far below zero."""
    return log_sigmoid(x)


@activation(
    latex=r"x\,\Phi(x) + \varphi(x)",
    source="Jones, Schonlau & Welch, J. Global Optim. 13, 1998",
    aliases=("expected_improvement",),
)
def gaussian_softplus(x):
    """ReLU averaged over standard normal noise: its slope is the normal distribution function."""
    return x * normal_cdf(x) + normal_pdf(x)


@activation(
    latex=r"\frac{(1+\alpha)x+(1-\alpha)x\,\mathrm{erf}(\mu(1-\alpha)x)}{2}",
    source="Biswas et al., CVPR 2022, arXiv 2111.04682",
)
def smu(x, alpha: UnitInterval = 0.25, mu: Positive = 1.0):
    """Leaky ReLU with its maximum smoothed by erf; sharper for larger mu."""
    return alpha * x + 0.5 * (1 - alpha) * x * erfc(-mu * (1 - alpha) * x)


@activation(
    latex=r"\frac{(1+\alpha)x+\sqrt{(1-\alpha)^2x^2+\mu^2}}{2}",
    source="Biswas et al., CVPR 2022, arXiv 2111.04682",
    aliases=("smu_1",),
)
def smu1(x, alpha: UnitInterval = 0.25, mu: Positive = 1.0):
    """Leaky ReLU with its corner rounded by a hyperbola."""
    return alpha * x + squareplus((1 - alpha) * x, mu * mu)


@activation(latex=r"\frac{\sqrt{x^2+1}-1}{2}+x", source="Kunc & Kléma, 2024, arXiv 2402.09092")
def bent_identity(x):
    """Slopes from 1/2 to 3/2: a smooth bend that never saturates."""
    return x + 0.5 * x * tanh(0.5 * asinh(x))


@activation(
    latex=r"\beta\left(\sqrt{x^2+1}-1\right)+x", source="Godfrey, IEEE SMC 2019", aliases=("bendable_linear_unit",)
)
def blu(x, beta: Real = 0.5):
    """The identity bent by a hyperbola, up or down by a learned amount; monotone for |beta| <= 1."""
    return x + beta * x * tanh(0.5 * asinh(x))
