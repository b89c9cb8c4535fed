"""What became of a sample: the words that all solvers use, and their codes in machine code."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """What became of a sample."""

    DONE = 0
    STOPPED = 1
    CLOSED = 2
    TOO_MANY_STEPS = 3
    STEP_TOO_SMALL = 4
    NOT_FINITE = 5
    SINGULAR = 6
    INTERRUPTED = 7
    NEGATIVE = 8
    TOO_MANY_EVENTS = 9

    @property
    def ok(self) -> bool:
        """Whether the sample went as far as was asked for."""
        return self in (Status.DONE, Status.STOPPED, Status.CLOSED)

    @property
    def told(self) -> str:
        """In words."""
        return _TOLD[self]


_TOLD = {
    Status.DONE: "reached the end",
    Status.STOPPED: "stopped by an event",
    Status.CLOSED: "closed a cycle",
    Status.TOO_MANY_STEPS: "took the largest number of steps without reaching the end",
    Status.STEP_TOO_SMALL: "could not keep the tolerance with any step above rounding",
    Status.NOT_FINITE: "left the floating-point numbers",
    Status.SINGULAR: "met a singular Jacobian",
    Status.INTERRUPTED: "was interrupted",
    Status.NEGATIVE: "met a negative propensity: the law is not defined for these counts",
    Status.TOO_MANY_EVENTS: "had the largest number of events before the end",
}
