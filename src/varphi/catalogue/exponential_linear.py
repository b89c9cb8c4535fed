"""Exponential linear units: the identity above zero, a saturating curve below."""

from varphi.activation.constraint import Positive, Real
from varphi.activation.registry import activation
from varphi.numbers import asinh, clamp, exp, expm1, log1p, minimum, sqrt, tanh, where, with_slope

# In `where(x >= 0, x, g(minimum(x, 0)))` the minimum keeps the branch not taken, and so its gradient, finite.


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \alpha(e^x-1)\ \mathrm{else}",
    source="Clevert, Unterthiner & Hochreiter, ICLR 2016, arXiv 1511.07289",
    torch="ELU",
)
def elu(x, alpha: Real = 1.0):
    """The identity above zero, an exponential saturating at -alpha below: mean outputs near zero."""
    return where(x >= 0, x, alpha * expm1(minimum(x, 0)))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \alpha(e^{x/\alpha}-1)\ \mathrm{else}",
    source="Barron, 2017, arXiv 1704.07483",
    torch="CELU",
)
def celu(x, alpha: Positive = 1.0):
    """ELU rescaled so that it is continuously differentiable for every alpha."""
    return where(x >= 0, x, alpha * expm1(minimum(x, 0) / alpha))


@activation(
    latex=r"\lambda x\ \mathrm{if}\ x\geq 0,\ \lambda\alpha(e^x-1)\ \mathrm{else}",
    source="Klambauer et al., Self-Normalizing Neural Networks, NIPS 2017, arXiv 1706.02515",
    torch="SELU",
)
def selu(x):
    """ELU with the two constants that make zero mean and unit variance a fixed point through layers."""
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return scale * where(x >= 0, x, alpha * expm1(minimum(x, 0)))


@activation(
    latex=r"\frac{a}{b} x\ \mathrm{if}\ x\geq 0,\ a(e^{x/b}-1)\ \mathrm{else}",
    source="Trottier, Giguère & Chaib-draa, ICMLA 2017, arXiv 1605.09332",
)
def pelu(x, a: Positive = 1.0, b: Positive = 1.0):
    """ELU with its scale and its decay learned, differentiable at zero for every pair."""
    return where(x >= 0, (a / b) * x, a * expm1(minimum(x, 0) / b))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \alpha(e^{\beta x}-1)\ \mathrm{else}",
    source="Li et al., Neurocomputing 301, 2018, arXiv 1606.00305",
)
def mpelu(x, alpha: Real = 1.0, beta: Positive = 1.0):
    """ELU with height and rate of its negative side free: covers ReLU, PReLU-like slopes and ELU."""
    return where(x >= 0, x, alpha * expm1(beta * minimum(x, 0)))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \alpha\left([1+(1-t)x]_+^{1/(1-t)}-1\right)\ \mathrm{else}",
    source="Cheng et al., Parametric Deformable Exponential Linear Units, Neural Networks 125, 2020",
)
def pdelu(x, alpha: Real = 1.0):
    """ELU with the deformed exponential at t = 0.9, (1 + x/10)^10: reaches its floor exactly, at -10."""
    u = clamp(x, -10, 0)
    z = u / 10
    a = 1 + z  # a^10 - 1 in factors without cancellation
    lower = z * (1 + a * (1 + a * (1 + a * (1 + a)))) * (1 + a**5)
    return where(x >= 0, x, alpha * with_slope(u, lower, ((u + 10) / 10) ** 9))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \frac{x}{\sqrt{1+\alpha x^2}}\ \mathrm{else}",
    source="Carlile et al., 2017, arXiv 1710.09967",
    aliases=("inverse_square_root_linear_unit",),
)
def isrlu(x, alpha: Positive = 1.0):
    """ELU's shape without an exponential: the identity above zero, an inverse square root below."""
    return where(x >= 0, x, tanh(asinh(sqrt(alpha) * minimum(x, 0))) / sqrt(alpha))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ x e^x\ \mathrm{else}",
    source="Ying et al., Rectified Exponential Units for Convolutional Neural Networks, IEEE Access 7, 2019",
)
def reu(x):
    """The identity above zero and x·e^x below: a dip that returns to zero."""
    return x * exp(minimum(x, 0))


@activation(
    latex=r"\lambda x\ \mathrm{if}\ x\geq 0,\ \lambda\alpha x e^x\ \mathrm{else}",
    source="Zhang & Li, 2018, arXiv 1807.10117",
)
def serlu(x):
    """Self-normalizing like SELU, with a bump on the negative side that returns to zero."""
    return 1.07862 * where(x >= 0, x, 2.90427 * x * exp(minimum(x, 0)))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \tanh(x)\ \mathrm{else}",
    source="Kunc & Kléma, 2024, arXiv 2402.09092 (section 3.6.52, after Guevara et al.)",
    aliases=("siglu",),
)
def tanh_linear(x):
    """The identity above zero, tanh below: continuously differentiable, floor at -1."""
    return where(x >= 0, x, tanh(minimum(x, 0)))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ 2\ln\frac{1+e^x}{2}\ \mathrm{else}",
    source="Zhao et al., Applied Intelligence 48, 2018",
)
def slu(x):
    """Softplus linear unit: the identity above zero, a softplus shifted and doubled to join it smoothly below."""
    return where(x >= 0, x, 2 * log1p(expm1(minimum(x, 0)) / 2))


@activation(
    latex=r"x\ \mathrm{if}\ x\geq 0,\ \frac{1}{1-x}-1\ \mathrm{else}",
    source="Feng & Yang, IEEE Access 11, 2023",
)
def polylu(x):
    """The identity above zero, the rational x/(1 - x) below: a floor at -1 approached as 1/x."""
    lower = minimum(x, 0)
    return where(x >= 0, x, with_slope(lower, lower / (1 - lower), (1 / (1 - lower)) ** 2))
