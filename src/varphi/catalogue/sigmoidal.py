"""Sigmoids: bounded, monotone or nearly so, saturating at both ends."""

from math import pi

from varphi.activation.constraint import Positive, Real
from varphi.activation.registry import activation
from varphi.numbers import (
    asinh,
    atan,
    clamp,
    erf,
    exp,
    expm1,
    log,
    log1p,
    log_sigmoid,
    maximum,
    minimum,
    normal_cdf,
    sigmoid,
    softplus,
    sqrt,
    squareplus,
    tanh,
    where,
    with_slope,
)


@activation(
    latex=r"\frac{1}{1+e^{-x}}",
    source="Verhulst, 1838; Rumelhart, Hinton & Williams, Nature 323, 1986",
    torch="Sigmoid",
    aliases=("logistic", "expit"),
)
def sigmoid_(x):
    """Logistic function: the probability whose log-odds are x."""
    return sigmoid(x)


@activation(latex=r"\tanh(x)", source="classical; LeCun et al., Efficient BackProp, 1998", torch="Tanh")
def tanh_(x):
    """Odd sigmoid with range (-1, 1) and slope 1 at zero."""
    return tanh(x)


@activation(
    latex=r"1.7159\tanh\left(\tfrac{2}{3}x\right)",
    source="LeCun et al., Efficient BackProp, 1998",
    aliases=("scaled_tanh", "stanh"),
)
def lecun_tanh(x):
    """tanh scaled so that f(±1) = ±1: unit inputs stay clear of saturation."""
    return 1.7159 * tanh(2 * x / 3)


@activation(
    latex=r"\tanh(x)\ \mathrm{if}\ x>0,\ \alpha\tanh(x)\ \mathrm{else}",
    source="Xu, Huang & Li, Revise Saturated Activation Functions, 2016, arXiv 1602.05980",
    aliases=("ptanh",),
)
def penalized_tanh(x, alpha: Real = 0.25):
    """tanh with its negative side flattened, as the leaky rectifier flattens the identity."""
    return where(x > 0, 1, alpha) * tanh(x)


@activation(
    latex=r"\min(\max(x,-1),1)",
    source="Collobert, thesis, Université Paris 6, 2004; Courbariaux et al., 2016, arXiv 1602.02830",
    torch="Hardtanh",
    aliases=("hardtanh", "hard_clip"),
)
def hard_tanh(x, lower: Real = -1.0, upper: Real = 1.0):
    """The identity clipped to an interval: the straight-through window of binarized networks."""
    return clamp(x, lower, upper)


@activation(
    latex=r"\min(\max(x+3,0),6)/6",
    source="Howard et al., MobileNetV3, ICCV 2019, arXiv 1905.02244",
    torch="Hardsigmoid",
    aliases=("hardsigmoid",),
)
def hard_sigmoid(x):
    """The logistic by three lines, saturating at ±3."""
    return (clamp(x, -3, 3) + 3) / 6


@activation(
    latex=r"\min(\max(\tfrac{x+1}{2},0),1)",
    source="Courbariaux, Bengio & David, BinaryConnect, NIPS 2015, arXiv 1511.00363",
    aliases=("binary_hard_sigmoid",),
)
def sparse_sigmoid(x):
    """The hard sigmoid saturating at ±1: the probability of a +1 in binary networks, the slope of sparse_plus."""
    return 0.5 * clamp(x, -1, 1) + 0.5


@activation(
    latex=r"\frac{x}{1+|x|}",
    source="Bergstra et al., 2009, DIRO technical report 1337; Glorot & Bengio, AISTATS 2010",
    torch="Softsign",
    aliases=("soft_sign",),
)
def softsign(x):
    """A sigmoid with algebraic tails: saturates like 1/x, its second derivative jumps at zero."""
    return with_slope(x, x / (1 + abs(x)), (1 / (1 + abs(x))) ** 2)


@activation(latex=r"\frac{1}{2}\frac{x}{1+|x|}+\frac{1}{2}", source="Elliott, 1993, technical report ISR TR 93-8")
def elliott(x):
    """Softsign moved to (0, 1): a logistic without an exponential."""
    return where(x > 0, 1 - 0.5 / (1 + maximum(x, 0)), 0.5 / (1 - minimum(x, 0.5)))


@activation(latex=r"\arctan(x)", source="classical; Kamruzzaman & Aziz, IJCNN 2002", aliases=("atan",))
def arctan(x):
    """Odd sigmoid with range (-π/2, π/2) and tails that close as 1/x."""
    return atan(x)


@activation(
    latex=r"\frac{1}{2}+\frac{\arctan x}{\pi}",
    source="Cauchy distribution; McCullagh & Nelder, Generalized Linear Models, 1989",
)
def cauchit(x):
    """Distribution function of the Cauchy law: forgiving of outliers, tails as 1/x."""
    return (2 / pi) * atan(2 * squareplus(x, 1))


@activation(latex=r"\Phi(x)", source="Bliss, Science 79, 1934", aliases=("normal_cdf",))
def probit(x):
    """Distribution function of the standard normal: tails close as exp(-x²/2)."""
    return normal_cdf(x)


@activation(latex=r"\mathrm{erf}(x)", source="Saad & Solla, Phys. Rev. E 52, 1995")
def erf_(x):
    """Odd sigmoid with Gaussian tails: its averages over Gaussian inputs are known in closed form."""
    return erf(x)


