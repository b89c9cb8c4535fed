"""A backward step through an activation, and the least value over a ball, each in one pass over memory.

Both read large coefficients (batch, rows, n) once; torch's operations, which serve tensors on other devices and those
with gradients, write every intermediate result out.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from varphi.activation import backend

# Sums may be made in any order (the error bounds hold for all), and on the sign of zero nothing depends. Of _nrt see
# `fused`.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract", "nsz"}, "_nrt": False}
_in_one_pass: Any = njit(**_OPTIONS)


# Of matrix products, which numba makes with references counted; no rows are taken of arrays here.
_with_products: Any = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


def readable(*tensors: Tensor) -> bool:
    """Whether the numbers are where machine code can read them, and nobody asks for their gradients."""
    return backend.enabled() and all(backend.is_plain(t) and t.numel() > 0 and not t.requires_grad for t in tensors)


class _Kept(threading.local):
    """Memory of large coefficients, kept: what a system gives anew costs it more to clear than a pass to fill.

    One is used again when nobody refers to it any more.
    """

    SMALLEST, LARGEST, MOST = 2**17, 2**23, 4

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = math.prod(shape) * dtype.itemsize
        if not self.SMALLEST <= size <= self.LARGEST:
            return torch.empty(shape, dtype=dtype)
        block = self._free(size)
        return torch.frombuffer(block, dtype=dtype, count=math.prod(shape)).view(shape)

    def _free(self, size: int) -> np.ndarray:
        for i in range(len(self.blocks)):
            # Referred to by the list and by the call alone.
            if self.blocks[i].nbytes >= size and sys.getrefcount(self.blocks[i]) == 2:
                return self.blocks[i]
        block = np.empty(size, np.uint8)
        self.blocks = [block, *self.blocks][: self.MOST]
        return block


_kept = _Kept()


def product(a: Float[Tensor, "rows n"], weight: Float[Tensor, "n m"]) -> Float[Tensor, "rows m"]:
    """a @ weight."""
    if a.dim() != 2 or not readable(a, weight):
        return a @ weight
    return torch.mm(a, weight, out=_kept.empty((a.shape[0], weight.shape[1]), a.dtype))


@_in_one_pass
def _pull(a, slope, bend, shift, drop, mirrored, pulled, constant):
    rows, n = a.shape[1], a.shape[2]
    for b in range(len(slope)):
        steep, bent, raised, dropped = slope[b], bend[b], shift[b], drop[b]
        for r in range(rows):
            row, out = a[b if len(a) > 1 else 0, r], pulled[b, r]
            for i in range(n):
                out[i] = row[i] * steep[i] + abs(row[i]) * bent[i]
            odd, even = 0.0, 0.0  # float64, whatever the rows are of
            for i in range(n):
                odd += row[i] * raised[i]
                even += abs(row[i]) * dropped[i]
            constant[b, r] = even + odd
            if mirrored:
                out = pulled[b, rows + r]
                for i in range(n):
                    out[i] = abs(row[i]) * bent[i] - row[i] * steep[i]
                constant[b, rows + r] = even - odd


def pull(a: Tensor, slope: Tensor, bend: Tensor, shift: Tensor, drop: Tensor, mirrored: bool) -> tuple[Tensor, Tensor]:
    """a·slope + |a|·bend for every element, and Σ a·shift + |a|·drop; of a mirrored a for -a too, below.

    Args:
        a: (batch or 1, rows, *shape).
        slope, bend, shift, drop: (batch, *shape).
        mirrored: whether a stands for its rows and for their negatives.

    Returns:
        (batch, rows or twice as many, *shape), and (batch, the same).
    """
    batch, count, shape = slope.shape[0], (2 if mirrored else 1) * a.shape[1], a.shape[2:]
    pulled = _kept.empty((batch, count, *shape), a.dtype)
    constant = torch.empty(batch, count, dtype=a.dtype)
    rows, out = (t.reshape(*t.shape[:2], -1).contiguous().numpy() for t in (a, pulled))
    columns = (t.reshape(len(t), -1).contiguous().numpy() for t in (slope, bend, shift, drop))
    _pull(rows, *columns, mirrored, out, constant.numpy())
    return pulled, constant


@_in_one_pass
def _least(a, centre, radius, dual, share, lost, found):
    zero = a.dtype.type(0)
    for b in range(len(centre)):
        place, reach = centre[b], radius[b]
        for r in range(a.shape[1]):
            row = a[b if len(a) > 1 else 0, r]
            middle, size = zero, zero
            for i in range(len(row)):
                middle += row[i] * place[i]
            if dual == 2:
                for i in range(len(row)):
                    size += row[i] * row[i]
                size = np.sqrt(size)
            elif len(reach) > 1:
                for i in range(len(row)):
                    size += abs(row[i]) * reach[i]
            elif dual == 1:
                for i in range(len(row)):
                    size += abs(row[i])
            else:
                for i in range(len(row)):
                    size = max(size, abs(row[i]))
            spread = np.float64(size) if len(reach) > 1 else np.float64(size) * reach[0]
            found[b, r] = middle - spread - share * (abs(middle) + spread) - lost[b]


def least(
    a: Tensor, centre: Tensor, radius: Tensor, dual: float, share: float, lost: Tensor
) -> Float[Tensor, "batch rows"]:
    """The least value of a·x over a set, less what is said to be lost.

    Args:
        a: (batch or 1, rows, n).
        centre: (batch, n).
        radius: (batch,); or (batch, n), of a box.
        dual: the norm of a that belongs to the set's: 1, 2 or inf.
        share: what is taken off, in parts of |a·centre| and the spread around it.
        lost: (batch,): what is taken off besides.
    """
    found = torch.empty(centre.shape[0], a.shape[1], dtype=a.dtype)
    rows, middle = a.contiguous().numpy(), centre.contiguous().numpy()
    reach = (radius if radius.dim() > 1 else radius.unsqueeze(1)).contiguous().numpy()
    _least(rows, middle, reach, dual, share, lost.numpy(), found.numpy())
    return found


@_in_one_pass
def _add(term, total, size):
    for b in range(total.shape[0]):
        for r in range(total.shape[1]):
            value = np.float64(term[b if term.shape[0] > 1 else 0, r])
            total[b, r] += value
            size[b, r] += abs(value)


@_in_one_pass
def _round_down(total, size, share, eps, found):
    for b in range(total.shape[0]):
        for r in range(total.shape[1]):
            found[b, r] = total[b, r] - size[b, r] * share - abs(total[b, r]) * eps


def below_sum(terms: list[Tensor], share: float, eps: float) -> Float[Tensor, "batch rows"]:
    """The sum of terms (batch or 1, rows), less a share of their sizes and eps of its own."""
    batch, rows = max(t.shape[0] for t in terms), terms[0].shape[1]
    total, size = np.zeros((batch, rows)), np.zeros((batch, rows))
    for term in terms:
        _add(term.numpy(), total, size)
    found = torch.empty(batch, rows, dtype=terms[0].dtype)
    _round_down(total, size, share, eps, found.numpy())
    return found


@_in_one_pass
def _meet(found, low, high, lower, upper, crossed):
    n = low.shape[1]
    for b in range(low.shape[0]):
        for i in range(n):
            first, last = found[b, i], -found[b, n + i]
            first = low[b, i] if low[b, i] > first else first
            last = high[b, i] if high[b, i] < last else last
            crossed[b] |= first > last
            lower[b, i], upper[b, i] = first, last if last > first else first


def meet(found: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What two enclosures have in common, ends in order; and (batch,) where they have nothing.

    Args:
        found: (batch, 2n), below the elements and below their negatives.
        low, high: (batch, *shape), of n elements.
    """
    lower, upper = torch.empty(2, *low.shape, dtype=low.dtype).unbind(0)
    crossed = torch.zeros(low.shape[0], dtype=torch.bool)
    first, last, least, greatest = (t.reshape(low.shape[0], -1).numpy() for t in (low, high, lower, upper))
    _meet(found.contiguous().numpy(), first, last, least, greatest, crossed.numpy())
    return lower, upper, crossed


