"""The bar of long work: on a terminal, after two seconds, and nowhere else."""

import io

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

import varphi as vp
from varphi import cli, progress
from varphi.bounds import certified_radius
from varphi.bounds.splitting import split


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a bar draws, at once rather than after two seconds."""
    drawn = io.StringIO()
    monkeypatch.setattr(progress, "_QUIET", -1.0)
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=drawn, force_terminal=True, width=200))
    return drawn


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2)).eval()


def margins(x: torch.Tensor) -> torch.Tensor:
    """(batch, 1, 2): the larger output less the other."""
    with torch.no_grad():
        first = model()(x) @ torch.tensor([1.0, -1.0]) > 0
    return torch.where(first.view(-1, 1, 1), torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0]))


def test_quick_work_draws_nothing(terminal, monkeypatch):
    monkeypatch.setattr(progress, "_QUIET", 1000.0)
    with progress.bar("quick") as moved:
        moved(0.5)
    assert terminal.getvalue() == ""


def test_a_bar_that_is_not_wanted_or_has_no_terminal_draws_nothing(terminal, monkeypatch):
    with progress.bar("unwanted", False) as moved:
        moved(0.5)
    file = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=file, force_terminal=False))
    with progress.bar("to a file") as moved:
        moved(0.5)
    assert terminal.getvalue() == file.getvalue() == ""


def test_a_bar_goes_on_after_a_pause(terminal):
    with progress.bar("long", True) as moved:
        moved(0.25, "first")
        moved.pause()
        before = len(terminal.getvalue())
        moved(0.75, "second [not markup]")
    assert "first" in terminal.getvalue()[:before]
    assert "second [not markup]" in terminal.getvalue()[before:]


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize(
    ("words", "work"),
    [
        ("splitting", lambda x, p: split(model(), x, 0.5, timeout=0.3, progress=p)),
        ("splitting", lambda x, p: vp.bounds(model(), x, 0.5, method="crown-split", timeout=0.3, progress=p)),
        ("slopes", lambda x, p: vp.bounds(model(), x, 0.5, method="alpha-crown", optimise=3, progress=p)),
        ("radii of 2", lambda x, p: certified_radius(model(), x, margins(x), tol=0.1, progress=p)),
    ],
    ids=["split", "crown-split", "alpha-crown", "certified_radius"],
)
def test_long_work_on_bounds_shows_how_far_it_is(words, work, shown, terminal):
    torch.manual_seed(1)
    work(torch.randn(2, 3), shown)
    assert (words in terminal.getvalue()) == shown


def test_the_share_of_a_bisection_only_grows(monkeypatch):
    shares = []

    class Recorder(progress.Bar):
        def __call__(self, share: float, note: str = "") -> None:
            shares.append(share)

    monkeypatch.setattr(progress, "Bar", Recorder)
    torch.manual_seed(1)
    x = torch.randn(4, 3)
    certified_radius(model(), x, margins(x), tol=1e-3)
    assert shares == sorted(shares)
    assert len(shares) > 8
    assert 0 <= shares[0] < 0.1
    assert 0.8 < shares[-1] <= 1


def test_a_list_of_instances_shows_a_bar(terminal, tmp_path):
    weight = numpy_helper.from_array(np.array([[1.0]], np.float32), "w")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 1)) for n in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Abs", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "net.onnx")
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= Y_0 2))"
    for name in "ab":
        (tmp_path / f"{name}.vnnlib").write_text(text)
    (tmp_path / "instances.csv").write_text("net.onnx,a.vnnlib,9\nnet.onnx,b.vnnlib,9\n")
    words = ["verify", "--instances", str(tmp_path / "instances.csv")]
    result = CliRunner().invoke(cli.app, words, prog_name="varphi", catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.count("unsat") == 3
    drawn = terminal.getvalue()
    assert "verifying 2 instances" in drawn
    assert "2/2 net.onnx" in drawn
