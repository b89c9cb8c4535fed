"""Gated units: the input times a smooth gate computed from itself, most of them non-monotone."""

from math import pi
from math import sqrt as _root

from varphi.activation.constraint import NonNegative, Positive, Real
from varphi.activation.registry import activation
from varphi.numbers import (
    asinh,
    atan,
    clamp,
    cos,
    erf,
    exp,
    expm1,
    log1p,
    maximum,
    minimum,
    normal_cdf,
    sech,
    sigmoid,
    sin,
    sinc,
    softplus,
    squareplus,
    tanh,
    where,
    with_slope,
)


@activation(
    latex=r"x\,\sigma(x)",
    source="Hendrycks & Gimpel, 2016, arXiv 1606.08415; Elfwing, Uchibe & Doya, 2017, arXiv 1702.03118",
    torch="SiLU",
)
def silu(x):
    """The input gated by its own logistic; Swish at beta = 1."""
    return x * sigmoid(x)


@activation(latex=r"x\,\sigma(\beta x)", source="Ramachandran, Zoph & Le, 2017, arXiv 1710.05941")
def swish(x, beta: Real = 1.0):
    """SiLU with a slope: half the identity at beta = 0, ReLU as beta grows."""
    return x * sigmoid(beta * x)


@activation(latex=r"\beta x\,\sigma(x)", source="Alcaide, 2018, arXiv 1801.07145", aliases=("e_swish",))
def eswish(x, beta: Real = 1.5):
    """SiLU stretched upwards, slopes above 1 for large inputs."""
    return beta * x * sigmoid(x)


@activation(
    latex=r"\sigma(x)\left(1+x\,(1-\sigma(x))\right)",
    source="Elfwing, Uchibe & Doya, Neural Networks 107, 2018, arXiv 1702.03118",
)
def dsilu(x):
    """The derivative of SiLU: a sigmoid that overshoots on both sides."""
    return sigmoid(x) * (1 + x * sigmoid(-x))


@activation(latex=r"x\,\Phi(x)", source="Hendrycks & Gimpel, 2016, arXiv 1606.08415", torch="GELU")
def gelu(x):
    """The input times the probability that a standard normal lies below it."""
    return x * normal_cdf(x)


@activation(
    latex=r"\frac{x}{2}\left(1+\tanh\left(\sqrt{2/\pi}\,(x+0.044715x^3)\right)\right)",
    source="Hendrycks & Gimpel, 2016, arXiv 1606.08415",
    aliases=("gelu_new", "gelu_approximate", "sielu"),
)
def gelu_tanh(x):
    """GELU by a cubic inside tanh, within 5e-4 of the exact one."""
    return x * sigmoid(2 * _root(2 / pi) * x * (1 + 0.044715 * x * x))


@activation(latex=r"x\,\sigma(1.702x)", source="Hendrycks & Gimpel, 2016, arXiv 1606.08415", aliases=("gelu_sigmoid",))
def quick_gelu(x):
    """GELU by a logistic gate: within 0.021 of the exact one."""
    return x * sigmoid(1.702 * x)


@activation(latex=r"s\,\Phi(Ts)", source="varphi's textbook, 2026 (after Hendrycks & Gimpel, arXiv 1606.08415)")
def modified_gelu(x, T: Positive = 1.0):
    """GELU with a temperature: ReLU as T grows, half the identity as T falls to 0."""
    return x * normal_cdf(T * x)


@activation(latex=r"\alpha x\,\mathrm{erf}(x/\sqrt{2})", source="Yu & Su, 2019, arXiv 1911.03925")
def sgelu(x, alpha: Positive = 1.0):
    """Symmetrical GELU: even, quadratic at zero, alpha·|x| far out."""
    return alpha * x * erf(x / _root(2))


@activation(latex=r"x\,\tanh(\ln(1+e^x))", source="Misra, BMVC 2020, arXiv 1908.08681", torch="Mish")
def mish(x):
    """Self-gated, smooth, non-monotone: the gate is tanh of softplus."""
    return x * tanh(softplus(x))


