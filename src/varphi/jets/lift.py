"""Chains of activations and linear layers applied to channels, forwards and backwards.

Forwards f acts by its Taylor series: channel c becomes Σ f^(k)(u0) (n^k/k!)_c. Backwards the same algebra serves:
d f(u) = f'(u) du, so the gradient is the transposed product with f' applied to u. One more derivative of f than the
operator's order is all that training needs, and all of it is one kernel a layer (`numbers.kernel.rows`), which is given
the channels before the activation and computes f's derivatives, and f itself, anew: nothing else is kept.

A chain, activation, linear, activation, linear, ..., is one step of autograd, worked through in tiles of samples that
stay in the second cache all the way: what stands between two layers is stored once, for the backward pass, and nothing
is where no gradient will be asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from varphi.activation import backend
from varphi.activation.formula import Formula, hides_nan
from varphi.activation.pointwise import pointwise
from varphi.numbers import variable
from varphi.numbers.expression import constant
from varphi.numbers.kernel.build import Signature
from varphi.numbers.kernel.rows import Array, Bound, RowsKernel, RowsSignature, rows_kernel

from .algebra import Algebra, is_zero

# What a tile's channels may take: with a handful of such arrays at work, they stay in the second cache.
TILE_BYTES = 2**19
_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True, eq=False)
class Layout:
    """How the channels of a quantity lie in memory.

    Attributes:
        shape: of the quantity itself.
        axis: where the channels' axis stands in a packed tensor: what comes before it counts rows.
        present: which channels are there; the others are zero everywhere.
        packed: whether they are one tensor with all channels. If not, each has a tensor of its own: all rows
            (`shape`), or one that stands for all of them (`shape[axis:]`).
    """

    shape: torch.Size
    axis: int
    present: tuple[bool, ...]
    packed: bool

    @property
    def rows(self) -> int:
        return math.prod(self.shape[: self.axis])

    @property
    def inner(self) -> int:
        return math.prod(self.shape[self.axis :])

    def dense(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors of the channels that are present, contiguous, a single row where all rows are the same."""
        if self.packed:
            return [tensors[0].contiguous()]
        return [self._dense(t).contiguous() for t in tensors]

    def _dense(self, channel: Tensor) -> Tensor:
        row = self.shape[self.axis :]
        is_row = channel.numel() == math.prod(row) and channel.shape[channel.dim() - len(row) :] == row
        return channel.reshape(row) if is_row and self.axis else channel.expand(self.shape)

    def repeats(self, tensor: Tensor) -> bool:
        """Whether a channel's tensor is one row for all."""
        return not self.packed and tensor.dim() < len(self.shape)

    def arrays(self, tensors: Sequence[Tensor]) -> list[Array]:
        """Where each channel that is present lies."""
        if self.packed:
            return packed_arrays(tensors[0], len(self.present), self.inner)
        size = tensors[0].element_size()
        strides = [0 if self.repeats(t) else self.inner for t in tensors]
        return [Array(t.data_ptr(), s, s * size) for t, s in zip(tensors, strides, strict=True)]


def packed_arrays(packed: Tensor, channels: int, inner: int, moves: bool = True) -> list[Array]:
    """Where each channel of (rows, channels, inner) lies; with `moves` False, it is a buffer for one tile."""
    size, stride = packed.element_size(), channels * inner
    return [Array(packed.data_ptr() + c * inner * size, stride, stride * size if moves else 0) for c in range(channels)]


@dataclass(frozen=True)
class Step:
    """A part of a chain: an activation and, but for the last part perhaps, the linear layer after it."""

    formula: Formula
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        return [t for t in (self.weight, self.bias) if t is not None]


def fits(formula: Formula, tensors: Sequence[Any]) -> bool:
    """Whether the kernels serve: a formula without learned parameters on dense CPU tensors, computed now."""
    return (
        not formula.parameters
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and all(
            t.dtype in _DTYPES and backend.is_plain(t) and t.dtype is tensors[0].dtype and t.numel() > 0
            for t in tensors
        )
        and backend.enabled()
    )


