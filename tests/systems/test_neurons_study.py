"""The study of types of excitability: its trial against single membranes, a run from end to end, the example."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from varphi.study import api
from varphi.systems.neurons import excitability, special_points
from varphi.systems.neurons.study import STUDY
from varphi.systems.neurons.trial import FAMILIES, FAST_GATE, LOW, SLOW_GATE, shapes, trial

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "neurons.py"


def test_a_seed_is_the_same_shape_in_every_company():
    ranges = FAMILIES[SLOW_GATE].ranges
    alone, company = shapes(ranges, [7]), shapes(ranges, [3, 7])
    assert all(alone[name][0] == company[name][1] for name in ranges)
    many = shapes(ranges, range(300))
    for name, (low, high) in ranges.items():
        assert (
            low <= many[name].min() < low + 0.05 * (high - low)
            and high - 0.05 * (high - low) < many[name].max() <= high
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trial_finds_what_single_membranes_show(family):
    seeds = [1, 2, 5, 8]
    found = trial({"family": family}, seeds, [{}]).measures
    numbers = shapes(FAMILIES[family].ranges, seeds)
    for k in range(len(seeds)):
        alone = excitability(FAMILIES[family].model().with_({n: v[k] for n, v in numbers.items()}), threads=1)
        if alone.loss is None:
            assert np.isnan(found["saddle_node"][k])
            continue
        assert found["saddle_node"][k] == (alone.loss.kind == "fold")
        if np.isnan(found["fires"][k]):
            continue
        assert found["fires"][k] == (alone.type != "none")
        if alone.type == "I":
            assert found["onset"][k] == pytest.approx(0.2, abs=0.03) and found["exponent"][k] == pytest.approx(
                0.5, abs=0.03
            )
            assert found["below"][k] in (0, np.nan) and found["on_cycle"][k] == 1
        elif alone.type == "II":
            assert found["onset"][k] > LOW


def test_shifted_gates_without_a_shift_are_hodgkin_and_huxleys():
    found = special_points(FAMILIES["Hodgkin–Huxley, shifted"].model())
    assert [h.I for h in found.hopfs] == pytest.approx([9.775437995393, 154.522433665808], abs=1e-11)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    study = replace(
        STUDY, sizes={"smoke": replace(STUDY.size("smoke"), seeds=16, factors={"family": (SLOW_GATE, FAST_GATE)})}
    )
    return api.run(study, storage=tmp_path_factory.mktemp("tiny") / "s.db", size="smoke", progress=False)


def test_the_study_ends_with_a_verdict_on_every_claim(results):
    assert not results.missing and not results.failures and len(results.rows) == 2
    for claim, verdict in zip(STUDY.claims, results.verdicts, strict=True):
        assert "could not be judged" not in verdict.evidence, (claim.name, verdict.evidence)
    assert "arbitrarily low rates" in results.answer


def test_its_figure_is_drawn(results):
    for figure in STUDY.figures(results):
        figure.drawing.canvas.draw()
        assert "V3 (mV)" in figure.drawing.axes[0].get_xlabel()


def test_the_study_is_well_declared():
    assert "neurons" in api.names()
    assert STUDY.size("full").seeds >= 100 and set(STUDY.headline) <= set(STUDY.measures)


def test_the_example_runs(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out
    assert "complete: proved" in told and "type I (saddle-node on the cycle)" in told
