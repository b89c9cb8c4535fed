"""Branches of cycles and curves of their folds beside AUTO-07p itself (an oracle, not a dependency)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from varphi.dynamics.curves import continue_curve
from varphi.systems.neurons import equilibria, load, special_points
from varphi.systems.neurons.excitability import cycle_branch

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    """A module of `benchmarks/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def auto() -> ModuleType:
    found = script("auto07p")
    if told := found.missing():
        pytest.skip(told)
    return found


@pytest.mark.nightly
def test_folds_of_cycles_are_those_of_auto(auto: ModuleType, tmp_path: Path) -> None:
    program = auto.Program(*auto.HODGKIN_HUXLEY, tmp_path)
    theirs = [v[0] for v in program.cycles(program.run(), folds=3, intervals=150).of("fold of cycles")]
    model = load("hodgkin-huxley")
    ours = [f.parameter for f in cycle_branch(model, special_points(model).hopfs[0]).folds]
    assert len(theirs) == 3 and ours == pytest.approx(theirs, abs=1e-8)


@pytest.mark.nightly
@pytest.mark.parametrize("v3", [0.0, 1.0, 3.0, 4.0])
def test_a_curve_of_folds_of_cycles_passes_those_of_auto(auto: ModuleType, tmp_path: Path, v3: float) -> None:
    rest = equilibria(load("morris-lecar", "class 2").with_(V3=v3), 0.0).found[0]
    program = auto.Program(*auto.morris_lecar(v3, 30.0, 0.04, 4.4, list(rest.state.values())), tmp_path)
    theirs = program.cycles(program.run(), folds=2, intervals=200, steps=1.0).of("fold of cycles")
    model = load("morris-lecar", "class 2")
    branch = cycle_branch(model, special_points(model).hopfs[0])
    assert len(theirs) == len(branch.folds) == 2
    for fold, (current, *_, period) in zip(
        sorted(branch.folds, key=lambda f: f.parameter), sorted(theirs), strict=True
    ):
        curve = continue_curve(
            model.system(),
            fold,
            ("I", "V3"),
            {"I": (0.0, 400.0), "V3": (-1.0, 4.5)},
            largest_step=0.02,
            most_points=900,
        )
        i, p = curve.values.T
        near = np.argsort(np.abs(p - v3))[:5]
        assert np.polyval(np.polyfit(p[near] - v3, i[near], 4), 0.0) == pytest.approx(current, abs=1e-6)
        assert np.polyval(np.polyfit(p[near] - v3, curve.periods[near], 4), 0.0) == pytest.approx(period, rel=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["class 1", "homoclinic"])
def test_the_class_of_random_membranes_is_that_of_full_continuation(name: str) -> None:
    maps = script("neurons_map")
    found, _ = maps.made(name, 100)
    rows = maps.check(found, 50, seed=1)
    assert [r for r in rows if r[2] != r[3]] == []
    assert max(r[4] for r in rows if np.isfinite(r[4])) < 1e-9
