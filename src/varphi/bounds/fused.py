"""The lines of `relaxation` in one pass over memory: the same formulas and slacks, compiled once for all activations.

f, f' and f'' come from the activation's own kernel, called by its address: the numbers whose errors `tower_errors`
has measured, bit for bit. It wants many points at once, so what is to be evaluated is collected: intervals are taken
in blocks, and a *task* is one convex piece of one of them, with a point that Newton's steps move.

An *item* k of a block is one of its intervals with a side: below f for k < width, below -f for the others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

# numba counts the references to every array with atomic operations, at each call and each row that is taken of one, and
# that takes longer than the arithmetic. Here all arrays are made before, and outlive the call.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True, "_nrt": False}
unmanaged: Any = njit(**_OPTIONS)

NODES = 256
NEWTON_STEPS = 2
CUTS = 24
# Cutting planes stop when the gap at the midpoint is within this fraction of the least one.
ENOUGH = 5e-4
# Steps of the search for the point where a bridge touches. It is found when the tangent there misses the far end by
# such a share of the bridge's rise, and of the curve's bend over it: the slope is then off by about the square of that.
BRIDGE_STEPS = 8
TOUCHED = 1e-3
# On a narrower interval the slope of a chord is noise.
NARROW = 1e-7
EPS = float(np.finfo(np.float64).eps)
TINY = 1e-300
# Keys of neighbouring pieces lie so far apart.
SPREAD = 4096.0
_LARGEST = float(np.finfo(np.float64).max)

_BLOCK = 128
# So many first pieces are told apart where intervals are put in order.
_PLACES = 16
_TASKS = 512

# Rows of an interval.
_START, _STOP, _AT_START, _AT_STOP, _ERROR_START, _ERROR_STOP, _MIDDLE, _F, _SLOPE, _BEND = range(10)
_FIRST_PIECE, _PIECES, _FIRST_BREAK, _BREAKS = range(4)
# Rows of an item.
_S, _HINT, _BEST, _X, _HEIGHT, _CEILING, _LEFT, _RIGHT, _AT_LEFT, _AT_RIGHT, _CHOSEN = range(11)
# Rows of a task; from _VALUE on what the kernel writes.
_AT, _NEWTON_LOW, _NEWTON_HIGH, _LOW, _HIGH, _FROM, _TO, _VALUE, _FIRST, _SECOND = range(10)
# Of a task that is a bridge: the end that it starts from, and whether the point has been left and right of where it is.
_FAR, _AT_FAR, _WAS_LEFT, _WAS_RIGHT = _FROM, _TO, _LOW, _HIGH


class Tables(NamedTuple):
    """An envelope's pieces, breaks and inverse slopes as arrays; what they are is said there."""

    starts: np.ndarray
    stops: np.ndarray
    inner_starts: np.ndarray
    inner_stops: np.ndarray
    kinds: np.ndarray
    loose: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    break_lower: np.ndarray
    break_upper: np.ndarray
    bottom: np.ndarray
    top: np.ndarray
    keys: np.ndarray
    node_x: np.ndarray
    errors: np.ndarray  # steps and absolute of f, then of f'


def _emit_tower(typing_context: Any, address: Any, x: Any, f: Any, slope: Any, bend: Any, count: Any) -> Any:
    """Call the kernel at an address: f, f', f'' at `count` points, all given by addresses."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, whole = ir.IntType(8).as_pointer(), ir.IntType(64)
        numbers = ir.DoubleType().as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer] * 4 + [numbers, whole, whole])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        arrays = [builder.inttoptr(a, pointer) for a in arguments[1:5]]
        builder.call(function, [*arrays, ir.Constant(numbers, None), whole(0), arguments[5]])
        return context.get_dummy_value()

    return types.void(address, x, f, slope, bend, count), emit


_tower: Any = intrinsic(_emit_tower)


@unmanaged
def _evaluate(address, x, f, slope, bend, count):
    _tower(address, x.ctypes.data, f.ctypes.data, slope.ctypes.data, bend.ctypes.data, count)


# NaN stays NaN in these, as in torch.


@unmanaged
def _least(a, b):
    return a if a < b or a != a else b


@unmanaged
def _most(a, b):
    return a if a > b or a != a else b


@unmanaged
def _clamp(x, low, high):
    return _least(_most(x, low), high)


@unmanaged
def _finite(x, otherwise):
    """A number in place of NaN and ±inf."""
    return x if abs(x) <= _LARGEST else otherwise


@unmanaged
def _below(values, first, stop, x):
    """How many of values[first:stop], rising, are below x; with first added."""
    while first < stop:
        middle = (first + stop) >> 1
        if values[middle] < x:
            first = middle + 1
        else:
            stop = middle
    return first


@unmanaged
def _up_to(values, x):
    """How many of the values, rising, are at most x."""
    first, stop = 0, len(values)
    while first < stop:
        middle = (first + stop) >> 1
        if values[middle] <= x:
            first = middle + 1
        else:
            stop = middle
    return first


@unmanaged
def logarithmic(slope):
    """A rising function that tells small slopes apart as well as large ones; between -1000 and 1000."""
    size = abs(_clamp(slope, -1e200, 1e200)) * 1e100
    # asinh(y) is log(2y) to the last digit there.
    value = math.log(2.0 * size) if size > 1e9 else math.asinh(size)
    return value if slope > 0 else -value


@unmanaged
def _interval(k, width):
    """Which of the block's intervals an item is of."""
    return k if k < width else k - width


