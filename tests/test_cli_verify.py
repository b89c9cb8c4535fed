"""`varphi verify`: answers, files, exit codes, lists of instances, refusals."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from varphi import cli


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with y = relu(x0 - x1), two properties of it, one that cannot be read, and a list of them."""
    held = numpy_helper.from_array(np.array([[1.0], [-1.0]], np.float32), "w")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, k)) for n, k in (("x", 2), ("y", 1))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [held])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    folder = tmp_path / "bench"
    folder.mkdir()
    onnx.save(model, folder / "net.onnx")
    for name, unsafe in (("safe", ">= Y_0 2.5"), ("unsafe", ">= Y_0 1.5"), ("hard", "> Y_0 2"), ("wrong", "<= Y_3 0")):
        text = "".join(f"(declare-const {n} Real)\n" for n in ("X_0", "X_1", "Y_0"))
        text += "".join(f"(assert (>= X_{i} -1))\n(assert (<= X_{i} 1.0))\n" for i in range(2))
        (folder / f"{name}.vnnlib").write_text(f"{text}(assert ({unsafe}))\n")
    (folder / "instances.csv").write_text("net.onnx,safe.vnnlib,120\nnet.onnx,unsafe.vnnlib,120\n")
    return folder


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["verify", *map(str, words)], prog_name="varphi", catch_exceptions=False)
    return result.exit_code, result.stdout


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", *map(str, words)])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    return err


def test_unsat(files: Path) -> None:
    assert invoke(files / "net.onnx", files / "safe.vnnlib") == (0, "unsat\n")


def test_sat_with_its_counterexample(files: Path) -> None:
    code, out = invoke(files / "net.onnx", files / "unsafe.vnnlib", "--results", files / "out.txt")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "sat")
    values = dict(line.strip("()").split() for line in lines[1:])
    x0, x1, y0 = (float(values[n]) for n in ("X_0", "X_1", "Y_0"))
    assert max(abs(x0), abs(x1)) <= 1
    assert y0 == pytest.approx(x0 - x1) and y0 >= 1.5
    assert (files / "out.txt").read_text() == out


def test_a_timeout_while_reading_says_so(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(files / "net.onnx"), str(files / "safe.vnnlib"), "--timeout", "1e-9"])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (1, "timeout\n")
    assert "while the files were read" in err


def test_a_timeout_is_no_answer(files: Path) -> None:
    code, out = invoke(files / "net.onnx", files / "hard.vnnlib", "--timeout", "0.3")
    assert code == 1
    assert out in ("timeout\n", "unknown\n")


def test_json(files: Path) -> None:
    code, out = invoke(files / "net.onnx", files / "unsafe.vnnlib", "--json")
    told = json.loads(out)
    assert (code, told["result"], told["arithmetic"]) == (0, "sat", "sound32")
    assert len(told["counterexample"]["inputs"]) == 2
    assert told["counterexample"]["outputs"][0] >= 1.5
    assert told["counterexample"]["checked"]
    told = json.loads(invoke(files / "net.onnx", files / "safe.vnnlib", "--json", "--arithmetic", "float64")[1])
    assert (told["result"], told["arithmetic"], told["counterexample"]) == ("unsat", "float64", None)


def test_a_list_of_instances(files: Path) -> None:
    code, out = invoke("--instances", files / "instances.csv")
    assert code == 0
    assert out.splitlines()[-1] == "bench: 1 sat, 1 unsat"
    kept = (files / "results.csv").read_text()
    assert [row.split(",")[4] for row in kept.splitlines()] == ["unsat", "sat"]
    assert gzip.decompress((files / "net_unsafe.counterexample.gz").read_bytes()).startswith(b"((X_0 ")
    code, out = invoke("--instances", files / "instances.csv", "--json")
    told = json.loads(out)
    assert (code, told["benchmark"], told["counts"]) == (0, "bench", {"sat": 1, "unsat": 1})
    assert (files / "results.csv").read_text() == kept


def test_an_error_in_a_list_is_a_row_and_an_exit_code(files: Path) -> None:
    (files / "instances.csv").write_text("net.onnx,wrong.vnnlib,120\nnet.onnx,safe.vnnlib,120\n")
    code, out = invoke("--instances", files / "instances.csv", "--results", files / "mine.csv", "--timeout", "100")
    assert code == 1
    assert out.splitlines()[-1] == "bench: 1 error, 1 unsat"


def test_what_cannot_be_verified_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, safe = files / "net.onnx", files / "safe.vnnlib"
    assert "Y_3 is not declared" in refused(capsys, net, files / "wrong.vnnlib", "--results", files / "out.txt")
    assert (files / "out.txt").read_text() == "error\n"
    assert "there is no file" in refused(capsys, files / "none.onnx", safe)
    assert "MODEL.onnx PROPERTY.vnnlib" in refused(capsys, net)
    assert "not both" in refused(capsys, net, safe, "--instances", files / "instances.csv")
    assert "--timeout must be a number" in refused(capsys, net, safe, "--timeout", "0")
    assert "--timeout must be a number" in refused(capsys, net, safe, "--timeout", "nan")
    assert "there is no directory" in refused(capsys, net, safe, "--results", files / "none" / "out.txt")
    assert "must end in .csv" in refused(capsys, "--instances", files / "instances.csv", "--results", files / "o.txt")
    assert "there is no file" in refused(capsys, "--instances", files / "none.csv")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, varphi.cli\n"
        "try: varphi.cli.main(['verify', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'onnx'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "[]"
    assert "PROPERTY.vnnlib" in done.stdout
