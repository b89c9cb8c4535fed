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

from .algebra import Algebra
from .quantity import Quantity


class MissingRule(NotImplementedError):
    """An operation through which derivatives cannot be carried; the message names it and what to do."""


# What a tensor may be asked about itself: the same for the quantity as for a plain tensor of its shape.
_QUESTIONS_WRITTEN = """
    shape size dim ndim ndimension numel nelement len dtype device layout is_floating_point is_complex is_cuda is_cpu
    is_sparse is_quantized is_nested is_meta is_mkldnn is_contiguous requires_grad is_leaf element_size get_device
    storage_offset is_inference is_same_size stride hash grad_fn itemsize nbytes names has_names is_mps is_xpu
    """
_QUESTIONS = frozenset(_QUESTIONS_WRITTEN.split())


class Channels(Tensor):
    """A quantity in the clothes of a tensor.

    Attributes:
        quantity: what it is now; an operation in place puts another one there.
    """

    quantity: Quantity

    @staticmethod
    def of(quantity: Quantity) -> Channels:
        # Without values of its own: one element, seen under the shape.
        empty = torch.empty((), dtype=quantity.dtype, device=quantity.device).expand(quantity.shape)
        new = Tensor._make_subclass(Channels, empty)
        new.quantity = quantity
        return new

    @staticmethod
    def of_parts(algebra: Algebra, parts: Sequence[Any], shape: Sequence[int] | None = None) -> Channels:
        """See `Quantity.of_parts`."""
        return Channels.of(Quantity.of_parts(algebra, parts, shape))

    @staticmethod
    def of_packed(algebra: Algebra, packed: Tensor, axis: int) -> Channels:
        """See `Quantity.of_packed`."""
        return Channels.of(Quantity.of_packed(algebra, packed, axis))

    @property
    def algebra(self) -> Algebra:
        return self.quantity.algebra

    @property
    def value(self) -> Tensor:
        """The quantity without its derivatives."""
        return self.quantity.part(0)

    def activated(self, formula: Formula, parameters: Sequence[Any] = ()) -> Channels:
        """A pointwise function of the quantity."""
        return Channels.of(self.quantity.activated(formula, parameters))

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
        args[0].quantity = result.quantity
        return args[0]

    @classmethod
    def __pointwise__(cls, formula: Formula, x: Any, parameters: Sequence[Any]) -> Any:
        """An activation of varphi on channels."""
        if not isinstance(x, Channels) or any(isinstance(p, Channels) for p in parameters):
            raise MissingRule("a parameter of an activation cannot depend on the model's input")
        return x.activated(formula, parameters)


def shown(func: Any) -> str:
    """A torch function's name, for people."""
    return resolve_name(func) or getattr(func, "__name__", repr(func))
