"""The catalogue against torch.nn and jax.nn on float32 of every exponent, in units in the last place.

The reference is the definition evaluated in float64; `test_entries.py` checks that one against sixty digits. Where the
peer is the one that is wrong, a table says on which inputs; there the test asserts that the peer really is off, so the
table cannot outlive the fault.
"""

import math

import numpy as np
import pytest
import torch

from varphi.activation import registry
from varphi.activation.lookup import get

ULPS = 8
IN_TORCH = {registry.definition(n).torch: n for n in registry.names() if registry.definition(n).torch}


def every_exponent() -> torch.Tensor:
    bits = torch.arange(0, 2**32, 40_001, dtype=torch.int64)
    grid = torch.where(bits >= 2**31, bits - 2**32, bits).to(torch.int32).view(torch.float32)
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 2.0**-126, 88.72284, -88.72284, -103.9, 20.0]
    return torch.cat([grid, torch.tensor(special)])


X = every_exponent()


def ulps(value: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Floats between two float32 numbers; 0 where both are NaN, 2^32 where one is."""

    def rank(t: torch.Tensor) -> torch.Tensor:
        integer = t.view(torch.int32).to(torch.int64)
        return torch.where(integer < 0, -(integer & 0x7FFFFFFF), integer)

    nan = torch.isnan(value), torch.isnan(reference)
    distance = (rank(value) - rank(reference)).abs()
    return distance.masked_fill(nan[0] ^ nan[1], 2**32).masked_fill(nan[0] & nan[1], 0)


def between(low: float, high: float) -> torch.Tensor:
    return (low <= X) & (high >= X)


# Where torch 2.13 is off by more than 8 ulp on a CPU, and why.
TORCH_IS_OFF = {
    "GELU": [
        (between(-14.2, -1.4), "x/2·(1 + erf) cancels: 57 % off at -5.5, all lost at -6"),
        (between(1.7e38, math.inf), "whole vectors only: NaN at the top of the range and at infinity"),
    ],
    "Tanhshrink": [(between(-0.4, 0.4), "x - tanh(x) cancels")],
    "Sigmoid": [(between(-104, -88.7), "e^-x overflows before 1/(1 + e^-x) is denormal")],
    "SiLU": [(between(-108, -88.7), "as its sigmoid")],
    "Mish": [(between(-108, -88), "e^x squared is denormal")],
    "Hardswish": [(between(5.6e37, 3.5e38), "multiplies by up to 6 before it divides by 6")],
}


def torch_module(name: str) -> torch.nn.Module:
    arguments = (0.0, 0.0) if name == "Threshold" else ()
    return getattr(torch.nn, name)(*arguments).eval()


def check(ours: torch.Tensor, theirs: torch.Tensor, reference: torch.Tensor, faults: list) -> None:
    assert ulps(ours, reference).max() <= ULPS
    off = ulps(theirs, reference)
    excused = torch.zeros_like(X, dtype=torch.bool)
    for region, why in faults:
        assert off[region].max() > ULPS, f"no longer so: {why}"
        excused |= region
    assert off[~excused].max() <= ULPS, X[~excused][off[~excused].argmax()]


@pytest.mark.parametrize("peer", IN_TORCH)
def test_torch_in_float32(peer):
    layer = get(IN_TORCH[peer])
    with torch.no_grad():
        check(layer(X), torch_module(peer)(X), layer(X.double()).float(), TORCH_IS_OFF.get(peer, []))


# The same for float64: where torch's relative error is above 1e-14, on finite inputs.
TORCH_IS_OFF_IN_FLOAT64 = {
    "GELU": (-40.0, -1.0, "1 + erf cancels"),
    "Tanhshrink": (-0.5, 0.5, "x - tanh(x) cancels, in ours too: their roundings differ"),
    "Softplus": (20.0, 37.0, "the identity from beta·x = 20 on: e^-20 = 2e-9 is dropped"),
    "Sigmoid": (-750.0, -709.0, "e^-x overflows before 1/(1 + e^-x) is denormal"),
    "SiLU": (-750.0, -709.0, "as its sigmoid"),
}


@pytest.mark.parametrize("peer", IN_TORCH)
def test_torch_in_float64(peer):
    x = torch.cat([X.double()[torch.isfinite(X)], torch.linspace(-760, 760, 2000, dtype=torch.float64)])
    ours = get(IN_TORCH[peer])(x)
    with torch.no_grad():
        theirs = torch_module(peer).double()(x)
    relative = (ours - theirs).abs() / ours.abs().clamp_min(1e-300)
    low, high, why = TORCH_IS_OFF_IN_FLOAT64.get(peer, (math.inf, -math.inf, ""))
    region = (low <= x) & (x <= high)
    assert relative[~region].max() <= 1e-14, x[~region][relative[~region].argmax()]
    if why:
        assert relative[region].max() > 1e-14, f"no longer so: {why}"


# jax.nn's name for ours where it has another.
IN_JAX = {
    "celu": "celu", "elu": "elu", "hard_sigmoid": "hard_sigmoid", "hard_swish": "hard_silu", "hard_tanh": "hard_tanh",
    "identity": "identity", "leaky_relu": "leaky_relu", "log_sigmoid": "log_sigmoid", "mish": "mish", "relu": "relu",
    "relu6": "relu6", "selu": "selu", "sigmoid": "sigmoid", "silu": "silu", "softsign": "soft_sign",
    "softplus": "softplus", "smooth_relu": "sparse_plus", "sparse_sigmoid": "sparse_sigmoid",
    "squareplus": "squareplus", "tanh": "tanh", "gelu": "gelu", "gelu_tanh": "gelu",
}  # fmt: skip
JAX_IS_OFF = {
    "gelu": [(between(-14.2, -1), "its erfc loses digits far out")],
    "gelu_tanh": [(between(-10.7, -1), "1 + tanh cancels")],
    "squareplus": [
        (between(-math.inf, -3.9), "x + sqrt(x² + b) cancels"),
        (between(1.8e19, math.inf), "x² overflows"),
    ],
}


@pytest.mark.parametrize("name", IN_JAX)
def test_jax_in_float32(name):
    jax = pytest.importorskip("jax")
    function = getattr(jax.nn, IN_JAX[name])
    keywords = {"approximate": name == "gelu_tanh"} if IN_JAX[name] == "gelu" else {}
    layer = get(name)
    theirs = torch.from_numpy(np.array(function(jax.numpy.asarray(X.numpy()), **keywords)))
    reference = layer(X.double()).float()
    # XLA on a CPU takes denormal numbers as zero, before, within and after: not held against it.
    tiny = (reference.abs() < 2.0**-118) | (X.abs() < 2.0**-118)
    kept = torch.where(tiny, reference, theirs)
    check(layer(X), kept, reference, JAX_IS_OFF.get(name, []))


def test_the_list_of_jax_is_whole():
    jax = pytest.importorskip("jax")
    not_pointwise = {"glu", "softmax", "log_softmax", "logsumexp", "logmeanexp", "standardize", "one_hot",
                     "dot_product_attention", "scaled_matmul", "scaled_dot_general", "get_scaled_dot_general_config",
                     "initializers", "log1mexp", "swish", "hard_swish"}  # fmt: skip
    public = {n for n in dir(jax.nn) if not n.startswith("_")} - not_pointwise
    assert public <= set(IN_JAX.values())