@_with_products
def _fall(a, planes, weights, biases, sizes, mirrored, centre, radius, dual, share, lost, eps, tiles, found):
    batch, rows, count = centre.shape[0], a.shape[1], found.shape[1]
    zero = a.dtype.type(0)
    for b in range(batch):
        place = b if a.shape[0] > 1 else 0
        before = tiles[1, : count * sizes[0]].reshape((count, sizes[0]))
        for r in range(rows):
            for i in range(sizes[0]):
                before[r, i] = a[place, r, i]
        at_weight, at_bias = 0, 0
        for k in range(len(sizes) - 1):
            n, m = sizes[k], sizes[k + 1]
            plane = planes[4 * batch * at_bias : 4 * batch * (at_bias + n)].reshape((4, batch, n))
            bias, weight = biases[at_bias : at_bias + n], weights[at_weight : at_weight + n * m].reshape((n, m))
            tile, before = tiles[0, : count * n].reshape((count, n)), tiles[1, : count * n].reshape((count, n))
            both = mirrored and k == 0
            for r in range(rows if both else count):
                odd, even = 0.0, 0.0
                for i in range(n):
                    tile[r, i] = before[r, i] * plane[0, b, i] + abs(before[r, i]) * plane[1, b, i]
                for i in range(n):
                    odd += before[r, i] * plane[2, b, i]
                    even += abs(before[r, i]) * plane[3, b, i]
                found[b, r] = (0.0 if k == 0 else found[b, r]) + even + odd
                if both:
                    found[b, rows + r] = even - odd
                    for i in range(n):
                        tile[rows + r, i] = abs(before[r, i]) * plane[1, b, i] - before[r, i] * plane[0, b, i]
            for r in range(count):
                raised = 0.0
                for i in range(n):
                    raised += tile[r, i] * bias[i]
                found[b, r] += raised
            np.dot(tile, weight, tiles[1, : count * m].reshape((count, m)))
            at_weight += n * m
            at_bias += n
        m = sizes[-1]
        out = tiles[1, : count * m].reshape((count, m))
        for r in range(count):
            middle, spread = zero, zero
            for i in range(m):
                middle += out[r, i] * centre[b, i]
            if dual == 2:
                for i in range(m):
                    spread += out[r, i] * out[r, i]
                spread = np.sqrt(spread)
            elif radius.shape[1] > 1:
                for i in range(m):
                    spread += abs(out[r, i]) * radius[b, i]
            elif dual == 1:
                for i in range(m):
                    spread += abs(out[r, i])
            else:
                for i in range(m):
                    spread = max(spread, abs(out[r, i]))
            wide = np.float64(spread) if radius.shape[1] > 1 else np.float64(spread) * radius[b, 0]
            least = middle - wide - share * (abs(middle) + wide) - lost[b]
            found[b, r] = found[b, r] + least - eps * (abs(found[b, r]) + abs(least))


