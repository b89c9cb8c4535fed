"""The command line, as a person and as a program use it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from varphi import cli

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
    assert cli.parsed_parameters(["beta=2.0", " n = 3", "b=-1e-3"]) == {"beta": 2.0, "n": 3, "b": -1e-3}
    assert isinstance(cli.parsed_parameters(["n=3"])["n"], int)


@pytest.mark.parametrize("text", ["beta", "beta=", "=2", ""])
def test_a_parameter_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        cli.parsed_parameters([text])


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'beta' is given twice"):
        cli.parsed_parameters(["beta=1", "beta=2"])


def test_an_output_path_is_checked_before_work(tmp_path: Path) -> None:
    endings = (".svg", ".png")
    assert cli.check_writable(tmp_path / "new.SVG", endings) == tmp_path / "new.SVG"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"must end in \.svg or \.png"):
        cli.check_writable(tmp_path / "figure.bmp", endings)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        cli.check_writable(tmp_path / "missing" / "figure.svg", endings)
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(IsADirectoryError, match="is a directory"):
        cli.check_writable(tmp_path / "folder.svg", endings)


def test_a_place_where_nothing_can_be_written_is_found_out() -> None:
    # /proc refuses files even to root, whatever its permission bits say.
    if not Path("/proc/self").is_dir():
        pytest.skip("needs Linux")
    with pytest.raises(OSError, match="cannot write"):
        cli.check_writable(Path("/proc/self/figure.svg"), (".svg",))