@unmanaged
def _value_slack(tables, x, value, slope):
    size = abs(value) + abs(x * slope)
    size = 0.0 if size != size else min(size, _LARGEST)
    return tables.errors[0] * EPS * size + (tables.errors[1] + TINY)


@unmanaged
def _break_value(tables, side, i):
    if len(tables.bottom) == 0:
        return -np.inf
    return tables.bottom[i] if side > 0 else -tables.top[i]


@unmanaged
def _keep_least(items, k, value, place):
    before = items[_BEST, k]
    less = not (value >= before)  # NaN too
    # (Of two that are equal but for rounding the inner one, as in relaxation.)
    if less or value <= before + 1e-12 * abs(before) + 1e-14:
        items[_X, k] = place
    if less:
        items[_BEST, k] = value


@unmanaged
def _inverse(tables, slope, j, tasks, t):
    """About where f' has a slope on piece j, and between which points."""
    key = SPREAD * j + logarithmic(slope)
    first, last = j * NODES + 1, j * NODES + NODES - 1
    i = _below(tables.keys, j * NODES, (j + 1) * NODES, key)
    before_all, after_all = i < first, i > last
    i = min(max(i, first), last)
    before, after = tables.keys[i - 1], tables.keys[i]
    weight = _clamp((key - before) / _most(after - before, TINY), 0.0, 1.0)
    a, b = tables.node_x[i - 1], tables.node_x[i]
    # Beyond the nodes a Newton's step must not fly back over them: where f'' is nearly 0 it may have any length.
    below, above = (before_all, after_all) if a <= b else (after_all, before_all)
    low, high = (-np.inf if below else _least(a, b)), (np.inf if above else _most(a, b))
    tasks[_AT, t] = a + weight * (b - a)
    tasks[_NEWTON_LOW, t] = _clamp(low, tasks[_LOW, t], tasks[_HIGH, t])
    tasks[_NEWTON_HIGH, t] = _clamp(high, tasks[_LOW, t], tasks[_HIGH, t])


@unmanaged
def _in_loose(tables, rows, i, side, s, j):
    """Between lines through both ends whose slopes are the range's: the mixture of them that has slope s."""
    least = tables.least[j] if side > 0 else -tables.greatest[j]
    greatest = tables.greatest[j] if side > 0 else -tables.least[j]
    a, at_a = rows[_START, i], side * rows[_AT_START, i] - rows[_ERROR_START, i]
    if not a > tables.starts[j]:
        a, at_a = tables.starts[j], _break_value(tables, side, max(j - 1, 0))
    b, at_b = rows[_STOP, i], side * rows[_AT_STOP, i] - rows[_ERROR_STOP, i]
    if not b < tables.stops[j]:
        b, at_b = tables.stops[j], _break_value(tables, side, min(j, max(len(tables.bottom) - 1, 0)))
    weight = (greatest - s) / _most(greatest - least, TINY)
    mixed = weight * (at_a - least * a) + (1 - weight) * (at_b - greatest * b)
    scale = abs(at_a) + abs(at_b) + (abs(least) + abs(greatest)) * (abs(a) + abs(b))
    mixed = mixed - 16 * EPS * scale * (1 + abs(weight))
    return (mixed if least < s and s < greatest else np.inf), (a if weight > 0.5 else b)


