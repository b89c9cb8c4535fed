"""Definitions against the formulas of their papers.

A definition is spelled so that floats keep their digits; here is what it must be equal to.
"""

import mpmath as m
import pytest
from mpmath import mpf

from varphi.activation import registry

POINTS = [-41.3, -9.1, -4.7, -2.3, -1.7, -0.71, -0.31, -0.013, 0.017, 0.29, 0.73, 1.3, 2.9, 4.1, 9.7, 37.3]


def sig(x):
    return 1 / (1 + m.exp(-x))


def sinc(x):
    return m.sin(x) / x


def soft(x, lam):
    return m.sign(x) * max(abs(x) - lam, 0)


def normal(x, mean, deviation):
    return m.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * m.sqrt(2 * m.pi))


def pick(*pairs):
    """The value of the first pair whose condition holds; values as functions, so that only that one is computed."""
    return next(value() for condition, value in pairs if condition)


PAPERS = {
    # rectified
    "srelu": lambda x: pick((x >= 1, lambda: 1 + (x - 1) / 5), (x > 0, lambda: x), (True, lambda: x / 5)),
    "piecewise_linear_unit": lambda x: max((x + 1) / 10 - 1, min((x - 1) / 10 + 1, x)),
    "smooth_relu": lambda x: pick((x <= -1, lambda: 0), (x >= 1, lambda: x), (True, lambda: (x + 1) ** 2 / 4)),
    "rrelu": lambda x: x if x > 0 else x * (mpf(1) / 8 + mpf(1) / 3) / 2,
    # exponential linear
    "celu": lambda x: max(0, x) + min(0, m.exp(x) - 1),
    "pdelu": lambda x: x if x >= 0 else max(1 + x / 10, 0) ** 10 - 1,
    "isrlu": lambda x: x if x >= 0 else x / m.sqrt(1 + x * x),
    "slu": lambda x: x if x >= 0 else 2 * m.log(m.exp(x) + 1) - 2 * m.log(2),
    "polylu": lambda x: x if x >= 0 else 1 / (1 - x) - 1,
    "reu": lambda x: x if x >= 0 else x * m.exp(x),
    # softplus
    "shifted_softplus": lambda x: m.log(m.exp(x) / 2 + mpf(1) / 2),
    "gaussian_softplus": lambda x: x * m.ncdf(x) + m.npdf(x),
    "smu": lambda x: (1.25 * x + 0.75 * x * m.erf(0.75 * x)) / 2,
    "smu1": lambda x: (1.25 * x + m.sqrt((0.75 * x) ** 2 + 1)) / 2,
    "bent_identity": lambda x: (m.sqrt(x * x + 1) - 1) / 2 + x,
    "blu": lambda x: 0.5 * (m.sqrt(x * x + 1) - 1) + x,
    "squareplus": lambda x: (x + m.sqrt(x * x + 4)) / 2,
    # gated
    "dsilu": lambda x: sig(x) * (1 + x * (1 - sig(x))),
    "gelu": lambda x: x * (1 + m.erf(x / m.sqrt(2))) / 2,
    "mish": lambda x: x * m.tanh(m.log(1 + m.exp(x))),
    "logish": lambda x: x * m.log(1 + sig(x)),
    "gish": lambda x: x * m.log(2 - m.exp(-m.exp(x))),
    "elish": lambda x: x * sig(x) if x >= 0 else (m.exp(x) - 1) * sig(x),
    "hard_elish": lambda x: (x if x >= 0 else m.exp(x) - 1) * max(0, min(1, (x + 1) / 2)),
    "hard_mish": lambda x: x / 2 * min(2, max(0, x + 2)),
    "atlu": lambda x: x * (m.atan(x) / m.pi + mpf(1) / 2),
    "pflu": lambda x: x / 2 * (1 + x / m.sqrt(1 + x * x)),
    "aptx": lambda x: (1 + m.tanh(x)) * x / 2,
    "xielu": lambda x: 0.8 * x * x + x / 2 if x > 0 else 0.8 * (m.exp(x) - 1) - 0.8 * x + x / 2,
    "suish": lambda x: max(x, x * m.exp(-abs(x))),
    "flatten_t_swish": lambda x: x * sig(x) - 0.2 if x >= 0 else -0.2,
    # sigmoidal
    "elliott": lambda x: x / 2 / (1 + abs(x)) + mpf(1) / 2,
    "cauchit": lambda x: m.atan(x) / m.pi + mpf(1) / 2,
    "isru": lambda x: x / m.sqrt(1 + x * x),
    "gudermannian": lambda x: m.asin(m.tanh(x)),
    "aranda": lambda x: 1 - (1 + 2 * m.exp(x)) ** (-mpf(1) / 2),
    "richards": lambda x: sig(x) ** 2,
    "sqnl": lambda x: pick((x > 2, lambda: 1), (x >= 0, lambda: x - x * x / 4), (x >= -2, lambda: x + x * x / 4),
                           (True, lambda: -1)),
    "soft_clip": lambda x: m.log((1 + m.exp(50 * x)) / (1 + m.exp(50 * (x - 1)))) / 50,
    "smooth_step": lambda x: pick((x <= -0.5, lambda: 0), (x >= 0.5, lambda: 1),
                                  (True, lambda: -2 * x**3 + 3 * x / 2 + mpf(1) / 2)),
    "hexpo": lambda x: 1 - m.exp(-x) if x >= 0 else m.exp(x) - 1,
    # exponential
    "soft_exponential": lambda x: (m.exp(x / 2) - 1) / 0.5 + 0.5,
    "symlog": lambda x: m.sign(x) * m.log(abs(x) + 1),
    "symexp": lambda x: m.sign(x) * (m.exp(abs(x)) - 1),
    # bumps
    "mexican_hat": lambda x: (1 - x * x) * m.exp(-x * x / 2),
    "hara_wave": lambda x: (1 - x * x) * m.exp(-x * x),
    "multiquadric": lambda x: m.sqrt(1 + x * x),
    "inverse_multiquadric": lambda x: 1 / m.sqrt(1 + x * x),
    "cubic_bspline": lambda x: pick(
        (abs(x) >= 2, lambda: 0), (abs(x) >= 1, lambda: (2 - abs(x)) ** 3 / 6),
        (True, lambda: mpf(2) / 3 - x * x + abs(x) ** 3 / 2)),
    "wendland": lambda x: max(1 - abs(x), 0) ** 4 * (4 * abs(x) + 1),
    "epanechnikov": lambda x: max(1 - x * x, 0) * 3 / 4,
    "sq_rbf": lambda x: pick((abs(x) <= 1, lambda: 1 - x * x / 2), (abs(x) < 2, lambda: (2 - abs(x)) ** 2 / 2),
                             (True, lambda: 0)),
    # shrinkage
    "soft_shrink": lambda x: soft(x, 0.5),
    "garrote_shrink": lambda x: x - mpf(1) / 4 / x if abs(x) > 0.5 else 0,
    "firm_shrink": lambda x: pick((abs(x) <= 0.5, lambda: 0), (abs(x) > 1, lambda: x),
                                  (True, lambda: m.sign(x) * (abs(x) - 0.5) / 0.5)),
    "scad_shrink": lambda x: pick(
        (abs(x) <= 1, lambda: soft(x, 0.5)), (abs(x) > mpf(3.7) / 2, lambda: x),
        (True, lambda: ((mpf(3.7) - 1) * x - m.sign(x) * mpf(3.7) / 2) / (mpf(3.7) - 2))),
    # algebraic
    "rational": lambda x: (mpf(2.383) / 2 * x**3 + mpf(1.5957) * x**2 + x / 2 + mpf(0.0218)) / (mpf(2.383) * x**2 + 1),
    "sqlu": lambda x: pick((x > 0, lambda: x), (x >= -2, lambda: x + x * x / 4), (True, lambda: -1)),
    "soft_modulus": lambda x: x * x * (2 - abs(x)) if abs(x) <= 1 else abs(x),
    "huber": lambda x: x * x / 2 if abs(x) <= 1 else abs(x) - mpf(1) / 2,
    "ncu": lambda x: x - x**3,
    "fitzhugh_nagumo": lambda x: x - x**3 / 3,
    "crypto_quadratic": lambda x: x * x / 8 + x / 2 + mpf(1) / 4,
    # spiking
    "superspike": lambda x: (1 + 10 * abs(x)) ** -2,
    "sigmoid_surrogate": lambda x: m.diff(sig, x),
    "multi_gaussian_surrogate": lambda x: mpf(1.15) * normal(x, 0, 0.5) - mpf(0.15) * (
        normal(x, 0.5, 3) + normal(x, -0.5, 3)),
    # biological
    "hill_activator": lambda x: x * x / (1 + x * x) if x > 0 else 0,
    "hill_repressor": lambda x: 1 / (1 + x * x) if x > 0 else 1,
    "michaelis_menten": lambda x: x / (1 + x) if x > 0 else 0,
    "haldane": lambda x: x / (1 + x + x * x / 10) if x > 0 else 0,
    "hh_alpha_n": lambda x: mpf(1) / 100 * (x + 55) / (1 - m.exp(-(x + 55) / 10)),
    "hh_alpha_m": lambda x: mpf(1) / 10 * (x + 40) / (1 - m.exp(-(x + 40) / 10)),
    "hh_beta_h": lambda x: 1 / (1 + m.exp(-(x + 35) / 10)),
    "morlet": lambda x: m.cos(5 * x) * m.exp(-x * x / 2),
    "morris_lecar_m": lambda x: (1 + m.tanh((x + mpf(1.2)) / 18)) / 2,
    "nmda_unblock": lambda x: 1 / (1 + m.exp(-mpf(0.062) * x) / mpf(3.57)),
    "wilson_cowan": lambda x: sig(mpf(1.2) * (x - mpf(2.8))) - sig(-mpf(1.2) * mpf(2.8)),
    # periodic
    "dsu": lambda x: m.pi**2 * m.sin(x) / (m.pi**2 - x * x),
    "ssu": lambda x: m.pi * sinc(x - m.pi),
}  # fmt: skip


@pytest.mark.parametrize("name", PAPERS)
def test_definition_is_the_formula_of_its_paper(name, exact):
    definition = registry.definition(name)
    for x in map(mpf, POINTS):
        with m.workdps(100):
            paper = mpf(PAPERS[name](x))
            # The constants of a definition are float64.
            assert abs(exact(definition, x) - paper) <= 2e-15 * max(1, abs(x)) * max(1, abs(paper)), x