@activation(
    latex=r"x\,\tanh(e^x)",
    source="Liu & Di, IET Computer Vision 15, 2021, arXiv 2003.09855; Fernandez & Mali, 2024, arXiv 2412.20269",
    aliases=("tanhexp",),
)
def telu(x):
    """The gate tanh(e^x) closes exponentially below and is fully open above 3."""
    return x * tanh(exp(x))


@activation(latex=r"x\,\mathrm{erf}(\ln(1+e^x))", source="Nag et al., WACV 2023, arXiv 2108.09598")
def serf(x):
    """Log-softplus error gate: Mish with erf for tanh."""
    return x * erf(softplus(x))


@activation(latex=r"x\,\mathrm{erf}(\alpha e^{\beta x})", source="Biswas et al., AAAI 2022, arXiv 2109.04386")
def erfact(x, alpha: Positive = 0.75, beta: Positive = 0.75):
    """The gate erf(alpha·e^(beta x)): closes exponentially below, opens double-exponentially above."""
    return x * erf(alpha * exp(beta * x))


@activation(latex=r"x\,\mathrm{erf}(\gamma\ln(1+e^{\delta x}))", source="Biswas et al., AAAI 2022, arXiv 2109.04386")
def pserf(x, gamma: Positive = 1.25, delta: Positive = 0.85):
    """Serf with the height and the slope of its softplus free."""
    return x * erf(gamma * softplus(delta * x))


@activation(latex=r"x\,\ln(1+\sigma(x))", source="Zhu et al., Neurocomputing 458, 2021")
def logish(x):
    """A logarithmic gate: slope ln 2 at infinity instead of 1."""
    return x * log1p(sigmoid(x))


@activation(latex=r"x\,\tanh(\ln(1+\sigma(x)))", source="Wang, Ren & Wang, Electronics 11(4), 2022")
def smish(x):
    """Logish squashed by tanh: slope 3/5 at infinity."""
    gate = sigmoid(x)
    squared = gate * (2 + gate)  # e^(2 ln(1 + gate)) - 1
    return x * (squared / (2 + squared))


@activation(latex=r"x\,\tanh(x\,\Phi(x))", source="Naveen, 2022, TechRxiv 17283824")
def phish(x):
    """The gate is tanh of GELU, itself negative just below zero."""
    return x * tanh(x * normal_cdf(x))


@activation(
    latex=r"x\,\ln\left(2-e^{-e^x}\right)",
    source="Kaytan, Aydilek & Yeroğlu, Neural Computing and Applications 35, 2023",
)
def gish(x):
    """The gate ln(2 - exp(-e^x)): slope ln 2 at infinity, a shallow dip below zero."""
    return x * log1p(-expm1(-exp(x)))


@activation(
    latex=r"\frac{x}{1+e^{-x}}\ \mathrm{if}\ x\geq 0,\ \frac{e^x-1}{1+e^{-x}}\ \mathrm{else}",
    source="Basirat & Roth, 2018, arXiv 1808.00783",
)
def elish(x):
    """SiLU above zero, ELU times the logistic below."""
    return where(x >= 0, x, expm1(minimum(x, 0))) * sigmoid(x)


@activation(
    latex=r"x\,h(x)\ \mathrm{if}\ x\geq 0,\ (e^x-1)\,h(x)\ \mathrm{else};\ h=\min(\max(\tfrac{x+1}{2},0),1)",
    source="Basirat & Roth, 2018, arXiv 1808.00783",
)
def hard_elish(x):
    """ELiSH with a piecewise linear gate: exactly zero below -1, the identity above 1."""
    return where(x >= 0, x, expm1(minimum(x, 0))) * (0.5 * (clamp(x, -1, 1) + 1))


@activation(
    latex=r"x\,\min(\max(x+3,0),6)/6",
    source="Howard et al., MobileNetV3, ICCV 2019, arXiv 1905.02244",
    torch="Hardswish",
    aliases=("hard_silu", "hardswish"),
)
def hard_swish(x):
    """SiLU by pieces: zero below -3, the identity above 3, a parabola between."""
    return x * ((clamp(x, -3, 3) + 3) / 6)