@unmanaged
def _keep_tangent(tables, items, k, width, x, values, a, b):
    """Below side·f - s·x on a convex piece [a, b], from f, f' and f'' at any point x of it."""
    side, s = (1.0 if k < width else -1.0), items[_S, k]
    f, first, second = values
    value, tilt = side * f, side * first - s
    left, right = tilt * (a - x), tilt * (b - x)
    slope_slack = tables.errors[2] * EPS * (abs(first) + abs(x * second)) + tables.errors[3] + TINY
    slack = _value_slack(tables, x, f, first) + slope_slack * (b - a)
    slack += 8 * EPS * (abs(value) + abs(s * x) + _most(abs(left), abs(right)))
    _keep_least(items, k, value - s * x + _least(left, right) - slack, x)


@unmanaged
def _finish(address, tables, items, tasks, owner, count, width):
    """Newton's steps of all tasks, and their tangents."""
    searched = False
    for t in range(count):
        if items[_HINT, owner[t]] != items[_HINT, owner[t]]:
            searched = True
    for _ in range(NEWTON_STEPS if searched else 0):
        _evaluate(address, tasks[_AT], tasks[_VALUE], tasks[_FIRST], tasks[_SECOND], count)
        for t in range(count):
            k = owner[t]
            if items[_HINT, k] != items[_HINT, k]:
                side = 1.0 if k < width else -1.0
                step = _finite((tasks[_FIRST, t] - side * items[_S, k]) / tasks[_SECOND, t], 0.0)
                tasks[_AT, t] = _clamp(tasks[_AT, t] - step, tasks[_NEWTON_LOW, t], tasks[_NEWTON_HIGH, t])
    for t in range(count):
        tasks[_AT, t] = _clamp(tasks[_AT, t], tasks[_LOW, t], tasks[_HIGH, t])
    _evaluate(address, tasks[_AT], tasks[_VALUE], tasks[_FIRST], tasks[_SECOND], count)
    for t in range(count):
        x = tasks[_AT, t]
        values = tasks[_VALUE, t], tasks[_FIRST, t], tasks[_SECOND, t]
        _keep_tangent(tables, items, owner[t], width, x, values, tasks[_FROM, t], tasks[_TO, t])


@unmanaged
def _support(address, tables, rows, places, items, tasks, owner, active, count, width):
    """For active items a number below side·f(x) - s·x on the interval, and where it is nearly attained."""
    waiting = 0
    for n in range(count):
        k = active[n]
        i, side, s, hint = _interval(k, width), (1.0 if k < width else -1.0), items[_S, k], items[_HINT, k]
        start, stop = rows[_START, i], rows[_STOP, i]
        at_start, at_stop = rows[_AT_START, i], rows[_AT_STOP, i]
        low = side * at_start - s * start - rows[_ERROR_START, i] - 4 * EPS * (abs(at_start) + abs(s * start))
        high = side * at_stop - s * stop - rows[_ERROR_STOP, i] - 4 * EPS * (abs(at_stop) + abs(s * stop))
        items[_BEST, k] = _least(low, high)
        items[_X, k] = start if low <= high else stop
        for j in range(places[_FIRST_BREAK, i], places[_FIRST_BREAK, i] + places[_BREAKS, i]):
            value = _break_value(tables, side, j)
            rise = _most(s * tables.break_lower[j], s * tables.break_upper[j])
            _keep_least(items, k, value - rise - 4 * EPS * (abs(value) + abs(rise)), tables.break_lower[j])
        for j in range(places[_FIRST_PIECE, i], places[_FIRST_PIECE, i] + places[_PIECES, i]):
            if side * tables.kinds[j] > 0 and hint == rows[_MIDDLE, i]:
                values = rows[_F, i], rows[_SLOPE, i], rows[_BEND, i]
                a, b = _most(start, tables.starts[j]), _least(stop, tables.stops[j])
                _keep_tangent(tables, items, k, width, hint, values, a, b)
            elif side * tables.kinds[j] > 0:
                if waiting == tasks.shape[1]:
                    _finish(address, tables, items, tasks, owner, waiting, width)
                    waiting = 0
                t, waiting = waiting, waiting + 1
                owner[t] = k
                tasks[_FROM, t], tasks[_TO, t] = _most(start, tables.starts[j]), _least(stop, tables.stops[j])
                tasks[_LOW, t] = _most(start, tables.inner_starts[j])
                tasks[_HIGH, t] = _least(stop, tables.inner_stops[j])
                if hint != hint:
                    _inverse(tables, side * s, j, tasks, t)
                    tasks[_AT, t] = _clamp(tasks[_AT, t], tasks[_NEWTON_LOW, t], tasks[_NEWTON_HIGH, t])
                else:
                    tasks[_AT, t] = hint
            elif tables.loose[j]:
                value, place = _in_loose(tables, rows, i, side, s, j)
                _keep_least(items, k, value, place)
    if waiting:
        _finish(address, tables, items, tasks, owner, waiting, width)


