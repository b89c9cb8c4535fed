"""The catalogue's pages, generated from the definitions."""

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.mathtext import MathTextParser

from varphi.activation import registry

SCRIPT = Path(__file__).parents[2] / "docs" / "generate_catalogue.py"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_catalogue", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", registry.names())
def test_formula_can_be_drawn(name):
    latex = registry.definition(name).latex.replace(r"\tfrac", r"\frac")
    assert MathTextParser("path").parse(f"${latex}$").width > 0


def test_every_definition_has_its_section(generator):
    families = generator.families()
    assert sorted(d.name for listed in families.values() for d in listed) == registry.names()
    text = generator.page("shrinkage", families["shrinkage"])
    for definition in families["shrinkage"]:
        assert f"{{ #{definition.name} }}" in text
        assert definition.doc in text
        assert generator.escaped(definition.source) in text
    assert "torch.nn.Softshrink" in text


@pytest.mark.parametrize("name", ["gelu", "relu", "heaviside", "hh_alpha_n"])
def test_drawings_are_well_formed(generator, name):
    definition = registry.definition(name)
    figure = ElementTree.fromstring(generator.drawing(definition))
    assert len(list(figure.iter("{http://www.w3.org/2000/svg}path"))) > 3
    inline = generator.formula(definition)
    ElementTree.fromstring(inline)
    assert "currentColor" in inline
    assert "\n" not in inline
