"""`varphi compare`, as a person and as a program use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.cli.compare import parsed_list, parsed_ranges

TOYS = str(Path(__file__).with_name("toy_model.py"))


@pytest.fixture
def words(storage):
    return ["compare", f"{TOYS}:build", "--fit", f"{TOYS}:far_from_tanh", "--storage", str(storage)]


def invoke(*words, code=0):
    # Wide enough that no column is wrapped.
    result = CliRunner(env={"COLUMNS": "160"}).invoke(cli.app, list(words), prog_name="varphi", catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def refuse(capsys, *words):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "") and "Traceback" not in err
    return err.strip().splitlines()[-1]


def test_the_evidence_is_printed_and_the_page_written(words, tmp_path):
    page = tmp_path / "page.html"
    shown = invoke(*words, "-a", "tanh,softplus(beta=3)", "--seeds", "7", "-o", str(page))
    for told in ("tanh is best", "gain over relu", "softplus(beta=3)", "better", "gradient norm", "7 paired seeds"):
        assert told in shown, told
    assert "tanh is best" in page.read_text("utf-8")


def test_json_is_all_that_stands_on_standard_output(words):
    data = json.loads(invoke(*words, "-a", "tanh", "--seeds", "6", "--json"))
    assert data["baseline"] == "relu" and data["gains"][0]["finding"] == "better"


def test_measures_tuning_and_sense_reach_the_comparison(storage):
    words = ["compare", f"{TOYS}:build", "--fit", f"{TOYS}:train", "--storage", str(storage), "-a", "tanh"]
    more = ["--measure", "closeness,loss", "--best", "highest", "--tune", "learning rate=1e-3:1e-1", "--points", "2"]
    data = json.loads(invoke(*words, *more, "--seeds", "2", "--tune-by", "closeness", "--json"))
    assert (data["measure"], data["best"]) == ("closeness", "highest")
    assert 1e-3 <= data["rows"][0]["learning rate"] <= 1e-1 and data["rows"][0]["loss"][0] > 0


def test_an_activation_that_fails_gives_exit_code_1(storage, tmp_path):
    module = tmp_path / "failing_toy.py"
    module.write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Linear(1, 1), nn.ReLU())\n"
        "def fit(model):\n    assert model[1]._get_name() != 'gelu', 'no gelu here'\n    return 1.0\n"
    )
    words = ["compare", f"{module}:build", "--fit", f"{module}:fit", "--storage", str(storage), "-a", "gelu,tanh"]
    assert "no gelu here" in invoke(*words, "--seeds", "2", code=1)


def test_refusals(words, capsys, tmp_path):
    assert "no activation 'tanhh'" in refuse(capsys, *words, "-a", "tanhh")
    assert "has no parameter 'gamma'" in refuse(capsys, *words, "-a", "softplus(gamma=1)")
    assert "--best is lowest or highest, got 'max'" in refuse(capsys, *words, "--best", "max")
    assert "NAME=LOW:HIGH" in refuse(capsys, *words, "--tune", "lr=0.1")
    assert "must end in .html" in refuse(capsys, *words, "-o", str(tmp_path / "page.pdf"))
    assert "there is no file" in refuse(capsys, "compare", "nowhere.py:build", "--fit", f"{TOYS}:train")
    assert "has no 'made'" in refuse(capsys, "compare", f"{TOYS}:made", "--fit", f"{TOYS}:train")
    assert "module:attribute" in refuse(capsys, "compare", "toy_model", "--fit", f"{TOYS}:train")
    told = refuse(capsys, *words, "-a", "tanh", "--seeds", "2", "--measure", "loss,accuracy")
    assert "fit must return a mapping with loss, accuracy" in told


def test_lists_and_ranges_are_read():
    assert parsed_list("relu, leaky_relu(alpha=0.2),max(x, min(0.1*x, 1))") == [
        *("relu", "leaky_relu(alpha=0.2)", "max(x, min(0.1*x, 1))")
    ]
    assert parsed_ranges(["learning rate=1e-4:1e-1", "a=-1:2"]) == {"learning rate": (1e-4, 0.1), "a": (-1.0, 2.0)}
    for text in ("a,,b", "", ","):
        with pytest.raises(ValueError, match=r"written as A,B,C"):
            parsed_list(text)
    for text in ("a", "a=1", "a=1:x", "=1:2"):
        with pytest.raises(ValueError, match=r"NAME=LOW:HIGH"):
            parsed_ranges([text])


def test_ctrl_c_says_how_to_go_on(words, tmp_path):
    environment = os.environ | {"LOG": str(tmp_path / "log"), "STOP": "3"}
    words = [*words[:3], f"{TOYS}:interrupted", *words[4:], "-a", "tanh", "--seeds", "3"]
    command = [sys.executable, "-m", "varphi", *words]
    stopped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130 and "3 of 6 trials" in stopped.stderr and "same command" in stopped.stderr
    del environment["STOP"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len((tmp_path / "log").read_text().splitlines()) == 6


def test_help_imports_nothing_heavy():
    code = (
        "import sys, varphi.cli\ntry: varphi.cli.main(['compare', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'optuna'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "[]" and "paired seeds" in done.stdout
