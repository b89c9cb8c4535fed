"""Writes the catalogue's pages while the site is built: a hook of mkdocs, and a script.

Each family is a page; each definition a section with its formula, its source and a figure of f, f' and f'', all from
the definition itself. Nothing is written into the source tree.

    python docs/generate_catalogue.py DIRECTORY
"""

from __future__ import annotations

import importlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from varphi.activation import registry
from varphi.activation.definition import Definition
from varphi.activation.lookup import get

MARKER = "<!-- families -->"
# Grey axes and three hues of middle lightness: legible on a light page and on a dark one.
GREY = "#8a8a8a"
CURVES = (("f", "#2f7fd1", "-"), ("f′", "#e0752d", "--"), ("f″", "#3aa37a", ":"))
STYLE = {"svg.fonttype": "path", "svg.hashsalt": "varphi", "font.family": "DejaVu Sans", "font.size": 8,
         "mathtext.fontset": "cm"}  # fmt: skip
WINDOWS = {
    **dict.fromkeys(("siren", "finer"), (-0.5, 0.5)),
    **dict.fromkeys(("sin", "cos", "sinc", "gcu", "amplifying_sine_unit", "ssu", "dsu", "snake", "snake_beta", "minsin",
                     "x_plus_sin", "cosid"), (-10.0, 10.0)),
    **dict.fromkeys(("hill_activator", "hill_repressor", "michaelis_menten", "ricker_map"), (-0.5, 5.0)),
    "haldane": (-1.0, 15.0),
    **dict.fromkeys(("boltzmann_gate", "hh_alpha_n", "hh_beta_n", "hh_alpha_m", "hh_beta_m", "hh_alpha_h", "hh_beta_h",
                     "morris_lecar_m", "nmda_unblock", "izhikevich"), (-100.0, 40.0)),
    "exponential_integrate_and_fire": (-80.0, -45.0),
    "pdelu": (-14.0, 6.0),
    "soft_clip": (-0.5, 1.5),
    **dict.fromkeys(("smooth_step", "laplace", "superspike", "rational"), (-2.0, 2.0)),
    "power": (-1.5, 1.5),
    "relu6": (-3.0, 9.0),
    **dict.fromkeys(("exp", "symexp", "sinh"), (-3.0, 2.5)),
    "wilson_cowan": (-4.0, 10.0),
}  # fmt: skip
DEFAULT_WINDOW = (-4.5, 4.5)


def families() -> dict[str, list[Definition]]:
    """The catalogue's definitions by the file that they stand in."""
    found: dict[str, list[Definition]] = {}
    for name in registry.names():
        definition = registry.definition(name)
        if definition.function.__module__.startswith("varphi.catalogue."):
            found.setdefault(definition.family, []).append(definition)
    return found


def about(family: str) -> str:
    """The first line of the family's file."""
    return (importlib.import_module(f"varphi.catalogue.{family}").__doc__ or "").splitlines()[0]


def title(family: str) -> str:
    return family.replace("_", " ").capitalize()


def svg(figure: Figure, **options: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **options)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def drawing(definition: Definition) -> str:
    """f, f' and f'' at the default parameters."""
    low, high = WINDOWS.get(definition.name, DEFAULT_WINDOW)
    x = torch.linspace(low, high, 901, dtype=torch.float64)
    rows = get(definition.name).derivatives(x, 2).numpy()
    rows[~np.isfinite(rows)] = np.nan
    bottom, top = frame(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.5))
        axes = figure.add_axes((0.1, 0.12, 0.87, 0.85))
        for row, (label, color, dashes) in zip(rows, CURVES, strict=True):
            axes.plot(x.numpy(), broken_at_jumps(row, top - bottom), dashes, color=color, lw=1.6, label=label)
        axes.axhline(0, color=GREY, lw=0.5)
        if low < 0 < high:
            axes.axvline(0, color=GREY, lw=0.5)
        axes.set_xlim(low, high)
        axes.set_ylim(bottom, top)
        axes.tick_params(colors=GREY, width=0.6, length=3)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(GREY)
        axes.legend(loc="best", frameon=False, labelcolor=GREY, handlelength=2.2)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        return svg(figure)


