"""Answers to properties: known ones, and random ones against samples; counterexamples run again."""

import gzip
import itertools
import time

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.bounds import Answer, UncertifiedOperation, attack, verify
from varphi.bounds.deadline import OutOfTime, until
from varphi.bounds.onnx import read_onnx
from varphi.bounds.verification import Verification, with_inputs
from varphi.bounds.vnncomp import Benchmark, counterexample_text, read_instances, result_text
from varphi.bounds.vnnlib import parse_vnnlib

from .graphs import chain, graph, node, run, saved


def asked(inputs: int, outputs: int, box: str, unsafe: str) -> str:
    """A property of version 1; the box as "low high, low high"."""
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{i}" for i in range(outputs)]
    ends = [pair.split() for pair in box.split(",")]
    return "".join(
        [
            *(f"(declare-const {n} Real)\n" for n in names),
            *(f"(assert (>= X_{i} {low}))(assert (<= X_{i} {high}))\n" for i, (low, high) in enumerate(ends)),
            f"(assert {unsafe})",
        ]
    )


def answered(model, text: str, path, **options) -> Answer:
    """The answer; a counterexample has been run again here, by onnxruntime, and meets the property."""
    read, wanted = read_onnx(saved(model, path / "m.onnx")), parse_vnnlib(text)
    answer = verify(read, wanted, **{"timeout": 120, **options})
    if answer.counterexample is not None:
        x, y = answer.counterexample.inputs, answer.counterexample.outputs
        np.testing.assert_array_equal(run(model, x.reshape(read.onnx_shape)).ravel(), y)
        corners = [c.corners() for c in wanted.cases]
        inside = [
            bool((np.nextafter(low, -np.inf) - 1e-7 <= x).all() and (x <= high + 1e-7).all()) for low, high in corners
        ]
        assert any(
            fits and any(all(c.met(x.tolist(), y.tolist()) for c in part) for part in case.unsafe)
            for fits, case in zip(inside, wanted.cases, strict=True)
        )
    return answer


F = np.float32
# |x|, written with two rectifiers.
ABS = graph(
    [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("ReduceSum", "r a")],
    (1, 1),
    {"w": np.array([[1, -1]], F), "a": np.array([1])},
)


def tent(at: float, half: float) -> onnx.ModelProto:
    """A tent of height and half-width `half` over the first of two inputs, 0 elsewhere, where no gradient shows it."""
    return graph(
        [node("MatMul", "x w", "h"), node("Add", "h b", "k"), node("Relu", "k", "r"), node("MatMul", "r v")],
        (1, 2),
        {
            "w": np.array([[1, 1, 1], [0, 0, 0]], F),
            "b": np.array([half - at, -at, -half - at], F),
            "v": np.array([[1], [-2], [1]], F),
        },
    )


TENT, NARROW = tent(0.5, 0.01), tent(0.377, 0.001)