@activation(latex=r"\frac{x}{2}\min(2,\max(0,x+2))", source="Misra, H-Mish, 2019, github.com/digantamisra98/H-Mish")
def hard_mish(x):
    """Mish by pieces: zero below -2, the identity above 0."""
    return x * (0.5 * clamp(x, -2, 0) + 1)


@activation(latex=r"x\,\tanh(x)", source="Roy et al., ICPR 2022, arXiv 1901.05894")
def lisht(x):
    """Linearly scaled tanh: even and non-negative, |x| far out."""
    return x * tanh(x)


@activation(latex=r"x\,\mathrm{sech}(x)", source="Njikam & Zhao, Applied Intelligence 45, 2016")
def resech(x):
    """Odd, one bump on each side, back to zero at infinity."""
    return x * sech(x)


@activation(
    latex=r"x\,\sin\left(\tfrac{\pi}{2}\sigma(x)\right)",
    source="Kunc & Kléma, 2024, arXiv 2402.09092 (SinSig, after Douge et al.)",
)
def sinsig(x):
    """The gate is a quarter sine of the logistic."""
    return x * sin(0.5 * pi * sigmoid(x))


@activation(
    latex=r"x\left(\frac{\arctan x}{\pi}+\frac{1}{2}\right)", source="Huang, 2024, arXiv 2405.20768", aliases=("calu",)
)
def atlu(x):
    """GELU with the Cauchy distribution: for very negative x it tends to -1/π, not to 0."""
    angle = 2 * atan(2 * squareplus(x, 1))
    # π f' = θ - sin θ cos θ for the angle θ, in which the third powers of small angles are what is left.
    slope = angle * sin(angle) ** 2 + angle * (angle * cos(angle) * sinc(angle, 1))
    return with_slope(x, x * (angle / pi), with_slope(x, slope / pi, 2 * (1 / (1 + x * x)) ** 2 / pi))


@activation(
    latex=r"\frac{x}{2}\left(1+\frac{x}{\sqrt{1+x^2}}\right)",
    source="Zhu et al., PFLU and FPFLU, Neurocomputing 429, 2021",
)
def pflu(x):
    """An algebraic SiLU: no exponential, tail -1/(4x)."""
    return x * sigmoid(2 * asinh(x))


@activation(latex=r"(\alpha+\tanh(\beta x))\,\gamma x", source="Kumar, 2022, arXiv 2209.06119")
def aptx(x, alpha: Real = 1.0, beta: Real = 1.0, gamma: Real = 0.5):
    """Mish's shape from one tanh; SiLU of 2x halved at the defaults."""
    return (alpha - 1 + 2 * sigmoid(2 * beta * x)) * gamma * x


@activation(
    latex=r"\alpha_p x^2+\beta x\ \mathrm{if}\ x>0,\ \alpha_n(e^x-1-x)+\beta x\ \mathrm{else}",
    source="Huang & Schlag, 2024, arXiv 2411.13010",
)
def xielu(x, alpha_p: Positive = 0.8, alpha_n: Positive = 0.8, beta: Real = 0.5):
    """The integral of a trainable ELU: quadratic above zero, linear with an exponential bend below."""
    lower = minimum(x, 0)
    return where(x > 0, alpha_p * x * x, alpha_n * (expm1(lower) - lower)) + beta * x


@activation(latex=r"\max(x, x e^{-|x|})", source="Kunc & Kléma, 2024, arXiv 2402.09092 (Suish)")
def suish(x):
    """The identity above zero, x·e^x below: a swish without its logistic."""
    return maximum(x, x * exp(-abs(x)))


@activation(latex=r"\max(0,x)\,\sigma(x)+T", source="Chieng, Wahid & Ong, 2018, arXiv 1812.06247", aliases=("fts",))
def flatten_t_swish(x, T: Real = -0.2):
    """Swish above zero and flat below, shifted down by a threshold."""
    return maximum(x, 0) * sigmoid(x) + T


@activation(latex=r"(x+a\sin(bx))\,\sigma(x)", source="Paul et al., SinLU, Mathematics 10(3), 2022")
def sinlu(x, a: NonNegative = 1.0, b: Positive = 1.0):
    """SiLU with a sine added to what is gated: wavy where it is open."""
    return (x + a * sin(b * x)) * sigmoid(x)