def by_operations(formula: Formula, parameters: Sequence[Any], algebra: Algebra, parts: Sequence[Any]) -> list[Any]:
    """The channels of f(u) by torch operations: any device, any transformation, differentiable without end."""
    tower, row = [], formula
    for _ in range(algebra.order + 1):
        tower.append(pointwise(row, parts[0], *parameters))
        row = row.derivative(0)
    return algebra.compose(tower, algebra.powers(parts))


def run(algebra: Algebra, layout: Layout, tensors: Sequence[Tensor], steps: Sequence[Step]) -> Tensor:
    """The channels at the end of a chain, packed at `layout.axis`; what `fits` says must hold for every step.

    Args:
        layout, tensors: the channels that it starts from. Where linear layers occur, one dimension follows the axis.
    """
    weights = [t for step in steps for t in (step.weight, step.bias)]
    formulas = tuple(step.formula for step in steps)
    return _Chain.apply(algebra, layout, formulas, torch.is_grad_enabled(), *weights, *layout.dense(tensors))


def _kernel(formula: Formula, algebra: Algebra, present: tuple[bool, ...], dtype: torch.dtype, what: str) -> RowsKernel:
    """The kernel for what: "forward", "backward", or "both" (the gradient, and the forward result once more)."""
    key = ("channels", algebra, present, dtype, what)
    found = formula.kernels.get(key)
    if found is None:
        found = formula.kernels[key] = rows_kernel(_signature(formula, algebra, present, _DTYPES[dtype], what))
    return found


def _signature(formula: Formula, algebra: Algebra, present: tuple[bool, ...], dtype: str, what: str) -> RowsSignature:
    channels: list[Any] = [variable(f"z{c}") if there else 0 for c, there in enumerate(present)]
    inputs = [f"z{c}" for c, there in enumerate(present) if there]
    orders = algebra.order + (what != "forward")
    tower: list[Any] = [variable(f"t{k}") for k in range(orders + 1)]
    powers = algebra.powers(channels)
    outputs: list[Any] = []
    if what != "forward":
        cotangents: list[Any] = [variable(f"g{c}") for c in range(len(algebra))]
        inputs += [f"g{c}" for c in range(len(algebra))]
        gradient = algebra.transposed(algebra.compose(tower[1:], powers), cotangents)
        outputs += [g for g, there in zip(gradient, present, strict=True) if there]
    if what != "backward":
        outputs += algebra.compose(tower, powers)
    rows = tuple(formula.tower(orders))
    signature = Signature(rows, ("x",), (), dtype, tuple(hides_nan(r) for r in rows))
    return RowsSignature(signature, tuple(inputs), tuple(constant(o) for o in outputs))


def _parts(layout: Layout, tensors: Sequence[Tensor]) -> list[Any]:
    """The channels one by one, 0 for those that are not there."""
    if layout.packed:
        return list(tensors[0].unbind(layout.axis))
    rest = iter(tensors)
    return [next(rest) if there else 0 for there in layout.present]


def stack_parts(parts: Sequence[Any], shape: torch.Size, axis: int) -> Tensor:
    """The channels as one tensor."""
    like = next(p for p in parts if not is_zero(p))
    return torch.stack([like.new_zeros(shape) if is_zero(p) else p.expand(shape) for p in parts], axis)


class _Chain(torch.autograd.Function):
    """Arguments after the fourth: weight and bias of every step (None where there is none), then the source."""

    @staticmethod
    def forward(
        ctx: Any, algebra: Algebra, layout: Layout, formulas: tuple[Formula, ...], keeps: bool, *tensors: Any
    ) -> Tensor:
        work = _Work(algebra, layout, formulas, tensors)
        keeps = keeps and any(ctx.needs_input_grad)
        result, between = work.forward(keeps)
        ctx.work = work
        ctx.save_for_backward(*[t for t in tensors if t is not None], *between)
        work.release()
        return result.view(*layout.shape[: layout.axis], len(algebra), *work.ending)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,), work = grads, ctx.work
        tensors, between = work.restored(ctx.saved_tensors)
        if torch.is_grad_enabled() or not backend.is_plain(grad):
            return None, None, None, None, *_again(work, tensors, grad)
        return None, None, None, None, *work.backward(tensors, between, grad, ctx.needs_input_grad[4:])


