"""Portraits: what is drawn is what is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

import varphi as vp
from varphi.report import figure

MARKS = figure.Marks(kinks=[0.0], jumps=((), (0.0,), (0.0,)), levels=[(0.0, "0, attained")], slopes=[(1.0, "1")])


def test_a_portrait_has_the_function_and_two_derivatives() -> None:
    drawing = figure.portrait(vp.get("silu"), "silu", -3, 3)
    for k, axes in enumerate(drawing.axes):
        x, y = axes.lines[0].get_data()
        expected = vp.derivatives("silu", torch.tensor(np.asarray(x)), 2)[k].numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)
    assert drawing.axes[0].get_title(loc="left") == "silu"


@pytest.mark.parametrize(("lower", "upper"), [(-1, 1), (-1, 2.3)])
def test_no_line_joins_the_sides_of_a_jump(lower: float, upper: float) -> None:
    slope = figure.portrait(vp.get("relu"), "relu", lower, upper, MARKS).axes[1].lines[0].get_data()[1]
    gap = int(np.flatnonzero(np.isnan(slope))[0])
    assert np.isnan(slope).sum() == 1
    assert set(slope[:gap]) == {0.0}
    assert set(slope[gap + 1 :]) == {1.0}


@pytest.mark.parametrize("ending", figure.FORMATS)
def test_equal_figures_give_equal_files(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    for path in (first, second):
        figure.save(figure.portrait(vp.get("relu"), "relu  max(0, x)", -2, 2, MARKS), path)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 1000


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a figure ends in \.svg, \.png, \.pdf"):
        figure.save(figure.portrait(vp.get("relu"), "relu", -2, 2), tmp_path / "figure.bmp")