class Layers(NamedTuple):
    """Activations, each with the dense layer before it, from the last to the first.

    Attributes:
        sizes: of their outputs and of the input.
        weights: (out, in) each, one after the other.
        biases: likewise.
    """

    sizes: np.ndarray
    weights: np.ndarray
    biases: np.ndarray


def fall(
    a: Float[Tensor, "batch_or_1 rows n"],
    mirrored: bool,
    layers: Layers,
    planes: list[tuple[Tensor, ...]],
    inputs: tuple[Tensor, Tensor, float, float, Tensor],
    eps: float,
) -> Float[Tensor, "batch rows"]:
    """`pull`, the product with the weights, and so on through all layers, at last `least`: sample by sample.

    What belongs to one sample stays in the processor's cache on its way.

    Args:
        a: coefficients of the last activation's outputs.
        mirrored: as in `pull`.
        planes: slope, bend, shift and drop of each activation, (batch, n).
        inputs: centre, radius, dual, share and lost, as in `least`.
        eps: what rounding the result may cost, in parts of its size.
    """
    centre, radius, dual, share, lost = inputs
    count = (2 if mirrored else 1) * a.shape[1]
    flat = np.concatenate([t.numpy().reshape(-1) for one in planes for t in one])
    tiles = np.empty((2, count * int(layers.sizes.max())), flat.dtype)
    found = np.empty((centre.shape[0], count))
    reach = (radius if radius.dim() > 1 else radius.unsqueeze(1)).contiguous().numpy()
    rows, middle = a.contiguous().numpy(), centre.contiguous().numpy()
    _fall(
        rows, flat, layers.weights, layers.biases, layers.sizes, mirrored,
        middle, reach, dual, share, lost.numpy(), eps, tiles, found,
    )  # fmt: skip
    return torch.from_numpy(found).to(a.dtype)