@pytest.mark.parametrize(
    ("model", "box", "unsafe", "wanted"),
    [
        (ABS, "-1 1", "(<= Y_0 -0.001)", {"unsat"}),
        (ABS, "-1 1", "(>= Y_0 1.001)", {"unsat"}),
        (ABS, "-1 1", "(>= Y_0 1)", {"sat"}),  # equality at two corners
        (ABS, "-1 1", "(> Y_0 1)", {"timeout", "unknown"}),  # the same without it: no margin to prove
        (ABS, "-1 1", "(<= Y_0 0)", {"sat"}),  # equality at the centre
        (ABS, "-1 2", "(<= Y_0 0)", {"sat", "timeout"}),  # at one point
        (ABS, "-1 2", "(<= Y_0 -1e-4)", {"unsat"}),
        (ABS, "-1 2", "(and (<= Y_0 0.5) (>= Y_0 0.6))", {"unsat", "timeout"}),  # empty, but not linear
        (ABS, "0.25 0.25", "(>= Y_0 0.25)", {"sat"}),
        (ABS, "0.1 0.1", "(>= Y_0 0.09)", {"sat"}),  # no float32 is 0.1
        (ABS, "0.1 0.1", "(>= Y_0 0.11)", {"unsat"}),
        (ABS, "0.1 0.2", "(or (<= Y_0 0.05) (>= Y_0 0.25))", {"unsat"}),
        (ABS, "-1 1", "(or (and (<= X_0 -0.5) (<= Y_0 0.4)) (and (>= X_0 0.5) (<= Y_0 0.55)))", {"sat"}),
        (ABS, "-1 1", "(or (and (<= X_0 -0.5) (<= Y_0 0.4)) (and (>= X_0 0.5) (<= Y_0 0.45)))", {"unsat"}),
        (ABS, "-1 1", "(<= Y_0 (- X_0 0.01))", {"unsat"}),  # inputs and outputs together
        (ABS, "-1 1", "(and (<= Y_0 (- X_0)) (<= X_0 -0.5))", {"sat"}),
        (ABS, "-1 1", "(<= X_0 0)", {"sat"}),  # nothing is asked of the outputs
        (ABS, "-1 1", "(>= (* 0.1234567 Y_0) 0.1234)", {"sat"}),
        (TENT, "0 1, -1 1", "(>= Y_0 0.005)", {"sat"}),  # hidden in a hundredth of the box
        (TENT, "0 1, -1 1", "(>= Y_0 0.0101)", {"unsat"}),
        (NARROW, "0 1, -1 1", "(>= Y_0 0.0005)", {"sat"}),  # in a thousandth
        (NARROW, "0 1, -1 1", "(>= Y_0 0.00101)", {"unsat"}),
        (TENT, "0 1, -1 1", "(<= Y_0 -0.0001)", {"unsat"}),
    ],
)
def test_a_known_answer(model, box, unsafe, wanted, tmp_path):
    inputs = box.count(",") + 1
    timeout = 120 if len(wanted) == 1 else 0.5
    assert answered(model, asked(inputs, 1, box, unsafe), tmp_path, timeout=timeout).result in wanted


def test_what_only_rounding_violates_is_no_counterexample(tmp_path):
    """x·1 + 2·10⁷ - 2·10⁷ is 0 in float32 for small x, and x exactly."""
    absorbing = graph(
        [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v")],
        (1, 2),
        {"w": np.array([[1, 0], [2e7, 2e7]], F), "v": np.array([[1], [-1]], F)},
    )
    answer = answered(absorbing, asked(2, 1, "0.1 0.2, 1 1", "(<= Y_0 0.05)"), tmp_path)
    assert answer.result == "unknown"
    assert answer.counterexample is None
    assert "only by the rounding" in answer.reason


def test_the_counterexample_is_pushed_beyond_rounding(tmp_path):
    """The first violation that a search meets may be too shallow to hold in float64; a deeper one is looked for."""
    torch.manual_seed(0)
    model = chain(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)), 4)
    read = read_onnx(saved(model, tmp_path / "m.onnx"))
    wanted = parse_vnnlib(asked(4, 1, ", ".join(["-1 1"] * 4), "(<= Y_0 0)"))
    asking = Verification(read, wanted, 1e9, None, 0, None)
    verdict = asking._decide(wanted.cases[0], 10)
    assert verdict.status == "violated"
    shallow = asking._confirmed(verdict, wanted.cases[0])
    assert shallow is not None
    exact = asking.checker.exact
    asking.checker.exact = lambda x: exact(x) + (1.0 if np.array_equal(x, shallow.inputs) else 0.0)
    deeper = asking._confirmed(verdict, wanted.cases[0])
    assert deeper is not None
    assert deeper.outputs[0] <= shallow.outputs[0]
    assert not np.array_equal(deeper.inputs, shallow.inputs)


