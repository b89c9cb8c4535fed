"""Reports in a real browser: on a phone, on a wide screen, in the dark, on paper."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing

from varphi import report
from varphi.study import Claim, Contest, Figure, Outcome, Size, Study, Tuning, api
from varphi.study.statistics import paired
from varphi.study.verdict import judged


def helper(name):
    """A module that stands beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


browsers = helper("browser")
pytestmark = pytest.mark.skipif(browsers.PROGRAM is None, reason="needs Chromium: apt-get install chromium")

PHONE, SCREEN = 390, 1200
# 210 mm less twice 14, 297 mm less twice 12, in CSS pixels.
PORTRAIT, LANDSCAPE = 688, 1031
UNBROKEN = "https://example.org/" + "a-long-path-without-any-space/" * 8
FORMULA = "f(x)=" + "σ(W₁x+b₁)·" * 20
MEASURES = {f"measure_number_{i}": f"the {i}th, of {FORMULA}" for i in range(9)}
NAMES = ("softplus", "a_level_with_a_long_name_and_no_space_" * 2, "a level whose name is long and has spaces in it")


def trial(setting, seeds, points):
    if setting["f"] == "broken":
        raise RuntimeError(f"no result for {UNBROKEN}")
    scale = 10.0 ** (3 * NAMES.index(setting["f"]) - 4)
    values = scale * np.array([[seed + 1 / 3 for seed in seeds] for _ in points])
    return Outcome(dict.fromkeys(MEASURES, values))


def judge(results):
    family = [
        paired(*(results.values("measure_number_0", f=name) for name in (other, NAMES[0]))) for other in NAMES[1:]
    ]
    return judged(family, conditions=[(FORMULA, ""), (UNBROKEN, "")])


def figures(results):
    narrow, wide = Drawing(figsize=(2, 1.5)), Drawing(figsize=(9, 3))
    for drawing in (narrow, wide):
        drawing.subplots().set_title("a title of letters")
    return [Figure(UNBROKEN, FORMULA, narrow), Figure("Wide", UNBROKEN, wide)]


def study(levels):
    return Study(
        name="unwieldy",
        title=f"Everything that is too wide: {FORMULA}",
        question=f"Does {UNBROKEN} fit?",
        data=UNBROKEN,
        factors={"f": levels, "another factor": ("with one level",)},
        trial=trial,
        measures=MEASURES,
        tuning=Tuning("learning rate", by="measure_number_0"),
        claims=(Claim(FORMULA, UNBROKEN, FORMULA, judge),),
        sizes={"full": Size(seeds=8, tuning=(0.1, 0.2), takes="no time")},
        answer=lambda results, verdicts: f"See {UNBROKEN}.",
        contests=(Contest(UNBROKEN, "measure_number_1", among=("f",), at={}),),
        references=lambda: {UNBROKEN: dict.fromkeys(MEASURES, 1.5)},
        figures=figures,
    )


def unwieldy(folder):
    return api.run(study(NAMES), storage=folder / "t.db", progress=False)


def broken(folder):
    return api.run(study((*NAMES, "broken")), storage=folder / "t.db", progress=False)


def constrained(folder):
    return api.run("constrained", storage=folder / "t.db", size="smoke", progress=False)


@pytest.fixture(scope="module", params=[unwieldy, broken, constrained], ids=lambda made: made.__name__)
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return report.html(request.param(folder), folder / "r.html")


@pytest.fixture(scope="module")
def chromium():
    with browsers.browser() as running:
        yield running


@pytest.fixture
def opened(chromium, page):
    """Opens the page; closed after the test."""
    pages = []

    def open_(*arguments, **options):
        pages.append(browsers.Page(chromium, page.as_uri(), *arguments, **options))
        return pages[-1]

    yield open_
    for one in pages:
        one.close()


OVERFLOWING = """[...document.querySelectorAll('body *')].filter(e => !e.parentElement.closest('.scroll'))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < -0.5)
  .map(e => e.outerHTML.slice(0, 80))"""
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"