@unmanaged
def _by_cuts(address, tables, rows, places, items, tasks, owner, active, count, width):
    """Cutting planes for the active items, from their chords in _CHOSEN."""
    for n in range(count):
        k = active[n]
        i, side = _interval(k, width), (1.0 if k < width else -1.0)
        items[_LEFT, k], items[_RIGHT, k] = rows[_START, i], rows[_STOP, i]
        items[_AT_LEFT, k], items[_AT_RIGHT, k] = side * rows[_AT_START, i], side * rows[_AT_STOP, i]
        items[_HEIGHT, k] = -np.inf
        items[_S, k] = _finite(side * rows[_SLOPE, i], items[_CHOSEN, k])
        items[_CEILING, k] = side * rows[_F, i]
    for _ in range(CUTS):
        if count == 0:
            break
        _support(address, tables, rows, places, items, tasks, owner, active, count, width)
        left = 0
        for n in range(count):
            k = active[n]
            i, side, s, x = _interval(k, width), (1.0 if k < width else -1.0), items[_S, k], items[_X, k]
            middle = rows[_MIDDLE, i]
            value = items[_BEST, k] + s * middle
            if value > items[_HEIGHT, k]:
                items[_HEIGHT, k], items[_CHOSEN, k] = value, s
            at_x = items[_BEST, k] + s * x
            if x < middle:
                items[_LEFT, k], items[_AT_LEFT, k] = x, at_x
            if x > middle:
                items[_RIGHT, k], items[_AT_RIGHT, k] = x, at_x
            run = items[_RIGHT, k] - items[_LEFT, k]
            s = (items[_AT_RIGHT, k] - items[_AT_LEFT, k]) / run
            items[_S, k] = s
            ceiling = _least(items[_CEILING, k], items[_AT_LEFT, k] + s * (middle - items[_LEFT, k]))
            items[_CEILING, k] = ceiling
            gap = ceiling - items[_HEIGHT, k]
            noise = 64 * EPS * (abs(items[_AT_LEFT, k]) + abs(items[_AT_RIGHT, k]) + TINY)
            done = gap <= ENOUGH * (side * rows[_F, i] - ceiling) or gap <= noise or x == middle or not run > 0
            if not done:
                active[left] = k
                left += 1
        count = left


@unmanaged
def _spans_bridge(tables, rows, places, i, side):
    """Whether an interval holds one convex piece beside one that is not, and f is continuous between them."""
    j = places[_FIRST_PIECE, i]
    if places[_PIECES, i] != 2 or tables.loose[j] or tables.loose[j + 1]:
        return False
    jump = tables.top[j] - tables.bottom[j]
    continuous = jump <= 1e-9 * abs(rows[_AT_STOP, i] - rows[_AT_START, i])
    return continuous and (side * tables.kinds[j] > 0) != (side * tables.kinds[j + 1] > 0)


@unmanaged
def _begin_bridge(tables, rows, places, items, tasks, k, t, width):
    """The tangent at the middle, if it stays below the far end; otherwise whence to look for a bridge, and True."""
    i, side = _interval(k, width), (1.0 if k < width else -1.0)
    j, middle = places[_FIRST_PIECE, i], rows[_MIDDLE, i]
    on_left = side * tables.kinds[j] > 0
    convex = j if on_left else j + 1
    far, at_far = (rows[_STOP, i], rows[_AT_STOP, i]) if on_left else (rows[_START, i], rows[_AT_START, i])
    low = _most(rows[_START, i], tables.inner_starts[convex])
    high = _least(rows[_STOP, i], tables.inner_stops[convex])
    if low < middle and middle < high:
        if side * (at_far - rows[_F, i] - rows[_SLOPE, i] * (far - middle)) >= 0:
            items[_CHOSEN, k], items[_HINT, k] = side * rows[_SLOPE, i], middle
            return False
        if on_left:
            high = middle
        else:
            low = middle
    between = tables.stops[j]
    # Where a cubic would be touched.
    tasks[_AT, t] = _clamp(between + 0.5 * (between - far), low, high)
    tasks[_NEWTON_LOW, t], tasks[_NEWTON_HIGH, t] = low, high
    tasks[_FAR, t], tasks[_AT_FAR, t] = far, side * at_far
    tasks[_WAS_LEFT, t], tasks[_WAS_RIGHT, t] = 0.0, 0.0
    return True


