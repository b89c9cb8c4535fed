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
from .recursion import Objective, Slopes, descended, ellipsoid, slack_of, started, through
from .spectral import UNIT, gamma, largest_eigenvalue
from .unrolling import Unrolled, frobenius, unrolled

# Steps of the descent on multipliers, by the widest layer: each costs the cube of it.
_STEPS = {128: 40, 512: 16}
# In wider ones; and for each radius that is tried, a few.
_LEAST_STEPS, LOCAL_STEPS = 8, 12
# For one row alone, in layers of up to so many numbers.
_EACH_STEPS, _MOST_EACH = 12, 128
# The power of the mean that stands for a largest one; and what is as good as 0.
_SHARP, _TINY = 8, 1e-200


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

    def _ellipsoid(self, objective: Objective, steps: int | None = None, batch: int = 1) -> Tensor:
        """The proved covariance before the last linear map, small for an objective of it."""
        model = self.unrolled
        assert model is not None
        usual = next((n for width, n in _STEPS.items() if model.widest <= width), _LEAST_STEPS)
        chosen = usual if self.steps is None else self.steps
        start = started(model.layers, batch)
        found = descended(model.layers, model.inputs, start, objective, chosen if steps is None else steps)
        return ellipsoid(model.layers, model.inputs, found)

    def layered(self) -> Float[Tensor, " batch"] | None:
        """Above the 2-norm Lipschitz constant, by the recursion."""
        if self.unrolled is None:
            return None
        matrix, error = self.unrolled.last.matrix, self.unrolled.last.error
        assert matrix is not None and error is not None
        y = self._ellipsoid(lambda y: torch.linalg.eigvalsh(through(matrix, y))[..., -1])
        square = largest_eigenvalue(through(matrix, y), slack_of(matrix, frobenius(error), y))
        return square.clamp_min(0).sqrt() * (1 + 4 * UNIT)

    # ---------------------------------------------------------------------------------------- rows

    def pairwise(self, rows: Float[Tensor, "batch rows out"], p: float) -> Float[Tensor, "batch rows"]:
        """Above the Lipschitz constants of rows·output, by the product of norms.

        A number changes by at most ‖row·W‖_q times the p-norm of what the last layer's input changes by (1/p + 1/q =
        1).
        """
        linear = self.structure.linear(self.structure.output)
        if linear.matrix is None and linear.base is not self.structure.output:
            whole = self.product(p).unsqueeze(-1)
            dual = torch.linalg.vector_norm(rows, ord=_dual(p), dim=-1) * (1 + gamma(rows.shape[-1]))
            return whole * dual
        v, error = _pulled(rows, linear)
        length = torch.linalg.vector_norm(v.abs() + error, ord=_dual(p), dim=-1) * (1 + gamma(v.shape[-1]))
        return self.before_last(p).unsqueeze(-1) * length * (1 + 8 * UNIT)

    def layered_rows(
        self, rows: Float[Tensor, "batch rows out"], margins: Float[Tensor, "batch rows"]
    ) -> Float[Tensor, "batch rows"] | None:
        """The same for p = 2 by the recursion; None where there is none.

        One ellipsoid serves all rows of a sample: on a region one in which the worst rate/margin is small, for all
        inputs there are one in which the rates are small in the geometric mean.
        """
        if self.unrolled is None:
            return None
        v, _ = _pulled(rows, self.unrolled.last)
        if self.run is None:
            distinct = v.flatten(0, 1).unique(dim=0)
            y = self._ellipsoid(lambda y: _squares(distinct, y).clamp_min(_TINY).log().mean(-1).exp())
        else:
            least = margins.clamp_min(_TINY)
            weights = (least.amin(-1, keepdim=True) / least).square()
            y = self._ellipsoid(lambda y: (_squares(v, y) * weights).pow(_SHARP).mean(-1).pow(1 / _SHARP))
        return self._in_ellipsoid(rows, y)

    def layered_each(self, rows: Float[Tensor, "rows out"]) -> Float[Tensor, " rows"] | None:
        """The same for all inputs there are, with multipliers for each row of its own; None where that is too dear."""
        assert self.run is None
        if self.unrolled is None or self.unrolled.widest > _MOST_EACH:
            return None
        v, _ = _pulled(rows, self.unrolled.last)
        y = self._ellipsoid(lambda y: _squares(v.unsqueeze(1), y).squeeze(-1), _EACH_STEPS, len(rows))
        return self._in_ellipsoid(rows.unsqueeze(1), y).squeeze(1)

    def _in_ellipsoid(self, rows: Tensor, y: Tensor) -> Tensor:
        """√(v·Y·vᵀ), v the rows before the last linear map."""
        assert self.unrolled is not None
        v, error = _pulled(rows, self.unrolled.last)
        size, lost = (torch.linalg.vector_norm(t, dim=-1) * (1 + 1e-9) for t in (v, error))
        slack = (gamma(2 * v.shape[-1]) * size.square() + 2 * size * lost + lost.square()) * 1.01
        reach = torch.linalg.matrix_norm(y).unsqueeze(-1) * (1 + 1e-9)
        return (_squares(v, y) + slack * reach).clamp_min(0).sqrt() * (1 + 4 * UNIT)


def _squares(v: Float[Tensor, "... rows n"], y: Float[Tensor, "... n n"]) -> Float[Tensor, "... rows"]:
    """v·Y·vᵀ of each row."""
    return ((v @ y) * v).sum(-1)


def _pulled(rows: Tensor, linear: Linear) -> tuple[Tensor, Tensor]:
    """Rows·W and the error of that."""
    if linear.matrix is None:
        return rows, torch.zeros_like(rows)
    assert linear.error is not None
    rounded = rows.abs() @ linear.matrix.abs() * gamma(rows.shape[-1])
    return rows @ linear.matrix, rows.abs() @ linear.error + rounded


def _dual(p: float) -> float:
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[float(p)]
