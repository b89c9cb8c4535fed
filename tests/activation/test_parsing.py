import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import varphi as vp
from varphi.activation.parsing import FormulaError, parse

POINTS = torch.linspace(-4.0, 4.0, 161, dtype=torch.float64)

MEANINGS = {
    "x*tanh(exp(x))": lambda x: x * torch.tanh(torch.exp(x)),
    "max(x, 0)": torch.relu,
    "max(x, 0, -x/2)": lambda x: torch.maximum(torch.relu(x), -x / 2),
    "x**2 / (1 + abs(x))": lambda x: x**2 / (1 + x.abs()),
    "x^2^0*3 - x^3": lambda x: 3 * x - x**3,
    "-x^2": lambda x: -(x**2),
    "where(x > 0, x, exp(x) - 1)": torch.nn.functional.elu,
    "where(x > 1 - x, 1, 0)": lambda x: (x > 0.5).double(),
    "pi*x + e": lambda x: math.pi * x + math.e,
    "clamp(x, -1, 1)": lambda x: x.clamp(-1, 1),
    "x*sigmoid(1.702*x)": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu(x) + x": lambda x: torch.nn.functional.gelu(x) + x,
    "leaky_relu(x, 0.2)": lambda x: torch.nn.functional.leaky_relu(x, 0.2),
    "leaky_relu(2*x, alpha=0.2)": lambda x: torch.nn.functional.leaky_relu(2 * x, 0.2),
    "softplus(x, beta=3)": lambda x: torch.nn.functional.softplus(x, 3.0),
    "x": lambda x: x,
    "-x": lambda x: -x,
    "  x \n + 1": lambda x: x + 1,
    "2**x": lambda x: 2**x,
    "1e30*x": lambda x: 1e30 * x,
    "10**25*x": lambda x: 1e25 * x,
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_formula_means_what_it_says(text):
    torch.testing.assert_close(vp.as_activation(text)(POINTS), MEANINGS[text](POINTS), rtol=1e-9, atol=1e-9)


def test_integers_and_fractions_stay_exact():
    assert repr(parse("x/3 + 1/3").expression()) == "x/3 + (1/3)"
    assert parse("2^-1*x").expression() is parse("1/2 * x").expression()


def test_the_catalogue_s_formula_is_the_catalogue_s_definition():
    assert parse("x*tanh(softplus(x))").expression() is vp.get("mish").definition.expression()


def test_a_formula_has_derivatives_of_every_order():
    rows = vp.derivatives("x^3", POINTS, 4)
    torch.testing.assert_close(rows, torch.stack([POINTS**3, 3 * POINTS**2, 6 * POINTS, 0 * POINTS + 6, 0 * POINTS]))


# The text, what the message says, and the columns under the caret.
REFUSALS = {
    "tanhh(x)": ("Did you mean tanh", (0, 5)),
    "x + relu_6(x)": ("no function 'relu_6'", (4, 10)),
    "x*y": ("unknown symbol 'y'", (2, 3)),
    "x^2 + yy*3^2": ("unknown symbol 'yy'", (6, 8)),
    "π*x + é": ("unknown symbol", (6, 7)),
    "x +": ("ends where", (3, 4)),
    "2x": ("product is written with", None),
    "x(2)": ("x is not a function", (0, 1)),
    "(x": ("never closed", (0, 1)),
    "x²": ("invalid character", (1, 2)),
    "": ("empty", None),
    "   ": ("empty", None),
    "pi": ("does not contain x", (0, 2)),
    "x + 10**10**10": ("too large", (4, 14)),
    "x*10**400": ("too large", (2, 9)),
    "1e999*x": ("inf", (0, 5)),
    "log(-1)*x": ("nan", (0, 7)),
    "x/(1 - 1) + 1/0": ("inf", (12, 15)),
    "lambda x: x": ("lambda", (0, 11)),
    "x if x > 0 else 0": ("where(condition, a, b)", (0, 17)),
    "(x:=3)": ("assigns", (1, 5)),
    "x.real": ("bare name", (0, 6)),
    "torch.tanh(x)": ("bare name", (0, 10)),
    "__import__('os').system('ls')": ("bare name", (0, 23)),
    "x and 1": ("nest where", (0, 7)),
    "not x": ("operators", (0, 5)),
    "x == 0": ("only as the condition", (0, 6)),
    "where(-1 < x < 1, x, 0)": ("chain", (6, 16)),
    "where(x, 1, 2)": ("must be a comparison", (6, 7)),
    "where(x in 2, x, 0)": ("conditions are written", (6, 12)),
    "where(x > 0, x)": ("takes 3 argument", (0, 15)),
    "True*x": ("True is not a real number", (0, 4)),
    "2j*x": ("2j", (0, 2)),
    "'a'*x": ("'a'", (0, 3)),
    "x//2": ("operators", (0, 4)),
    "x@x": ("operators", (0, 3)),
    "[x]": ("list", (0, 3)),
    "x, x": ("several", (0, 4)),
    "x[0]": ("no meaning", (0, 4)),
    "f'{x}'": ("text", (0, 6)),
    "max(*x, x)": ("no meaning", (4, 6)),
    "x # comment": ("comments", (2, 3)),
    "x; x": ("invalid syntax", (1, 2)),
    "gelu": ("gelu is a function", None),
    "x + gelu": ("gelu is a function", (4, 8)),
    "exp()": ("takes 1", (0, 5)),
    "exp(x=1)": ("keyword x", (0, 8)),
    "gelu(x)(x)": ("cannot be called", (0, 7)),
    "leaky_relu(x, beta=1)": ("leaky_relu takes x, alpha", (14, 20)),
    "leaky_relu(x, alpha=x)": ("must be a number", (20, 21)),
    "leaky_relu(x, 1, alpha=2)": ("each once", (17, 24)),
    "leaky_relu(x, 1, 2)": ("takes x, alpha", (17, 18)),
    "leaky_relu()": ("applied to nothing", (0, 12)),
    "softplus(x, beta=-1)": ("beta must be", (0, 20)),
}


@pytest.mark.parametrize("text", REFUSALS)
def test_the_refusal_quotes_the_text_and_points_at_the_place(text):
    said, columns = REFUSALS[text]
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert said in str(caught.value)
    if columns is not None:
        _, quoted, carets, *_ = str(caught.value).splitlines()
        assert quoted == "    " + text
        start, end = columns
        assert carets == "    " + " " * start + "^" * (end - start)


@pytest.mark.parametrize(
    "text",
    ["sin(" * 90 + "x" + ")" * 90, "(" * 300 + "x" + ")" * 300, "-" * 900 + "x", "+".join(["x"] * 400), "x" * 5000],
)
def test_absurdly_large_formulas_are_refused(text):
    with pytest.raises(FormulaError, match=r"deep|parenthes|characters"):
        parse(text)


def test_only_text_is_parsed():
    with pytest.raises(TypeError, match="float"):
        parse(3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gellu", "hard-swishh", "no such"])
def test_a_name_is_looked_up_not_parsed(name):
    with pytest.raises(LookupError, match="there is no activation"):
        vp.as_activation(name)


def test_a_parsed_activation_is_copied_and_pickled():
    layer = vp.as_activation("x*tanh(exp(x))")
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(POINTS), layer(POINTS))
        assert repr(twin) == repr(layer)
        assert twin.definition.expression() is layer.definition.expression()


PYTHON = {"tanh": math.tanh, "exp": math.exp, "abs": abs, "sigmoid": lambda v: 1 / (1 + math.exp(-v))} | {
    "softplus": lambda v: math.log1p(math.exp(v))
}
leaves = st.sampled_from(["x", "1", "0.5", "3"])
formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["tanh", "exp", "sigmoid", "abs", "softplus", "-"]), inner).map(
            "{0[0]}({0[1]})".format
        ),
        st.tuples(inner, st.sampled_from("+-*"), inner).map("({0[0]}{0[1]}{0[2]})".format),
    ),
    max_leaves=12,
)


@given(formulas, st.floats(-3, 3))
def test_a_formula_agrees_with_python_on_numbers(text, x):
    text = f"x*0 + {text}"
    try:
        expected = eval(text, {"x": x, **PYTHON})
    except OverflowError:
        return
    assert parse(text).function(x) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except FormulaError:
        return


@given(st.text(alphabet="x+-*/^(),.0123456789epi<>= where", max_size=25))
def test_any_near_formula_is_read_or_refused(text):
    try:
        definition = parse(text)
    except FormulaError:
        return
    definition.function(0.5)