def test_float64_where_float32_cannot_hold_the_coefficients(tmp_path):
    text = asked(1, 1, "-1 1", "(<= (+ (* 0.1234567891 Y_0) (* 0.3 X_0)) -5)")
    answer = answered(ABS, text, tmp_path)
    assert (answer.result, answer.arithmetic) == ("unsat", "float64")
    assert answered(ABS, asked(1, 1, "-1 1", "(<= (* 0.1234567891 Y_0) -5)"), tmp_path).arithmetic == "sound32"
    with pytest.raises(ValueError, match="use arithmetic='float64'"):
        answered(ABS, text, tmp_path, arithmetic="sound32")
    with pytest.raises(ValueError, match="no floats hold exactly"):
        answered(ABS, text.replace("0.1234567891", "0.12345678901234567891"), tmp_path)


def test_version_2(tmp_path):
    text = """(vnnlib-version <2.0>)
    (declare-network f (declare-input A float32 [1,1]) (declare-output B float32 [1,1]))
    (assert (>= A[0,0] -1))(assert (<= A[0,0] 1))(assert (>= B[0,0] 0.75))"""
    answer = answered(ABS, text, tmp_path)
    assert answer.counterexample is not None
    lines = result_text(answer, parse_vnnlib(text)).splitlines()
    assert [lines[0], lines[1], lines[3]] == ["sat", "A float32 [1,1]", "B float32 [1,1]"]
    assert float(lines[4]) == abs(float(lines[2])) >= 0.75
    with pytest.raises(ValueError, match="declares A of float64 and the model is of float32"):
        answered(ABS, text.replace("A float32", "A float64"), tmp_path)


def test_the_result_has_vnn_comps_form(tmp_path):
    text = asked(1, 1, "0.5 0.5", "(>= Y_0 0.5)")
    answer = answered(ABS, text, tmp_path)
    assert answer.counterexample is not None
    assert result_text(answer, parse_vnnlib(text)) == "sat\n((X_0 0.5)\n(Y_0 0.5))\n"
    safe = asked(1, 1, "0.5 0.5", "(>= Y_0 0.6)")
    assert result_text(answered(ABS, safe, tmp_path), parse_vnnlib(safe)) == "unsat\n"


def test_another_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the property is of 2 inputs and the model has 1"):
        answered(ABS, asked(2, 1, "0 1, 0 1", "(<= Y_0 0)"), tmp_path)
    with pytest.raises(ValueError, match="the property is of 3 outputs and the model has 1"):
        answered(ABS, asked(1, 3, "0 1", "(<= Y_0 0)"), tmp_path)
    with pytest.raises(ValueError, match="timeout must be"):
        answered(ABS, asked(1, 1, "0 1", "(<= Y_0 0)"), tmp_path, timeout=0)
    with pytest.raises(UncertifiedOperation, match=r"the_floor \(Floor\)"):
        answered(graph([node("Floor")], (1, 1)), asked(1, 1, "0 1", "(<= Y_0 -1)"), tmp_path)


def test_a_model_that_was_read_wrongly_is_not_verified(tmp_path):
    """Whatever the reader got wrong, onnxruntime tells: here a weight that is changed after reading."""
    read = read_onnx(saved(ABS, tmp_path / "m.onnx"))
    next(read.model.parameters()).data[0, 0] = 1.5
    with pytest.raises(UncertifiedOperation, match="other outputs than onnxruntime"):
        verify(read, parse_vnnlib(asked(1, 1, "0.5 1", "(<= Y_0 -1)")))