@activation(
    latex=r"2\arctan\left(\tanh\tfrac{x}{2}\right)", source="Gudermann, J. reine angew. Math. 6, 1830", aliases=("gd",)
)
def gudermannian(x):
    """Odd sigmoid whose slope is sech(x): links circular and hyperbolic functions."""
    return 2 * atan(tanh(0.5 * x))


@activation(latex=r"\tanh(x/2)", source="classical; Bishop, Neural Networks for Pattern Recognition, 1995")
def bipolar_sigmoid(x):
    """The logistic stretched to (-1, 1): tanh at half slope."""
    return tanh(0.5 * x)


@activation(
    latex=r"\frac{x}{\sqrt{1+\alpha x^2}}",
    source="Carlile et al., 2017, arXiv 1710.09967",
    aliases=("inverse_square_root_unit",),
)
def isru(x, alpha: Positive = 1.0):
    """Odd sigmoid without an exponential, tails as 1/x²."""
    return tanh(asinh(sqrt(alpha) * x)) / sqrt(alpha)


@activation(
    latex=r"1-e^{-e^x}",
    source="Fisher, 1922; Gomes & Ludermir, Expert Syst. Appl. 40, 2013",
    aliases=("complementary_log_log",),
)
def cloglog(x):
    """Complementary log-log: closes exponentially below, double-exponentially above."""
    return -expm1(-exp(x))


@activation(
    latex=r"e^{-e^{-x}}", source="Gumbel, 1935; Gomes & Ludermir, Expert Syst. Appl. 40, 2013", aliases=("gumbel_cdf",)
)
def loglog(x):
    """Distribution function of the Gumbel law: an asymmetric sigmoid, steep below."""
    return exp(-exp(-x))


@activation(
    latex=r"1-(1+\lambda e^x)^{-1/\lambda}",
    source="Aranda-Ordaz, Biometrika 68, 1981; Gomes & Ludermir, Expert Syst. Appl. 40, 2013",
    aliases=("aranda_ordaz",),
)
def aranda(x, lam: Positive = 2.0):
    """Asymmetric family between the logistic (lambda = 1) and the complementary log-log (lambda to 0)."""
    return -expm1(-softplus(x + log(lam)) / lam)


@activation(latex=r"\sigma(x)^m", source="Richards, J. Exp. Bot. 10, 1959", aliases=("parametric_sigmoid",))
def richards(x, m: Positive = 2.0):
    """A power of the logistic: moves its steepest point away from one half."""
    return exp(m * log_sigmoid(x))


@activation(
    latex=r"x-\mathrm{sgn}(x)\frac{x^2}{4}\ \mathrm{if}\ |x|\leq 2,\ \mathrm{sgn}(x)\ \mathrm{else}",
    source="Wuraola & Patel, SQNL, IJCNN 2018",
)
def sqnl(x):
    """tanh by two parabolas: exact saturation at ±2, no exponential."""
    inner = clamp(x, -2, 2)
    return inner * (1 - 0.25 * abs(inner))


@activation(
    latex=r"\frac{1}{\alpha}\ln\frac{1+e^{\alpha x}}{1+e^{\alpha(x-1)}}",
    source="Klimek & Perelstein, SciPost Phys. 9, 2020, arXiv 1810.11509",
)
def soft_clip(x, alpha: Positive = 50.0):
    """A smooth clip to (0, 1): linear between, its corners rounded over a width 1/alpha."""
    return log1p(expm1(alpha) * sigmoid(alpha * (x - 1))) / alpha


@activation(
    latex=(
        r"\frac{1}{2}+\frac{3x}{2\gamma}-\frac{2x^3}{\gamma^3}\ \mathrm{if}\ |x|<\frac{\gamma}{2},\ "
        r"\Theta(x)\ \mathrm{else}"
    ),
    source="Hazimeh et al., The Tree Ensemble Layer, ICML 2020, arXiv 2002.07772",
)
def smooth_step(x, gamma: Positive = 1.0):
    """Cubic between exact 0 and exact 1 over a width gamma: routes a sample to few leaves of a soft tree."""
    u = clamp(x / gamma, -0.5, 0.5)
    rise, rest = 0.5 + u, 0.5 - u
    return with_slope(u, rise * rise * (1 + 2 * rest), 6 * rise * rest)


@activation(
    latex=r"-a(e^{-x/b}-1)\ \mathrm{if}\ x\geq 0,\ c(e^{x/d}-1)\ \mathrm{else}",
    source="Kong & Takatsuka, Hexpo, IJCNN 2017",
)
def hexpo(x, a: Positive = 1.0, b: Positive = 1.0, c: Positive = 1.0, d: Positive = 1.0):
    """Two exponentials back to back: height and decay of each side set apart."""
    return where(x > 0, -a * expm1(-maximum(x, 0) / b), c * expm1(minimum(x, 1) / d))


@activation(
    latex=r"\frac{1}{2}\left(1+\mathrm{erf}\frac{x-\mu}{\sigma\sqrt{2}}\right)",
    source="Ma et al., Mega, ICLR 2023, arXiv 2209.10655",
)
def laplace(x, mu: Real = 0.7071067811865476, sigma: Positive = 0.28209479177387814):
    """Squared ReLU's bounded stand-in in attention: value and slope agree with it at sqrt(2)."""
    return normal_cdf((x - mu) / sigma)