@unmanaged
def _step_bridge(items, tasks, t, k, side):
    """One Newton's step towards the tangent that goes through the far end; whether it nearly did before."""
    x, reach = tasks[_AT, t], tasks[_FAR, t] - tasks[_AT, t]
    value, slope, bend = side * tasks[_VALUE, t], side * tasks[_FIRST, t], side * tasks[_SECOND, t]
    miss = tasks[_AT_FAR, t] - value - slope * reach
    if (miss > 0) == (reach > 0):
        tasks[_NEWTON_LOW, t], tasks[_WAS_LEFT, t] = x, 1.0
    else:
        tasks[_NEWTON_HIGH, t], tasks[_WAS_RIGHT, t] = x, 1.0
    low, high = tasks[_NEWTON_LOW, t], tasks[_NEWTON_HIGH, t]
    new = x + miss / (bend * reach)
    if new < low:
        new = low if tasks[_WAS_LEFT, t] == 0 else 0.5 * (low + high)
    elif new > high:
        new = high if tasks[_WAS_RIGHT, t] == 0 else 0.5 * (low + high)
    elif new != new:
        new = 0.5 * (low + high)
    # Of all lines from the far end to the curve the tangent is the extreme one: its slope is off by a square.
    items[_CHOSEN, k], items[_HINT, k] = (tasks[_AT_FAR, t] - value) / reach, new
    tasks[_AT, t] = new
    return new == x or abs(miss) <= TOUCHED * min(abs(tasks[_AT_FAR, t] - value), abs(bend) * reach * reach)


@unmanaged
def _by_bridges(address, tables, rows, places, items, tasks, owner, active, count, width):
    """Lines that touch a convex piece and end on its neighbour; how many of the active items need more than that."""
    left, waiting = 0, 0
    for n in range(count):
        k = active[n]
        if not _spans_bridge(tables, rows, places, _interval(k, width), 1.0 if k < width else -1.0):
            active[left] = k
            left += 1
        elif _begin_bridge(tables, rows, places, items, tasks, k, waiting, width):
            owner[waiting] = k
            waiting += 1
    for _ in range(BRIDGE_STEPS):
        if waiting == 0:
            break
        _evaluate(address, tasks[_AT], tasks[_VALUE], tasks[_FIRST], tasks[_SECOND], waiting)
        moving = 0
        for t in range(waiting):
            k = owner[t]
            if not _step_bridge(items, tasks, t, k, 1.0 if k < width else -1.0):
                owner[moving] = k
                for row in range(_VALUE):
                    tasks[row, moving] = tasks[row, t]
                moving += 1
        waiting = moving
    for t in range(waiting):
        items[_HINT, owner[t]] = np.nan
        active[left] = owner[t]
        left += 1
    return left


