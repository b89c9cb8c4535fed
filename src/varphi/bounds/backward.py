"""A backward step through an activation, and the least value over a ball, each in one pass over memory.

Both read large coefficients (batch, rows, n) once and keep sums in float64; torch's operations, which serve tensors on
other devices and those with gradients, write every intermediate result out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from varphi.activation import backend

# Sums may be made in any order (the error bounds hold for all), and on the sign of zero nothing depends. Of _nrt see
# `fused`.
_in_one_pass: Any = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, _nrt=False)


def readable(*tensors: Tensor) -> bool:
    """Whether the numbers are where machine code can read them, and nobody asks for their gradients."""
    return backend.enabled() and all(backend.is_plain(t) and t.numel() > 0 and not t.requires_grad for t in tensors)


@_in_one_pass
def _pull(a, slope, bend, shift, drop, mirrored, pulled, constant):
    rows, n = a.shape[1], a.shape[2]
    for b in range(len(slope)):
        steep, bent, raised, dropped = slope[b], bend[b], shift[b], drop[b]
        for r in range(rows):
            row, out = a[b if len(a) > 1 else 0, r], pulled[b, r]
            for i in range(n):
                out[i] = row[i] * steep[i] + abs(row[i]) * bent[i]
            odd, even = 0.0, 0.0
            for i in range(n):
                odd += row[i] * raised[i]
                even += abs(row[i]) * dropped[i]
            constant[b, r] = even + odd
            if mirrored:
                out = pulled[b, rows + r]
                for i in range(n):
                    out[i] = abs(row[i]) * bent[i] - row[i] * steep[i]
                constant[b, rows + r] = even - odd


def pull(
    a: Tensor, slope: Tensor, bend: Tensor, shift: Tensor, drop: Tensor, mirrored: bool
) -> tuple[Tensor, Tensor]:
    """a·slope + |a|·bend for every element, and Σ a·shift + |a|·drop; of a mirrored a for -a too, below.

    Args:
        a: (batch or 1, rows, *shape).
        slope, bend, shift, drop: (batch, *shape).
        mirrored: whether a stands for its rows and for their negatives.

    Returns:
        (batch, rows or twice as many, *shape), and (batch, the same).
    """
    batch, count, shape = len(slope), (2 if mirrored else 1) * a.shape[1], a.shape[2:]
    pulled = torch.empty(batch, count, *shape, dtype=a.dtype)
    constant = torch.empty(batch, count, dtype=a.dtype)
    rows, out = (t.flatten(2).contiguous().numpy() for t in (a, pulled))
    columns = (t.flatten(1).contiguous().numpy() for t in (slope, bend, shift, drop))
    _pull(rows, *columns, mirrored, out, constant.numpy())
    return pulled, constant


@_in_one_pass
def _at_worst(a, centre, radius, dual, middle, spread):
    for b in range(len(centre)):
        place, reach = centre[b], radius[b]
        for r in range(a.shape[1]):
            row = a[b if len(a) > 1 else 0, r]
            along, size = 0.0, 0.0
            for i in range(len(row)):
                along += np.float64(row[i]) * place[i]
            if dual == 2:
                for i in range(len(row)):
                    size += np.float64(row[i]) * row[i]
                size = np.sqrt(size)
            elif len(reach) > 1:
                for i in range(len(row)):
                    size += np.float64(abs(row[i])) * reach[i]
            elif dual == 1:
                for i in range(len(row)):
                    size += np.float64(abs(row[i]))
            else:
                for i in range(len(row)):
                    size = max(size, np.float64(abs(row[i])))
            middle[b, r] = along
            spread[b, r] = size if len(reach) > 1 else size * reach[0]


def at_worst(a: Tensor, centre: Tensor, radius: Tensor, dual: float) -> tuple[Tensor, Tensor]:
    """a·centre, and how far a·x may be from it within the radius: (batch, rows) each.

    Args:
        a: (batch or 1, rows, n).
        centre: (batch, n).
        radius: (batch,); or (batch, n), of a box.
        dual: the norm of a that belongs to the set's: 1, 2 or inf.
    """
    middle, spread = (torch.empty(len(centre), a.shape[1], dtype=a.dtype) for _ in range(2))
    given = (t.contiguous().numpy() for t in (a, centre, radius if radius.dim() > 1 else radius.unsqueeze(1)))
    _at_worst(*given, dual, middle.numpy(), spread.numpy())
    return middle, spread
