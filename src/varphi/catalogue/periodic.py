"""Periodic and oscillating functions."""

from math import pi

from varphi.activation.constraint import Positive
from varphi.activation.registry import activation
from varphi.numbers import cos, minimum, sin, sinc, where, with_slope


@activation(latex=r"\sin(x)", source="Parascandolo, Huttunen & Virtanen, 2017, openreview Sks3zF9eg", aliases=("sine",))
def sin_(x):
    """Bounded, odd, periodic: derivatives of every order keep its size."""
    return sin(x)


@activation(latex=r"\cos(x)", source="Rahimi & Recht, NIPS 2007", aliases=("cosine",))
def cos_(x):
    """The activation of random Fourier features: even, periodic."""
    return cos(x)


@activation(latex=r"\sin(\omega x)", source="Sitzmann et al., NeurIPS 2020, arXiv 2006.09661")
def siren(x, omega: Positive = 30.0):
    """A sine sped up for implicit representations; omega sets the finest detail a layer starts with."""
    return sin(omega * x)


@activation(latex=r"\sin(\omega(|x|+1)x)", source="Liu et al., FINER, CVPR 2024, arXiv 2312.02434")
def finer(x, omega: Positive = 30.0):
    """A sine whose frequency grows with its input: biases choose the frequency band."""
    return sin(omega * (abs(x) + 1) * x)


@activation(latex=r"x+\frac{\sin^2(ax)}{a}", source="Liu, Hartwig & Ueda, NeurIPS 2020, arXiv 2006.08195")
def snake(x, a: Positive = 1.0):
    """The identity plus a periodic ripple: monotone, extrapolates periodic signals."""
    u = a * x
    s, c = sin(u), cos(u)
    # 1 + sin 2u, with its double zeros as squares.
    slope = where(s * c > -0.25, 1 + 2 * (s * c), (s + c) ** 2)
    return with_slope(u, u + s**2, slope) / a


@activation(latex=r"x+\frac{\sin^2(\alpha x)}{\beta}", source="Lee et al., BigVGAN, ICLR 2023, arXiv 2206.04658")
def snake_beta(x, alpha: Positive = 1.0, beta: Positive = 1.0):
    """Snake with frequency and size of the ripple set apart."""
    return x + sin(alpha * x) ** 2 / beta


@activation(latex=r"x+\sin(x)", source="Liu, Hartwig & Ueda, NeurIPS 2020, arXiv 2006.08195")
def x_plus_sin(x):
    """Monotone with slopes from 0 to 2: the identity with a ripple."""
    return x + sin(x)


@activation(latex=r"x\cos(x)", source="Noel et al., 2021, arXiv 2108.12943", aliases=("growing_cosine_unit",))
def gcu(x):
    """Growing cosine unit: an oscillation with growing size, many zeros in one unit."""
    return x * cos(x)


@activation(latex=r"x\sin(x)", source="Rahman, Makhdoom & Lu, 2023, arXiv 2304.09759", aliases=("asu",))
def amplifying_sine_unit(x):
    """Even, an oscillation with growing size, flat at zero."""
    return x * sin(x)


@activation(latex=r"\frac{\sin x}{x}", source="Whittaker, Proc. R. Soc. Edinburgh 35, 1915")
def sinc_(x):
    """An even wave that decays as 1/x; its transform is a box."""
    return sinc(x)


@activation(
    latex=r"\pi\,\mathrm{sinc}(x-\pi)", source="Noel et al., 2021, arXiv 2111.04020", aliases=("shifted_sinc_unit",)
)
def ssu(x):
    """A sinc moved to pass through zero at the origin, peak π at x = π."""
    # sin(y) = 2 sin(y/2) cos(y/2) keeps the zero at the origin exact.
    return pi * sin(0.5 * x) * sinc(0.5 * (x - pi))


@activation(
    latex=r"\frac{\pi}{2}\left(\mathrm{sinc}(x-\pi)-\mathrm{sinc}(x+\pi)\right)",
    source="Noel et al., 2021, arXiv 2111.04020",
    aliases=("decaying_sine_unit",),
)
def dsu(x):
    """A sine of slope 1 at zero that dies out as 1/x²."""
    # π² sin(x)/(π² - x²) with its zero at 0 apart; the factors beside the sincs keep their sum from cancelling far out.
    even = sinc(0.5 * (x - pi)) * (pi + x) + sinc(0.5 * (x + pi)) * (pi - x)
    return (pi * pi / 2) * sin(0.5 * x) * (even / (pi * pi + x * x))


@activation(latex=r"\cos(x)-x", source="Eger, Youssef & Gurevych, EMNLP 2018, arXiv 1901.02671")
def cosid(x):
    """The falling identity with a ripple: monotone, slopes from -2 to 0."""
    return cos(x) - x


@activation(latex=r"\min(x,\sin x)", source="Eger, Youssef & Gurevych, EMNLP 2018, arXiv 1901.02671")
def minsin(x):
    """The identity below zero, a sine above: unbounded on one side only."""
    return minimum(x, sin(x))
