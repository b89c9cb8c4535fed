"""A report is one file that needs nothing else and says everything."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing

from varphi import report
from varphi.study import Claim, Figure, Outcome, Size, Study, Tuning, api
from varphi.study.verdict import Verdict


def trial(setting, seeds, points):
    if setting["f"] == "broken <b>":
        raise RuntimeError("no & <never>")
    return Outcome({"loss": np.full((len(points), len(seeds)), np.inf)})


def figures(results):
    drawing = Drawing(figsize=(4, 2))
    drawing.subplots().set_title("α < β")
    return [Figure("First <figure>", "Its caption.", drawing), Figure("Second", "", drawing)]


def study(levels=("relu", "a<b")):
    return Study(
        name="small",
        title="Small & neat",
        question="Is 1 < 2?",
        data="drawn <here>",
        factors={"f": levels},
        trial=trial,
        measures={"loss": "what is lost"},
        tuning=Tuning("rate", by="loss"),
        claims=(
            Claim("holds", "It <holds>.", "By looking.", lambda r: Verdict("only if", "42 of 43", "it is cold")),
            Claim("breaks", "It breaks.", "By looking.", lambda r: 1 / 0),
        ),
        sizes={"full": Size(seeds=2, tuning=(0.1, 0.2), takes="no time")},
        answer=lambda results, verdicts: "Yes: 1 < 2.",
        references=lambda: {"a reference": {"loss": 1.5}},
        figures=figures,
    )


@pytest.fixture
def results(tmp_path):
    return api.run(study(), storage=tmp_path / "t.db", progress=False)


class Reader(HTMLParser):
    """Collects what a page would fetch, its ids, and whether tags close in order."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.fetched += [v for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")]
        self.fetched += [tag] if tag in ("script", "link", "iframe") else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    assert not reader.open
    return reader, " ".join(reader.text)


def test_the_page_needs_nothing_else(results, tmp_path):
    page = report.html(results, tmp_path / "r.html")
    reader, _ = read(page)
    assert reader.fetched == [] and "@import" not in page.read_text("utf-8")
    assert not re.search(r"url\((?!#)", page.read_text("utf-8"))


def test_the_page_says_everything(results, tmp_path):
    _, text = read(report.html(results, tmp_path / "r.html"))
    flat = " ".join(text.split())
    for part in (
        *("Small & neat", "Is 1 < 2?", "Yes: 1 < 2.", "drawn <here>", "It <holds>.", "By looking.", "42 of 43"),
        *("only if it is cold", "could not be judged: ZeroDivisionError", "First <figure>", "a<b", "∞", "a reference"),
        *("torch 2.", "0, 1", "0.1, 0.2", "varphi study run small --size full --seeds 2", "α < β", "what is lost"),
    ):
        assert part in flat, part


def test_drawings_share_no_ids_and_take_the_pages_colours(results, tmp_path):
    page = report.html(results, tmp_path / "r.html")
    reader, _ = read(page)
    assert len(reader.ids) == len(set(reader.ids)) > 0
    drawings = re.findall(r"<svg.*?</svg>", page.read_text("utf-8"), flags=re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        ET.fromstring(drawing)
        assert "var(--ink)" in drawing and "#010203" not in drawing and 'viewBox="' in drawing
        for used in re.findall(r'(?:href="#|url\(#)([^")]+)', drawing):
            assert f'id="{used}"' in drawing


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 3.0, np.nan, 2.0], "2 (1 of 4 NaN)"),
        ([np.nan, 0.25], "0.25 (1 of 2 NaN)"),
        ([np.nan, 0.25, np.nan], "NaN (2 of 3)"),
        ([np.inf, 1.0, np.inf], "∞ [1, ∞]"),
    ],
)
def test_runs_without_a_number_are_counted_and_are_not_infinite(results, values, told):
    row = replace(results.rows[0], measures={"loss": np.array([values])}, chosen=0)
    _, line = replace(results, rows=(row,)).table()
    assert line[-1] == told


def test_a_long_name_breaks_in_a_narrow_column_and_a_command_between_its_words(results, tmp_path):
    named = replace(
        results, study=replace(results.study, factors={"Morris–Lecar, a_level_of_twenty_six_letters": ("relu",)})
    )
    row = replace(results.rows[0], setting={next(iter(named.study.factors)): "relu"})
    text = page_text(replace(named, rows=(row,)), tmp_path)
    assert "Morris–Lecar, a_level_of_t<wbr>wenty_six_le<wbr>tters" in text
    assert '<span class="word">--seeds</span> <span class="word">2</span>' in text


def test_code_in_prose_is_set_as_code(results, tmp_path):
    told = replace(results, study=replace(results.study, data="`fetch<x>` from `a` table"))
    assert "<dd><code>fetch&lt;x&gt;</code> from <code>a</code> table</dd>" in page_text(told, tmp_path)


def page_text(results, folder):
    return report.html(results, folder / "r.html").read_text("utf-8")


def test_failures_are_shown_with_their_traceback(tmp_path):
    broken = api.run(study(("relu", "broken <b>")), storage=tmp_path / "t.db", progress=False)
    page = report.html(broken, tmp_path / "r.html")
    _, text = read(page)
    assert "RuntimeError: no & <never>" in text and "1 of 2 settings are finished" in text
    # Folded away: nothing outside <details> shows a traceback.
    assert "Traceback (most" not in re.sub(r"<details.*?</details>", "", page.read_text("utf-8"), flags=re.DOTALL)


def test_an_unwritable_path_is_refused_before_any_drawing(results, tmp_path, monkeypatch):
    monkeypatch.setattr(report.page, "page", lambda results: pytest.fail("worked before it checked"))
    with pytest.raises(FileNotFoundError, match="make it first"):
        report.html(results, tmp_path / "none" / "r.html")
    with pytest.raises(IsADirectoryError, match="it is a directory"):
        report.html(results, tmp_path)
    with pytest.raises(OSError, match="choose another directory"):
        report.html(results, "/proc/r.html")


def test_a_failure_while_writing_leaves_the_old_page(results, tmp_path, monkeypatch):
    old = tmp_path / "r.html"
    old.write_text("the old page")
    monkeypatch.setattr(report.page, "page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.html(results, old)
    assert old.read_text() == "the old page" and [p.name for p in tmp_path.glob(".r*")] == []
