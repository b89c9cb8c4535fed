"""Vectors of floating-point lanes in LLVM IR, with Python's operators.

A `Lanes` stands for a value that generated code will compute: `a * b + 1` emits instructions. Width 1 is a plain
scalar, so the same elementary functions serve vector kernels and scalar code inside numba.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import llvmlite.ir as ir
import numpy as np

# llvmlite's inferred types are wrong (a builder's methods seem to return None), so its values are untyped here.
IRValue: TypeAlias = Any
IRBuilder: TypeAlias = Any

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()


@dataclass(frozen=True)
class Format:
    """A binary floating-point format and the integers of its size."""

    scalar: Any
    integer: Any
    fraction_bits: int
    bias: int
    suffix: str


BINARY32 = Format(FLOAT, I32, 23, 127, "f32")
BINARY64 = Format(DOUBLE, I64, 52, 1023, "f64")


class Emitter:
    """Where instructions go: a builder, a format and a number of lanes.

    Attributes:
        flags: LLVM's fast-math flags for sums and products.
    """

    flags: tuple[str, ...] = ()

    def __init__(self, builder: IRBuilder, form: Format, width: int) -> None:
        self.builder = builder
        self.form = form
        self.width = width

    def shape(self, scalar: Any) -> Any:
        """The type of `width` lanes of `scalar`."""
        return scalar if self.width == 1 else ir.VectorType(scalar, self.width)

    @property
    def type(self) -> Any:
        return self.shape(self.form.scalar)

    def splat(self, scalar_type: Any, value: Any) -> ir.Constant:
        return ir.Constant(self.shape(scalar_type), value if self.width == 1 else [value] * self.width)

    def lanes(self, value: Any) -> Lanes:
        """A constant in every lane."""
        if isinstance(value, Lanes):
            return value
        if not isinstance(value, Real):
            raise TypeError(f"kernels cannot hold {value!r}")
        number = float(value)
        if not math.isfinite(number) or self.form is BINARY64:
            return Lanes(self, self.splat(self.form.scalar, number))
        # llvmlite writes a float constant from the nearest double: round it to the format first.
        return Lanes(self, self.splat(self.form.scalar, to_binary32(number)))

    def intrinsic(self, name: str, *arguments: IRValue) -> IRValue:
        """llvm.NAME on values of one type."""
        kind = arguments[0].type
        prefix = "" if self.width == 1 else f"v{self.width}"
        element = kind if self.width == 1 else kind.element
        suffix = {FLOAT: "f32", DOUBLE: "f64"}.get(element) or str(element)
        full = f"llvm.{name}.{prefix}{suffix}"
        function = self.builder.module.globals.get(full)
        if function is None:
            function = ir.Function(self.builder.module, ir.FunctionType(kind, [kind] * len(arguments)), full)
        return self.builder.call(function, arguments)


def to_binary32(number: float) -> float:
    """The nearest binary32 number, ±inf beyond its range."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


class Lanes:
    """A vector value of the emitter's format."""

    __slots__ = ("at", "value")

    def __init__(self, at: Emitter, value: IRValue) -> None:
        self.at = at
        self.value = value

    def _binary(self, name: str, other: Any, swapped: bool = False) -> Lanes:
        left, right = self, self.at.lanes(other)
        if swapped:
            left, right = right, left
        return Lanes(self.at, getattr(self.at.builder, name)(left.value, right.value, flags=self.at.flags))

    def __add__(self, other: Any) -> Lanes:
        return self._binary("fadd", other)

    def __radd__(self, other: Any) -> Lanes:
        return self._binary("fadd", other, True)

    def __sub__(self, other: Any) -> Lanes:
        return self._binary("fsub", other)

    def __rsub__(self, other: Any) -> Lanes:
        return self._binary("fsub", other, True)

    def __mul__(self, other: Any) -> Lanes:
        return self._binary("fmul", other)

    def __rmul__(self, other: Any) -> Lanes:
        return self._binary("fmul", other, True)

    def __truediv__(self, other: Any) -> Lanes:
        return self._binary("fdiv", other)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._binary("fdiv", other, True)

    def plus(self, other: Lanes) -> Lanes:
        """The sum rounded once, never fused with a product."""
        return Lanes(self.at, self.at.builder.fadd(self.value, other.value))

    def minus(self, other: Lanes) -> Lanes:
        """The difference rounded once, never fused with a product."""
        return Lanes(self.at, self.at.builder.fsub(self.value, other.value))

    def __neg__(self) -> Lanes:
        return Lanes(self.at, self.at.builder.fneg(self.value))

    def __abs__(self) -> Lanes:
        return Lanes(self.at, self.at.intrinsic("fabs", self.value))

    def _compare(self, sign: str, other: Any) -> Mask:
        return Mask(self.at, self.at.builder.fcmp_ordered(sign, self.value, self.at.lanes(other).value))

    def __lt__(self, other: Any) -> Mask:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Mask:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Mask:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Mask:
        return self._compare(">=", other)

    def equals(self, other: Any) -> Mask:
        return self._compare("==", other)

    def is_nan(self) -> Mask:
        return Mask(self.at, self.at.builder.fcmp_unordered("uno", self.value, self.value))


