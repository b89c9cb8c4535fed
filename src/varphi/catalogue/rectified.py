"""Rectifiers: piecewise linear, zero or nearly so on one side."""

from varphi.activation.constraint import Real
from varphi.activation.registry import activation
from varphi.numbers import maximum, where


@activation(
    latex=r"\max(0, x)",
    source="Fukushima, Biological Cybernetics 20, 1975; Nair & Hinton, ICML 2010",
    torch="ReLU",
    aliases=("rectifier", "ramp"),
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
