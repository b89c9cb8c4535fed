"""Linear layers and activations in a row, as one autograd function with its forward and backward written out.

Inside, rows run along the last dimension, so that products and kernels work on long contiguous lines. The forward
computes f and f' in one pass of varphi's kernel. The backward is two batched products a layer, and leaves the gradients
of all weights side by side. Where more is asked than first derivatives of plain CPU tensors, the same layers run as
ordinary operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varphi.activation import backend
from varphi.activation.formula import Formula

from .layers import Linear, Pointwise, linear

Link: TypeAlias = "tuple[Linear, Pointwise | None]"
# Formulas, and the replicas from the first to before the last that compute each.
Slices: TypeAlias = "list[tuple[Formula, int, int]]"


class Chain:
    """Linear layers, each followed by an activation or by none. No module: its layers are registered in the model.

    Attributes:
        links: the layers and what follows each.
        slices: of each activation, its formulas and their replicas.
    """

    links: tuple[Link, ...]

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)
        self.slices = tuple(None if p is None else p.formulas for _, p in links)
        self._views = _Views([])

    def __call__(self, x: Float[Tensor, "replicas batch ... in"]) -> Float[Tensor, "replicas batch ... out"]:
        # Not `layer.weight`: a look-up in a module costs as much as an operation.
        weights = [t for layer, _ in self.links for t in (layer._parameters["weight"], layer._parameters["bias"])]
        if x.dim() > 3:
            return self(x.flatten(1, -2)).unflatten(1, x.shape[1:-1])
        if x.dim() < 3 or not self._is_ordinary(x, weights):
            return self.by_operations(x, weights)
        if torch.is_grad_enabled() and (x.requires_grad or any(w is not None and w.requires_grad for w in weights)):
            return _apply(self, x, *weights)
        return _run(self, self._views, x, None)[0]

    def by_operations(self, x: Tensor, weights: Sequence[Tensor | None]) -> Tensor:
        """One operation after the other, with the weight and bias of each layer in turn."""
        for i, (_, pointwise) in enumerate(self.links):
            weight = weights[2 * i]
            assert weight is not None
            x = linear(x, weight, weights[2 * i + 1])
            x = x if pointwise is None else pointwise(x)
        return x

    def _is_ordinary(self, x: Tensor, weights: list[Any]) -> bool:
        """Whether everything is a plain dense CPU tensor, to be computed now and by nobody else."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return False
        if torch.is_autocast_enabled("cpu") or not all(w is None or type(w) is nn.Parameter for w in weights):
            return False
        if _places(weights) != self._views.places:
            self._views = _Views(weights)
        return self._views.suit and x.dtype is weights[0].dtype and x.numel() > 0 and backend.is_for_kernels(x)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views": _Views([])}


class _Views:
    """The weights of a chain as the products take them, made once and not at every step.

    Attributes:
        places: where the weights are; of others, these are not the views.
        layers: of each layer its weight, its bias as a column, and its weight transposed.
        shapes: of each weight and bias its shape, the strides of a gradient of it, and its number of elements.
        suit: whether all are plain dense CPU tensors of one dtype, float32 or float64.
    """

    def __init__(self, weights: Sequence[Tensor | None]) -> None:
        plain = [None if w is None else w.detach() for w in weights]
        self.places = _places(plain)
        self.layers: list[tuple[Tensor, Tensor | None, Tensor]] = []
        for weight, bias in zip(plain[::2], plain[1::2], strict=True):
            assert weight is not None
            self.layers.append((weight, None if bias is None else bias.unsqueeze(2), weight.transpose(1, 2)))
        meta = [torch.empty(0 if w is None else w.shape, device="meta") for w in plain]
        self.shapes = [(t.shape, t.stride(), t.numel()) for t in meta]
        kinds = {w.dtype for w in plain if w is not None}
        self.suit = kinds <= {torch.float32} or kinds <= {torch.float64}
        self.suit = self.suit and all(w is None or backend.is_plain(w) for w in plain)


def _places(weights: Sequence[Tensor | None]) -> list[tuple[int, tuple[int, ...]] | None]:
    return [None if w is None else (w.data_ptr(), w.stride()) for w in weights]


