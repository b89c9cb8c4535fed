"""Figures of membranes, with units. Colours and fonts are the caller's: whoever draws sets matplotlib's style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from varphi.study import Figure as Drawn
from varphi.study.results import Results

from .curves import Curves
from .diagram import BifurcationDiagram
from .equilibria import special_points
from .firing import BISTABLE, REST, SPIKING, UNRESOLVED, FICurve
from .gates import VOLTAGE
from .model import APPLIED, Model
from .phase_plane import PhasePlane
from .plane import KINDS, ExcitabilityMap
from .prc import PhaseResponse, StrengthDuration
from .sweep import Equations

_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY, _GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#9A9A9A",
)  # fmt: skip
_MARKERS = {"fold": ("s", "fold"), "hopf": ("o", "Hopf point")}
_KIND_COLOURS = (_BLUE, _VERMILION, _ORANGE, _GREEN, _PURPLE, "#E6E6E6", "#000000")


def _axes(axes: Axes | None, size: tuple[float, float] = (5.6, 3.6)) -> Axes:
    return Figure(figsize=size, layout="constrained").subplots() if axes is None else axes


def _label(model: Model, name: str, words: str) -> str:
    return f"{words}{model.unit(name)}"


def draw_fi(curve: FICurve, axes: Axes | None = None) -> Axes:
    """Frequency against current: filled where it must fire, open where it may also rest, crosses where unresolved."""
    axes = _axes(axes)
    order = np.argsort(curve.currents, kind="stable")
    i, f = curve.currents[order], curve.frequency[order]
    status = np.array(curve.status)[order]
    firing = np.isin(status, (SPIKING, BISTABLE))
    # A gap where firing ends: what jumps is not drawn as a slope.
    axes.plot(i, np.where(firing, f, np.nan), color=_BLUE, linewidth=1.2, zorder=1)
    for name, style in (
        (SPIKING, {"marker": "o", "color": _BLUE, "label": "fires"}),
        (BISTABLE, {"marker": "o", "facecolor": "white", "edgecolor": _BLUE, "label": "fires or rests"}),
        (REST, {"marker": ".", "color": _GREY, "label": "rests"}),
    ):
        here = status == name
        if here.any():
            given: dict[str, Any] = dict(style)
            axes.scatter(i[here], f[here], s=18 if name != REST else 10, zorder=2, **given)
    lost = status == UNRESOLVED
    if lost.any():
        axes.scatter(i[lost], np.zeros(lost.sum()), marker="x", color=_VERMILION, s=22, label="unresolved")
    model = curve.model
    axes.set_xlabel(_label(model, APPLIED, "applied current I"))
    axes.set_ylabel(f"frequency ({model.frequency[1]})")
    axes.set_title(model.name)
    axes.legend()
    return axes


def draw_steady_current(model: Model, axes: Axes | None = None) -> Axes:
    """I_ss(V), drawn as the equilibria over the current, with every fold and Hopf point; dashed where unstable."""
    axes = _axes(axes)
    found = special_points(model)
    low, high = model.span
    v = np.unique([*np.linspace(low, high, 1500), *(p.V for p in found.points)])
    equations = Equations(model)
    current, stable = equations.steady_current(v, {}), np.less(equations.growth(v, {}), 0)
    axes.plot(np.where(stable, current, np.nan), v, color=_BLUE, label="stable")
    axes.plot(np.where(stable, np.nan, current), v, color=_VERMILION, linestyle="--", label="unstable")
    named: set[str] = set()
    for point in found.points:
        marker, words = _MARKERS[point.kind]
        label = words if words not in named else None
        named.add(words)
        axes.scatter([point.I], [point.V], marker=marker, color="black", s=26, zorder=3, label=label)
    left, right = _interesting(current, [p.I for p in found.points])
    shown = v[np.logical_and(current >= left, current <= right)]
    axes.set_xlim(left, right)
    margin = 0.05 * float(np.ptp(shown))
    axes.set_ylim(float(shown.min()) - margin, float(shown.max()) + margin)
    axes.set_xlabel(_label(model, APPLIED, "applied current I"))
    axes.set_ylabel(_label(model, VOLTAGE, "equilibrium potential V"))
    axes.set_title(model.name)
    axes.legend()
    return axes


def _interesting(current: np.ndarray, marks: Sequence[float]) -> tuple[float, float]:
    """The range of the current that holds what happens."""
    if not marks:
        return float(current.min()), float(current.max())
    margin = 0.25 * max(max(marks) - min(marks), 0.2 * max(map(abs, marks)), 1e-9)
    return min(marks) - margin, max(marks) + margin


_MARKS = {
    "fold of cycles": ("v", "fold of cycles"), "period doubling": ("d", "period doubling"), "torus": ("p", "torus"),
    "saddle-node on the cycle": ("*", "saddle-node on the cycle"), "homoclinic": ("*", "homoclinic orbit"),
}  # fmt: skip


def draw_diagram(
    found: BifurcationDiagram, axes: Sequence[Axes] | None = None, currents: tuple[float, float] | None = None
) -> tuple[Axes, Axes]:
    """Equilibria and the extremes of V on cycles over the current, and below them the cycles' frequency.

    Solid where stable, dashed where not; every special point is named.

    Args:
        axes: for V and for the frequency.
        currents: the range to show; by default all that happens.
    """
    if axes is None:
        drawing = Figure(figsize=(7.6, 5.2), layout="constrained")
        upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=[2.4, 1])
    else:
        upper, lower = axes
    model, scale = found.model, found.model.frequency[0]
    _both(upper, found.I, found.V, found.stable, _BLUE, "equilibrium")
    for k, c in enumerate(found.cycles):
        _both(upper, c.I, c.high, c.stable, _GREEN, "cycle, extremes of V" if k == 0 else None)
        _both(upper, c.I, c.low, c.stable, _GREEN, None)
        _both(lower, c.I, scale / c.period, c.stable, _GREEN, None)
    named: set[str] = set()
    for kind, current, heights, frequency in _special(found):
        marker, words = {**_MARKERS, **_MARKS}[kind]
        shape: dict[str, Any] = {"marker": marker, "color": "black", "s": 60 if marker == "*" else 24, "zorder": 4}
        upper.scatter([current] * len(heights), heights, label=None if words in named else words, **shape)
        if frequency is not None:
            lower.scatter([current], [frequency], **shape)
        named.add(words)
    left, right = _shown(found) if currents is None else currents
    upper.set_xlim(left, right)
    inside = [v[np.logical_and(i >= left, i <= right)] for i, v in
              ((found.I, found.V), *((c.I, e) for c in found.cycles for e in (c.low, c.high)))]  # fmt: skip
    low, high = min(float(v.min()) for v in inside if v.size), max(float(v.max()) for v in inside if v.size)
    upper.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    upper.set_ylabel(_label(model, VOLTAGE, "potential V"))
    lower.set_ylabel(f"frequency ({model.frequency[1]})")
    lower.set_ylim(bottom=0)
    lower.set_xlabel(_label(model, APPLIED, "applied current I"))
    upper.set_title(model.name)
    upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return upper, lower


def _both(axes: Axes, x: np.ndarray, y: np.ndarray, stable: np.ndarray, colour: str, words: str | None) -> None:
    """A curve, solid where stable and dashed where not, without a gap between."""
    for wanted, line, told in ((True, "-", "stable"), (False, "--", "unstable")):
        here = stable == wanted
        # A piece reaches to the next point beyond it.
        near = here | np.append(here[1:], False)
        if here.any():
            axes.plot(
                np.where(near, x, np.nan), np.where(near, y, np.nan), color=colour, linestyle=line,
                linewidth=1.8 if wanted else 1.1, label=f"{words}, {told}" if words else None,
            )  # fmt: skip


def _special(found: BifurcationDiagram) -> list[tuple[str, float, list[float], float | None]]:
    scale = found.model.frequency[0]
    points: list[tuple[str, float, list[float], float | None]] = [(p.kind, p.I, [p.V], None) for p in found.special]
    return points + [(m.kind, m.I, [m.low, m.high], scale / m.period) for m in found.marks]


def _shown(found: BifurcationDiagram) -> tuple[float, float]:
    marks = [p.I for p in found.special] + [m.I for m in found.marks]
    # A fold far below all cycles, on the way back of the curve, is not what a membrane meets.
    cycles = [float(e) for c in found.cycles for e in (c.I.min(), c.I.max())]
    if cycles:
        marks = [i for i in marks if i > min(cycles) - 0.5 * (max(cycles) - min(cycles))] + cycles
    return _interesting(found.I, marks)


def draw_phase_plane(plane: PhasePlane, axes: Axes | None = None) -> Axes:
    """Nullclines, equilibria (filled where stable, half for saddles), separatrices, orbits, the direction of motion."""
    axes = _axes(axes, (7.6, 4.4))
    model, gate = plane.model, plane.model.states[1]
    _draw_field(plane, axes)
    for k, orbit in enumerate(plane.orbits):
        axes.plot(*orbit, color=_GREY, linewidth=0.9, label="orbits" if k == 0 else None, zorder=2)
        axes.plot(*orbit[:, 0], marker=".", color=_GREY, zorder=2)
    named: set[bool] = set()
    for branch in plane.separatrices:
        words = f"{'stable' if branch.stable else 'unstable'} manifold of the saddle"
        style: dict[str, Any] = {"color": _PURPLE, "linestyle": "--"} if branch.stable else {"color": _ORANGE}
        axes.plot(
            *branch.path, linewidth=1.2, zorder=3, label=None if branch.stable in named else words, **style
        )  # fmt: skip
        named.add(branch.stable)
    axes.plot(plane.V, plane.voltage_nullcline, color=_BLUE, label="dV/dt = 0", zorder=4)
    axes.plot(plane.V, plane.gate_nullcline, color=_GREEN, label=f"d{gate}/dt = 0", zorder=4)
    height = float(np.ptp(plane.gate_nullcline))
    low, high = float(plane.gate_nullcline.min()), float(plane.gate_nullcline.max())
    shown: set[str] = set()
    for e in plane.equilibria:
        x = e.state[gate]
        for _, vector in plane.directions(e):
            reach = vector / np.hypot(vector[0] / (plane.V[-1] - plane.V[0]), vector[1] / height) * 0.06
            axes.plot(
                [e.V - reach[0], e.V + reach[0]], [x - reach[1], x + reach[1]], color="black", linewidth=0.8, zorder=5
            )
        marker = "D" if e.kind == "saddle" else "o"
        axes.scatter(
            [e.V], [x], s=34, marker=marker, facecolor="black" if e.stable else "white", edgecolor="black", zorder=6,
            label=None if e.kind in shown else e.kind,
        )  # fmt: skip
        shown.add(e.kind)
    axes.set_xlim(plane.V[0], plane.V[-1])
    axes.set_ylim(low - 0.1 * height, high + 0.1 * height)
    axes.set_xlabel(_label(model, VOLTAGE, "potential V"))
    axes.set_ylabel(f"gate {gate}")
    axes.set_title(f"{model.name}, I = {plane.I:g} {model.units[APPLIED]}".rstrip())
    axes.grid(visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


def _draw_field(plane: PhasePlane, axes: Axes) -> None:
    """Arrows of one length: which way, not how fast, which spans orders of magnitude."""
    field = plane.field
    x, y = field.dV / np.ptp(field.V), field.dgate / np.ptp(field.gate)
    length = np.hypot(x, y)
    with np.errstate(invalid="ignore"):
        x, y = x / length, y / length
    axes.quiver(
        field.V, field.gate, x, y, angles="uv", pivot="mid", scale=38, width=0.0022, color="#C8C8C8", zorder=1
    )  # fmt: skip


def draw_phase_response(found: PhaseResponse, axes: Axes | None = None) -> Axes:
    """By how much a kick at each phase brings the next spikes forward."""
    axes = _axes(axes)
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.plot(found.phase, found.advance, color=_BLUE)
    model = found.model
    per = " (ms per mV)" if not model.dimensionless else ""
    axes.set_xlabel("phase, in periods from the minimum of V")
    axes.set_ylabel(f"advance of later spikes{per}")
    axes.set_title(f"{model.name}, I = {found.I:g} {model.units[APPLIED]}".rstrip())
    return axes


def draw_strength_duration(found: StrengthDuration, axes: Axes | None = None) -> Axes:
    """Thresholds of single pulses over their duration, with the laws of Weiss and Lapicque, rheobase and chronaxie."""
    axes = _axes(axes)
    model = found.model
    known = np.isfinite(found.threshold)
    axes.scatter(found.durations[known], found.threshold[known], color="black", s=20, zorder=3, label="threshold")
    for law, colour, line in zip(found.laws(), (_BLUE, _VERMILION), ("-", "--"), strict=False):
        t = np.geomspace(found.durations[known].min(), found.durations[known].max(), 200)
        axes.plot(t, law(t), color=colour, linestyle=line, label=f"{law.name} ({law.misfit:.0%} off)")
    axes.axhline(found.rheobase, color=_GREY, linewidth=0.8, linestyle=":")
    unit, time = model.units[APPLIED], model.units["t"]
    axes.annotate(f"rheobase {found.rheobase:.3g} {unit}", (1, found.rheobase), xycoords=("axes fraction", "data"),
                  xytext=(-2, 3), textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    if np.isfinite(found.chronaxie):
        axes.plot([found.chronaxie] * 2, [found.rheobase, 2 * found.rheobase], color=_GREY, linewidth=0.8)
        axes.annotate(f"chronaxie {found.chronaxie:.3g} {time}", (found.chronaxie, 2 * found.rheobase), xytext=(5, 5),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"duration of the pulse{f' ({time})' if time else ''}")
    axes.set_ylabel(_label(model, APPLIED, "threshold"))
    axes.set_title(model.name)
    axes.legend()
    return axes


def draw_map(found: ExcitabilityMap, axes: Axes | None = None) -> Axes:
    """Which mechanism where in the plane of two parameters."""
    axes = _axes(axes, (6.4, 4.2))
    extent = (found.first[0], found.first[-1], found.second[0], found.second[-1])
    axes.imshow(
        found.kind.T, origin="lower", extent=extent, aspect="auto", interpolation="nearest",
        cmap=ListedColormap(_KIND_COLOURS), vmin=-0.5, vmax=len(KINDS) - 0.5,
    )  # fmt: skip
    shares = found.shares()
    handles = [
        Patch(color=_KIND_COLOURS[KINDS.index(name)], label=f"{name} ({share:.1%})") for name, share in shares.items()
    ]
    axes.set_xlabel(_label(found.model, found.names[0], found.names[0]))
    axes.set_ylabel(_label(found.model, found.names[1], found.names[1]))
    axes.set_title(found.model.name)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.grid(visible=False)
    return axes


_CURVES: dict[str, tuple[str, str]] = {
    "fold": (_BLUE, "-"),
    "subcritical Hopf": (_ORANGE, "--"),
    "supercritical Hopf": (_GREEN, "-"),
    "fold of cycles": (_VERMILION, "-"),
    "period doubling": (_PURPLE, ":"),
    "homoclinic": ("black", "-."),
    "saddle-node on the cycle": (_SKY, "-."),
}
_MEETINGS = {
    "cusp": ("^", "cusp"),
    "bogdanov-takens": ("D", "Bogdanov–Takens point"),
    "generalised hopf": ("o", "generalised Hopf point"),
    "cusp of cycles": ("v", "cusp of cycles"),
    "saddle-node loop": ("s", "saddle-node loop"),
}


def draw_curves(found: Curves, axes: Axes | None = None) -> Axes:
    """The two-parameter bifurcation diagram: curves over the current and the parameter, and where they meet."""
    axes = _axes(axes, (6.4, 4.4))
    drawn: set[str] = set()
    for line in found.lines:
        colour, style = _CURVES[line.kind]
        label = line.kind if line.kind not in drawn else None
        axes.plot(line.I, line.value, color=colour, linestyle=style, linewidth=1.3, label=label)
        drawn.add(line.kind)
    for point in found.points:
        marker, words = _MEETINGS[point.kind]
        label = words if point.kind not in drawn else None
        axes.scatter(
            [point.I], [point.value], marker=marker, s=24, facecolor="white", edgecolor="black", label=label, zorder=3
        )
        drawn.add(point.kind)
    axes.set_ylim(found.low, found.high)
    axes.set_xlabel(_label(found.model, APPLIED, "applied current I"))
    axes.set_ylabel(_label(found.model, found.parameter, found.parameter))
    axes.set_title(found.model.name)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


# The study ------------------------------------------------------------------------------------------------------------


def study_figures(results: Results) -> list[Drawn]:
    """The figures of the report on `neurons`: where in its plane each random membrane is of which kind."""
    from .trial import FAMILIES, LOW, shapes

    families = results.levels("family")
    drawing = Figure(figsize=(5.6, 0.4 + 3.0 * len(families)), layout="constrained")
    panels = drawing.subplots(len(families), 1, squeeze=False)[:, 0]
    for panel, family in zip(panels, families, strict=True):
        ranges = FAMILIES[family].ranges
        onset, node = (results.values(name, family=family) for name in ("onset", "saddle_node"))
        fires = results.values("fires", family=family) == 1
        x, y = shapes(ranges, range(len(onset))).values()
        for told, colour, where in (
            ("saddle-node, low rate", _BLUE, fires & (node == 1) & (onset < LOW)),
            ("saddle-node, jump", _VERMILION, fires & (node == 1) & (onset >= LOW)),
            ("Hopf point, jump", _ORANGE, fires & (node == 0) & (onset >= LOW)),
            ("Hopf point, low rate", "black", fires & (node == 0) & (onset < LOW)),
            ("does not fire, or unresolved", _GREY, ~fires),
        ):
            if where.any():
                panel.scatter(x[where], y[where], s=12, color=colour, label=f"{told} ({int(where.sum())})")
        first, second = ranges
        panel.set_title(family, fontsize=9.5)
        panel.set_xlabel(f"{first} (mV)")
        panel.set_ylabel(f"{second} (mV)")
        panel.legend(loc="upper left", bbox_to_anchor=(-0.03, -0.19), fontsize=8, ncols=2)
    caption = (
        f"Each point is a membrane with gates of its own. Low rate: below {LOW:g} Hz just above the current at which "
        "rest is lost, where the law of the saddle-node foretells 0.2 Hz."
    )
    return [Drawn("How membranes begin to fire", caption, drawing)]
