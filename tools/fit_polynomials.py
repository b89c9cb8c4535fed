"""Fit the polynomials of varphi's vectorised elementary functions and write them to a module.

    python tools/fit_polynomials.py

Each fit interpolates at Chebyshev nodes in 60-digit arithmetic (mpmath), which is within a small factor of the best
uniform error, and prints the largest relative error that rounding the coefficients leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mpmath as mp
import numpy as np

mp.mp.dps = 60
TARGET = Path(__file__).parent.parent / "src/varphi/numbers/kernel/coefficients.py"


def chebyshev_fit(function: Callable[[mp.mpf], mp.mpf], lower: float, upper: float, degree: int) -> list[mp.mpf]:
    """Coefficients, constant first, of the polynomial through `function` at the Chebyshev nodes of [lower, upper]."""
    lower, upper = mp.mpf(lower), mp.mpf(upper)
    n = degree + 1
    nodes = [(lower + upper) / 2 + (upper - lower) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    matrix = mp.matrix(n, n)
    for i, x in enumerate(nodes):
        for j in range(n):
            matrix[i, j] = x**j
    return list(mp.lu_solve(matrix, mp.matrix([function(x) for x in nodes])))


def series_ratio(series: Callable[[mp.mpf], mp.mpf], limit: mp.mpf) -> Callable[[mp.mpf], mp.mpf]:
    """`series` with its removable singularity at 0 filled by `limit`."""
    return lambda z: limit if abs(z) < mp.mpf(10) ** -25 else series(z)


HALF_LN2 = float(mp.log(2) / 2) * 1.0005
SQUARE_MAX = float(((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2) * 1.0005


def log_tail(z: mp.mpf) -> mp.mpf:
    """(ln((1+s)/(1-s)) - 2s)/(s·z) with z = s²."""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / (s * z)


def atan_tail(z: mp.mpf) -> mp.mpf:
    t = mp.sqrt(z)
    return (mp.atan(t) - t) / (t * z)


def sin_tail(z: mp.mpf) -> mp.mpf:
    t = mp.sqrt(z)
    return (mp.sin(t) - t) / (t * z)


def cos_tail(z: mp.mpf) -> mp.mpf:
    return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / (z * z)


def erf_ratio(z: mp.mpf) -> mp.mpf:
    t = mp.sqrt(z)
    return mp.erf(t) / t


def scaled_erfcx(t: mp.mpf) -> mp.mpf:
    """(1 + 2a) e^(a²) erfc(a) at a = CENTRE·(1 + t)/(1 - t): smooth on [-1, 1] (Shepherd & Laframboise 1981)."""
    if t == 1:
        return 2 / mp.sqrt(mp.pi)
    a = ERFC_CENTRE * (1 + t) / (1 - t)
    if a > 50:
        series = mp.nsum(lambda k: (-1) ** int(k) * mp.fac2(2 * int(k) - 1) / (2 * a * a) ** int(k), [0, 20])
        return (1 + 2 * a) / (a * mp.sqrt(mp.pi)) * series
    return (1 + 2 * a) * mp.exp(a * a) * mp.erfc(a)


ERFC_CENTRE = mp.mpf(3.75)
QUARTER_PI_SQUARE = float((mp.pi / 4) ** 2) * 1.0005
EIGHTH = float((mp.sqrt(2) - 1) ** 2) * 1.0005

# name: (function, lower, upper, degree for float64, degree for float32)
FITS = {
    # e^r = 1 + r + r²·P(r)
    "EXP": (series_ratio(lambda r: (mp.expm1(r) - r) / r**2, mp.mpf(1) / 2), -HALF_LN2, HALF_LN2, 10, 4),
    # 2^f = 1 + f·P(f), |f| <= 1/2
    "EXP2": (series_ratio(lambda f: mp.expm1(f * mp.log(2)) / f, mp.log(2)), -0.5005, 0.5005, 11, 5),
    # ln((1+s)/(1-s)) = 2s + s·z·P(z), z = s²
    "LOG": (series_ratio(log_tail, mp.mpf(2) / 3), 0, SQUARE_MAX, 7, 2),
    # ln(1 + e) = 2s + s·z·P(z) with s = e/(2 + e), z = s², 0 <= e <= 1
    "LOG1P": (series_ratio(log_tail, mp.mpf(2) / 3), 0, 0.11117, 12, 4),
    "ATAN": (series_ratio(atan_tail, mp.mpf(-1) / 3), 0, EIGHTH, 11, 4),
    "SIN": (series_ratio(sin_tail, mp.mpf(-1) / 6), 0, QUARTER_PI_SQUARE, 6, 2),
    "COS": (series_ratio(cos_tail, mp.mpf(1) / 24), 0, QUARTER_PI_SQUARE, 6, 2),
    # erf(x) = x·P(x²), |x| <= 1
    "ERF": (series_ratio(erf_ratio, 2 / mp.sqrt(mp.pi)), 0, 1.0005, 13, 6),
    "ERFCX": (scaled_erfcx, -1, 1, 24, 12),
}


def relative_error(name: str, coefficients: list[float]) -> float:
    function, lower, upper, *_ = FITS[name]
    worst = mp.mpf(0)
    for x in np.linspace(lower, upper, 200)[1:-1]:
        exact = function(mp.mpf(float(x)))
        approximate = mp.polyval([mp.mpf(c) for c in reversed(coefficients)], mp.mpf(float(x)))
        worst = max(worst, abs(approximate / exact - 1))
    return float(worst)


def main() -> None:
    lines = [
        '"""Polynomial coefficients, constant term first; written by tools/fit_polynomials.py."""',
        "",
        f"ERFC_CENTRE = {float(ERFC_CENTRE)!r}",
        "",
        "DOUBLE: dict[str, list[float]] = {",
    ]
    for column, title in ((3, None), (4, "SINGLE: dict[str, list[float]] = {")):
        if title:
            lines += ["}", "", title]
        for name, fit in FITS.items():
            exact = chebyshev_fit(fit[0], fit[1], fit[2], fit[column])
            rounded = [float(c) if column == 3 else float(np.float32(float(c))) for c in exact]
            print(f"{name:6s} degree {fit[column]:2d}: relative error {relative_error(name, rounded):.1e}")
            lines.append(f'    "{name}": [')
            lines += [f"        {c!r}," for c in rounded]
            lines.append("    ],")
    lines.append("}")
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
