"""The command line, as a person and as a program use it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.cli.arguments import parsed_parameters

HEAVY = ("torch", "numba", "llvmlite", "sympy", "flint", "matplotlib", "scipy", "optuna", "numpy")


def invoke(*words: str) -> str:
    """The standard output of a command that succeeds."""
    result = CliRunner().invoke(cli.app, list(words), prog_name="varphi", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a refused command prints on standard error."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    return lines[0]


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options)


# Start ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["version"], ["facts", "--help"], ["list", "--help"]])
def test_help_and_version_import_nothing_heavy(words: list[str]) -> None:
    result = python(
        "import sys, varphi.cli\n"
        f"try: varphi.cli.main({words!r})\n"
        "except SystemExit as end:\n"
        f"    print(end.code, sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    assert result.stderr.strip() == "0 []", result.stderr
    assert "varphi" in result.stdout.lower()


def test_python_m_varphi_is_the_same_command() -> None:
    result = subprocess.run([sys.executable, "-m", "varphi", "--version"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, invoke("version").strip())


# Parameters and output files ------------------------------------------------------------------------------------------


def test_parameters_are_parsed_as_numbers() -> None:
    assert parsed_parameters(["beta=2.0", " n = 3", "b=-1e-3"]) == {"beta": 2.0, "n": 3, "b": -1e-3}
    assert isinstance(parsed_parameters(["n=3"])["n"], int)


@pytest.mark.parametrize("text", ["beta", "beta=", "=2", ""])
def test_a_parameter_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parsed_parameters([text])


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'beta' is given twice"):
        parsed_parameters(["beta=1", "beta=2"])


# Facts ----------------------------------------------------------------------------------------------------------------


def test_the_card_of_an_activation() -> None:
    card = invoke("facts", "softplus", "-p", "beta=2.0")
    for expected in ("softplus", "(1/β) ln(1+eᵝˣ)", "β = 2", "Dugas", "(0, ∞)", "0 not attained", "C∞", "increasing"):
        assert expected in card, expected
    assert any(0x2800 < ord(character) < 0x2900 for character in card)
    assert "●" in card
    assert "◐" in card
    assert "○" not in card  # nothing is measured unless asked for


@pytest.mark.parametrize("columns", [60, 80, 140])
@pytest.mark.parametrize("name", ["gelu", "sin", "heaviside", "hh_alpha_h", "hill_activator"])
def test_no_line_of_a_card_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, name: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, invoke("facts", name).splitlines())) <= columns


def test_a_formula_has_the_facts_of_its_name() -> None:
    named, written = (json.loads(invoke("facts", what, "--json")) for what in ("mish", "x*tanh(softplus(x))"))
    for fact in ("range", "lipschitz", "derivative_bounds", "smoothness", "limits", "moments"):
        assert named[fact] == written[fact]


def test_facts_as_json() -> None:
    facts = json.loads(invoke("facts", "gelu", "--json"))
    assert facts["lipschitz"]["lower"] <= 1.1289041451851547 <= facts["lipschitz"]["upper"]
    assert facts["lipschitz"]["method"] == "proved"
    assert facts["range"]["supremum"]["upper"] == "inf"
    assert facts["smoothness"] == "inf"
    assert facts["moments"]["mean"]["value"] == pytest.approx(0.28209479177387814)
    assert facts["source"].startswith("Hendrycks")


def test_facts_on_an_interval() -> None:
    facts = json.loads(invoke("facts", "tanh", "--on", "-2", "0.5", "--json"))
    assert facts["on"] == [-2.0, 0.5]
    assert facts["range"]["supremum"]["upper"] == pytest.approx(0.46211715726000973)
    assert "moments" not in facts


def test_a_figure_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    invoke("facts", "hard_sigmoid", "--figure", str(path))
    assert path.read_text().lstrip().startswith("<?xml")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "varphi", "facts", "softplus"],
        capture_output=True,
        timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode("ascii")
    assert "softplus(beta*x)/beta" in text
    assert "(0, inf)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["facts", "gleu"], "Did you mean 'gelu'"),
        (["facts", "softplus", "-p", "beta=-1"], "softplus: beta must be a finite number > 0, got -1"),
        (["facts", "softplus", "-p", "beta=nan"], "softplus: beta must be a finite number > 0, got nan"),
        (["facts", "softplus", "-p", "beta=two"], "got 'two'"),
        (["facts", "softplus", "-p", "gamma=1"], "no parameter 'gamma'; it takes beta=1"),
        (["facts", "gelu", "--on", "3", "1"], "lower < upper"),
        (["facts", "gelu", "--on", "nan", "1"], "two numbers"),
        (["facts", "gelu", "--figure", "missing/out.svg"], "there is no directory 'missing'"),
        (["facts", "gelu", "--figure", "out.bmp"], "must end in .svg or .png or .pdf"),
        (["list", "--range", "wide"], "a range is one of nonnegative, positive"),
        (["list", "--range", "2,1"], "lower <= upper"),
        (["list", "--smooth", "-1"], "a whole number >= 0 or inf"),
        (["list", "--lipschitz", "nan"], "a number >= 0"),
        (["list", "--parity", "both"], "odd or even"),
        (["list", "--family", "gate"], "Did you mean 'gated'"),
    ],
)
def test_bad_input_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert message in refuse(capsys, *words)


def test_an_error_in_a_formula_is_pointed_at(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["facts", "x*foo(x)"])
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert "'foo'" in lines[0]
    assert lines[2].index("^") == lines[1].index("foo")


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(LookupError, match="gleu"):
        cli.main(["facts", "gleu", "--debug"])


# List -----------------------------------------------------------------------------------------------------------------


def names(*words: str) -> set[str]:
    return {entry["name"] for entry in json.loads(invoke("list", *words, "--json"))["matches"]}


def test_the_list_is_sifted_by_facts() -> None:
    family = ("--family", "softplus")
    everything = names(*family)
    assert {"softplus", "squareplus"} <= names(*family, "--range", "positive", "--smooth", "inf") <= everything
    assert "softplus" not in names(*family, "--range", "bounded")
    assert "softplus" not in names(*family, "--range", "-1,1")
    assert "softplus" in names(*family, "--lipschitz", "1", "--monotone")
    assert "softplus" not in names(*family, "--lipschitz", "0.99")
    assert "softplus" not in names(*family, "--parity", "odd")


def test_the_list_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = invoke("list", "--family", "softplus").splitlines()
    assert lines[0].split()[:2] == ["name", "f(x)"]
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if line.startswith("softplus ")]
    assert "(0, ∞)" in row
    assert "Dugas 2000" in row


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m varphi list --family softplus | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert result.stdout.startswith("name")
    assert "Traceback" not in result.stderr
    assert "Broken" not in result.stderr


# Studies --------------------------------------------------------------------------------------------------------------

TOY = textwrap.dedent("""
    import pathlib
    import time
    import numpy as np
    from varphi.study import Claim, Outcome, Size, Study, Tuning
    from varphi.study.verdict import Verdict

    def trial(setting, seeds, points, pause=0.0):
        if pause:
            pathlib.Path("began").touch()
            time.sleep(pause)
        base = {"a": 1.0, "b": 2.0}[setting["kind"]]
        return Outcome({"loss": base + 0.1 * np.outer(np.ones(len(points)), np.asarray(seeds, float))})

    def judge(results):
        gap = results.values("loss", kind="b") - results.values("loss", kind="a")
        return Verdict("supported" if (gap > 0).all() else "refuted", f"gap {gap.mean():.3g}")

    STUDY = Study(
        name="toy", title="A toy", question="Is b above a?", data="none", factors={"kind": ("a", "b")}, trial=trial,
        measures={"loss": "made up"}, tuning=Tuning("rate", by="loss"),
        claims=(Claim("b above a", "b lies above a.", "loss of b minus loss of a", judge),),
        sizes={
            "full": Size(4, (0.1,), "no time"), "demo": Size(2, (0.1,), "no time"), "smoke": Size(2, (0.1,), "no time"),
            "slow": Size(2, (0.1,), "a minute", options={"pause": 30.0}),
        },
        answer=lambda results, verdicts: "Yes, b is above a.",
    )
