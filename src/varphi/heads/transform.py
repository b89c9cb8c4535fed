"""A one-to-one head as a `torch.distributions.Transform`."""

from __future__ import annotations

from typing import Any

from torch import Size, Tensor
from torch.distributions import Transform, constraints

from .heads import Head
from .vectors import PositiveDefinite, StickBreaking, VectorHead


class HeadTransform(Transform):
    """y = head(z), with the head's own inverse and log-determinant.

    Example:
        >>> base = torch.distributions.Normal(0.0, 1.0)
        >>> torch.distributions.TransformedDistribution(base, vp.head("positive").transform())
    """

    bijective = True

    def __init__(self, head: Head, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.head = head
        self._is_vector = isinstance(head, VectorHead)
        self.domain = constraints.independent(constraints.real, 1) if self._is_vector else constraints.real
        self.codomain = head.constraint

    @property
    def sign(self) -> int:
        if self._is_vector:
            raise NotImplementedError("a transform of vectors has no sign")
        return 1

    def with_cache(self, cache_size: int = 1) -> HeadTransform:
        return self if cache_size == self._cache_size else HeadTransform(self.head, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return self.head(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.head.inverse(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head.log_abs_det_jacobian(x, y)

    def forward_shape(self, shape: Size) -> Size:
        if isinstance(self.head, StickBreaking):
            return Size((*shape[:-1], shape[-1] + 1))
        if isinstance(self.head, PositiveDefinite):
            n = self.head.order(shape[-1])
            return Size((*shape[:-1], n, n))
        return Size(shape)

    def inverse_shape(self, shape: Size) -> Size:
        if isinstance(self.head, StickBreaking):
            return Size((*shape[:-1], shape[-1] - 1))
        if isinstance(self.head, PositiveDefinite):
            return Size((*shape[:-2], self.head.inputs(shape[-1])))
        return Size(shape)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, HeadTransform) and other.head is self.head

    __hash__ = Transform.__hash__