@unmanaged
def _best_slopes(address, tables, rows, places, items, tasks, owner, active, width):
    """The slopes in _CHOSEN, and in _HINT where their lines touch, as far as that is known."""
    count = 0
    for k in range(2 * width):
        i, side = _interval(k, width), (1.0 if k < width else -1.0)
        start, stop, middle = rows[_START, i], rows[_STOP, i], rows[_MIDDLE, i]
        span = stop - start
        j = min(places[_FIRST_PIECE, i], len(tables.starts) - 1)
        alone = places[_PIECES, i] <= 1 and not tables.loose[j]
        touching = alone and side * tables.kinds[j] > 0 and places[_PIECES, i] == 1
        chord = side * (rows[_AT_STOP, i] - rows[_AT_START, i]) / _most(span, TINY)
        tangent = side * rows[_SLOPE, i]
        slope = tangent if touching else chord
        if span <= NARROW * max(abs(start), abs(stop)):
            slope = tangent
        if span == 0:
            slope = 0.0
        items[_HINT, k] = np.nan
        if not alone and span > 0:
            slope = chord
            active[count] = k
            count += 1
        items[_CHOSEN, k] = slope
    count = _by_bridges(address, tables, rows, places, items, tasks, owner, active, count, width)
    _by_cuts(address, tables, rows, places, items, tasks, owner, active, count, width)
    for k in range(2 * width):
        i, side = _interval(k, width), (1.0 if k < width else -1.0)
        items[_CHOSEN, k] = _finite(items[_CHOSEN, k], 0.0)
        j = min(places[_FIRST_PIECE, i], len(tables.starts) - 1)
        touching = places[_PIECES, i] == 1 and not tables.loose[j] and side * tables.kinds[j] > 0
        middle = rows[_MIDDLE, i]
        if touching and rows[_START, i] < middle and middle < rows[_STOP, i]:
            items[_HINT, k] = middle


@unmanaged
def _prepare(address, tables, rows, places, width, share):
    """What f is at the ends of a block's intervals and at a point of each; which pieces and breaks they reach over."""
    for end, at, error in ((_START, _AT_START, _ERROR_START), (_STOP, _AT_STOP, _ERROR_STOP)):
        _evaluate(address, rows[end], rows[at], rows[_SLOPE], rows[_BEND], width)
        for i in range(width):
            rows[error, i] = _value_slack(tables, rows[end, i], rows[at, i], rows[_SLOPE, i])
    for i in range(width):
        start, stop = rows[_START, i], rows[_STOP, i]
        rows[_MIDDLE, i] = start + (stop - start) * share
        first = _up_to(tables.stops, start)
        places[_FIRST_PIECE, i] = first
        places[_PIECES, i] = max(_below(tables.starts, 0, len(tables.starts), stop) - first, 0)
        first = _below(tables.break_upper, 0, len(tables.break_upper), start)
        places[_FIRST_BREAK, i] = first
        places[_BREAKS, i] = max(_up_to(tables.break_lower, stop) - first, 0)
    _evaluate(address, rows[_MIDDLE], rows[_F], rows[_SLOPE], rows[_BEND], width)


@unmanaged
def _widen(lower, upper, share, least, start, stop):
    for i in range(len(lower)):
        a, b = float(lower[i]), float(upper[i])
        start[i], stop[i] = a - abs(a) * share - least, b + abs(b) * share + least


@unmanaged
def _draw(lower, upper, slopes, intercepts, before, share, gamma, absolute, out):
    """Rows of `planes`; the first interval that has no line, or -1."""
    wrong = -1
    for i in range(len(lower)):
        s, t, a, b = slopes[0, i], slopes[1, i], intercepts[0, i], intercepts[1, i]
        if not (abs(a) <= _LARGEST and abs(b) <= _LARGEST):
            wrong = i if wrong < 0 else wrong
        low, high = float(lower[i]), float(upper[i])
        steep, size = max(abs(s), abs(t)), max(abs(low), abs(high))
        error = 2 * share * steep * size + (share + gamma) * max(abs(a), abs(b)) + absolute
        total = error + (1.01 * steep * before[i] if len(before) else 0.0)
        out[0, i], out[1, i] = (s + t) / 2, (s - t) / 2
        out[2, i], out[3, i] = (a + b) / 2, (a - b) / 2 - total
        out[4, i], out[5, i] = min(s * low, s * high) + a - error, max(t * low, t * high) + b + error
    return wrong


@unmanaged
def _put_in_order(tables, start, stop, order, kinds, ends):
    """Intervals on the same pieces one after the other: the processor then foresees what each of them needs."""
    for kind in range(len(ends)):
        ends[kind] = 0
    for i in range(len(start)):
        first = _up_to(tables.stops, start[i])
        pieces = _below(tables.starts, 0, len(tables.starts), stop[i]) - first
        kinds[i] = min(first, _PLACES - 1) * 4 + min(max(pieces, 0), 3)
        ends[kinds[i] + 1] += 1
    for kind in range(1, len(ends)):
        ends[kind] += ends[kind - 1]
    for i in range(len(start)):
        order[ends[kinds[i]]] = i
        ends[kinds[i]] += 1


