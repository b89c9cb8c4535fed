"""The loop of Gillespie's direct method for eight samples at a time.

Each lane has its own random numbers (xoshiro256++, Blackman & Vigna, seeded by splitmix64 from the seed and the
sample's number), so a sample's course does not depend on threads or neighbours.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from varphi.numbers.kernel.batch import WIDTH

from .steps import call

DONE, NEGATIVE, NOT_FINITE, TOO_MANY = range(4)


@njit(cache=True)
def _rotated(x, k):
    return (x << uint64(k)) | (x >> uint64(64 - k))


@njit(cache=True)
def _seeded(seed, sample, state, lane):
    """Four words from the seed and the sample's number."""
    z = uint64(seed) * uint64(0x9E3779B97F4A7C15) + uint64(sample) * uint64(0xD1B54A32D192ED03) + uint64(1)
    for i in range(4):
        z += uint64(0x9E3779B97F4A7C15)
        w = z
        w = (w ^ (w >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
        w = (w ^ (w >> uint64(27))) * uint64(0x94D049BB133111EB)
        state[i, lane] = w ^ (w >> uint64(31))


@njit(cache=True)
def _uniform(state, lane):
    """A number in (0, 1]."""
    result = _rotated(state[0, lane] + state[3, lane], 23) + state[0, lane]
    t = state[1, lane] << uint64(17)
    state[2, lane] ^= state[0, lane]
    state[3, lane] ^= state[1, lane]
    state[1, lane] ^= state[2, lane]
    state[0, lane] ^= state[3, lane]
    state[2, lane] ^= t
    state[3, lane] = _rotated(state[3, lane], 45)
    return (np.float64(result >> uint64(11)) + 1.0) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def advance(
    propensities,  # address
    changes,  # (reactions, species)
    starts,  # (samples, species)
    parameters,  # (samples, parameters)
    numbers,  # (samples,) the samples' numbers, for the random numbers
    seed,
    end,
    settled,  # from when on moments are taken
    most,  # events a sample may have
    times,
    found,  # out (samples, times, species)
    finals,  # out (samples, species)
    means,  # out (samples, species): over time from `settled` on
    squares,  # out (samples, species)
    events,  # out (samples,)
    status,  # out (samples,)
    watch,  # (2,) out: how many samples have ended; in: not 0 to stop
):
    samples, n = starts.shape
    m = parameters.shape[1]
    reactions = changes.shape[0]
    rows = np.zeros((n + m + 1, WIDTH))
    rates = np.zeros((reactions, WIDTH))
    state = np.zeros((4, WIDTH), np.uint64)
    sample = np.full(WIDTH, -1, np.int64)
    t = np.zeros(WIDTH)
    next_time = np.zeros(WIDTH, np.int64)
    active, waiting = 0, 0
    span = end - settled
    while True:
        if watch[1] != 0:
            return
        for lane in range(WIDTH):
            if sample[lane] >= 0 or waiting >= samples:
                continue
            s = waiting
            waiting += 1
            active += 1
            sample[lane] = s
            t[lane], next_time[lane] = 0.0, 0
            _seeded(seed, numbers[s], state, lane)
            for i in range(n):
                rows[i, lane] = starts[s, i]
            for i in range(m):
                rows[n + i, lane] = parameters[s, i]
        if active == 0:
            return
        for _ in range(64):  # between looks at the watch
            for lane in range(WIDTH):
                rows[n + m, lane] = t[lane]
            call(propensities, rows, rates)
            ended_one = False
            for lane in range(WIDTH):
                s = sample[lane]
                if s < 0:
                    continue
                total, ended = 0.0, -1
                for r in range(reactions):
                    rate = rates[r, lane]
                    if rate < 0.0:
                        ended = NEGATIVE
                    total += rate
                if not (total <= 1e300):
                    ended = NOT_FINITE
                if events[s] >= most:
                    ended = TOO_MANY
                later = np.inf
                if ended < 0 and total > 0.0:
                    later = t[lane] - np.log(_uniform(state, lane)) / total
                if ended < 0:
                    until = min(later, end)
                    while next_time[lane] < times.shape[0] and times[next_time[lane]] < later:
                        for i in range(n):
                            found[s, next_time[lane], i] = rows[i, lane]
                        next_time[lane] += 1
                    stay = until - max(t[lane], settled)
                    if stay > 0.0:
                        for i in range(n):
                            means[s, i] += stay / span * rows[i, lane]
                            squares[s, i] += stay / span * rows[i, lane] * rows[i, lane]
                    if later >= end:
                        ended = DONE
                if ended < 0:
                    t[lane] = later
                    mark = _uniform(state, lane) * total
                    chosen, reached = -1, 0.0
                    for r in range(reactions):
                        rate = rates[r, lane]
                        if rate > 0.0:
                            chosen = r
                            reached += rate
                            if mark <= reached:
                                break
                    for i in range(n):
                        rows[i, lane] += changes[chosen, i]
                    events[s] += 1
                else:
                    status[s] = ended
                    for i in range(n):
                        finals[s, i] = rows[i, lane]
                        if ended != DONE:
                            means[s, i], squares[s, i] = np.nan, np.nan
                    sample[lane] = -1
                    active -= 1
                    watch[0] += 1
                    ended_one = True
            if ended_one:
                break
