"""Events within a step of one sample: put in the order of time, located, recorded, and whether an orbit has closed.

`drive`'s machine code calls `_handle` for a lane in whose step an event's function changes its sign. It is compiled by
numba when events are first looked for; with numba's compiler off (NUMBA_DISABLE_JIT) it runs as Python, slowly.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from typing import Any

import numpy as np
from numba import cfunc, njit, types
from numba.np.numpy_support import carray

from varphi.numbers.kernel.batch import WIDTH
from varphi.numbers.kernel.lanes import DOUBLE, I64

from .machine import FLOATS, WHOLES
from .status import Status
from .steps import UNCOMPILED, call

RUNNING, _STOPPED, _CLOSED = -1, int(Status.STOPPED), int(Status.CLOSED)
# What `handle` takes, in order; shapes are given in `drive.ARGUMENTS`.
CALLED: dict[str, Any] = {
    "lane": I64,
    "sample": I64,
    "t": DOUBLE,
    "h": DOUBLE,
    "theta": FLOATS,  # out: the fraction of the step at which the sample ends
    "events": I64,  # address
    "states": I64,
    "parameter_count": I64,
    "kinds": I64,
    "room": I64,
    "section": I64,
    "returns": I64,
    "closing": DOUBLE,
    "directions": WHOLES,
    "terminal": WHOLES,
    "rows": FLOATS,
    "new": FLOATS,
    "dense": FLOATS,
    "g_old": FLOATS,
    "g_new": FLOATS,
    "g_scratch": FLOATS,
    "totals": FLOATS,
    "low": FLOATS,
    "high": FLOATS,
    "span_low": FLOATS,
    "span_high": FLOATS,
    "spans": FLOATS,
    "turns": FLOATS,
    "event_times": FLOATS,
    "event_kinds": WHOLES,
    "event_states": FLOATS,
    "event_counts": WHOLES,
    "periods": FLOATS,
}


def _compiled(function: Any) -> Any:
    return function if UNCOMPILED else njit(cache=True, error_model="numpy")(function)


@_compiled
def _at(dense, theta, i, lane):
    """State i of a lane at the fraction theta of its step."""
    back = 1.0 - theta
    inner = dense[2, i, lane] + theta * (dense[3, i, lane] + back * dense[4, i, lane])
    return dense[0, i, lane] + theta * (dense[1, i, lane] + back * inner)


@_compiled
def _located(events, rows, dense, g_old, g_new, out, e, lane, t, h, n):
    """The fraction of a lane's step at which an event happens, on the continuous extension (Illinois' method)."""
    low, high = 0.0, 1.0
    a, b = g_old[e, lane], g_new[e, lane]
    if b == 0.0:  # exactly at the end, as at rest: there is no sign to bracket
        return 1.0
    side = 0
    theta = 1.0
    for _ in range(60):
        theta = (low * b - high * a) / (b - a)
        if not (low < theta < high):
            theta = 0.5 * (low + high)
        for i in range(n):
            rows[i, lane] = _at(dense, theta, i, lane)
        rows[rows.shape[0] - 1, lane] = t + theta * h
        call(events, rows, out)
        c = out[e, lane]
        if c == 0.0 or high - low < 1e-14:
            break
        if (c > 0.0) == (b > 0.0):
            high, b = theta, c
            if side == -1:
                a *= 0.5
            side = -1
        else:
            low, a = theta, c
            if side == 1:
                b *= 0.5
            side = 1
        if high - low < 1e-14:
            break
    return theta


@_compiled
def _first(events, rows, dense, g_old, g_new, out, directions, lane, t, h, n):
    """The first event in the step that has not been recorded, and where in the step; -1 if there is none."""
    best, where = -1, 2.0
    for e in range(directions.shape[0]):
        a, b = g_old[e, lane], g_new[e, lane]
        rises, falls = a < 0.0 and b >= 0.0, a > 0.0 and b <= 0.0
        if (rises and directions[e] >= 0) or (falls and directions[e] <= 0):
            theta = _located(events, rows, dense, g_old, g_new, out, e, lane, t, h, n)
            if theta < where:
                best, where = e, theta
    return best, where


@_compiled
def _back(which, count, section, returns):
    """Where in the ring the return lies that is this many returns older than the last event; -1 if it is not kept."""
    room = which.shape[0]
    seen = 0
    for further in range(1, min(count, room)):
        place = (count - 1 - further) % room
        if which[place] == section:
            seen += 1
            if seen == returns:
                return place
    return -1


@_compiled
def _near(where, a, b, closing, spans, lane):
    for i in range(where.shape[1]):
        first, second = where[a, i], where[b, i]
        # Relative to the recent orbit, not to the whole course: what comes to rest closes nothing.
        if abs(first - second) > closing * spans[i, lane] + 4e-15 * abs(first):
            return False
    return True


@_compiled
def _closed(which, where, count, section, closing, returns, spans, turns, lane):
    """After how many returns to the section the orbit comes back to the same state; 0 if it does not yet.

    The last two periods must agree: an orbit may pass near an old state once.
    """
    last = (count - 1) % which.shape[0]
    for back in range(1, returns + 1):
        place = _back(which, count, section, back)
        if place < 0:
            return 0
        if _near(where, last, place, closing, spans, lane):
            # The same number of returns before that.
            older = _back(which, count, section, 2 * back)
            # And the return must be as large as it was: what spirals to rest comes near too, ever smaller.
            alike = abs(turns[last, lane] - turns[place, lane]) <= 1e-3 * turns[place, lane]
            if alike and older >= 0 and _near(where, place, older, closing, spans, lane):
                return back
            return 0
    return 0


@_compiled
def _least(which, where, count, section, closing, back, spans, lane):
    """The fewest returns that divide `back` and come near too: noise may delay that a period is seen as closed."""
    last = (count - 1) % which.shape[0]
    for fewer in range(1, back):
        if back % fewer == 0:
            place = _back(which, count, section, fewer)
            if place >= 0 and _near(where, last, place, 100.0 * closing, spans, lane):
                return fewer
    return back


def _handle(
    lane, sample, t, h, theta, events, states, parameter_count, kinds, room, section, returns, closing,
    directions, terminal, rows, new, dense, g_old, g_new, g_scratch, totals,
    low, high, span_low, span_high, spans, turns, event_times, event_kinds, event_states, event_counts, periods,
):  # fmt: skip
    """The events of a lane's step; RUNNING, or how they end the sample: then `theta` and `new` are its last point."""
    n = states
    ends = carray(theta, (1,))
    todo, stops = carray(directions, (kinds,)), carray(terminal, (kinds,))
    row, result = carray(rows, (n + parameter_count + 1, WIDTH)), carray(new, (n, WIDTH))
    curve = carray(dense, (5, n, WIDTH))
    old, now, scratch, total = (
        carray(g_old, (kinds, WIDTH)), carray(g_new, (kinds, WIDTH)), carray(g_scratch, (kinds, WIDTH)),
        carray(totals, (kinds, WIDTH)),
    )  # fmt: skip
    least, most = carray(low, (n, WIDTH)), carray(high, (n, WIDTH))
    turn_low, turn_high, span = carray(span_low, (n, WIDTH)), carray(span_high, (n, WIDTH)), carray(spans, (n, WIDTH))
    size = carray(turns, (room, WIDTH))
    when = carray(event_times, (sample + 1, room))[sample]
    which = carray(event_kinds, (sample + 1, room))[sample]
    where = carray(event_states, (sample + 1, room, n))[sample]
    counts, period = carray(event_counts, (sample + 1,)), carray(periods, (sample + 1, 2))
    for _ in range(8 * kinds):
        event, at = _first(events, row, curve, old, now, scratch, todo, lane, t, h, n)
        if event < 0:
            break
        old[event, lane] = now[event, lane] if now[event, lane] != 0.0 else -old[event, lane]
        total[event, lane] += 1.0
        place = counts[sample] % room
        counts[sample] += 1
        when[place], which[place] = t + at * h, event
        for i in range(n):
            where[place, i] = _at(curve, at, i, lane)
        ended = RUNNING
        if event == section:
            size[place, lane] = 0.0
            for i in range(n):
                reach = max(turn_high[i, lane] - turn_low[i, lane], 0.0)
                size[place, lane] += reach / max(most[i, lane] - least[i, lane], 1e-300)
                span[i, lane] = max(reach, 0.7 * span[i, lane])
                turn_low[i, lane], turn_high[i, lane] = np.inf, -np.inf
            back = _closed(which, where, counts[sample], section, closing, returns, span, size, lane)
            if back > 0:
                fewest = _least(which, where, counts[sample], section, closing, back, span, lane)
                whole = when[place] - when[_back(which, counts[sample], section, back)]
                period[sample, 0], period[sample, 1] = whole * fewest / back, fewest
                ended = _CLOSED
        if ended == RUNNING and stops[event] > 0 and total[event, lane] >= stops[event]:
            ended = _STOPPED
        if ended != RUNNING:
            ends[0] = at
            for i in range(n):
                result[i, lane] = _at(curve, at, i, lane)
            return ended
    return RUNNING


@functools.cache
def handler() -> Any:
    """`_handle` as a C function: an object with its `address`."""
    if UNCOMPILED:
        return _Uncompiled()
    names = {I64: types.int64, DOUBLE: types.float64, FLOATS: types.CPointer(types.float64)}
    kinds = [names.get(kind, types.CPointer(types.int64)) for kind in CALLED.values()]
    return cfunc(types.int64(*kinds), cache=True, error_model="numpy")(_handle)


class _Uncompiled:
    """`_handle` as Python that C can call."""

    def __init__(self) -> None:
        warnings.warn(
            "numba's compiler is off (NUMBA_DISABLE_JIT): events run as Python, hundreds of times slower",
            RuntimeWarning,
            stacklevel=3,
        )
        names = {I64: ctypes.c_int64, DOUBLE: ctypes.c_double, FLOATS: ctypes.POINTER(ctypes.c_double)}
        kinds = [names.get(kind, ctypes.POINTER(ctypes.c_int64)) for kind in CALLED.values()]
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(_handle)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value