def test_without_onnxruntime_the_torch_model_checks(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    read = read_onnx(saved(ABS, tmp_path / "m.onnx"))
    answer = verify(read, parse_vnnlib(asked(1, 1, "-1 1", "(>= Y_0 0.5)")), timeout=100)
    assert answer.counterexample is not None
    assert answer.counterexample.checked.startswith("torch")


def test_a_deadline_stops_a_pass_and_an_attack(tmp_path):
    model, x = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).eval(), torch.zeros(1, 2)
    for work in (lambda: vp.bounds(model, x, 0.1), lambda: attack(model, x, 0.1)):
        with pytest.raises(OutOfTime), until(time.monotonic() - 1):
            work()
        work()  # and no longer than the block
    assert answered(ABS, asked(1, 1, "-1 1", "(<= Y_0 -1)"), tmp_path, timeout=1e-6).result == "timeout"


def test_a_model_that_gives_its_inputs_too():
    loaded = with_inputs(torch.fx.symbolic_trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))))
    x = torch.randn(3, 2, 2)
    assert loaded(x).shape == (3, 6)
    assert torch.equal(loaded(x)[:, 2:], x.flatten(1))


# Random networks ------------------------------------------------------------------------------------------------------


def random_network(seed: int, activation: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 6), activation(), nn.Linear(6, 5), activation(), nn.Linear(5, 2))
    for p in model.parameters():
        nn.init.normal_(p, std=0.8)
    return model.eval()


def grid(low: float, high: float, count: int) -> torch.Tensor:
    ticks = torch.linspace(low, high, count, dtype=torch.float64)
    return torch.tensor(list(itertools.product(ticks.tolist(), repeat=2)), dtype=torch.float64)


def check_random(seed: int, activation: type[nn.Module], share: float, path, count: int, timeout: float) -> str:
    """A property whose threshold lies near the least value that samples see; `share` beyond it, of their range."""
    model = random_network(seed, activation)
    generator = np.random.default_rng(seed)
    a, b = (round(float(v), 3) for v in generator.normal(size=2))
    with torch.no_grad():
        y = model.double()(grid(-1, 1, count))
        value = a * y[:, 0] + b * y[:, 1]
        other = y[:, 0] - y[:, 1]
    model.float()
    limit = round(float(value.min() - share * (value.max() - value.min())), 6)
    second = round(float(other.median()), 6)
    combination = f"(+ (* {a} Y_0) (* {b} Y_1))"
    text = asked(2, 2, "-1 1, -1 1", f"(or (<= {combination} {limit}) (and (<= {combination} {limit + 0.01}) "
                 f"(>= (- Y_0 Y_1) {second})))")  # fmt: skip
    answer = answered(chain(model, 2), text, path, timeout=timeout)
    violated = (value <= limit) | ((value <= limit + 0.01) & (other >= second))
    assert not (answer.result == "unsat" and bool(violated.any()))
    return answer.result


@settings(max_examples=14)
@given(
    seed=st.integers(0, 2**20),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU]),
    share=st.sampled_from([-0.01, -1e-4, 0.001, 0.02, 0.3]),
)
def test_no_sample_contradicts_a_proof(tmp_path_factory, seed, activation, share):
    check_random(seed, activation, share, tmp_path_factory.mktemp("m"), 61, 0.4)


@pytest.mark.nightly
@settings(max_examples=400)
@given(
    seed=st.integers(0, 2**30),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.Softplus]),
    share=st.floats(-0.02, 0.1),
)
def test_no_sample_contradicts_any_of_many_proofs(tmp_path_factory, seed, activation, share):
    check_random(seed, activation, share, tmp_path_factory.mktemp("m"), 401, 2.0)


def test_most_random_properties_are_decided(tmp_path):
    found = [check_random(seed, nn.ReLU, share, tmp_path, 41, 30.0) for seed in range(3) for share in (-0.02, 0.05)]
    assert found.count("sat") >= 3
    assert found.count("unsat") >= 2


# Lists of instances ---------------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "abs.onnx.gz").write_bytes(gzip.compress(ABS.SerializeToString()))
    for name, unsafe in (("safe", "(<= Y_0 -1)"), ("unsafe", "(>= Y_0 0.5)"), ("wrong", "(<= Y_1 0)")):
        (folder / f"{name}.vnnlib").write_text(asked(1, 1, "-1 1", unsafe))
    rows = [f"abs.onnx,{name}.vnnlib,100" for name in ("safe", "unsafe", "wrong")]
    (folder / "instances.csv").write_text("\n".join(rows) + "\n\n")
    return folder


