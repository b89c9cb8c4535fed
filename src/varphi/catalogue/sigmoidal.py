"""Sigmoids: bounded, monotone, saturating at both ends."""

from varphi.activation.registry import activation
from varphi.numbers import tanh


@activation(latex=r"\tanh(x)", source="classical; LeCun et al., Efficient BackProp, 1998", torch="Tanh")
def tanh_(x):
    """Odd sigmoid with range (-1, 1) and slope 1 at zero."""
    return tanh(x)