""")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study that is quick, as `module:attribute`; the test works in an empty directory."""
    (tmp_path / "cli_toy_study.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "cli_toy_study:STUDY"


def test_a_study_is_run_and_shown(toy: str) -> None:
    ran = invoke("study", "run", toy, "--demo")
    assert "Yes, b is above a." in ran
    assert "supported" in ran
    assert Path("varphi.db").exists()
    assert "Yes, b is above a." in invoke("study", "show", toy)


def test_a_study_as_json(toy: str) -> None:
    data = json.loads(invoke("study", "run", toy, "--seeds", "3", "--storage", "here.db", "--json"))
    assert data["study"] == "toy"
    assert data["seeds"] == [0, 1, 2]
    assert data["claims"][0]["status"] == "supported"
    assert [row["setting"] for row in data["rows"]] == [{"kind": "a"}, {"kind": "b"}]
    assert data["rows"][1]["measures"]["loss"] == [[2.0, 2.1, 2.2]]
    shown = json.loads(invoke("study", "show", toy, "--storage", "here.db", "--json"))
    assert shown["rows"] == data["rows"]


def test_the_report_of_a_study(toy: str) -> None:
    invoke("study", "run", toy, "--smoke")
    assert "wrote page.html" in invoke("study", "report", toy, "-o", "page.html")
    assert "Yes, b is above a." in Path("page.html").read_text("utf-8")


def test_the_table_of_a_study(toy: str) -> None:
    invoke("study", "run", toy, "--smoke")
    invoke("study", "run", toy, "--seeds", "3")
    assert invoke("study", "export", toy, "--smoke", "-o", "t.csv") == "wrote t.csv\nwrote t.csv.json\n"
    header, *lines = Path("t.csv").read_text("utf-8").splitlines()
    assert header == "kind,rate,seed,point,chosen,loss,trial,seconds"
    assert [line.split(",")[:6] for line in lines[:2]] == [["a", "0.1", str(i), "0", "true", f"1.{i}"] for i in (0, 1)]
    assert len(lines) == 4
    assert invoke("study", "export", toy, "-o", "t.json") == "wrote t.json\n"
    assert len(json.loads(Path("t.json").read_text("utf-8"))["table"]) == 6  # of the size that was run last


def test_the_list_of_studies() -> None:
    from varphi.study import api

    assert [study["name"] for study in json.loads(invoke("study", "list", "--json"))] == api.names()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "constrainde"], "Did you mean 'constrained'"),
        (["run", "{toy}", "--size", "huge"], "has no size 'huge'"),
        (["run", "{toy}", "--demo", "--smoke"], "one size at a time"),
        (["run", "{toy}", "--seeds", "1"], "at least 2"),
        (["run", "{toy}", "--storage", "missing/here.db"], "no directory"),
        (["show", "{toy}", "--storage", "none.db"], "there is no storage 'none.db'"),
        (["report", "{toy}", "-o", "missing/report.html"], "there is no directory 'missing'"),
        (["report", "{toy}", "-o", "report.txt"], "must end in .html"),
        (["export", "{toy}", "-o", "missing/t.csv"], "there is no directory 'missing'"),
        (["export", "{toy}", "-o", "t.xlsx"], "must end in .csv or .parquet or .json, got 't.xlsx'"),
        (["export", "{toy}", "-o", "t.csv", "--storage", "none.db"], "there is no storage 'none.db'"),
    ],
)
def test_bad_input_to_a_study(toy: str, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert message in refuse(capsys, "study", *(word.format(toy=toy) for word in words))


def test_an_interrupted_study_says_how_to_go_on(toy: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "varphi", "study", "run", toy, "--size", "slow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
    )
    while not Path("began").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "goes on" in err
