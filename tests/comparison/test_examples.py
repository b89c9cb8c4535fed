"""The examples run, on real images, at a small size."""

import functools
import importlib
from pathlib import Path

import pytest

import varphi as vp

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(("name", "model"), [("compare_digits", "build"), ("compare_mnist_cnn", "Net")])
def test_the_example_learns_with_every_activation(monkeypatch, tmp_path, name, model):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module(name)
    found = vp.compare(
        getattr(example, model),
        functools.partial(example.fit, epochs=2),
        ["tanh"],
        seeds=2,
        measure=("accuracy", "loss"),
        best="highest",
        storage=tmp_path / "trials.db",
        progress=False,
    )
    assert found.finished == ("relu", "tanh") and len(found.places) == 3
    assert min(found.values("relu").min(), found.values("tanh").min()) > 0.5  # of ten classes
    assert all(layer.gradient.start > 0 and layer.units > 0 for layer in found.health)
    assert "Gradient norm in every layer" in found.report(tmp_path / "page.html").read_text("utf-8")
