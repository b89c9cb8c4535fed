"""What holds for every definition of the catalogue."""

import math
import re

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf

from varphi.activation import registry
from varphi.activation.backend import by_operations
from varphi.activation.lookup import get

NAMES = registry.names()
HUGE = 1e30

# 0·inf or inf - inf at an infinite input, as the formula is written and as torch computes it too; finite inputs are
# all right. "-" and "+" say at which infinity.
# fmt: off
INDETERMINATE = {
    **dict.fromkeys((
        "aptx", "atlu", "bent_identity", "blu", "erfact", "eswish", "gaussian_softplus", "gelu",
        "gelu_tanh", "gish", "hard_mish", "hard_swish", "logish", "mish", "modified_gelu", "pflu", "phish",
        "polylu", "pserf", "quick_gelu", "reu", "serf", "serlu", "silu", "sinsig", "smish", "smu", "swish",
        "telu", "xielu",
    ), "-"),
    **dict.fromkeys((
        "exponential_integrate_and_fire", "ricker_map",
    ), "+"),
    **dict.fromkeys((
        "amplifying_sine_unit", "cos", "cosid", "dsilu", "dsu", "finer", "gaussian_derivative", "gcu", "hara_wave",
        "mexican_hat", "minsin", "morlet", "resech", "sin", "sinlu", "siren", "snake", "snake_beta",
        "softsign", "ssu", "suish", "x_plus_sin",
    ), "-+"),
}
# fmt: on

# Cancellation that no spelling over the elementary functions removes; the region where digits are lost.
DELICATE = {
    "gaussian_softplus": lambda x: x < -3,  # φ(x)(1 - |x|·Mills ratio)
}


def values_at(name: str, points: list[float], dtype: torch.dtype = torch.float64) -> list[float]:
    return get(name)(torch.tensor(points, dtype=dtype)).tolist()


def test_there_are_enough_of_them():
    assert len(NAMES) >= 130


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is(name):
    definition = registry.definition(name)
    assert definition.name == registry.canonical(definition.name)
    assert re.search(r"\b(1[6-9]|20)\d\d\b", definition.source), definition.source
    assert definition.latex
    assert definition.doc.endswith(".")
    assert "\n" not in definition.doc
    assert "varphi.catalogue" in definition.function.__module__
    for alias in definition.aliases:
        assert registry.find(alias) is definition
    for parameter in definition.parameters:
        assert parameter.constraint.allows(parameter.default)


def test_names_and_aliases_are_unique():
    keys = [key for name in NAMES for key in (name, *registry.definition(name).aliases)]
    assert len(keys) == len(set(keys))


def test_all_of_torch_is_here():
    pointwise = {cls for cls in torch.nn.modules.activation.__all__} - {
        "GLU", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax"}  # fmt: skip
    covered = {registry.definition(name).torch for name in NAMES}
    assert pointwise <= covered
    assert "Identity" in covered


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_stays_nan(name, dtype):
    layer = get(name)
    x = torch.tensor([math.nan, 0.7] * 24, dtype=dtype)  # whole vectors of a kernel and its tail
    rows = layer.derivatives(x[:37], 2)
    assert torch.isnan(rows[0, ::2]).all()
    assert not torch.isnan(rows[:, 1::2]).any()
    assert torch.equal(torch.isnan(layer(x)), torch.isnan(x))
    formula = layer.definition.formula(layer.values)
    assert torch.equal(torch.isnan(by_operations(formula, x, layer.arguments())), torch.isnan(x))


@pytest.mark.parametrize("name", NAMES)
def test_limits(name):
    at_infinity = values_at(name, [-math.inf, math.inf])
    far = values_at(name, [-HUGE, HUGE])
    for side, limit, near in zip("-+", at_infinity, far, strict=True):
        assert math.isnan(limit) == (side in INDETERMINATE.get(name, "")), (side, limit)
        assert not math.isnan(near)
        if math.isinf(limit):
            assert abs(near) > 20, "unbounded, if only as a logarithm"
            assert math.copysign(1, limit) == math.copysign(1, near)
        elif not math.isnan(limit):
            assert near == pytest.approx(limit, rel=1e-12, abs=1e-25)


@pytest.mark.parametrize("name", NAMES)
def test_every_finite_float32_has_a_value(name):
    bits = torch.arange(0, 2**31, 1_000_003, dtype=torch.int64).to(torch.int32)
    x = bits.view(torch.float32)
    x = torch.cat([x, -x])
    x = x[torch.isfinite(x)]
    # An overflow to infinity is a value; NaN is not.
    assert not torch.isnan(get(name)(x)).any()


POINTS = [sign * size for size in
          (1e-300, 1e-40, 1e-20, 1e-9, 1e-6, 1e-4, 1.3e-2, 0.117, 0.371, 0.93, 1.2345, 2.456, 4.567, 7.89, 15.5, 37.2,
           87.1, 200.3, 650.0) for sign in (1, -1)]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_values_against_sixty_digits(name, exact):
    """Each value is right to rounding: of the result, and of the argument (x·f'(x), its conditioning)."""
    definition = registry.definition(name)
    layer = get(name)
    computed = {"kernel": values_at(name, POINTS)}
    formula = definition.formula(layer.values)
    computed["tensors"] = by_operations(formula, torch.tensor(POINTS, dtype=torch.float64), layer.arguments()).tolist()
    computed["floats"] = [float(definition.function(x)) for x in POINTS]
    delicate = DELICATE.get(name, lambda x: False)
    for i, x in enumerate(POINTS):
        if delicate(x):
            continue
        true = exact(definition, x)
        # With both one-sided slopes where a kink is nearer than the difference's step.
        slope = abs(mpmath.diff(lambda t: exact(definition, t), mpf(x), h=mpf(10) ** -25 * abs(x)))
        allowed = 300 * 2.0**-53 * (abs(true) + abs(x) * slope) + 1e-307
        for system, values in computed.items():
            if abs(true) > 1e308:
                assert values[i] == math.copysign(math.inf, true) or abs(values[i] / true - 1) < 1e-12, (system, x)
            else:
                assert abs(mpf(values[i]) - true) <= allowed, (system, x, values[i], true)


@pytest.mark.parametrize("name", DELICATE)
def test_the_delicate_ones_lose_only_relative_accuracy(name, exact):
    definition = registry.definition(name)
    for x, value in zip(POINTS, values_at(name, POINTS), strict=True):
        assert abs(mpf(value) - exact(definition, x)) <= 1e-15 * max(1, abs(x))


@settings(max_examples=20)
@given(x=st.floats(min_value=-1e6, max_value=1e6))
@pytest.mark.parametrize("name", NAMES)
def test_floats_and_tensors_agree(name, x):
    layer = get(name)
    formula = layer.definition.formula(layer.values)
    scalar = float(layer.definition.function(x))
    tensor = by_operations(formula, torch.tensor([x], dtype=torch.float64), layer.arguments()).item()
    nearby = abs(float(layer.definition.function(x * (1 + 1e-13))) - scalar)
    assert tensor == pytest.approx(scalar, rel=1e-12, abs=max(1e-15 * min(1, abs(x)), nearby, 1e-300))
