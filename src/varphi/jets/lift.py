"""An activation applied to channels, forwards and backwards.

Forwards f acts by its Taylor series: channel c becomes Σ f^(k)(u0) (n^k/k!)_c. Backwards the same algebra serves:
d f(u) = f'(u) du, so the gradient is the transposed product with f' applied to u. One more derivative of f than the
operator's order is all that training needs, and all of it is one kernel a layer (`numbers.kernel.rows`), which is given
the channels and computes the derivatives of f anew: nothing but the channels is kept between the passes.

An activation that ends in a linear layer is one step with it (`activate_linear`), worked through in tiles of samples that
stay in the second cache; the activation's own result then is never stored at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from varphi.numbers.kernel.rows import RowsKernel, RowsSignature, rows_kernel

from .algebra import Algebra, is_zero

# What a tile's channels may take: with a handful of such arrays at work, they stay in the second cache.
TILE_BYTES = 2**18
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

    def places(self, tensors: Sequence[Tensor]) -> Places:
        """Where each channel that is present begins, and its distance between rows."""
        if self.packed:
            return Places.packed(tensors[0], len(self.present), self.inner)
        strides = [0 if self.repeats(t) else self.inner for t in tensors]
        return Places([t.data_ptr() for t in tensors], strides, tensors[0].element_size())


@dataclass(frozen=True)
class Places:
    """Addresses of arrays, and their distances between rows in elements of some bytes."""

    addresses: list[int]
    strides: list[int]
    size: int

    @staticmethod
    def packed(tensor: Tensor, channels: int, inner: int) -> Places:
        size = tensor.element_size()
        return Places([tensor.data_ptr() + c * inner * size for c in range(channels)], [channels * inner] * channels, size)

    def __add__(self, other: Places) -> Places:
        return Places(self.addresses + other.addresses, self.strides + other.strides, self.size)

    def after(self, rows: int) -> Places:
        """The same, some rows further on."""
        moved = [a + rows * s * self.size for a, s in zip(self.addresses, self.strides, strict=True)]
        return Places(moved, list(self.strides), self.size)


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


def activate(formula: Formula, algebra: Algebra, layout: Layout, tensors: Sequence[Tensor]) -> Tensor:
    """The channels of f(u), packed at `layout.axis`; what `fits` says must hold."""
    return _Activate.apply(formula, algebra, layout, *layout.dense(tensors))


def activate_linear(
    formula: Formula, algebra: Algebra, layout: Layout, tensors: Sequence[Tensor], weight: Tensor, bias: Tensor | None
) -> Tensor:
    """The channels of W f(u) + b, packed at `layout.axis`; the quantity's last dimension is the only one after it."""
    return _ActivateLinear.apply(formula, algebra, layout, weight, bias, *layout.dense(tensors))


def _kernel(
    formula: Formula, algebra: Algebra, present: tuple[bool, ...], dtype: torch.dtype, what: str
) -> RowsKernel:
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


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, algebra: Algebra, layout: Layout, *tensors: Tensor) -> Tensor:
        ctx.formula, ctx.algebra, ctx.layout = formula, algebra, layout
        ctx.save_for_backward(*tensors)
        shape, axis = layout.shape, layout.axis
        result = tensors[0].new_empty((*shape[:axis], len(algebra), *shape[axis:]))
        places = layout.places(tensors) + Places.packed(result, len(algebra), layout.inner)
        kernel = _kernel(formula, algebra, layout.present, result.dtype, "forward")
        kernel(places.addresses, places.strides, layout.rows, layout.inner, torch.get_num_threads())
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,), tensors = grads, ctx.saved_tensors
        formula, algebra, layout = ctx.formula, ctx.algebra, ctx.layout
        if torch.is_grad_enabled() or not backend.is_plain(grad):
            parts = by_operations(formula, [], algebra, _parts(layout, tensors))
            again = stack_parts(parts, layout.shape, layout.axis)
            return None, None, None, *_again(again, tensors, grad)
        grad = grad.contiguous()
        results = [t.new_empty(layout.shape) if layout.repeats(t) else torch.empty_like(t) for t in tensors]
        places = layout.places(tensors) + Places.packed(grad, len(algebra), layout.inner) + layout.places(results)
        kernel = _kernel(formula, algebra, layout.present, grad.dtype, "backward")
        kernel(places.addresses, places.strides, layout.rows, layout.inner, torch.get_num_threads())
        return None, None, None, *[
            r.reshape(-1, *t.shape).sum(0) if layout.repeats(t) else r for r, t in zip(results, tensors, strict=True)
        ]


