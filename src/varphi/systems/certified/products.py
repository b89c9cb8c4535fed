"""Lipschitz constants of a whole model: by the product rule through any graph, and by the layered recursion in
chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from varphi.bounds import UncertifiedOperation
from varphi.bounds.crown import Pass
from varphi.bounds.nodes import Curve, Input, Maximum, Node, Product

from .network import Structure, joined, overlap, repeated
from .recursion import Layer, ellipsoid, slack_of, through
from .spectral import UNIT, gamma, largest_eigenvalue

# Steps of the descent on multipliers, by the widest layer: each costs the cube of it.
_STEPS = {128: 40, 512: 16}
# In wider ones; and for each radius that is tried, a few.
_LEAST_STEPS, LOCAL_STEPS = 8, 12
# Beyond so many neurons in a layer the recursion is left out.
_MOST_NEURONS = 1024


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
    def layers(self) -> list[Layer] | None:
        """The model as a chain for the recursion; None where it is none, or too wide."""
        if not self.structure.is_chain():
            return None
        found = []
        for node in self.structure.bases[1:]:
            linear = self.structure.linear(node.parents[0])
            if linear.norms and linear.base is not node.parents[0]:
                return None
            if max(node.size, linear.base.size) > _MOST_NEURONS:
                return None
            error = 0.0 if linear.error is None else float(torch.linalg.matrix_norm(linear.error)) * (1 + 1e-9)
            if isinstance(node, Curve):
                found.append(Layer(linear.matrix, error, node.size, *self._slopes[node]))
            else:
                assert isinstance(node, Maximum)
                found.append(Layer(linear.matrix, error, node.size, gain=math.sqrt(overlap(node)) * (1 + 4 * UNIT)))
        return found

    @cached_property
    def last(self) -> Layer:
        """The linear map to the output."""
        linear = self.structure.linear(self.structure.output)
        error = 0.0 if linear.error is None else float(torch.linalg.matrix_norm(linear.error)) * (1 + 1e-9)
        return Layer(linear.matrix, error, self.structure.output.size)

    @cached_property
    def ellipsoid(self) -> Float[Tensor, "batch last last"] | None:
        """The proved covariance before the last linear map; None where there is no recursion."""
        last = self.structure.linear(self.structure.output)
        if self.layers is None or (last.norms and last.base is not self.structure.output):
            return None

        def objective(y: Tensor) -> Tensor:
            return torch.linalg.eigvalsh(through(self.last.weight, y))[..., -1]

        widest = max([self.structure.input.size, *(layer.size for layer in self.layers)])
        usual = next((steps for width, steps in _STEPS.items() if widest <= width), _LEAST_STEPS)
        steps = usual if self.steps is None else self.steps
        return ellipsoid(self.layers, self.structure.input.size, objective, steps)

    def layered(self) -> Float[Tensor, " batch"] | None:
        """Above the 2-norm Lipschitz constant, by the recursion."""
        y = self.ellipsoid
        if y is None:
            return None
        square = largest_eigenvalue(through(self.last.weight, y), slack_of(self.last, y))
        return square.clamp_min(0).sqrt() * (1 + 4 * UNIT)

    # ---------------------------------------------------------------------------------------- rows

    def of_rows(self, rows: Float[Tensor, "batch rows out"], p: float) -> dict[str, Float[Tensor, "batch rows"]]:
        """Above the Lipschitz constants of rows·output, by method ("pairwise" and, for p = 2, "layered").

        A number changes by at most ‖row·W‖_q times the p-norm of what the last layer's input changes by (1/p + 1/q =
        1).
        """
        linear = self.structure.linear(self.structure.output)
        if linear.matrix is None and linear.base is not self.structure.output:
            whole = self.product(p).unsqueeze(-1)
            dual = torch.linalg.vector_norm(rows, ord=_dual(p), dim=-1) * (1 + gamma(rows.shape[-1]))
            return {"pairwise": whole * dual}
        if linear.matrix is None:
            v, error = rows, torch.zeros_like(rows)
        else:
            assert linear.error is not None
            v = rows @ linear.matrix
            error = rows.abs() @ linear.error + rows.abs() @ linear.matrix.abs() * gamma(rows.shape[-1])
        n = v.shape[-1]
        length = torch.linalg.vector_norm(v.abs() + error, ord=_dual(p), dim=-1) * (1 + gamma(n))
        found = {"pairwise": self.before_last(p).unsqueeze(-1) * length * (1 + 8 * UNIT)}
        y = self.ellipsoid if p == 2 else None
        if y is None:
            return found
        square = ((v @ y) * v).sum(-1)
        size, lost = (torch.linalg.vector_norm(t, dim=-1) * (1 + 1e-9) for t in (v, error))
        slack = (gamma(2 * n) * size.square() + 2 * size * lost + lost.square()) * 1.01
        reach = torch.linalg.matrix_norm(y).unsqueeze(-1) * (1 + 1e-9)
        return found | {"layered": (square + slack * reach).clamp_min(0).sqrt() * (1 + 4 * UNIT)}


def _dual(p: float) -> float:
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[float(p)]
