"""Code that gives other numbers has another key; a comment has not."""

import functools
import importlib
import sys

import pytest
import torch
from torch import nn

from varphi.comparison.fingerprint import fingerprint

MODULE = """
import torch
import neighbour_x

FACTOR = 1.0

def fit(model):
    return FACTOR * neighbour_x.value()
"""
NEIGHBOUR = "def value():\n    return 1.0\n"


def test_a_file_and_those_that_it_imports_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def key(module, neighbour):
        (tmp_path / "own_code.py").write_text(module)
        (tmp_path / "neighbour_x.py").write_text(neighbour)
        for name in ("own_code", "neighbour_x"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return fingerprint(importlib.import_module("own_code").fit)

    first = key(MODULE, NEIGHBOUR)
    assert key("# a comment\n" + MODULE.replace("1.0", "1.0  # one"), NEIGHBOUR) == first
    assert key(MODULE.replace("1.0", "2.0"), NEIGHBOUR) != first
    assert key(MODULE, NEIGHBOUR.replace("1.0", "2.0")) != first
    assert key(MODULE, NEIGHBOUR) == first


def scaled(model, factor=1.0):
    return factor


def test_what_a_function_holds_counts():
    def closed(value):
        return lambda model: value

    first, second = lambda model: 1.0, lambda model: 2.0
    assert fingerprint(first) != fingerprint(second)

    assert fingerprint(closed(1.0)) == fingerprint(closed(1.0)) != fingerprint(closed(2.0))
    data = torch.arange(6.0)
    assert fingerprint(closed(data)) == fingerprint(closed(data.clone())) != fingerprint(closed(data + 1))
    keys = {fingerprint(functools.partial(scaled, factor=factor)) for factor in (1.0, 2.0, 1.0)}
    assert len(keys) == 2 and fingerprint(scaled) not in keys
    assert fingerprint(closed(scaled)) != fingerprint(closed(closed))


class Transforms:
    def __init__(self, *steps):
        self.steps = steps


def test_functions_inside_objects_and_functions_that_hold_themselves_count():
    def holding(steps):
        def again(model):
            return again(steps)

        return again

    two, three = Transforms(lambda x: 2 * x), Transforms(lambda x: 3 * x)
    assert fingerprint(holding(two)) == fingerprint(holding(Transforms(lambda x: 2 * x)))
    assert fingerprint(holding(two)) != fingerprint(holding(three))
    assert fingerprint(holding(torch.zeros(0))) != fingerprint(holding(torch.zeros(2, 0)))
    assert fingerprint(holding(torch.ones(2))) != fingerprint(holding(torch.ones(2, dtype=torch.float64)))


def test_what_cannot_be_written_down_is_refused():
    lines = (line for line in "abc")
    with pytest.raises(ValueError, match=r"cannot be written down.*generator"):
        fingerprint(lambda model: next(lines))


def test_of_a_module_the_structure_counts_and_not_the_weights():
    def made(width, p=0.1):
        return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, 1))

    assert fingerprint(made(3)) == fingerprint(made(3)) != fingerprint(made(4))
    assert fingerprint(made(3, 0.2)) != fingerprint(made(3))
    other = made(3)
    other.register_buffer("mean", torch.zeros(2))
    assert fingerprint(other) != fingerprint(made(3))