@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_the_page_is_never_wider_than_the_screen(opened, width):
    found = opened(width)
    for unfold in ("null", OPEN_ALL):
        found.evaluate(unfold)
        assert found.evaluate("innerWidth") == width
        assert found.evaluate("document.documentElement.scrollWidth") <= width
        assert found.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_it_asks_for_nothing_and_complains_of_nothing(opened, page, width):
    found = opened(width)
    assert found.requests[0] == page.as_uri()
    # Drawings may hold pictures in themselves.
    assert all(address.startswith("data:") for address in found.requests[1:])
    assert found.complaints == []


@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_drawings_are_there_and_their_letters_can_be_read(opened, page, width):
    found = opened(width)
    drawn = found.evaluate("[...document.querySelectorAll('svg')].map(e => [e.clientWidth, e.clientHeight])")
    assert len(drawn) == page.read_text("utf-8").count("<svg ")
    assert all(w > 100 and h > 50 for w, h in drawn)
    # Of a drawing's unit, times the size of its letters: what the eye sees, in CSS pixels.
    letters = """[...document.querySelectorAll('svg text')].map(e =>
      parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getScreenCTM().a)"""
    assert all(size >= 9 for size in found.evaluate(letters))


def test_what_is_too_wide_scrolls_in_its_own_box(opened, page):
    found = opened(PHONE)
    boxes = """[...document.querySelectorAll('.scroll')].map(e =>
      [e.scrollWidth, e.clientWidth, getComputedStyle(e).overflowX])"""
    found.evaluate(OPEN_ALL)
    scrolling = found.evaluate(boxes)
    assert any(inner > outer for inner, outer, _ in scrolling) and all(way == "auto" for *_, way in scrolling)


def test_dark_paper_is_dark_and_print_is_light(opened):
    def brightness(page, what):
        return sum(map(int, re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{what}"))[:3]))

    dark = opened(SCREEN, dark=True)
    assert brightness(dark, "backgroundColor") < 150 < 500 < brightness(dark, "color")
    dark.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert brightness(dark, "color") == 0 and brightness(dark, "backgroundColor") == 3 * 255
    text = "getComputedStyle(document.querySelector('.verdict')).color"
    printed = dark.evaluate(text)
    dark.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert printed == dark.evaluate(text)


def test_it_can_be_printed(opened):
    found = opened(SCREEN)
    paper = found.pdf()
    assert paper.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", paper)) >= 1
    # Between the margins of A4, wide tables on its side, nothing is cut off and nothing stays folded.
    found.call("Emulation.setEmulatedMedia", media="print")
    for width, there in ((LANDSCAPE, "body *"), (PORTRAIT, "body *:not(.table:has(.wide), .table:has(.wide) *)")):
        found.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
        right = f"[...document.querySelectorAll('{there}')].map(e => e.getBoundingClientRect().right)"
        assert max(found.evaluate(right)) <= width + 0.5
    assert found.evaluate("[...document.querySelectorAll('pre')].every(e => e.scrollWidth <= e.clientWidth)")
    assert found.evaluate(
        "[...document.querySelectorAll('details > *')].every(e => e.getBoundingClientRect().height > 0)"
    )
    whole = "getComputedStyle(document.querySelector('{}')).breakInside"
    assert found.evaluate(whole.format("tr")) == found.evaluate(whole.format(".claim")) == "avoid"


def test_a_screenshot_shows_something(opened, tmp_path):
    from matplotlib.image import imread

    (tmp_path / "r.png").write_bytes(opened(PHONE).screenshot())
    pixels = imread(tmp_path / "r.png")[..., :3]
    # Something dark on something light, and more than two colours: text, panels, figures.
    colours = np.unique((pixels[::2, ::2] * 8).astype(int).reshape(-1, 3), axis=0)
    assert pixels.min() < 0.3 and pixels.max() > 0.95 and len(colours) > 8