def _run(chain: Chain, views: _Views, x: Tensor, slopes: list[Tensor | None] | None) -> tuple[Tensor, list[Tensor]]:
    """The output, and what goes into each layer; into `slopes`, where given, the slopes of each activation."""
    inputs, h = [], x.transpose(1, 2)
    for slices, (weight, bias, _) in zip(chain.slices, views.layers, strict=True):
        inputs.append(h)
        h = torch.bmm(weight, h) if bias is None else torch.baddbmm(bias, weight, h)
        if slices is not None:
            h = _activated(slices, h, slopes)
        elif slopes is not None:
            slopes.append(None)
    # In place, since a view must not leave an autograd function: its user could not change it in place.
    return h.transpose_(1, 2), inputs


def _activated(slices: Slices, z: Tensor, slopes: list[Tensor | None] | None) -> Tensor:
    rows = [torch.empty_like(z)] if slopes is None else [torch.empty_like(z), torch.empty_like(z)]
    if slopes is not None:
        slopes.append(rows[1])
    if len(slices) == 1:
        backend.run_tower_into(slices[0][0], z, rows)
    else:
        for formula, start, stop in slices:
            backend.run_tower_into(formula, z[start:stop], [row[start:stop] for row in rows])
    return rows[0]


class _Fused(torch.autograd.Function):
    """From x and the weights to the output."""

    @staticmethod
    def forward(ctx: Any, chain: Chain, x: Tensor, *weights: Tensor | None) -> Tensor:
        slopes: list[Tensor | None] = []
        y, inputs = _run(chain, chain._views, x, slopes)
        ctx.chain, ctx.views = chain, chain._views
        ctx.save_for_backward(x, *weights, *inputs[1:], *slopes)
        return y

    @staticmethod
    def backward(ctx: Any, *grads_out: Any) -> tuple[Any, ...]:
        (grad,), chain, saved = grads_out, ctx.chain, ctx.saved_tensors
        layers, (_, needs_x, *needs) = len(chain.links), ctx.needs_input_grad
        rest = saved[2 * layers + 1 :]
        if torch.is_grad_enabled():
            return None, *_differentiable(chain, grad, saved[: 2 * layers + 1], (needs_x, *needs))
        # x as it came, and what is (replicas, features, rows) turned to it.
        inputs, slopes = [saved[0], *(h.transpose(1, 2) for h in rest[: layers - 1])], rest[layers - 1 :]
        gradients = _side_by_side(ctx.views, grad, needs)
        # torch.bmm takes neither the stride 0 of an expanded gradient nor gaps: it would go replica by replica.
        d = grad.transpose(1, 2).contiguous()
        for i in reversed(range(layers)):
            if slopes[i] is not None:
                d = d * slopes[i] if i == layers - 1 else d.mul_(slopes[i])
            of_weight, of_bias = gradients[2 * i : 2 * i + 2]
            if of_weight is not None:
                torch.bmm(d, inputs[i], out=of_weight)
            if of_bias is not None:
                torch.sum(d, 2, out=of_bias)
            if i or needs_x:
                d = torch.bmm(ctx.views.layers[i][2], d)
        return None, d.transpose(1, 2) if needs_x else None, *gradients


# Function.apply without its questions about torch.func, which have been asked.
_apply: Callable[..., Tensor] = super(torch.autograd.Function, _Fused).apply  # type: ignore[attr-defined]


def _side_by_side(views: _Views, like: Tensor, needs: Sequence[bool]) -> list[Tensor | None]:
    """Room for the gradient of each weight that needs one, in one piece of memory."""
    room = like.new_empty(sum(size for (_, _, size), need in zip(views.shapes, needs, strict=True) if need))
    places: list[Tensor | None] = []
    start = 0
    for (shape, strides, size), need in zip(views.shapes, needs, strict=True):
        places.append(room.as_strided(shape, strides, start) if need else None)
        start += size if need else 0
    return places


def _differentiable(
    chain: Chain, grad: Tensor, inputs: Sequence[Tensor | None], needs: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as differentiable functions of everything that they depend on."""
    wanted = [t for t, need in zip(inputs, needs, strict=True) if need and t is not None]
    x = inputs[0]
    assert x is not None
    with torch.enable_grad():
        found = iter(torch.autograd.grad(chain.by_operations(x, inputs[1:]), wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needs]
