"""Bumps and radial functions: even or local, with no side that grows, and their wavelets."""

from varphi.activation.constraint import Positive
from varphi.activation.registry import activation
from varphi.numbers import asinh, clamp, cos, exp, maximum, normal_pdf, sech, squareplus, tanh, with_slope


@activation(latex=r"e^{-x^2}", source="Broomhead & Lowe, Complex Systems 2, 1988", aliases=("rbf",))
def gaussian(x):
    """Local response around zero, faster than exponential decay."""
    return exp(-x * x)


@activation(latex=r"e^{-\frac{x^2}{2a^2}}", source="Ramasinghe & Lucey, ECCV 2022, arXiv 2111.15135")
def gaussian_width(x, a: Positive = 1.0):
    """A Gaussian with a width: encodes coordinates without random features."""
    return exp(-0.5 * (x / a) * (x / a))


@activation(
    latex=r"\frac{1}{\sqrt{2\pi}}e^{-x^2/2}", source="de Moivre, 1733; Gauss, 1809", aliases=("normal_density",)
)
def normal_pdf_(x):
    """The density of the standard normal: integrates to one."""
    return normal_pdf(x)


@activation(latex=r"(1-x^2)e^{-x^2/2}", source="Ricker, Geophysics 18, 1953", aliases=("ricker",))
def mexican_hat(x):
    """Excitation with lateral inhibition: minus the second derivative of a Gaussian."""
    bell = exp(-0.5 * x * x)
    return bell - x * (x * bell)


@activation(latex=r"\cos(5x)\,e^{-x^2/2}", source="Goupillaud, Grossmann & Morlet, Geoexploration 23, 1984")
def morlet(x):
    """A wave packet: local in position and in frequency."""
    return cos(5 * x) * exp(-0.5 * x * x)


@activation(latex=r"-x\,e^{-x^2/2}", source="Zhang & Benveniste, IEEE Trans. Neural Networks 3, 1992")
def gaussian_derivative(x):
    """The wavelet of wavelet networks: odd, one swing down and up."""
    return -x * exp(-0.5 * x * x)


@activation(latex=r"(1-x^2)e^{-ax^2}", source="Hara & Nakayama, ICNN 1994", aliases=("wave",))
def hara_wave(x, a: Positive = 1.0):
    """A hat with a free width: one positive lobe between two negative ones."""
    bell = exp(-a * x * x)
    return bell - x * (x * bell)


@activation(
    latex=r"\frac{1}{1+x^2}",
    source="Cauchy, 1853; Ramasinghe & Lucey, ECCV 2022, arXiv 2111.15135",
    aliases=("lorentzian", "inverse_quadratic"),
)
def cauchy(x):
    """A bump with algebraic tails: still feels inputs far away."""
    return 1 / (1 + x * x)


@activation(latex=r"e^{-|x|}", source="Ramasinghe & Lucey, ECCV 2022, arXiv 2111.15135")
def laplacian(x):
    """A bump with a cusp: its slope jumps from 1 to -1 at zero."""
    return exp(-abs(x))


@activation(
    latex=r"\mathrm{sech}(x)",
    source="Baten, Bull. Amer. Math. Soc. 40, 1934",
    aliases=("hyperbolic_secant",),
)
def sech_(x):
    """A bump with exponential tails, in shape its own Fourier transform."""
    return sech(x)


@activation(latex=r"\mathrm{sech}^2(x)", source="Korteweg & de Vries, Phil. Mag. 39, 1895")
def sech_squared(x):
    """The slope of tanh: the profile of a soliton."""
    return sech(x) ** 2


@activation(latex=r"\sqrt{1+x^2}", source="Hardy, J. Geophys. Res. 76, 1971")
def multiquadric(x):
    """A smooth absolute value: even, convex, slopes inside (-1, 1)."""
    return with_slope(x, squareplus(x, 1) + squareplus(-x, 1), tanh(asinh(x)))


@activation(
    latex=r"\frac{1}{\sqrt{1+x^2}}", source="Hardy, J. Geophys. Res. 76, 1971; Micchelli, Constr. Approx. 2, 1986"
)
def inverse_multiquadric(x):
    """A positive definite bump with tails as 1/|x|."""
    y = 1 / (squareplus(x, 1) + squareplus(-x, 1))
    return with_slope(x, y, -tanh(asinh(x)) * (y * y))


@activation(
    latex=r"\max(0, 1-|x|)", source="Schoenberg, Quart. Appl. Math. 4, 1946", aliases=("hat", "triangle", "mrelu")
)
def tent(x):
    """The linear B-spline: partition of unity on the whole numbers, exactly zero beyond 1."""
    return maximum(1 - abs(x), 0)


@activation(
    latex=r"\frac{[2-|x|]_+^3-4[1-|x|]_+^3}{6}",
    source="Schoenberg, Quart. Appl. Math. 4, 1946; Liu et al., KAN, 2024, arXiv 2404.19756",
)
def cubic_bspline(x):
    """The cubic B-spline that KAN layers sum: twice differentiable, exactly zero beyond 2."""
    inner, outer = clamp(x, -1, 1), clamp(abs(x) - 1, 0, 1)
    return (0.5 - inner * inner * (1 - 0.5 * abs(inner))) + (1 - outer) ** 3 / 6


@activation(latex=r"[1-|x|]_+^4\,(4|x|+1)", source="Wendland, Adv. Comput. Math. 4, 1995")
def wendland(x):
    """A positive definite bump of compact support, twice differentiable."""
    u = clamp(x, -1, 1)
    fall = 1 - abs(u)
    return with_slope(u, fall**4 * (4 * abs(u) + 1), -20 * u * fall**3)


@activation(latex=r"\frac{3}{4}\max(0,1-x^2)", source="Epanechnikov, Theory Probab. Appl. 14, 1969")
def epanechnikov(x):
    """The kernel of least mean square error: a parabola, exactly zero beyond 1."""
    u = clamp(x, -1, 1)
    return with_slope(u, 0.75 * ((1 - u) * (1 + u)), -1.5 * u)


@activation(
    latex=r"1-\frac{x^2}{2}\ \mathrm{if}\ |x|\leq 1,\ \frac{1}{2}\max(0,2-|x|)^2\ \mathrm{else}",
    source="Wuraola & Patel, SQ-RBF, ICONIP 2018",
)
def sq_rbf(x):
    """A Gaussian by parabolas: exactly zero beyond 2, no exponential."""
    inner, outer = clamp(x, -1, 1), clamp(abs(x) - 1, 0, 1)
    return (0.5 - 0.5 * inner * inner) + 0.5 * (1 - outer) ** 2
