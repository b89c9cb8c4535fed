"""The loop that advances many samples in eight lanes: as one sample ends, the next takes its lane.

Each lane has its own time, step size and method. A sample begins with Dormand-Prince; where the step that stability
allows is much smaller than what accuracy asks for, it goes on with RODAS, from the same point (the test is that of
DOPRI5: |Δf|/|Δy| times the step stays above the stability boundary). Compiled once for all systems: a system's own code
is called by address.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from varphi.numbers.kernel.batch import WIDTH

from .steps import (
    call,
    dormand_prince,
    dormand_prince_at,
    dormand_prince_dense,
    dormand_prince_error,
    rodas,
    rodas_at,
    rodas_dense,
    rodas_error,
)

# What became of a sample.
DONE, STOPPED, CLOSED, TOO_MANY_STEPS, STEP_TOO_SMALL, NOT_FINITE, SINGULAR = range(7)
_RUNNING = -1
# The boundary of stability of Dormand-Prince on the negative axis, and how often it must be met in a row.
_STIFF_AT, _STIFF_AFTER = 3.25, 15
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
# Step controllers: proportional, with some memory of the last error for the explicit method (Gustafsson).
_MEMORY = 0.04


@njit(cache=True, nogil=True)
def advance(
    rate,
    jacobian,
    events,
    stiff,  # (samples,) whether to begin with the implicit method
    starts,  # (samples, states)
    parameters,  # (samples, parameters)
    begins,  # (samples,) times
    ends,  # (samples,)
    first,  # (samples,) first step sizes; 0 to choose
    rtol,
    atol,  # (states,)
    largest,  # largest step
    most_steps,
    may_switch,
    times,  # (times,) increasing
    directions,  # (events,) -1 falling, 1 rising, 0 both
    terminal,  # (events,) after how many the sample stops; 0 never
    section,  # the event on whose states a cycle is looked for; -1 none
    closing,  # how near two returns must be, relative to the orbit's size
    returns,  # how many returns are compared, at most
    found,  # out (samples, times, states)
    finals,  # out (samples, states)
    final_times,  # out (samples,)
    status,  # out (samples,)
    steps,  # out (samples, 2): accepted with either method
    event_times,  # out (samples, room)
    event_kinds,  # out (samples, room)
    event_states,  # out (samples, room, states)
    event_counts,  # out (samples,)
    periods,  # out (samples, 2): the period, and how many section events it has
    lows,  # out (samples, states): smallest value on the accepted steps
    highs,  # out (samples, states)
    watch,  # (2,) out: how many samples have ended; in: not 0 to stop
):
    samples, n = starts.shape
    m = parameters.shape[1]
    kinds = directions.shape[0]
    room = event_times.shape[1]
    rows = np.zeros((n + m + 1, WIDTH))
    y, new, inner = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    k, dense = np.zeros((7, n, WIDTH)), np.zeros((5, n, WIDTH))
    implicit_k, implicit_new = np.zeros((6, n, WIDTH)), np.zeros((n, WIDTH))
    implicit_dense = np.zeros((5, n, WIDTH))
    matrix, pivots = np.zeros((n, n, WIDTH)), np.zeros((n, WIDTH), np.int64)
    slopes = np.zeros((n * n + n, WIDTH))
    t, h = np.zeros(WIDTH), np.ones(WIDTH)
    error, implicit_error, before = np.zeros(WIDTH), np.zeros(WIDTH), np.full(WIDTH, 1e-4)
    g_old, g_new = np.zeros((max(kinds, 1), WIDTH)), np.zeros((max(kinds, 1), WIDTH))
    sample = np.full(WIDTH, -1, np.int64)
    is_stiff = np.zeros(WIDTH, np.bool_)
    rejected = np.zeros(WIDTH, np.bool_)
    taken, next_time = np.zeros(WIDTH, np.int64), np.zeros(WIDTH, np.int64)
    warned, calm = np.zeros(WIDTH, np.int64), np.zeros(WIDTH, np.int64)
    sound = np.ones(WIDTH, np.bool_)
    event_total = np.zeros((max(kinds, 1), WIDTH), np.int64)
    # The range of each state since the last return to the section, and on recent returns.
    span_low, span_high, spans = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    turns = np.zeros((max(room, 1), WIDTH))  # how large each recorded return was, summed over the states
    accepted = np.zeros(WIDTH, np.bool_)
    active, waiting = 0, 0
    while True:
        if watch[1] != 0:
            return
        # Fill empty lanes.
        filled = False
        if waiting < samples:
            for lane in range(WIDTH):
                if sample[lane] >= 0 or waiting >= samples:
                    continue
                s = waiting
                waiting += 1
                sample[lane] = s
                active += 1
                filled = True
                for i in range(n):
                    y[i, lane] = starts[s, i]
                    span_low[i, lane], span_high[i, lane], spans[i, lane] = np.inf, -np.inf, 0.0
                    lows[s, i] = starts[s, i]
                    highs[s, i] = starts[s, i]
                for i in range(m):
                    rows[n + i, lane] = parameters[s, i]
                t[lane], h[lane] = begins[s], first[s]
                is_stiff[lane], rejected[lane] = stiff[s], False
                taken[lane], next_time[lane], warned[lane], calm[lane], before[lane] = 0, 0, 0, 0, 1e-4
                for e in range(kinds):
                    event_total[e, lane] = 0
                while next_time[lane] < times.shape[0] and times[next_time[lane]] <= t[lane]:
                    for i in range(n):
                        found[s, next_time[lane], i] = y[i, lane]
                    next_time[lane] += 1
        if active == 0:
            return
        if filled:
            # (Lanes at work get the values that they have.)
            for i in range(n):
                for lane in range(WIDTH):
                    rows[i, lane] = y[i, lane]
            for lane in range(WIDTH):
                rows[n + m, lane] = t[lane]
            call(rate, rows, k[0])
            if kinds:
                call(events, rows, g_old)
            for lane in range(WIDTH):
                if sample[lane] >= 0 and h[lane] == 0.0:
                    h[lane] = _first_step(y, k, lane, rtol, atol, min(largest, ends[sample[lane]] - t[lane]))
        any_explicit, any_implicit = False, False
        for lane in range(WIDTH):
            if sample[lane] < 0:
                h[lane] = 0.0 if not is_stiff[lane] else 1e-300
                continue
            left = ends[sample[lane]] - t[lane]
            h[lane] = min(h[lane], largest)
            if h[lane] * 1.0000001 >= left:
                h[lane] = left
            if is_stiff[lane]:
                any_implicit = True
            else:
                any_explicit = True
        if any_explicit:
            dormand_prince(rate, rows, y, t, h, k, new, inner)
            dormand_prince_error(y, new, h, k, rtol, atol, error)
        if any_implicit:
            for lane in range(WIDTH):
                if h[lane] == 0.0:
                    h[lane] = 1e-300
            rodas(rate, jacobian, rows, y, t, h, implicit_k, implicit_new, matrix, pivots, slopes, sound)
            rodas_error(y, implicit_new, implicit_k, rtol, atol, implicit_error)
            for lane in range(WIDTH):
                if is_stiff[lane]:
                    error[lane] = implicit_error[lane]
                    for i in range(n):
                        new[i, lane] = implicit_new[i, lane]
        # The slope at the new point: the explicit method has it already.
        if any_implicit:
            for i in range(n):
                for lane in range(WIDTH):
                    rows[i, lane] = new[i, lane]
            for lane in range(WIDTH):
                rows[n + m, lane] = t[lane] + h[lane]
            call(rate, rows, slopes)
            for lane in range(WIDTH):
                if is_stiff[lane]:
                    for i in range(n):
                        k[6, i, lane] = slopes[i, lane]
        some = False
        for lane in range(WIDTH):
            accepted[lane] = False
            if sample[lane] < 0:
                continue
            e = error[lane]
            if not (e <= 1e300) or (is_stiff[lane] and not sound[lane]):
                e = 1e10
            if e <= 1.0:
                accepted[lane] = True
                some = True
        if some and any_explicit:
            dormand_prince_dense(y, new, h, k, dense)
        if some and any_implicit:
            rodas_dense(y, implicit_new, implicit_k, implicit_dense)
        if some and kinds:
            for i in range(n):
                for lane in range(WIDTH):
                    rows[i, lane] = new[i, lane]
            for lane in range(WIDTH):
                rows[n + m, lane] = t[lane] + h[lane]
            call(events, rows, g_new)
        for lane in range(WIDTH):
            s = sample[lane]
            if s < 0:
                continue
            ended = _RUNNING
            order = 4.0 if is_stiff[lane] else 5.0
            if not accepted[lane]:
                e = error[lane]
                factor = 0.1 if not (e <= 1e300) else max(_SHRINK, _SAFETY * e ** (-1.0 / order))
                if is_stiff[lane] and not sound[lane]:
                    factor = 0.25
                h[lane] *= factor
                rejected[lane] = True
                taken[lane] += 1
                if abs(h[lane]) <= 4e-16 * max(abs(t[lane]), 1e-300) or h[lane] < 1e-290:
                    ended = NOT_FINITE if not (error[lane] <= 1e300) else STEP_TOO_SMALL
                    if is_stiff[lane] and not sound[lane]:
                        ended = SINGULAR
            else:
                stop_at = 1.0
                # Events in this step, in the order of time.
                if kinds:
                    for _ in range(8 * kinds):
                        best, best_theta = -1, 2.0
                        for e in range(kinds):
                            a, b = g_old[e, lane], g_new[e, lane]
                            rises, falls = a < 0.0 and b >= 0.0, a > 0.0 and b <= 0.0
                            if (rises and directions[e] >= 0) or (falls and directions[e] <= 0):
                                theta = _located(
                                    events,
                                    rows,
                                    dense,
                                    implicit_dense,
                                    is_stiff[lane],
                                    g_old,
                                    g_new,
                                    e,
                                    lane,
                                    t,
                                    h,
                                    n,
                                    m,
                                )
                                if theta < best_theta:
                                    best, best_theta = e, theta
                        if best < 0:
                            break
                        g_old[best, lane] = g_new[best, lane] if g_new[best, lane] != 0.0 else -g_old[best, lane]
                        event_total[best, lane] += 1
                        count = event_counts[s]
                        if room > 0:
                            place = count % room
                            event_times[s, place] = t[lane] + best_theta * h[lane]
                            event_kinds[s, place] = best
                            for i in range(n):
                                event_states[s, place, i] = (
                                    rodas_at(implicit_dense, best_theta, i, lane)
                                    if is_stiff[lane]
                                    else dormand_prince_at(dense, best_theta, i, lane)
                                )
                        event_counts[s] += 1
                        if best == section and room > 0:
                            turn = (event_counts[s] - 1) % room
                            turns[turn, lane] = 0.0
                            for i in range(n):
                                span = max(span_high[i, lane] - span_low[i, lane], 0.0)
                                turns[turn, lane] += span / max(highs[s, i] - lows[s, i], 1e-300)
                                spans[i, lane] = max(span, 0.7 * spans[i, lane])
                                span_low[i, lane], span_high[i, lane] = np.inf, -np.inf
                            back = _closed(
                                s,
                                event_times,
                                event_kinds,
                                event_states,
                                event_counts,
                                section,
                                closing,
                                returns,
                                spans,
                                turns,
                                lane,
                            )
                            if back > 0:
                                whole = _period(s, event_times, event_kinds, event_counts, section, back)
                                least = _least(
                                    s,
                                    event_times,
                                    event_kinds,
                                    event_states,
                                    event_counts,
                                    section,
                                    closing,
                                    back,
                                    spans,
                                    lane,
                                )
                                periods[s, 0] = whole * least / back
                                periods[s, 1] = least
                                ended, stop_at = CLOSED, best_theta
                                break
                        if terminal[best] > 0 and event_total[best, lane] >= terminal[best]:
                            ended, stop_at = STOPPED, best_theta
                            break
                # What is asked for on the way.
                end = t[lane] + stop_at * h[lane]
                if stop_at == 1.0 and end >= ends[s] * (1.0 - 4e-16) - 1e-300:
                    end = ends[s]
                while next_time[lane] < times.shape[0] and times[next_time[lane]] <= end:
                    theta = (times[next_time[lane]] - t[lane]) / h[lane]
                    for i in range(n):
                        found[s, next_time[lane], i] = (
                            rodas_at(implicit_dense, theta, i, lane)
                            if is_stiff[lane]
                            else dormand_prince_at(dense, theta, i, lane)
                        )
                    next_time[lane] += 1
                if ended != _RUNNING:
                    for i in range(n):
                        new[i, lane] = (
                            rodas_at(implicit_dense, stop_at, i, lane)
                            if is_stiff[lane]
                            else dormand_prince_at(dense, stop_at, i, lane)
                        )
                # Whether the explicit method is held back by stability.
                if not is_stiff[lane] and may_switch and ended == _RUNNING:
                    numerator, denominator = 0.0, 0.0
                    for i in range(n):
                        a, b = k[6, i, lane] - k[5, i, lane], new[i, lane] - inner[i, lane]
                        numerator += a * a
                        denominator += b * b
                    if denominator > 0.0 and h[lane] * np.sqrt(numerator / denominator) > _STIFF_AT:
                        warned[lane] += 1
                        calm[lane] = 0
                        if warned[lane] >= _STIFF_AFTER:
                            is_stiff[lane] = True
                            h[lane] *= 2.0
                    else:
                        calm[lane] += 1
                        if calm[lane] >= 6:
                            warned[lane] = 0
                steps[s, 1 if is_stiff[lane] else 0] += 1
                taken[lane] += 1
                t[lane] = end
                finite = True
                for i in range(n):
                    value = new[i, lane]
                    y[i, lane] = value
                    k[0, i, lane] = k[6, i, lane]
                    span_low[i, lane] = min(span_low[i, lane], value)
                    span_high[i, lane] = max(span_high[i, lane], value)
                    lows[s, i] = min(lows[s, i], value)
                    highs[s, i] = max(highs[s, i], value)
                    finite = finite and np.isfinite(value)
                for e in range(kinds):
                    g_old[e, lane] = g_new[e, lane]
                scaled = max(error[lane], 1e-10)
                memory = 0.0 if is_stiff[lane] else _MEMORY
                factor = _SAFETY * scaled ** (-(1.0 / order - 0.75 * memory)) * before[lane] ** memory
                factor = min(1.0 if rejected[lane] else _GROW, max(_SHRINK, factor))
                h[lane] *= factor
                before[lane] = max(error[lane], 1e-4)
                rejected[lane] = False
                if not finite:
                    ended = NOT_FINITE
                elif ended == _RUNNING and t[lane] >= ends[s]:
                    ended = DONE
            if ended == _RUNNING and taken[lane] >= most_steps:
                ended = TOO_MANY_STEPS
            if ended != _RUNNING:
                status[s] = ended
                final_times[s] = t[lane]
                for i in range(n):
                    finals[s, i] = y[i, lane]
                sample[lane] = -1
                is_stiff[lane] = False
                active -= 1
                watch[0] += 1


@njit(cache=True)
def _first_step(y, k, lane, rtol, atol, most):
    """A first step size from the sizes of the state and its slope (Hairer, Nørsett & Wanner, II.4, first part)."""
    state, slope = 0.0, 0.0
    n = y.shape[0]
    for i in range(n):
        allowed = atol[i] + rtol * abs(y[i, lane])
        state += (y[i, lane] / allowed) ** 2
        slope += (k[0, i, lane] / allowed) ** 2
    if not (state > 1e-10 and slope > 1e-10):
        return min(most, 1e-6)
    return min(most, 0.01 * np.sqrt(state / slope))


@njit(cache=True)
def _located(events, rows, dense, implicit_dense, implicit, g_old, g_new, e, lane, t, h, n, m):
    """The fraction of a lane's step at which an event happens, on the continuous extension (Illinois' method)."""
    low, high = 0.0, 1.0
    a, b = g_old[e, lane], g_new[e, lane]
    if b == 0.0:  # exactly at the end, as at rest: there is no sign to bracket
        return 1.0
    out = np.zeros_like(g_old)
    side = 0
    theta = 1.0
    for _ in range(60):
        theta = (low * b - high * a) / (b - a)
        if not (low < theta < high):
            theta = 0.5 * (low + high)
        for i in range(n):
            rows[i, lane] = (
                rodas_at(implicit_dense, theta, i, lane) if implicit else dormand_prince_at(dense, theta, i, lane)
            )
        rows[n + m, lane] = t[lane] + theta * h[lane]
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


@njit(cache=True)
def _closed(s, event_times, event_kinds, event_states, event_counts, section, closing, returns, spans, turns, lane):
    """After how many returns to the section the orbit comes back to the same state; 0 if it does not yet.

    The last two periods must agree: an orbit may pass near an old state once.
    """
    room = event_times.shape[1]
    count = min(event_counts[s], room)
    n = event_states.shape[2]
    last = (event_counts[s] - 1) % room
    compared = 0
    for back in range(1, count):
        place = (event_counts[s] - 1 - back) % room
        if event_kinds[s, place] != section:
            continue
        compared += 1
        if compared > returns:
            return 0
        if _near(s, last, place, event_states, closing, spans, lane, n):
            # The same number of returns before that.
            further, older = 0, -1
            for more in range(back + 1, count):
                p = (event_counts[s] - 1 - more) % room
                if event_kinds[s, p] == section:
                    further += 1
                    if further == compared:
                        older = p
                        break
            # And the return must be as large as it was: what spirals to rest comes near too, ever smaller.
            alike = abs(turns[last, lane] - turns[place, lane]) <= 1e-3 * turns[place, lane]
            if alike and older >= 0 and _near(s, place, older, event_states, closing, spans, lane, n):
                return compared
            return 0
    return 0


@njit(cache=True)
def _least(s, event_times, event_kinds, event_states, event_counts, section, closing, back, spans, lane):
    """The fewest returns that divide `back` and come near too: noise may delay that a period is seen as closed."""
    room = event_times.shape[1]
    last = (event_counts[s] - 1) % room
    seen = 0
    for further in range(1, min(event_counts[s], room)):
        place = (event_counts[s] - 1 - further) % room
        if event_kinds[s, place] != section:
            continue
        seen += 1
        if seen >= back:
            break
        if back % seen == 0 and _near(
            s, last, place, event_states, 100.0 * closing, spans, lane, event_states.shape[2]
        ):
            return seen
    return back


@njit(cache=True)
def _near(s, a, b, event_states, closing, spans, lane, n):
    for i in range(n):
        first, second = event_states[s, a, i], event_states[s, b, i]
        # Relative to the recent orbit, not to the whole course: what comes to rest closes nothing.
        if abs(first - second) > closing * spans[i, lane] + 4e-15 * abs(first):
            return False
    return True


@njit(cache=True)
def _period(s, event_times, event_kinds, event_counts, section, back):
    room = event_times.shape[1]
    last = event_times[s, (event_counts[s] - 1) % room]
    seen = 0
    for k in range(1, room):
        place = (event_counts[s] - 1 - k) % room
        if event_kinds[s, place] == section:
            seen += 1
            if seen == back:
                return last - event_times[s, place]
    return np.nan