def test_a_list_is_run_and_goes_on_where_it_stopped(benchmark):
    results = benchmark / "out.csv"
    first = Benchmark(benchmark / "instances.csv", results, None)
    turn = first.run()
    assert next(turn).result == "unsat"
    turn.close()
    kept = results.read_text()
    assert kept.startswith("tiny,abs.onnx,safe.vnnlib,")
    assert ",unsat," in kept
    second = Benchmark(benchmark / "instances.csv", results, 60.0)
    assert [(f.result, f.instance.timeout) for f in second.run()] == [("sat", 60.0), ("error", 60.0)]
    assert "Y_1 is not declared" in second.done["abs.onnx", "wrong.vnnlib"].reason
    assert results.read_text().startswith(kept)
    assert len(results.read_text().splitlines()) == 3
    packed = gzip.decompress((benchmark / "abs_unsafe.counterexample.gz").read_bytes()).decode()
    assert packed.startswith("((X_0 ")
    # An error is tried again, for instance once the file is mended.
    (benchmark / "wrong.vnnlib").write_text(asked(1, 1, "-1 1", "(>= Y_0 3)"))
    third = Benchmark(benchmark / "instances.csv", results, None)
    assert [f.result for f in third.run()] == ["unsat"]


def test_lists_and_results_of_another_kind_are_refused(benchmark):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_instances(benchmark / "none.csv")
    for text in ("a.onnx,b.vnnlib\n", "a.onnx,b.vnnlib,soon\n", "a.onnx,b.vnnlib,-1\n", "a.onnx,b.vnnlib,nan\n"):
        (benchmark / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match=r"line 1: an instance is MODEL\.onnx,PROPERTY\.vnnlib,SECONDS"):
            read_instances(benchmark / "bad.csv")
    (benchmark / "bad.csv").write_text("")
    with pytest.raises(ValueError, match="lists no instances"):
        read_instances(benchmark / "bad.csv")
    (benchmark / "out.csv").write_text("name,value\n")
    with pytest.raises(ValueError, match="line 1: not a result of the benchmark tiny"):
        Benchmark(benchmark / "instances.csv", benchmark / "out.csv", None)


def test_a_counterexample_names_every_number(tmp_path):
    text = asked(2, 1, "0 1, -1 1", "(>= Y_0 0.005)")
    answer = answered(TENT, text, tmp_path)
    assert answer.counterexample is not None
    lines = counterexample_text(answer.counterexample, parse_vnnlib(text)).splitlines()
    assert [line.strip("()").split()[0] for line in lines] == ["X_0", "X_1", "Y_0"]
    values = np.array([float(line.strip("()").split()[1]) for line in lines], dtype=np.float32)
    np.testing.assert_array_equal(values[:2], answer.counterexample.inputs)


def test_a_property_that_takes_too_long_to_read_is_a_timeout(tmp_path):
    saved(ABS, tmp_path / "abs.onnx")
    (tmp_path / "a.vnnlib").write_text(asked(1, 1, "-1 1", "(<= Y_0 -1)"))
    answer = verify(tmp_path / "abs.onnx", tmp_path / "a.vnnlib", timeout=1e-9)
    assert (answer.result, answer.regions) == ("timeout", 0)
    assert "while the files were read" in answer.reason
    (tmp_path / "instances.csv").write_text("abs.onnx,a.vnnlib,1e-9\n")
    (finished,) = Benchmark(tmp_path / "instances.csv", tmp_path / "results.csv", None).run()
    assert (finished.result, finished.ran) == ("timeout", 0.0)
    assert "while the files were read" in finished.reason
