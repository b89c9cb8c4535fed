"""A quantity of a model and its derivatives by the model's input: channels, in whatever form they are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from varphi.activation.formula import Formula

from . import lift
from .algebra import Algebra, is_zero
from .lift import Layout, Step


class Quantity:
    """Channels of one shape.

    They are one of: packed (one tensor with an axis for the channels), apart (a list), or waiting: an activation of
    another quantity, and perhaps a linear layer after it, not computed yet, because more of the same may follow, and a
    chain of layers is one step (`lift`). What two operations use is computed once, for both. Its numbers never change.

    Attributes:
        shape, dtype, device: of the quantity itself.
    """

    def __init__(self, algebra: Algebra, shape: Sequence[int], like: Any) -> None:
        self.algebra, self.shape = algebra, torch.Size(shape)
        self.dtype, self.device = like.dtype, like.device
        self._packed: Tensor | None = None
        self._axis = 0
        self._parts: list[Any] | None = None
        self._waiting: tuple[Quantity, Step] | None = None
        self._used = False

    @staticmethod
    def of_parts(algebra: Algebra, parts: Sequence[Any], shape: Sequence[int] | None = None) -> Quantity:
        """From the channels one by one; each broadcasts to the shape, 0 is one that is zero everywhere.

        Without a shape, it is what the channels broadcast to.
        """
        present = [p for p in parts if not is_zero(p)]
        if shape is None:
            shape = torch.broadcast_shapes(*(p.shape for p in present))
        new = Quantity(algebra, shape, present[0])
        new._parts = list(parts)
        return new

    @staticmethod
    def of_packed(algebra: Algebra, packed: Tensor, axis: int) -> Quantity:
        """From one tensor with all channels along `axis`."""
        new = Quantity(algebra, (*packed.shape[:axis], *packed.shape[axis + 1 :]), packed)
        new._packed, new._axis = packed, axis
        return new

    @staticmethod
    def seed(algebra: Algebra, x: Tensor, directions: Tensor | None = None) -> Quantity:
        """The model's input: its value, and the directions that are differentiated along.

        Args:
            directions: (dimensions, d) or (dimensions, *x.shape); the axes of x if not given.
        """
        if directions is None:
            directions = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        weights = torch.tensor(algebra.directions, dtype=x.dtype, device=x.device)
        slopes = (weights @ directions.flatten(1)).unflatten(1, directions.shape[1:]) if len(algebra) > 1 else []
        rest = len(algebra) - 1 - len(slopes)
        return Quantity.of_parts(algebra, [x, *slopes, *[0] * rest], x.shape)

    @property
    def is_packed(self) -> bool:
        """Whether the channels are one tensor."""
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

    def part(self, channel: int) -> Tensor:
        """One channel in the quantity's shape."""
        found = self.parts[channel]
        if is_zero(found):
            return torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        return found.expand(self.shape)

    def layout(self) -> tuple[Layout, list[Tensor]]:
        """How the channels lie in memory, for `lift`."""
        if self.is_packed:
            packed, axis = self.packed
            return Layout(self.shape, axis, (True,) * len(self.algebra), True), [packed]
        present = tuple(not is_zero(p) for p in self.parts)
        tensors = [p for p in self.parts if not is_zero(p)]
        return Layout(self.shape, default_axis(self.shape), present, False), tensors

    def activated(self, formula: Formula, parameters: Sequence[Any]) -> Quantity:
        """A pointwise function of the quantity."""
        follows_linear = self._waiting is not None and self._waiting[1].weight is not None
        if lift.fits(formula, [] if follows_linear else self.layout()[1]):
            return self._followed(Step(formula))
        return Quantity.of_parts(
            self.algebra, lift.by_operations(formula, parameters, self.algebra, self.parts), self.shape
        )

    def then_linear(self, weight: Tensor, bias: Tensor | None) -> Quantity | None:
        """A linear layer after the activation that this quantity waits for, in one step; None if that cannot be."""
        if self._waiting is None or self._used or weight.dim() != 2 or self._axis != len(self.shape) - 1:
            return None
        source, step = self._waiting
        tensors = [weight] if bias is None else [weight, bias]
        if step.weight is not None or weight.dtype is not self.dtype or not lift.fits(step.formula, tensors):
            return None
        self._used = True
        new = Quantity(self.algebra, (*self.shape[:-1], weight.shape[0]), self)
        new._axis, new._waiting = self._axis, (source, Step(step.formula, weight, bias))
        return new

    def _followed(self, step: Step) -> Quantity:
        """What comes after this quantity in a chain."""
        new = Quantity(self.algebra, self.shape, self)
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


def default_axis(shape: Sequence[int]) -> int:
    """Where the channels' axis goes: before the features of a vector, after the samples of an image."""
    return max(len(shape) - 1, 0) if len(shape) <= 3 else 1