def frame(rows: np.ndarray) -> tuple[float, float]:
    """The range of f and f' with a margin; f'' may leave it where it is much larger."""
    inner = rows[:2][np.isfinite(rows[:2])]
    low, high = np.quantile(inner, [0.01, 0.99])
    span = max(high - low, 1e-3)
    second = rows[2][np.isfinite(rows[2])]
    low = min(low, max(second.min(), low - 0.6 * span))
    high = max(high, min(second.max(), high + 0.6 * span))
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def broken_at_jumps(row: np.ndarray, height: float) -> np.ndarray:
    """`row` with a gap where neighbours differ by more than a steep slope explains."""
    steps = np.abs(np.diff(row))
    around = np.maximum(np.roll(steps, 1), np.roll(steps, -1))
    jumps = (steps > 0.05 * height) & (steps > 8 * around)
    broken = row.copy()
    broken[1:][jumps] = np.nan
    return broken


def formula(definition: Definition) -> str:
    """The formula as an inline drawing in the colour of the text."""
    marked = "#010203"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.01, 0.01))
        latex = definition.latex.replace(r"\tfrac", r"\frac")
        figure.text(0, 0, f"${latex}$", fontsize=13, color=marked)
        drawn = svg(figure, bbox_inches="tight", pad_inches=0.03, transparent=True)
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL).replace(marked, "currentColor")
    # Several drawings share a page, so the ids of glyphs must not meet.
    drawn = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{definition.name}-", drawn)
    return re.sub(r"\s*\n\s*", " ", drawn)


def section(definition: Definition) -> Iterator[str]:
    yield f"## {definition.name} {{ #{definition.name} }}\n"
    yield f"{definition.doc}\n"
    yield f'<p class="formula" role="img" aria-label="{escaped(definition.latex)}">{formula(definition)}</p>\n'
    if definition.parameters:
        listed = (f"`{p.name}={p.default:g}` ({p.constraint})" for p in definition.parameters)
        yield f"- **Parameters:** {', '.join(listed)}"
    if definition.aliases:
        yield f"- **Also called:** {', '.join(f'`{a}`' for a in definition.aliases)}"
    if definition.torch:
        yield f"- **In torch:** `torch.nn.{definition.torch}`"
    yield f"- **Source:** {escaped(definition.source)}\n"
    yield f"![{definition.name} and its first two derivatives](figures/{definition.name}.svg){{ loading=lazy }}\n"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def page(family: str, definitions: list[Definition]) -> str:
    head = [f"# {title(family)}\n", f"{about(family)}\n"]
    return "\n".join([*head, *(line for d in definitions for line in section(d))])


def contents() -> str:
    """The table of the families, for the catalogue's first page."""
    rows = ["| Family | | Definitions |", "| --- | --- | --- |"]
    for family, definitions in families().items():
        names = ", ".join(f"[{d.name}]({family}.md#{d.name})" for d in definitions)
        rows.append(f"| [{title(family)}]({family}.md) | {about(family)} | {names} |")
    total = sum(map(len, families().values()))
    return "\n".join([f"{total} definitions in {len(families())} families.\n", *rows])


def files() -> Iterator[tuple[str, str]]:
    """Every generated file: its path under the documentation and its text."""
    for family, definitions in families().items():
        yield f"catalogue/{family}.md", page(family, definitions)
        for definition in definitions:
            yield f"catalogue/figures/{definition.name}.svg", drawing(definition)


def on_config(config: Any) -> Any:
    """Puts a line for each family under Catalogue."""
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Catalogue" in entry:
            entry["Catalogue"] = ["catalogue/index.md", *({title(f): f"catalogue/{f}.md"} for f in families())]
    return config


def on_files(files_: Any, config: Any) -> Any:
    """Adds the generated files to those of the site."""
    from mkdocs.structure.files import File

    for path, text in files():
        files_.append(File.generated(config, path, content=text))
    return files_


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in the table of the families."""
    return markdown.replace(MARKER, contents()) if page.file.src_uri == "catalogue/index.md" else markdown


def main(directory: str) -> None:
    for path, text in files():
        place = Path(directory) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/generate_catalogue.py DIRECTORY")
    main(sys.argv[1])