def _again(result: Tensor, inputs: Sequence[Any], grad: Tensor) -> list[Any]:
    """The gradients of a result that was computed again by torch operations, differentiable themselves."""
    needed = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(result, needed, grad, create_graph=torch.is_grad_enabled(), allow_unused=True))
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


class _ActivateLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        formula: Formula,
        algebra: Algebra,
        layout: Layout,
        weight: Tensor,
        bias: Tensor | None,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.formula, ctx.algebra, ctx.layout = formula, algebra, layout
        ctx.save_for_backward(weight, bias, *tensors)
        channels, inner, outputs = len(algebra), layout.inner, weight.shape[0]
        result = weight.new_empty((layout.rows, channels, outputs))
        kernel = _kernel(formula, algebra, layout.present, weight.dtype, "forward")
        tile = _tile(layout, weight)
        active = weight.new_empty((tile * channels, inner))
        source, to = layout.places(tensors), Places.packed(active, channels, inner)
        transposed, threads = weight.t(), torch.get_num_threads()
        for start in range(0, layout.rows, tile):
            count = min(tile, layout.rows - start)
            places = source.after(start) + to
            kernel(places.addresses, places.strides, count, inner, threads)
            part = result[start : start + count]
            torch.mm(active[: count * channels], transposed, out=part.view(-1, outputs))
            if bias is not None:
                part[:, 0] += bias
        return result.view(*layout.shape[:-1], channels, outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,) = grads
        weight, bias, *tensors = ctx.saved_tensors
        formula, algebra, layout = ctx.formula, ctx.algebra, ctx.layout
        if torch.is_grad_enabled() or not backend.is_plain(grad):
            parts = by_operations(formula, [], algebra, _parts(layout, tensors))
            again = _linear_parts(parts, weight, bias, layout)
            gradients = _again(again, [weight, bias, *tensors], grad)
            return None, None, None, *gradients
        channels, inner = len(algebra), layout.inner
        grad = grad.contiguous().view(layout.rows, channels, weight.shape[0])
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[3] else None
        bias_grad = grad[:, 0].sum(0) if ctx.needs_input_grad[4] else None
        tile = _tile(layout, weight)
        # The gradient by the activation's result, and that result once more.
        passed, active = (weight.new_empty((tile, channels, inner)) for _ in range(2))
        results = [torch.zeros_like(t) if layout.repeats(t) else torch.empty_like(t) for t in tensors]
        source, given = layout.places(tensors), Places.packed(passed, channels, inner)
        fixed = Places.packed(active, channels, inner) if weight_grad is not None else Places([], [], source.size)
        kernel = _kernel(formula, algebra, layout.present, weight.dtype, "backward" if weight_grad is None else "both")
        there = [c for c, present in enumerate(layout.present) if present]
        repeated = [(i, c) for i, c in enumerate(there) if layout.repeats(tensors[0 if layout.packed else i])]
        into = layout.places(results)
        for start in range(0, layout.rows, tile):
            count = min(tile, layout.rows - start)
            part = grad[start : start + count].view(-1, weight.shape[0])
            torch.mm(part, weight, out=passed[:count].view(-1, inner))
            to = into.after(start)
            for i, c in repeated:
                # The gradient of each row, in the place of what it is made from; their sum is the row's.
                to.addresses[i], to.strides[i] = given.addresses[c], given.strides[c]
            places = source.after(start) + given + to + fixed
            kernel(places.addresses, places.strides, count, inner, torch.get_num_threads())
            if weight_grad is not None:
                weight_grad.addmm_(part.t(), active[:count].view(-1, inner))
            for i, c in repeated:
                results[i] += passed[:count, c].sum(0)
        return None, None, None, weight_grad, bias_grad, *results


def _tile(layout: Layout, weight: Tensor) -> int:
    """How many rows are worked on at a time."""
    row = len(layout.present) * layout.inner * weight.element_size()
    return max(1, min(layout.rows, TILE_BYTES // row))


def _linear_parts(parts: Sequence[Any], weight: Tensor, bias: Tensor | None, layout: Layout) -> Tensor:
    found = [0 if is_zero(p) else F.linear(p, weight, bias if c == 0 else None) for c, p in enumerate(parts)]
    return stack_parts(found, torch.Size((*layout.shape[:-1], weight.shape[0])), layout.axis)
