"""The chapter's claims: the table against the studies, and where a claim stands against what is stored."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from varphi import cli
from varphi.study import Claim, Outcome, Size, Study, Tuning, api
from varphi.study.storage import StorageError
from varphi.study.verdict import Verdict
from varphi.systems import STUDIES, claims
from varphi.systems.claims import Entry, entries, standings

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (80, 120)


def invoke(*words: str, **environment: str):
    wide = {"COLUMNS": "300"} | environment
    result = CliRunner().invoke(cli.app, ["claims", *words], env=wide, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


# The table ------------------------------------------------------------------------------------------------------------


def test_the_table_holds_the_thirteen_systems_in_the_readmes_order():
    rows = re.findall(r"^\| `(\w+)`", (ROOT / "README.md").read_text("utf-8"), flags=re.M)
    named = dict.fromkeys((e.number, e.system) for e in entries())
    assert list(named) == list(enumerate(rows, 1)) and len(rows) == 13


def test_every_claim_has_one_source_of_its_sentence():
    assert [e for e in entries() if (e.study is None) == (e.quote is None)] == []


def test_no_claim_stands_in_the_table_twice():
    names = [(e.system, e.name) for e in entries()]
    quotes = [e.quote for e in entries() if e.quote is not None]
    assert len(set(names)) == len(names) and len(set(quotes)) == len(quotes)


def test_a_sentence_is_one_line_of_text():
    assert [e.name for e in entries() if e.quote is not None and re.search(r"\s\s|\n|^\s|\s$", e.quote)] == []


def test_table_and_studies_name_the_same_claims():
    tabled = {(e.study, e.name) for e in entries() if e.study is not None}
    # A study may also test what the chapter does not say; it says so itself.
    tested = {
        (name, claim.name)
        for name in STUDIES
        for claim in api.load(name).claims
        if not claim.quote.startswith("[Not the chapter's")
    }
    assert tabled == tested


# Where claims stand ---------------------------------------------------------------------------------------------------

BROKEN: set[int] = set()


def trial(setting, seeds, points):
    if setting["level"] in BROKEN:
        raise RuntimeError("broken")
    return Outcome({"value": np.full((len(points), len(seeds)), float(setting["level"]))})


def _study(quote: str = "Higher is higher.") -> Study:
    return Study(
        name="steps",
        title="Steps",
        question="Does the level show?",
        data="none",
        factors={"level": (0, 1)},
        trial=trial,
        measures={"value": "the level"},
        tuning=Tuning("rate", by="value"),
        claims=(
            Claim("first", "Another sentence.", "Nothing.", lambda results: Verdict("refuted", "of 0")),
            Claim(
                "second", quote, "The level.", lambda results: Verdict("only if", f"{results.size} is 1", "it is high")
            ),
        ),
        sizes={name: Size(seeds=2, tuning=(0.1,), takes="no time") for name in ("full", "demo", "smoke")},
        answer=lambda results, verdicts: "It shows.",
    )


STEPS = _study()
PLACE = f"{__name__}:STEPS"
TABLE = (
    Entry(1, "ladder", "Ladders", "second", study=PLACE),
    Entry(2, "roof", "Roofs", "roofs are above", quote="Roofs are above ladders."),
)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(claims, "entries", lambda: TABLE)
    BROKEN.clear()
    yield
    BROKEN.clear()


@pytest.fixture
def storage(tmp_path):
    return str(tmp_path / "runs.db")


def run(size, storage):
    return api.run(STEPS, storage=storage, size=size, progress=False)


@pytest.mark.usefixtures("table")
def test_without_a_storage_nothing_is_run_and_none_is_made(storage):
    tested, untested = standings(storage=storage)
    assert (tested.status, tested.quote, tested.measure) == ("not run yet", "Higher is higher.", "The level.")
    assert (untested.status, untested.quote) == ("no study yet", "Roofs are above ladders.")
    assert tested.run is tested.verdict is untested.run is untested.verdict is None
    assert not Path(storage).exists()


@pytest.mark.usefixtures("table")
def test_a_verdict_is_that_of_the_claim_and_names_its_run(storage):
    found = run("demo", storage)
    tested, _ = standings(storage=storage)
    assert tested.verdict == Verdict("only if", "demo is 1", "it is high") == found.verdicts[1]
    assert (tested.run.size, tested.run.seeds, tested.run.settings, tested.run.finished) == ("demo", 2, 2, 2)
    assert found.record["declared"].startswith(tested.run.date) and re.fullmatch(r"\d{4}-\d\d-\d\d", tested.run.date)
    assert tested.run.is_evidence


@pytest.mark.usefixtures("table")
def test_the_larger_run_counts_not_the_later_one(storage):
    run("full", storage)
    run("smoke", storage)
    assert standings(storage=storage)[0].run.size == "full"


@pytest.mark.usefixtures("table")
def test_a_finished_run_counts_before_a_larger_unfinished_one(storage):
    BROKEN.add(1)
    run("full", storage)
    unfinished, _ = standings(storage=storage)
    assert unfinished.status == "undecided"
    assert (unfinished.run.size, unfinished.run.finished, unfinished.run.settings) == ("full", 1, 2)
    assert "full, 2 seeds, 1 of 2 settings" in invoke("--storage", storage).stdout
    BROKEN.clear()
    run("smoke", storage)
    finished, _ = standings(storage=storage)
    assert finished.run.size == "smoke" and not finished.run.is_evidence


@pytest.mark.usefixtures("table")
def test_runs_of_another_declaration_do_not_count(storage, monkeypatch):
    run("full", storage)
    monkeypatch.setattr(sys.modules[__name__], "STEPS", _study("Lower is higher."))
    tested, _ = standings(storage=storage)
    assert (tested.status, tested.quote) == ("not run yet", "Lower is higher.")


@pytest.mark.usefixtures("table")
def test_a_storage_that_cannot_be_read_is_refused_not_taken_for_empty(storage):
    Path(storage).write_text("no data base, but a letter")
    with pytest.raises(StorageError, match="cannot use"):
        standings(storage=storage)


def test_an_unknown_system_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"Did you mean 'spiking'.*circuits"):
        standings("spikin")


def test_a_table_that_names_a_claim_of_no_study_is_a_defect(storage, monkeypatch):
    monkeypatch.setattr(claims, "entries", lambda: (Entry(1, "ladder", "Ladders", "third", study=PLACE),))
    with pytest.raises(ValueError, match="third"):
        standings(storage=storage)


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("table")
def test_a_smoke_run_is_marked_wherever_it_is_told(storage):
    run("smoke", storage)
    result = invoke("--storage", storage)
    assert "only if it is high · only a smoke run, 2 seeds, 2" in result.stdout
    assert "1 only if (smoke)" in result.stderr
    (tested, _) = json.loads(invoke("--storage", storage, "--json").stdout)["claims"]
    assert (tested["size"], tested["smoke"], tested["status"]) == ("smoke", True, "only if")
    assert (tested["condition"], tested["evidence"]) == ("it is high", "smoke is 1")


@pytest.mark.usefixtures("table")
def test_the_command_to_run_a_study_names_the_storage_that_was_asked(storage):
    told = " ".join(invoke("--storage", storage, COLUMNS="300").stdout.split())
    assert f"not run yet: varphi study run {PLACE} --storage {storage}" in told


@pytest.mark.parametrize("columns", COLUMNS)
def test_the_terminal_table_has_every_claim_and_keeps_to_the_width(columns, storage):
    lines = invoke("--storage", storage, COLUMNS=str(columns)).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    cut = columns * 2 // 5 + 4
    # Names in the left column, put together again where they were wrapped.
    left = " ".join(" ".join(line[:cut] for line in lines).split())
    assert [e.name for e in entries() if " ".join(e.name.split()) not in left] == []


def test_one_system_is_told_with_the_chapters_sentences(storage):
    told = " ".join(invoke("--system", "continual", "--storage", storage).stdout.split())
    chosen = [e for e in entries() if e.system == "continual"]
    assert chosen and all(e.name in told and e.quote in told for e in chosen)
    assert "Spiking" not in told


def test_json_has_the_same_plain_keys_for_every_claim(storage):
    found = json.loads(invoke("--json", "--storage", storage).stdout)["claims"]
    assert len({tuple(claim) for claim in found}) == 1
    assert [(c["number"], c["system"], c["claim"]) for c in found] == [(e.number, e.system, e.name) for e in entries()]
    assert all(c["quote"] for c in found)
    assert {c["status"] for c in found if c["study"]} <= {"not run yet"}
    assert {c["status"] for c in found if not c["study"]} <= {"no study yet"}


def test_a_system_without_a_study_is_told_without_torch():
    code = (
        "import sys, varphi.cli\n"
        "try: varphi.cli.main(['claims', '--system', 'tomography', '--json'])\n"
        "except SystemExit as end: print(end.code, sorted({'torch', 'optuna'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "0 []"
    assert "tomography" in done.stdout
