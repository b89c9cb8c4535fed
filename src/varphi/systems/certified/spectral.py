"""Norms of matrices and convolutions from above, rounding included. Nothing here rests on a power iteration.

One theorem carries everything: where the Cholesky factorisation of a symmetric float matrix A runs to its end, the
factor R satisfies RᵀR = A + E with |E| <= γ_{n+1}·|R|ᵀ|R|, so A + s·I is positive semidefinite for s = 2·γ_{n+1}·tr A
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, thms. 10.3 and 10.5; Rump, BIT 46, 2006). It
holds for any order of the sums; twice is charged, for factorisations that multiply by reciprocals of the pivots.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Half the spacing of float64 at 1.
UNIT = torch.finfo(torch.float64).eps / 2
_TINY = 1e-290
_MOST_FREQUENCIES = 2**22


def gamma(terms: int) -> float:
    """What a float64 sum of so many products may be off, as a share of Σ|a||b|; twice, for two roundings."""
    return 2.2 * (terms + 4) * UNIT


def positive(a: Float[Tensor, "... n n"], size: Float[Tensor, "... n n"]) -> Tensor:
    """Whether a + E is certainly positive semidefinite for every symmetric |E| <= 8·UNIT·size, elementwise: (...).

    Args:
        a: symmetric, float64.
        size: non-negative; what the elements of `a` were computed from, for their rounding.
    """
    diagonal = a.diagonal(dim1=-2, dim2=-1)
    sane = (diagonal > 0).all(-1) & torch.isfinite(a).flatten(-2).all(-1)
    # Powers of two: the scaled matrix is exact, and definite where the matrix is.
    scale = torch.exp2(torch.round(-torch.log2(diagonal.clamp_min(_TINY)) / 2))
    both = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    scaled, size = a * both, size * both
    n = a.shape[-1]
    lost = 8 * UNIT * torch.linalg.matrix_norm(size) * 1.01
    trace = scaled.diagonal(dim1=-2, dim2=-1).sum(-1)
    shift = (lost + 2 * gamma(n + 1) * trace + _TINY) * 1.01 + 2 * UNIT * scaled.abs().amax((-2, -1))
    identity = torch.eye(n, dtype=a.dtype, device=a.device)
    # Subtracting the shift is itself rounded: by less than the last term above.
    found = torch.linalg.cholesky_ex(torch.nan_to_num(scaled) - shift[..., None, None] * identity)
    return (found.info == 0) & sane & torch.isfinite(found.L).flatten(-2).all(-1)


def largest_eigenvalue(a: Float[Tensor, "... n n"], slack: Tensor | float = 0.0) -> Float[Tensor, "..."]:
    """Above the largest eigenvalue of every symmetric matrix within `slack` of a, in the spectral norm.

    Args:
        a: symmetric, float64, finite.
        slack: (...), how far the matrix that is meant may be from `a`.
    """
    slack = torch.as_tensor(slack, dtype=a.dtype, device=a.device).expand(a.shape[:-2])
    top = torch.linalg.eigvalsh(a)[..., -1]
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    ceiling = torch.linalg.matrix_norm(a) * (1 + gamma(a.shape[-1] ** 2))
    step = gamma(a.shape[-1] + 1) * (top.abs() * a.shape[-1] + a.diagonal(dim1=-2, dim2=-1).abs().sum(-1)) + _TINY
    best = ceiling
    for factor in (1.0, 4.0, 16.0, 256.0, 65536.0):
        level = torch.minimum(top + 4 * factor * step, ceiling)
        shifted = level[..., None, None] * identity - a
        proved = positive(shifted, level.abs()[..., None, None] * identity + a.abs())
        best = torch.where(proved, torch.minimum(best, level), best)
        if bool((proved | (level >= ceiling)).all()):
            break
    return (best + slack) * (1 + 4 * UNIT)


def matrix_norm(w: Float[Tensor, "... m n"], norm: float = 2.0, error: Tensor | float = 0.0) -> Float[Tensor, "..."]:
    """Above the operator norm of w as a map from (Rⁿ, ‖·‖_p) to (Rᵐ, ‖·‖_p).

    Args:
        w: float64.
        norm: p, one of 1, 2, inf.
        error: of its elements: a matrix like w, or a number for all.
    """
    error = torch.as_tensor(error, dtype=w.dtype, device=w.device).expand_as(w)
    if norm != 2:
        summed = (w.abs() + error).sum(-1 if norm == math.inf else -2)
        return summed.amax(-1) * (1 + gamma(max(w.shape[-2:]))) + _TINY
    largest = w.abs().amax((-2, -1))
    scale = torch.exp2(torch.ceil(torch.log2(largest.clamp_min(1e-280))))
    w = w / scale[..., None, None]
    gram = w @ w.mT if w.shape[-2] <= w.shape[-1] else w.mT @ w
    square = w.square().sum((-2, -1))
    slack = gamma(max(w.shape[-2:])) * square * 1.01 + _TINY
    value = largest_eigenvalue((gram + gram.mT) / 2, slack).clamp_min(0).sqrt() * scale
    return (value + torch.linalg.matrix_norm(error) * (1 + gamma(w.shape[-1] * w.shape[-2]))) * (1 + 4 * UNIT)


def schur_norm(rows: Tensor, columns: Tensor, norm: float) -> Tensor:
    """A bound of an operator norm from its largest sums of |elements| alone: ‖L‖₂ <= sqrt(‖L‖₁·‖L‖_∞)."""
    found = {1.0: columns, 2.0: (rows * columns).sqrt(), math.inf: rows}[float(norm)]
    return found * (1 + 8 * UNIT)


def convolution_norm(
    kernel: Float[Tensor, "out inner *window"], shape: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> float:
    """Above the 2-norm of a convolution with zero padding, of any padding and stride.

    Let E put the input, surrounded by zeros, onto a torus that is larger by the kernel's reach; C convolve there; P
    pick the outputs. No sum that P picks wraps around, so the convolution is P·C·E, and those of its outputs that lie
    beyond the torus are zero. E keeps norms and P does not enlarge them: ‖P·C·E‖ <= ‖C‖. C is diagonalised by the
    Fourier transform into one (out, inner) matrix for each frequency, and its norm is the largest of theirs, in exact
    numbers.

    Args:
        kernel: float64.
        shape: of the input's image, without channels.
        dilation: for each of its dimensions.
    """
    window = kernel.shape[2:]
    torus = [s + d * (k - 1) for s, d, k in zip(shape, dilation, window, strict=True)]
    grids = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) / n for n in torus], indexing="ij")
    frequencies = torch.stack([g.flatten() for g in grids])
    places = torch.meshgrid(*[torch.arange(k, dtype=torch.float64) * d for k, d in zip(window, dilation, strict=True)],
                            indexing="ij")  # fmt: skip
    turns = torch.stack([p.flatten() for p in places]).T @ frequencies  # (window, frequencies), in full turns
    angle = 2 * math.pi * (turns - torch.floor(turns))
    best = 0.0
    for part in kernel.double().split(kernel.shape[0] // groups):
        best = max(best, _largest_transfer(part, angle))
    return best


def _largest_transfer(kernel: Tensor, angle: Tensor) -> float:
    out, inner = kernel.shape[:2]
    flat = kernel.flatten(2)  # (out, inner, window)
    # An angle below 2π, its product and its floor are off by less than 32 units; a cosine by as much, and one more.
    error = flat.abs().sum(-1) * ((2 * math.pi * 40 + 4) * UNIT + gamma(flat.shape[-1]))
    best, chunk = 0.0, max(1, _MOST_FREQUENCIES // (4 * out * inner))
    for some in angle.split(chunk, dim=1):
        real = torch.einsum("oik,kf->foi", flat, some.cos())
        imaginary = torch.einsum("oik,kf->foi", flat, some.sin())
        # The complex matrix as a real one of twice the size has the same norm.
        whole = torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)
        best = max(best, float(matrix_norm(whole, 2.0, error.repeat(2, 2)).max()))
    return best
