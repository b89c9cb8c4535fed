"""What a number system is, and which one a value belongs to.

An elementary function (`numbers.exp`, ...) does not compute: it finds the number system of its arguments and asks
that system. A system is a table from an operation's name to the function that computes it there, and one rule that
lifts a plain Python number. Nothing imports all systems: the module of a system is loaded when a value of its type
is first met, so `import varphi.numbers` costs no torch, flint or SymPy.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any


class UnsupportedOperation(TypeError):
    """An operation that a number system lacks, or a value that belongs to none."""


@dataclass(frozen=True)
class System:
    """One number system.

    Attributes:
        name: as errors call it ("tensors", "balls").
        operations: from an operation's name (see `numbers.OPERATIONS`) to its implementation.
        rank: where two systems meet in one call, the higher rank computes (a jet of tensors is a jet).
        lift: turns a plain real number into one this system computes with; None where it takes them as they are.
    """

    name: str
    operations: Mapping[str, Callable[..., Any]]
    rank: int
    types: tuple[type, ...] = field(default=())
    lift: Callable[[Any], Any] | None = None

    def apply(self, operation: str, *arguments: Any) -> Any:
        implementation = self.operations.get(operation)
        if implementation is None:
            raise UnsupportedOperation(f"{self.name} have no operation {operation!r}")
        if self.lift is not None:
            arguments = tuple(self.lift(a) if isinstance(a, Real) else a for a in arguments)
        return implementation(*arguments)


# From the top-level package of a type to the module that registers its system.
_PROVIDERS = {"torch": "varphi.numbers.tensor", "flint": "varphi.numbers.ball", "sympy": "varphi.numbers.symbol"}
_SYSTEMS: dict[type, System] = {}


def register(system: System) -> System:
    """Make `system` the one that computes with its types and their subclasses."""
    for kind in system.types:
        _SYSTEMS[kind] = system
    return system


def _lookup(kind: type) -> System | None:
    for base in kind.__mro__:
        if base in _SYSTEMS:
            _SYSTEMS[kind] = _SYSTEMS[base]
            return _SYSTEMS[kind]
    if issubclass(kind, Real):  # Fraction, NumPy's scalars: real by registration, not by inheritance
        return _SYSTEMS[Real]
    for base in kind.__mro__:
        provider = _PROVIDERS.get(base.__module__.split(".")[0])
        if provider is not None:
            importlib.import_module(provider)
            return _SYSTEMS.get(kind) or next((_SYSTEMS[b] for b in kind.__mro__ if b in _SYSTEMS), None)
    return None


def system_of(*values: Any) -> System:
    """The system that computes with `values`: the highest-ranking among them; plain real numbers count lowest."""
    found: System | None = None
    for value in values:
        system = _SYSTEMS.get(type(value)) or _lookup(type(value))
        if system is None:
            raise UnsupportedOperation(
                f"{type(value).__name__!r} belongs to no number system of varphi: {value!r}. "
                "Known: real numbers, torch tensors, jets, expressions, balls (python-flint), SymPy expressions."
            )
        if found is None or system.rank > found.rank:
            found = system
    assert found is not None
    return found


def is_constant(value: Any) -> bool:
    """Whether `value` is a plain real number, which every system accepts as a constant."""
    return isinstance(value, Real)
