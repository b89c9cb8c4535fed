"""What the project says of itself, in several places, agrees."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "varphi"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION = PYPROJECT["project"]["version"]
SYSTEMS = (
    *("constrained", "tomography", "physics", "heavy_tails", "certified", "spiking", "graphs"),
    *("saliency", "distillation", "continual", "attention", "neurons", "circuits"),
)
READMES = ("README.md", "README.zh.md")
SYSTEM_TABLES = (*READMES, "docs/systems/index.md")


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def direct_requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = (text for texts in project["optional-dependencies"].values() for text in texts)
    requirements = [Requirement(text) for text in (*project["dependencies"], *extras)]
    return [requirement for requirement in requirements if requirement.name != "varphi"]


def contract(kind: str) -> dict:
    (found,) = (c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == kind)
    return found


def modules_in(folder: Path) -> set[str]:
    """The public modules and packages directly in a folder. An emptied folder that git left behind is neither."""
    if not folder.is_dir():
        return set()
    files = {path.stem for path in folder.glob("*.py")}
    packages = {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    return {name for name in files | packages if not name.startswith("_")}


def shell_commands(markdown: str) -> list[str]:
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", markdown, flags=re.M | re.S)
    lines = (line.split("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def system_rows(markdown: str) -> dict[str, str]:
    """The name of each system and its state, in the order of the table."""
    rows = (line.strip().strip("|").split("|") for line in markdown.splitlines() if line.startswith("| `"))
    return {cells[0].strip().strip("`"): cells[-1].strip() for cells in rows}


def loaded_after(code: str, candidates: set[str]) -> set[str]:
    """Which of the candidates a fresh interpreter has imported once it has run the code."""
    script = f"import sys\n{code}\nprint('loaded:', *({candidates!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_ci_only_calls_make():
    lines = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", "make test", "make check"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_every_make_command_in_the_texts_exists():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.M))
    texts = [".ci/run", "README.md", "README.zh.md", "CONTRIBUTING.md", "docs/getting-started.md"]
    named = {name for text in texts for name in re.findall(r"^(?:\$ )?make ([a-z]+)", read(text), flags=re.M)}
    assert {"demo", "test", "check"} <= named
    assert named <= targets


def test_every_target_is_phony_and_explained():
    makefile = read("Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    explained = set(re.findall(r'@echo "make ([a-z]+) ', makefile))
    assert set(phony.split()) == targets
    assert explained == targets - {"help"}


def test_version_is_the_same_everywhere():
    assert re.findall(r"^version: (.*)$", read("CITATION.cff"), flags=re.M) == [VERSION]
    assert re.search(rf"^## \[{re.escape(VERSION)}\]", read("CHANGELOG.md"), flags=re.M)
    assert importlib.metadata.version("varphi") == VERSION


def test_the_package_knows_its_version():
    import varphi

    assert varphi.__version__ == VERSION


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_constraints_pin_each_direct_dependency_once_within_its_range():
    pins = [Requirement(line) for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    pinned = [canonicalize_name(pin.name) for pin in pins]
    required = {canonicalize_name(requirement.name) for requirement in direct_requirements()}
    assert sorted(pinned) == sorted(required)
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    for requirement in direct_requirements():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_all_holds_every_extra():
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = (Requirement(text) for text in extras["all"])
    assert everything.extras == set(extras) - {"all"}


def test_extras_of_systems_bear_the_names_of_systems():
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    assert extras - {"all", "dev", "docs", "grpc", "onnx", "parquet", "postgres"} <= set(SYSTEMS)


def test_every_part_has_its_place_in_the_import_contract():
    layers = contract("layers")["layers"]
    placed = [name.strip(" ()") for layer in layers for name in layer.split("|")]
    assert len(placed) == len(set(placed))
    assert modules_in(PACKAGE) <= set(placed)


def test_the_import_contract_keeps_every_system_apart():
    assert contract("independence")["modules"] == ["varphi.systems.*"]
    packages = {name for name in modules_in(PACKAGE / "systems") if (PACKAGE / "systems" / name).is_dir()}
    assert packages <= set(SYSTEMS)


def test_readmes_name_the_same_commands():
    english, chinese = (shell_commands(read(path)) for path in READMES)
    assert english == chinese
    assert {"make demo", "make test"} <= set(english)


@pytest.mark.parametrize("path", SYSTEM_TABLES)
def test_tables_hold_the_thirteen_systems(path):
    assert tuple(system_rows(read(path))) == SYSTEMS


def test_tables_agree_on_what_is_planned():
    english, chinese, docs = (system_rows(read(path)) for path in SYSTEM_TABLES)
    assert english == docs
    meaning = {"planned": "计划中", "in work": "进行中", "works": "可用"}
    assert {name: meaning[state] for name, state in english.items()} == chinese


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_with_code_is_not_called_planned_and_has_its_page(system):
    if system not in modules_in(PACKAGE / "systems"):
        return
    assert system_rows(read("README.md"))[system] != "planned"
    assert (ROOT / "docs" / "systems" / f"{system}.md").is_file()
    assert f"systems/{system}.md" in read("mkdocs.yml")


def test_the_site_loads_nothing_from_elsewhere():
    assert "http" not in read("mkdocs.yml")
    assert re.search(r"^  font: false$", read("mkdocs.yml"), flags=re.M), "the theme would fetch its fonts"


def test_importing_varphi_and_its_command_line_is_cheap():
    heavy = {"torch", "sympy", "numba", "llvmlite", "flint", "scipy", "matplotlib", "optuna", "pandas", "statsmodels"}
    assert loaded_after("import varphi, varphi.cli", heavy) == set()


def test_help_answers_without_torch():
    heavy = {"torch", "sympy", "numba"}
    run = """
from varphi.cli import main
sys.argv = ["varphi", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert loaded_after(run, heavy) == set()
