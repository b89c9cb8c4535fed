"""Lipschitz constants of a whole model: by the product rule, and by the layered recursion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from varphi.bounds import UncertifiedOperation
from varphi.bounds.crown import Pass
from varphi.bounds.nodes import Concat, Curve, Input, Maximum, Node, Product, Sum

from .network import Linear, Structure, joined, overlap, repeated
from .recursion import Slopes, descended, ellipsoid, slack_of, started, through
from .spectral import UNIT, gamma, largest_eigenvalue
from .unrolling import Unrolled, frobenius, unrolled

# Steps of the descent on multipliers, by the widest layer: each costs the cube of it.
_STEPS = {128: 40, 512: 16}
# In wider ones; and for each radius that is tried, a few.
_LEAST_STEPS, LOCAL_STEPS = 8, 12


@dataclass(frozen=True, eq=False)
class Constants:
    """What bounds how fast a model can change, over a region or everywhere.

    Attributes:
        structure: the model.
        run: intervals over regions, one for each sample; None for all inputs there are.
        steps: of the recursion's descent; None: 40, fewer in layers of more than 128 neurons.
    """

    structure: Structure
    run: Pass | None = None
    steps: int | None = None

    @cached_property
    def _slopes(self) -> dict[Node, tuple[Tensor, Tensor]]:
        curves = [n for n in self.structure.bases if isinstance(n, Curve)]
        return {n: self.structure.slopes(n, self.run) for n in curves}

    # ---------------------------------------------------------------------------------------- product

    def product(self, p: float) -> Float[Tensor, " batch"]:
        """Above the Lipschitz constant from (input, p) to (output, p), by the norms of the parts."""
        return self._at(self.structure.output, p, {})

    def before_last(self, p: float) -> Float[Tensor, " batch"]:
        """The same up to where the output is a linear map of."""
        base = self.structure.linear(self.structure.output).base
        return self._at(base, p, {})

    def _at(self, node: Node, p: float, known: dict[Node, Tensor]) -> Tensor:
        if node not in known:
            known[node] = self._found(node, p, known) * (1 + 8 * UNIT)
        return known[node]

    def _found(self, node: Node, p: float, known: dict[Node, Tensor]) -> Tensor:
        if isinstance(node, Input):
            return torch.ones(1, dtype=torch.float64)
        if self.structure.is_linear(node):
            linear = self.structure.linear(node)
            return linear.norm(p) * self._at(linear.base, p, known)
        if isinstance(node, Curve):
            gain = torch.maximum(*(s.abs() for s in self._slopes[node]))
            linear = self.structure.linear(node.parents[0])
            return linear.norm(p, gain) * self._at(linear.base, p, known)
        parts = [self._at(parent, p, known) for parent in node.parents]
        if isinstance(node, Maximum):
            return parts[0] * overlap(node) ** (0.0 if p == math.inf else 1 / p)
        if isinstance(node, Product):
            return self._product(node, p, parts)
        if not isinstance(node, (Sum, Concat)):
            raise UncertifiedOperation(
                f"{node.path or 'the model'}: no Lipschitz constant is known of a {type(node).__name__.lower()} node"
            )
        batch = torch.broadcast_tensors(*parts)
        rows = [[float(v) for v in row] for row in torch.stack(batch, 1)]
        return torch.tensor([joined(node, p, row) for row in rows], dtype=torch.float64)

    def _product(self, node: Node, p: float, parts: list[Tensor]) -> Tensor:
        if self.run is None:
            raise UncertifiedOperation(
                f"{node.path or 'the model'}: a product of two tensors that depend on the input has no global "
                "Lipschitz constant; give a region"
            )
        sizes = [torch.maximum(*(t.abs() for t in self.run.tight(n))).flatten(1).amax(1) for n in node.parents]
        first, second = repeated(node, p, [1.0, 1.0])
        return sizes[0] * parts[1] * second + sizes[1] * parts[0] * first

    # ---------------------------------------------------------------------------------------- recursion

    @cached_property
    def unrolled(self) -> Unrolled | None:
        """The model as layers; None where there is no recursion."""
        return unrolled(self.structure, lambda node: Slopes(*self._slopes[node]))

    @cached_property
    def ellipsoid(self) -> Float[Tensor, "batch last last"] | None:
        """The proved covariance before the last linear map, for the constant; None where there is no recursion."""
        model = self.unrolled
        if model is None:
            return None

        def objective(y: Tensor) -> Tensor:
            assert model.last.matrix is not None
            return torch.linalg.eigvalsh(through(model.last.matrix, y))[..., -1]

        usual = next((steps for width, steps in _STEPS.items() if model.widest <= width), _LEAST_STEPS)
        steps = usual if self.steps is None else self.steps
        found = descended(model.layers, model.inputs, started(model.layers), objective, steps)
        return ellipsoid(model.layers, model.inputs, found)

    def layered(self) -> Float[Tensor, " batch"] | None:
        """Above the 2-norm Lipschitz constant, by the recursion."""
        y = self.ellipsoid
        if y is None:
            return None
        assert self.unrolled is not None
        last = self.unrolled.last
        assert last.matrix is not None and last.error is not None
        square = largest_eigenvalue(through(last.matrix, y), slack_of(last.matrix, frobenius(last.error), y))
        return square.clamp_min(0).sqrt() * (1 + 4 * UNIT)

    # ---------------------------------------------------------------------------------------- rows

    def of_rows(self, rows: Float[Tensor, "batch rows out"], p: float) -> dict[str, Float[Tensor, "batch rows"]]:
        """Above the Lipschitz constants of rows·output, by method ("pairwise" and, for p = 2, "layered").

        A number changes by at most ‖row·W‖_q times the p-norm of what the last layer's input changes by (1/p + 1/q =
        1).
        """
        found = {"pairwise": self._pairwise(rows, p)}
        if p == 2 and self.ellipsoid is not None:
            found["layered"] = self._in_ellipsoid(rows, self.ellipsoid)
        return found

    def _pairwise(self, rows: Tensor, p: float) -> Tensor:
        linear = self.structure.linear(self.structure.output)
        if linear.matrix is None and linear.base is not self.structure.output:
            whole = self.product(p).unsqueeze(-1)
            dual = torch.linalg.vector_norm(rows, ord=_dual(p), dim=-1) * (1 + gamma(rows.shape[-1]))
            return whole * dual
        v, error = _pulled(rows, linear)
        length = torch.linalg.vector_norm(v.abs() + error, ord=_dual(p), dim=-1) * (1 + gamma(v.shape[-1]))
        return self.before_last(p).unsqueeze(-1) * length * (1 + 8 * UNIT)

    def _in_ellipsoid(self, rows: Tensor, y: Tensor) -> Tensor:
        """√(v·Y·vᵀ), v the rows before the last linear map."""
        assert self.unrolled is not None
        v, error = _pulled(rows, self.unrolled.last)
        square = ((v @ y) * v).sum(-1)
        size, lost = (torch.linalg.vector_norm(t, dim=-1) * (1 + 1e-9) for t in (v, error))
        slack = (gamma(2 * v.shape[-1]) * size.square() + 2 * size * lost + lost.square()) * 1.01
        reach = torch.linalg.matrix_norm(y).unsqueeze(-1) * (1 + 1e-9)
        return (square + slack * reach).clamp_min(0).sqrt() * (1 + 4 * UNIT)


def _pulled(rows: Tensor, linear: Linear) -> tuple[Tensor, Tensor]:
    """Rows·W and the error of that."""
    if linear.matrix is None:
        return rows, torch.zeros_like(rows)
    assert linear.error is not None
    rounded = rows.abs() @ linear.matrix.abs() * gamma(rows.shape[-1])
    return rows @ linear.matrix, rows.abs() @ linear.error + rounded


def _dual(p: float) -> float:
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[float(p)]