@dataclass(frozen=True)
class Mask:
    """A vector of truth values."""

    at: Emitter
    value: IRValue

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.at, self.at.builder.and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.at, self.at.builder.or_(self.value, other.value))

    def __invert__(self) -> Mask:
        return Mask(self.at, self.at.builder.not_(self.value))

    def choose(self, yes: Any, no: Any) -> Lanes:
        """yes where true, no elsewhere."""
        a, b = self.at.lanes(yes), self.at.lanes(no)
        return Lanes(self.at, self.at.builder.select(self.value, a.value, b.value))

    def any(self) -> IRValue:
        """One bit: whether some lane is true."""
        if self.at.width == 1:
            return self.value
        bits = self.at.builder.bitcast(self.value, ir.IntType(self.at.width))
        return self.at.builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(self.at.width), 0))


def fma(a: Lanes, b: Any, c: Any) -> Lanes:
    """a·b + c, rounded once."""
    at = a.at
    return Lanes(at, at.intrinsic("fma", a.value, at.lanes(b).value, at.lanes(c).value))


def horner(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The polynomial with these coefficients, constant term first."""
    value = x.at.lanes(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = fma(value, x, coefficient)
    return value


def estrin(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The same polynomial by pairs: a shorter chain of dependent steps than Horner's."""
    terms = [x.at.lanes(c) for c in coefficients]
    power = x
    while len(terms) > 1:
        paired = [fma(power, terms[i + 1], terms[i]) for i in range(0, len(terms) - 1, 2)]
        if len(terms) % 2:
            paired.append(terms[-1])
        terms = paired
        power = power * power
    return terms[0]


def sqrt(x: Lanes) -> Lanes:
    return Lanes(x.at, x.at.intrinsic("sqrt", x.value))


def round_to_integer(x: Lanes) -> Lanes:
    return Lanes(x.at, x.at.intrinsic("rint", x.value))


def copysign(magnitude: Lanes, sign: Lanes) -> Lanes:
    return Lanes(magnitude.at, magnitude.at.intrinsic("copysign", magnitude.value, sign.value))


def largest(x: Lanes, bound: Any) -> Lanes:
    """The larger of x and a bound, NaN where x is."""
    return (x < bound).choose(bound, x)


def smallest(x: Lanes, bound: Any) -> Lanes:
    """The smaller of x and a bound, NaN where x is."""
    return (x > bound).choose(bound, x)


def outside(x: Lanes, low: float, high: float) -> Mask:
    """Where |x| is not between two positive numbers of binary32, or NaN: one comparison of its bits."""
    at, builder, integer = x.at, x.at.builder, x.at.form.integer
    least, most = (int(np.float32(v).view(np.uint32)) for v in (low, high))
    magnitude = builder.and_(bits(x), at.splat(integer, 0x7FFFFFFF))
    shifted = builder.sub(magnitude, at.splat(integer, least))
    return Mask(at, builder.icmp_unsigned(">", shifted, at.splat(integer, most - least)))


def bits(x: Lanes) -> IRValue:
    return x.at.builder.bitcast(x.value, x.at.shape(x.at.form.integer))


def from_bits(at: Emitter, integer: IRValue) -> Lanes:
    return Lanes(at, at.builder.bitcast(integer, at.type))


def to_integer(x: Lanes) -> IRValue:
    """Lanes that hold whole numbers of modest size, as integers."""
    return x.at.builder.fptosi(x.value, x.at.shape(x.at.form.integer))


def from_integer(at: Emitter, integer: IRValue) -> Lanes:
    return Lanes(at, at.builder.sitofp(integer, at.type))


def power_of_two(at: Emitter, exponent: IRValue) -> Lanes:
    """2^exponent for exponents of normal numbers."""
    form, builder = at.form, at.builder
    biased = builder.add(exponent, at.splat(form.integer, form.bias))
    return from_bits(at, builder.shl(biased, at.splat(form.integer, form.fraction_bits)))