class _Work:
    """A chain's passes over tiles of rows."""

    def __init__(
        self, algebra: Algebra, layout: Layout, formulas: tuple[Formula, ...], tensors: Sequence[Tensor | None]
    ) -> None:
        self.algebra, self.layout, self.formulas = algebra, layout, formulas
        self.given = [t is not None for t in tensors]
        self.tensors: Sequence[Any] = tensors
        self.widths = [layout.inner, *[w.shape[0] for w in tensors[: 2 * len(formulas) : 2] if w is not None]]
        self.ending = layout.shape[layout.axis :] if len(self.widths) == 1 else (self.widths[-1],)
        row = len(algebra) * max(self.widths) * self.source[0].element_size()
        self.tile = max(1, min(layout.rows, TILE_BYTES // row))

    @property
    def source(self) -> Sequence[Any]:
        return self.tensors[2 * len(self.formulas) :]

    def release(self) -> None:
        """Keep no tensor: autograd does."""
        self.tensors = ()

    def restored(self, saved: Sequence[Tensor]) -> tuple[list[Any], Sequence[Tensor]]:
        """The arguments again, and what was kept between the steps."""
        rest = iter(saved)
        tensors = [next(rest) if there else None for there in self.given]
        return tensors, list(rest)

    def tiles(self) -> Iterator[tuple[int, int]]:
        """The first row of each tile, and how many rows it has."""
        for start in range(0, self.layout.rows, self.tile):
            yield start, min(self.tile, self.layout.rows - start)

    def steps(self, tensors: Sequence[Any]) -> list[Step]:
        pairs = zip(self.formulas, tensors[::2], tensors[1::2], strict=False)
        return [Step(f, w, b) for f, w, b in pairs]

    def buffer(self) -> Tensor:
        """Room for a tile of the widest layer."""
        return self.source[0].new_empty(self.tile * len(self.algebra) * max(self.widths))

    def shaped(self, buffer: Tensor, rows: int, width: int) -> Tensor:
        """The beginning of a buffer as (rows · channels, width)."""
        count = rows * len(self.algebra)
        return buffer[: count * width].view(count, width)

    def bound(self, place: int, what: str, arrays: list[Array]) -> Bound:
        present = self.layout.present if place == 0 else (True,) * len(self.algebra)
        kernel = _kernel(self.formulas[place], self.algebra, present, self.source[0].dtype, what)
        inner = self.layout.inner if place == 0 else self.widths[place]
        return kernel.bind(arrays, inner, torch.get_num_threads())

    def forward(self, keeps: bool) -> tuple[Tensor, list[Tensor]]:
        """The result (rows, channels, width) and, if kept, what stands before each activation but the first."""
        channels, widths = len(self.algebra), self.widths
        steps = self.steps(self.tensors)
        whole = [
            self.source[0].new_empty((self.layout.rows if keeps or last else self.tile, channels, width))
            for width, last in self._results()
        ]
        active = self.buffer()
        inputs = [self.layout.arrays(self.source)]
        inputs += [packed_arrays(t, channels, w, keeps) for t, w in zip(whole[:-1], widths[1:], strict=False)]
        bound = []
        for place, step in enumerate(steps):
            to, moves = (active, False) if step.weight is not None else (whole[place], True)
            bound.append(
                self.bound(place, "forward", inputs[place] + packed_arrays(to, channels, widths[place], moves))
            )
        for start, count in self.tiles():
            for place, step in enumerate(steps):
                bound[place](start, count)
                if step.weight is None:
                    continue
                first = start if keeps or place == len(steps) - 1 else 0
                part = whole[place][first : first + count]
                torch.mm(
                    self.shaped(active, count, widths[place]), step.weight.t(), out=part.view(-1, widths[place + 1])
                )
                if step.bias is not None:
                    part[:, 0] += step.bias
        return whole[-1], whole[:-1] if keeps else []

    def _results(self) -> list[tuple[int, bool]]:
        """The width of each step's result, and whether it is the chain's."""
        count = len(self.formulas)
        return [(self.widths[min(i + 1, len(self.widths) - 1)], i == count - 1) for i in range(count)]

    def backward(
        self, tensors: Sequence[Any], between: Sequence[Tensor], grad: Tensor, needed: Sequence[bool]
    ) -> list[Any]:
        """The gradients by all arguments."""
        self.tensors = tensors
        channels, widths, layout = len(self.algebra), self.widths, self.layout
        steps, count_steps = self.steps(tensors), len(self.formulas)
        grad = grad.contiguous().view(layout.rows, channels, -1)
        weights = [
            torch.zeros_like(t) if t is not None and n else None
            for t, n in zip(tensors[: 2 * count_steps], needed, strict=False)
        ]
        source = [t.new_zeros(t.shape) if layout.repeats(t) else torch.empty_like(t) for t in self.source]
        repeated = [
            (i, c)
            for i, c in enumerate(c for c, there in enumerate(layout.present) if there)
            if not layout.packed and layout.repeats(self.source[i])
        ]
        # A gradient arrives in one of two buffers and leaves in the other, the activation's result in a third.
        two, active = (self.buffer(), self.buffer()), self.buffer()
        bound = []
        for place, step in enumerate(steps):
            width, passed = widths[place], two[place % 2]
            inputs = layout.arrays(self.source) if place == 0 else packed_arrays(between[place - 1], channels, width)
            if step.weight is None:
                cotangent = packed_arrays(grad, channels, width)
            else:
                cotangent = packed_arrays(passed, channels, width, False)
            into = cotangent if step.weight is not None else packed_arrays(passed, channels, width, False)
            if place == 0:
                own = layout.arrays(source)
                # A row that stands for all gets the sum of the rows' gradients, which first lie in the buffer.
                buffered = packed_arrays(passed, channels, width, False)
                for i, c in repeated:
                    own[i] = buffered[c]
                into = own
            both = weights[2 * place] is not None
            again = packed_arrays(active, channels, width, False) if both else []
            bound.append(self.bound(place, "both" if both else "backward", [*inputs, *cotangent, *into, *again]))
        for start, count in self.tiles():
            arriving = grad[start : start + count].view(count * channels, -1)
            for place in range(count_steps - 1, -1, -1):
                step, width, passed = steps[place], widths[place], self.shaped(two[place % 2], count, widths[place])
                if step.weight is not None:
                    torch.mm(arriving, step.weight, out=passed)
                bound[place](start, count)
                weight, bias = weights[2 * place : 2 * place + 2]
                if weight is not None:
                    weight.addmm_(arriving.t(), self.shaped(active, count, width))
                if bias is not None:
                    bias += arriving.view(count, channels, -1)[:, 0].sum(0)
                arriving = passed
            for i, c in repeated:
                source[i] += arriving.view(count, channels, *source[i].shape)[:, c].sum(0)
        self.release()
        return [*weights, *source]


def _again(work: _Work, tensors: Sequence[Any], grad: Tensor) -> list[Any]:
    """The gradients from the same chain by torch operations, differentiable themselves."""
    algebra, layout = work.algebra, work.layout
    parts, shape = _parts(layout, tensors[2 * len(work.formulas) :]), layout.shape
    for step in work.steps(tensors):
        parts = by_operations(step.formula, [], algebra, parts)
        if step.weight is not None:
            parts = [
                p if is_zero(p) else F.linear(p, step.weight, step.bias if c == 0 else None)
                for c, p in enumerate(parts)
            ]
            shape = torch.Size((*shape[:-1], step.weight.shape[0]))
    needed = [t for t in tensors if t is not None and t.requires_grad]
    result = stack_parts(parts, shape, layout.axis)
    found = iter(torch.autograd.grad(result, needed, grad, create_graph=torch.is_grad_enabled(), allow_unused=True))
    return [next(found) if t is not None and t.requires_grad else None for t in tensors]
