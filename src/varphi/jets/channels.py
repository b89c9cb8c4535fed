"""A tensor that carries channels, so that a model's own code computes derivatives.

To the model a `Channels` is a tensor of the quantity's shape. Every operation of torch on it arrives in
`__torch_function__`, which looks up the rule for channels in the table of `rules`; an operation without a rule is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from varphi.activation.formula import Formula
from varphi.activation.operations import is_in_place, name_of

from . import lift
from .algebra import Algebra, is_zero
from .lift import Layout, Step


class MissingRule(NotImplementedError):
    """An operation through which derivatives cannot be carried; the message names it and what to do."""


# What a tensor may be asked about itself: the same for the quantity as for a plain tensor of its shape.
_QUESTIONS = frozenset(
    """
    shape size dim ndim ndimension numel nelement len dtype device layout is_floating_point is_complex is_cuda is_cpu
    is_sparse is_quantized is_nested is_meta is_mkldnn is_contiguous requires_grad is_leaf element_size get_device
    storage_offset is_inference is_same_size stride hash grad_fn itemsize nbytes names has_names is_mps is_xpu
    """.split()
)


class Channels(Tensor):
    """A quantity u of a model with derivatives of it by the model's input.

    It is one of: packed (one tensor with an axis for the channels), apart (a list), or waiting: an activation of
    another quantity, and perhaps a linear layer after it, not computed yet, because more of the same may follow, and a
    chain of layers is one step (`lift`). What two operations use is computed once, for both.
    """

    algebra: Algebra
    _packed: Tensor | None
    _axis: int
    _parts: list[Any] | None
    _waiting: tuple[Channels, Step] | None
    _used: bool

    @staticmethod
    def _new(algebra: Algebra, shape: Sequence[int], like: Tensor) -> Channels:
        # Without values of its own: one element, seen under the shape.
        empty = torch.empty((), dtype=like.dtype, device=like.device).expand(tuple(shape))
        new = Tensor._make_subclass(Channels, empty)
        new.algebra, new._packed, new._axis, new._parts, new._waiting = algebra, None, 0, None, None
        new._used = False
        return new

    @staticmethod
    def of_parts(algebra: Algebra, parts: Sequence[Any], shape: Sequence[int] | None = None) -> Channels:
        """From the channels one by one; each broadcasts to the shape, 0 is one that is zero everywhere.

        Without a shape, it is what the channels broadcast to.
        """
        present = [p for p in parts if not is_zero(p)]
        if shape is None:
            shape = torch.broadcast_shapes(*(p.shape for p in present))
        new = Channels._new(algebra, shape, present[0])
        new._parts = list(parts)
        return new

    @staticmethod
    def of_packed(algebra: Algebra, packed: Tensor, axis: int) -> Channels:
        """From one tensor with all channels along `axis`."""
        shape = (*packed.shape[:axis], *packed.shape[axis + 1 :])
        new = Channels._new(algebra, shape, packed)
        new._packed, new._axis = packed, axis
        return new

    @staticmethod
    def seed(algebra: Algebra, x: Tensor, directions: Tensor | None = None) -> Channels:
        """The model's input: its value, and the directions that are differentiated along.

        Args:
            directions: (dimensions, d) or (dimensions, *x.shape); the axes of x if not given.
        """
        if directions is None:
            directions = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        weights = torch.tensor(algebra.directions, dtype=x.dtype, device=x.device)
        slopes = torch.tensordot(weights, directions, dims=([1], [0]))
        rest = len(algebra) - 1 - len(slopes)
        return Channels.of_parts(algebra, [x, *slopes, *[0] * rest], x.shape)

    @property
    def is_packed(self) -> bool:
        """Whether the channels are one tensor, or will be as soon as they are needed."""
        self._compute()
        return self._packed is not None

    @property
    def packed(self) -> tuple[Tensor, int]:
        """All channels as one tensor, and their axis in it."""
        self._compute()
        if self._packed is None:
            assert self._parts is not None
            self._axis = default_axis(self.shape)
            self._packed = lift.stack_parts(self._parts, self.shape, self._axis)
        return self._packed, self._axis

    @property
    def parts(self) -> list[Any]:
        """The channels one by one; each broadcasts to the shape, 0 is one that is zero everywhere."""
        self._compute()
        if self._parts is None:
            assert self._packed is not None
            self._parts = list(self._packed.unbind(self._axis))
        return self._parts

    @property
    def value(self) -> Tensor:
        """The quantity itself."""
        return self.parts[0].expand(self.shape)

    def part(self, channel: int) -> Tensor:
        """One channel in the quantity's shape."""
        found = self.parts[channel]
        return self.value.new_zeros(self.shape) if is_zero(found) else found.expand(self.shape)

    def layout(self) -> tuple[Layout, list[Tensor]]:
        """How the channels lie in memory, for `lift`."""
        if self.is_packed:
            packed, axis = self.packed
            return Layout(self.shape, axis, (True,) * len(self.algebra), True), [packed]
        present = tuple(not is_zero(p) for p in self.parts)
        tensors = [p for p in self.parts if not is_zero(p)]
        return Layout(self.shape, default_axis(self.shape), present, False), tensors

    def activated(self, formula: Formula, parameters: Sequence[Any]) -> Channels:
        """A pointwise function of the quantity."""
        if self._waiting is not None and self._waiting[1].weight is not None and lift.fits(formula, []):
            return self._followed(Step(formula), self.shape)
        if lift.fits(formula, self.layout()[1]):
            return self._followed(Step(formula), self.shape)
        return Channels.of_parts(self.algebra, lift.by_operations(formula, parameters, self.algebra, self.parts))

    def then_linear(self, weight: Tensor, bias: Tensor | None) -> Channels | None:
        """A linear layer after the activation that this quantity waits for, in one step; None if that cannot be."""
        if self._waiting is None or self._used or self.dim() < 1 or weight.dim() != 2:
            return None
        source, step = self._waiting
        tensors = [weight] if bias is None else [weight, bias]
        if step.weight is not None or weight.dtype is not self.dtype or not lift.fits(step.formula, tensors):
            return None
        if self._axis != self.dim() - 1:
            return None
        self._used = True
        new = Channels._new(self.algebra, (*self.shape[:-1], weight.shape[0]), self)
        new._axis, new._waiting = self._axis, (source, Step(step.formula, weight, bias))
        return new

    def _followed(self, step: Step, shape: Sequence[int]) -> Channels:
        """What comes after this quantity in a chain."""
        new = Channels._new(self.algebra, shape, self)
        new._axis = self._axis if self._waiting is not None else self.layout()[0].axis
        new._waiting = self, step
        if self._used:  # by something else already: it is worth computing once
            self._compute()
        self._used = True
        return new

    def _compute(self) -> None:
        if self._waiting is None:
            return
        steps: list[Step] = []
        source = self
        while source._waiting is not None:
            source, step = source._waiting
            steps.insert(0, step)
        layout, tensors = source.layout()
        self._packed, self._axis = lift.run(self.algebra, layout, tensors, steps), layout.axis
        self._waiting = None

    def become(self, other: Channels) -> Channels:
        """Take over another quantity's channels: what an operation in place does."""
        self._packed, self._axis, self._parts, self._waiting = other._packed, other._axis, other._parts, other._waiting
        self._used = other._used
        return self

    def __repr__(self, **_: Any) -> str:
        with torch._C.DisableTorchFunctionSubclass():
            return f"Channels({len(self.algebra)} of shape {tuple(self.shape)}, order {self.algebra.order})"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from .rules import apply  # the rules make channels themselves

        kwargs = kwargs or {}
        written = getattr(func, "__name__", "")
        asked = getattr(getattr(func, "__self__", None), "__name__", "") if written == "__get__" else written
        if asked.strip("_") in _QUESTIONS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        name = asked if written == "__get__" else name_of(func)
        result = apply(name, func, args, kwargs)
        if not is_in_place(func, kwargs):
            return result
        if not isinstance(args[0], Channels) or not isinstance(result, Channels) or result.shape != args[0].shape:
            raise MissingRule(f"{shown(func)} overwrites a tensor that carries no derivatives; write it out of place")
        return args[0].become(result)

    @classmethod
    def __pointwise__(cls, formula: Formula, x: Any, parameters: Sequence[Any]) -> Any:
        """An activation of varphi on channels."""
        if not isinstance(x, Channels) or any(isinstance(p, Channels) for p in parameters):
            raise MissingRule("a parameter of an activation cannot depend on the model's input")
        return x.activated(formula, parameters)


def default_axis(shape: Sequence[int]) -> int:
    """Where the channels' axis goes: before the features of a vector, after the samples of an image."""
    return max(len(shape) - 1, 0) if len(shape) <= 3 else 1


def shown(func: Any) -> str:
    """A torch function's name, for people."""
    return resolve_name(func) or getattr(func, "__name__", repr(func))