@unmanaged
def _lines(address, tables, start, stop, share, is_given, single, slopes, intercepts, touch, space):
    rows, places, items, active, tasks, owner, order, kinds, ends = space
    n = len(start)
    _put_in_order(tables, start, stop, order, kinds, ends)
    for first in range(0, n, _BLOCK):
        width = min(_BLOCK, n - first)
        for i in range(width):
            rows[_START, i], rows[_STOP, i] = start[order[first + i]], stop[order[first + i]]
        _prepare(address, tables, rows, places, width, share)
        if not (is_given[0] and is_given[1]):
            _best_slopes(address, tables, rows, places, items, tasks, owner, active, width)
        for k in range(2 * width):
            line = 0 if k < width else 1
            side = 1.0 - 2.0 * line
            if is_given[line]:
                slope = slopes[line, order[first + _interval(k, width)]]
                items[_HINT, k] = np.nan
            else:
                slope = side * items[_CHOSEN, k]
                if single:
                    slope = float(np.float32(slope))
            slopes[line, order[first + _interval(k, width)]] = slope
            items[_S, k] = side * slope
            active[k] = k
        if intercepts.size == 0:
            continue
        _support(address, tables, rows, places, items, tasks, owner, active, 2 * width, width)
        for k in range(2 * width):
            line = 0 if k < width else 1
            intercepts[line, order[first + _interval(k, width)]] = (1.0 - 2.0 * line) * items[_BEST, k]
            touch[line, order[first + _interval(k, width)]] = items[_X, k]


def lines(
    address: int,
    tables: Tables,
    start: np.ndarray,
    stop: np.ndarray,
    share: float,
    is_given: tuple[bool, bool],
    single: bool,
    slopes: np.ndarray,
    intercepts: np.ndarray,
    touch: np.ndarray,
) -> None:
    """Slopes, intercepts and places of the lines below (row 0) and above (row 1) an activation on intervals.

    Args:
        address: of the kernel of f, f', f'', float64.
        tables: of the envelope.
        start, stop: (n,) the intervals.
        share: the best slope is that at start + share·(stop - start).
        is_given: whether a line's slopes are given; elsewhere the best are found.
        single: whether slopes found must be float32 numbers.
        slopes: in and out (2, n).
        intercepts: out (2, n); of no elements where only slopes are wanted.
        touch: out (2, n) where the line nearly touches.
    """
    _lines(address, tables, start, stop, share, is_given, single, slopes, intercepts, touch, _space(len(start)))


def planes(
    address: int,
    tables: Tables,
    lower: np.ndarray,
    upper: np.ndarray,
    before: np.ndarray,
    own: tuple[float, float],
    eps: float,
    gamma: float,
    least: float,
) -> tuple[np.ndarray, int]:
    """Planes with the best slopes around what a model computes of an activation, for use in an arithmetic of ε = eps.

    Args:
        address, tables: as in `lines`.
        lower, upper: (n,) intervals, of float32 or float64.
        before: (n,), what the input may be off by; of no elements for nothing.
        own: the error of the model's own values, in steps and absolute.
        eps, gamma: of the arithmetic: one rounding, and that of a sum over the layer. All of these 0: unsound.
        least: what underflow may cost.

    Returns:
        Rows, of the intervals' format, and the first interval that has no line, or -1. The rows: slope, bend, shift,
        drop of a plane for A·y (see `nodes.Drawn`), and the lower and the upper end of y.
    """
    n, (steps, absolute) = len(lower), own
    start, stop = np.empty(n), np.empty(n)
    slopes, intercepts, touch = (np.empty((2, n)) for _ in range(3))
    _widen(lower, upper, steps * eps, least, start, stop)
    single = lower.dtype == np.float32
    _lines(address, tables, start, stop, 0.5, (False, False), single, slopes, intercepts, touch, _space(len(start)))
    out = np.empty((6, n), lower.dtype)
    # Eight roundings besides, of the products and sums that the planes go through.
    wrong = _draw(lower, upper, slopes, intercepts, before, (steps + 8) * eps, gamma, absolute + least, out)
    return out, wrong


def _space(n: int) -> tuple[np.ndarray, ...]:
    return (
        np.empty((10, _BLOCK)),
        np.empty((4, _BLOCK), np.int64),
        np.empty((11, 2 * _BLOCK)),
        np.empty(2 * _BLOCK, np.int64),
        np.empty((10, _TASKS)),
        np.empty(_TASKS, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(4 * _PLACES + 1, np.int64),
    )
