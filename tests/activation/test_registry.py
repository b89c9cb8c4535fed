"""Names, aliases, and what happens to a name that is unknown or taken."""

import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import varphi as vp
from varphi.activation import registry
from varphi.activation.constraint import NonNegative, Positive, PositiveInteger, Real, UnitInterval
from varphi.activation.definition import Definition
from varphi.activation.layer import Activation
from varphi.activation.registry import UnknownActivation, activation
from varphi.numbers import tanh


@pytest.fixture
def register(monkeypatch):
    """`activation`, its registrations forgotten after the test."""
    registry.names()
    monkeypatch.setattr(registry, "_DEFINITIONS", dict(registry._DEFINITIONS))
    monkeypatch.setattr(registry, "_ALIASES", dict(registry._ALIASES))
    return activation


def test_names_are_sorted_canonical_and_without_aliases():
    names = vp.names()
    assert names == sorted(set(names))
    assert all(registry.canonical(name) == name for name in names)
    assert "silu" in names and "hill" not in names


@given(st.sampled_from(vp.names()), st.sampled_from(["{}", " {} ", "{}\n"]), st.booleans(), st.sampled_from("_- "))
def test_a_name_in_any_spelling_is_found(name, frame, upper, separator):
    text = frame.format(name.upper() if upper else name).replace("_", separator)
    assert registry.definition(text).name == name


def test_every_alias_is_found_and_canonical():
    for name in vp.names():
        for alias in registry.definition(name).aliases:
            assert registry.canonical(alias) == alias
            assert registry.definition(alias).name == name


@pytest.mark.parametrize(
    "typo, meant", [("reul", "relu"), ("gellu", "gelu"), ("softpluss", "softplus"), ("hil", "hill")]
)
def test_typos_are_answered_with_the_nearest_names(typo, meant):
    with pytest.raises(UnknownActivation, match=rf"there is no activation '{typo}'. Did you mean .*'{meant}'"):
        registry.definition(typo)


def test_a_name_like_no_other_is_answered_with_where_to_look():
    with pytest.raises(UnknownActivation, match=r"no activation 'zzzzqqq'. `varphi list` shows all names"):
        registry.definition("zzzzqqq")
    assert registry.find("zzzzqqq") is None
    assert issubclass(UnknownActivation, LookupError)


def test_a_registered_function_is_found_and_stays_callable(register):
    @register(latex="x", source="test, 2020", aliases=("tanh_twice",))
    def double_tanh_(x, gain: Positive = 2.0):
        """Twice.

        Over two lines.
        """
        return gain * tanh(x)

    found = registry.definition("double tanh")
    assert found is registry.definition("TANH-TWICE")
    assert registry.is_registered(found)
    assert double_tanh_(0.5) == pytest.approx(2 * torch.tanh(torch.tensor(0.5, dtype=torch.float64)).item())
    assert "double_tanh" in vp.names() and "tanh_twice" not in vp.names()
    assert vp.get("double_tanh", gain=3)(torch.zeros(2)).tolist() == [0, 0]
    assert pickle.loads(pickle.dumps(found)) is found


@pytest.mark.parametrize("taken", ["relu", "hill"], ids=["a name", "an alias"])
def test_names_already_taken_are_refused_and_nothing_is_kept(register, taken):
    before = dict(registry._DEFINITIONS), dict(registry._ALIASES)
    with pytest.raises(ValueError, match=f"the activation name '{taken}' is already taken"):
        register(latex="x", source="test, 2020", name=taken)(lambda x: x)
    with pytest.raises(ValueError, match=f"'{taken}' is already taken"):
        register(latex="x", source="test, 2020", name="brand_new", aliases=("brand_new_too", taken))(lambda x: x)
    assert before == (registry._DEFINITIONS, registry._ALIASES)


def test_a_name_that_could_not_be_looked_up_is_refused(register):
    for kwargs in ({"name": "My-Name"}, {"name": "fine", "aliases": ("Not Fine",)}):
        with pytest.raises(ValueError, match="lower case"):
            register(latex="x", source="test, 2020", **kwargs)(lambda x: x)


def test_a_name_twice_in_one_definition_is_refused(register):
    with pytest.raises(ValueError, match="'again' is already taken"):
        register(latex="x", source="test, 2020", name="again", aliases=("again",))(lambda x: x)


def test_a_parameter_without_a_default_is_refused():
    with pytest.raises(TypeError, match="odd: parameter 'beta' needs a default value"):
        Definition(name="odd", function=lambda x, beta: beta * x).parameters  # noqa: B018


def tilted(x, a: Real = 0.5, b: Positive = 1.0, c: NonNegative = 0.0, d: UnitInterval = 1.0, n: PositiveInteger = 2):
    return a * x**n + b + c + d


NAN = float("nan")
# fmt: off
ALLOWED = {"a": [-1e300, 0, 3], "b": [1e-300, 1, 1e300], "c": [0, 1], "d": [0, 0.3, 1], "n": [1, 2.0, 7]}
REFUSED = {"a": [NAN, True], "b": [0, -1, float("inf")], "c": [-1e-9, NAN], "d": [-0.1, 1.1], "n": [0, 1.5, -2, True]}
# fmt: on


def test_constraints():
    definition = Definition(name="tilted", function=tilted)
    assert [p.name for p in definition.parameters] == list("abcdn")
    for name, values in ALLOWED.items():
        for value in values:
            assert definition.values({name: value})[name] == value
    for name, values in REFUSED.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"tilted: {name} must be .*, got {value!r}"):
                definition.values({name: value})
    texts = [str(p.constraint) for p in definition.parameters]
    assert texts == [
        "a finite number",
        "a finite number > 0",
        "a finite number >= 0",
        "a finite number >= 0 and <= 1",
        "a whole number >= 1",
    ]


def test_a_function_of_ones_own_becomes_a_layer():
    layer = Activation(Definition(name="tilted", function=tilted), {"n": 3}, learn=["a", "b"])
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(layer.double()(x), 0.5 * x**3 + 2, rtol=1e-12, atol=0)
    assert repr(layer) == "tilted(a=0.5, b=1, c=0, d=1, n=3, learn=('a', 'b',))"


def test_the_catalogue_is_loaded_at_the_first_look_up():
    code = (
        "import sys; from varphi.activation import registry; assert 'varphi.catalogue' not in sys.modules;"
        "assert registry.find('relu').name == 'relu'; assert 'varphi.catalogue' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
