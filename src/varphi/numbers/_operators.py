"""Python's operators for varphi's own kinds of number (expressions, jets, balls): each asks the number system."""

from __future__ import annotations

from typing import Any

from ._system import UnsupportedOperation, system_of


def _apply(operation: str, *arguments: Any) -> Any:
    try:
        system = system_of(*arguments)
    except UnsupportedOperation:
        return NotImplemented
    return system.apply(operation, *arguments)


class Operators:
    """Mixin: `a + b`, `a < b`, `abs(a)`, ... by the number system of the operands."""

    __slots__ = ()
    # NumPy would take a number of ours for an object to put into an array.
    __array_ufunc__ = None

    def __add__(self, other: Any) -> Any:
        return _apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _apply("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _apply("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _apply("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _apply("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _apply("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _apply("div", other, self)

    def __pow__(self, other: Any) -> Any:
        return _apply("pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _apply("pow", other, self)

    def __neg__(self) -> Any:
        return _apply("neg", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return _apply("abs", self)

    def __lt__(self, other: Any) -> Any:
        return _apply("lt", self, other)

    def __le__(self, other: Any) -> Any:
        return _apply("le", self, other)

    def __gt__(self, other: Any) -> Any:
        return _apply("gt", self, other)

    def __ge__(self, other: Any) -> Any:
        return _apply("ge", self, other)

    def __eq__(self, other: Any) -> Any:
        return _apply("eq", self, other)

    def __ne__(self, other: Any) -> Any:
        return _apply("ne", self, other)

    __hash__ = object.__hash__
