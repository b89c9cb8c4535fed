"""Rectifiers: piecewise linear or piecewise polynomial, zero or nearly so on one side."""

from varphi.activation.constraint import NonNegative, Positive, Real, UnitInterval
from varphi.activation.registry import activation
from varphi.numbers import clamp, log1p, maximum, minimum, where


@activation(
    latex=r"\max(0, x)",
    source="Fukushima, Biological Cybernetics 20, 1975; Nair & Hinton, ICML 2010",
    torch="ReLU",
    aliases=("rectifier", "ramp", "threshold_linear"),
)
def relu(x):
    """Zero below zero, the identity above: exact zeros, slope 0 or 1."""
    return maximum(x, 0)


@activation(
    latex=r"\max(0,x) + \alpha\min(0,x)", source="Maas, Hannun & Ng, ICML 2013", torch="LeakyReLU", aliases=("lrelu",)
)
def leaky_relu(x, alpha: Real = 0.01):
    """A rectifier whose negative side keeps a small slope, so that no unit dies."""
    return where(x > 0, x, alpha * x)


@activation(latex=r"\max(0,x) + \alpha\min(0,x)", source="He et al., ICCV 2015, arXiv 1502.01852", torch="PReLU")
def prelu(x, alpha: Real = 0.25):
    """The leaky rectifier with its negative slope meant to be learned."""
    return where(x > 0, x, alpha * x)


@activation(latex=r"\max(0,x) + \tfrac{l+u}{2}\min(0,x)", source="Xu et al., 2015, arXiv 1505.00853", torch="RReLU")
def rrelu(x, lower: Real = 1 / 8, upper: Real = 1 / 3):
    """The randomized leaky rectifier as it is at evaluation: its negative slope is the mean of the range."""
    return where(x > 0, x, 0.5 * (lower + upper) * x)


@activation(
    latex=r"\min(\max(0,x), 6)",
    source="Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010; Howard et al., 2017, arXiv 1704.04861",
    torch="ReLU6",
)
def relu6(x):
    """A rectifier capped at 6, so that low-precision arithmetic keeps its range."""
    return clamp(x, 0, 6)


@activation(
    latex=r"\min(\max(0,x), a)", source="Liew, Khalil-Hani & Bakhteri, Neurocomputing 216, 2016", aliases=("brelu",)
)
def bounded_relu(x, a: Positive = 1.0):
    """A rectifier capped at a: bounded, and so more stable to train than ReLU."""
    return clamp(x, 0, a)


@activation(latex=r"\max(-1, x)", source="Clevert, Unterthiner & Hochreiter, ICLR 2016, arXiv 1511.07289")
def shifted_relu(x):
    """The identity floored at -1, as ELU saturates there: mean outputs nearer to zero than ReLU's."""
    return maximum(x, -1)


@activation(latex=r"\max(0,x) + b", source="Qiu, Xu & Cai, ICPR 2018, arXiv 1706.08098", aliases=("frelu",))
def flexible_relu(x, b: Real = -0.398):
    """A rectifier with an offset to learn; the default centres it under a standard normal input."""
    return maximum(x, 0) + b


@activation(latex=r"x\ \mathrm{if}\ x > \theta,\ v\ \mathrm{else}", source="PyTorch, torch.nn, 2019", torch="Threshold")
def threshold(x, theta: Real = 0.0, value: Real = 0.0):
    """The identity above a threshold, a constant below: a jump wherever the two differ."""
    return where(x > theta, x, value)


@activation(
    latex=r"x\ \mathrm{if}\ x > \theta,\ 0\ \mathrm{else}",
    source="Konda, Memisevic & Krueger, ICLR 2015, arXiv 1402.3337",
    aliases=("trec",),
)
def thresholded_relu(x, theta: NonNegative = 1.0):
    """Truncated rectifier: zero up to the threshold, then the identity with a jump."""
    return where(x > theta, x, 0)


@activation(
    latex=r"t_r+a_r(x-t_r)\ \mathrm{if}\ x>t_r,\ t_l+a_l(x-t_l)\ \mathrm{if}\ x<t_l,\ x\ \mathrm{else}",
    source="Jin et al., AAAI 2016, arXiv 1512.07030",
)
def srelu(x, t_left: Real = 0.0, a_left: Real = 0.2, t_right: Real = 1.0, a_right: Real = 0.2):
    """S-shaped rectifier: the identity between two thresholds, other slopes beyond them; t_left <= t_right."""
    inner = clamp(x, t_left, t_right)
    return inner + a_left * minimum(x - t_left, 0) + a_right * maximum(x - t_right, 0)


@activation(
    latex=r"\max(\alpha(x+c)-c, \min(\alpha(x-c)+c, x))", source="Nicolae, 2018, arXiv 1809.09534", aliases=("plu",)
)
def piecewise_linear_unit(x, alpha: UnitInterval = 0.1, c: Positive = 1.0):
    """Three lines in the shape of tanh that never saturate."""
    inner = clamp(x, -c, c)
    return inner + alpha * (x - inner)


@activation(
    latex=r"|x|",
    source="Berngardt, 2023, arXiv 2304.11758",
    aliases=("absolute", "vrelu", "modulus"),
)
def abs_(x):
    """The distance from zero: even, slopes -1 and 1, no dead side."""
    return abs(x)


@activation(
    latex=r"\max(0,x)^2", source="So et al., Primer, NeurIPS 2021, arXiv 2109.08668", aliases=("squared_relu", "relu2")
)
def relu_squared(x):
    """The square of ReLU: continuously differentiable, grows quadratically."""
    return maximum(x, 0) ** 2


@activation(
    latex=r"\max(0,x)^3",
    source="E & Yu, Deep Ritz, Commun. Math. Stat. 6, 2018, arXiv 1710.00211",
    aliases=("relu_cubed", "relu3"),
)
def cubic_relu(x):
    """The cube of ReLU: twice continuously differentiable, as variational solvers of PDEs need."""
    return maximum(x, 0) ** 3


@activation(latex=r"s\,\max(0,x)^2 + b", source="Yu et al., MetaFormer Baselines, TPAMI 2024, arXiv 2210.13452")
def star_relu(x, scale: Real = 0.8944, bias: Real = -0.4472):
    """Squared ReLU scaled and shifted to zero mean and unit variance under a standard normal input."""
    return scale * maximum(x, 0) ** 2 + bias


@activation(
    latex=r"\ln(\beta\max(0,x) + 1)",
    source="Liu et al., 2019, arXiv 1908.03682",
    aliases=("nlrelu", "natural_log_relu"),
)
def log_relu(x, beta: Positive = 1.0):
    """A rectifier compressed by a logarithm: large inputs cannot dominate."""
    return log1p(beta * maximum(x, 0))


@activation(
    latex=r"\frac{(x+\beta)^2}{4\beta}\ \mathrm{if}\ |x|<\beta,\ \max(0,x)\ \mathrm{else}",
    source="Shamir & Lin, 2022, arXiv 2202.06499; Blondel, Martins & Niculae, JMLR 21, 2020, arXiv 1901.02324",
    aliases=("smelu", "sparse_plus"),
)
def smooth_relu(x, beta: Positive = 1.0):
    """ReLU with a parabola in its corner: continuously differentiable, exact zeros, exact identity."""
    # The comparison comes before the sum: x + beta may round to 2·beta, where the parabola ends.
    return (clamp(x, -beta, beta) + beta) ** 2 / (4 * beta) + maximum(x - beta, 0)
