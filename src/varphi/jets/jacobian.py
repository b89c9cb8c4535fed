"""The Jacobian of residuals by a model's parameters, a row for each sample: what least-squares methods work with.

Each sample gets parameters of its own, all the same memory; the gradients by these are the rows, and one backward pass
finds all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .channels import Channels
from .operators import apply

Call: TypeAlias = Callable[[Tensor], Tensor]
# residuals(model, x, coefficients): (samples,) or (samples, k), each row from its own row of x.
Residuals: TypeAlias = Callable[[Call, Tensor, Mapping[str, Tensor]], Tensor]


def jacobian(
    residuals: Residuals,
    model: nn.Module,
    x: Float[Tensor, "samples d"],
    coefficients: Mapping[str, Tensor] | None = None,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows parameters"]]:
    """Residuals at every sample, and their derivatives by the model's trained parameters and by coefficients.

    Args:
        residuals: given the model (call it, or pass it to `laplacian` and its like), x, and the coefficients as
            (samples, 1) columns; gives (samples,) or (samples, k), where a sample's residuals depend on its own row of
            x alone.
        model: any module. If all its trained parameters are those of `nn.Linear` layers, one backward pass for each
            of the k residuals finds everything; otherwise `torch.func` does, more slowly.
        x: the points.
        coefficients: further unknown numbers, each a tensor of one element.

    Returns:
        r, of length samples · k, the samples' first residuals first; and ∂r/∂(parameters, coefficients) in the order of
        `model.parameters()` (those that require a gradient), flattened, then the coefficients.

    Raises:
        ValueError: where the residuals have another shape.
    """
    trained: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    numbers = dict(coefficients or {})
    linear = {id(p) for m in model.modules() if type(m) is nn.Linear for p in m.parameters(recurse=False)}
    if all(id(p) in linear for p in trained.values()):
        return _each_sample(residuals, model, x, trained, numbers)
    return _transformed(residuals, model, x, trained, numbers)


def _each_sample(
    residuals: Residuals, model: nn.Module, x: Tensor, trained: dict[str, Tensor], numbers: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    samples = len(x)
    own = {name: p.detach().expand(samples, *p.shape).requires_grad_() for name, p in trained.items()}
    columns = {name: c.detach().reshape(1, 1).expand(samples, 1).requires_grad_() for name, c in numbers.items()}

    def call(z: Tensor) -> Tensor:
        if isinstance(z, Channels):
            return torch.func.functional_call(model, own, (z,))
        return apply(lambda c: torch.func.functional_call(model, own, (c,)), z, [])[0]

    with torch.enable_grad():
        result = _checked(residuals(call, x, columns), samples)
        unknowns = [*own.values(), *columns.values()]
        blocks = []
        for i, column in enumerate(result.unbind(1)):
            last = i == result.shape[1] - 1
            rows = torch.autograd.grad(
                column.sum(), unknowns, retain_graph=not last, allow_unused=True, materialize_grads=True
            )
            blocks.append(torch.cat([r.reshape(samples, -1) for r in rows], 1))
    return result.detach().T.reshape(-1), torch.cat(blocks)


def _transformed(
    residuals: Residuals, model: nn.Module, x: Tensor, trained: dict[str, Tensor], numbers: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    samples = len(x)

    def flat(own: dict[str, Tensor], given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        columns = {name: c.reshape(1, 1).expand(samples, 1) for name, c in given.items()}
        result = residuals(lambda z: torch.func.functional_call(model, own, (z,)), x, columns)
        vector = _checked(result, samples).T.reshape(-1)
        return vector, vector

    detached = [{name: p.detach() for name, p in part.items()} for part in (trained, numbers)]
    rows, value = torch.func.jacrev(flat, argnums=(0, 1), has_aux=True)(*detached)
    blocks = [r.reshape(len(value), -1) for part in rows for r in part.values()]
    return value.detach(), torch.cat(blocks, 1)


def _checked(result: Tensor, samples: int) -> Tensor:
    result = result[:, None] if result.dim() == 1 else result
    if result.dim() != 2 or len(result) != samples:
        raise ValueError(f"residuals must be ({samples},) or ({samples}, k), got {tuple(result.shape)}")
    return result
