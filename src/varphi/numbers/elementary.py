"""The elementary functions that definitions are written in.

Each is a name, an arity and a sentence; a number system gives it meaning. Besides these, definitions use Python's own
`+ - * / **`, `abs(x)` and comparisons with a constant (`where(x > 0, a, b)`).

The functions beyond the usual ones exist because their obvious spelling loses digits or has a removable singularity:
`softplus(x)` is not `log(1 + exp(x))` at x = 800, and `exprel(x)` is not `(exp(x) - 1)/x` at x = 0.
"""

from __future__ import annotations

from typing import Any

from ._system import system_of


class Elementary:
    """A function of one or more numbers, computed by the number system of its arguments."""

    def __init__(self, name: str, arity: int, doc: str) -> None:
        self.name = self.__name__ = name
        self.arity = arity
        self.__doc__ = doc

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} argument(s), got {len(arguments)}")
        return system_of(*arguments).apply(self.name, *arguments)

    def __repr__(self) -> str:
        return f"<elementary function {self.name}>"


exp = Elementary("exp", 1, "e^x")
expm1 = Elementary("expm1", 1, "e^x - 1, accurate near 0")
log = Elementary("log", 1, "natural logarithm; NaN for x < 0, -inf at 0")
log1p = Elementary("log1p", 1, "ln(1 + x), accurate near 0")
sqrt = Elementary("sqrt", 1, "square root; NaN for x < 0")
sign = Elementary("sign", 1, "-1, 0 or 1")
sin = Elementary("sin", 1, "sine of radians")
cos = Elementary("cos", 1, "cosine of radians")
sinh = Elementary("sinh", 1, "hyperbolic sine")
cosh = Elementary("cosh", 1, "hyperbolic cosine")
tanh = Elementary("tanh", 1, "hyperbolic tangent")
tanhshrink = Elementary("tanhshrink", 1, "x - tanh(x), accurate near 0")
sech = Elementary("sech", 1, "hyperbolic secant, 1/cosh(x), never overflowing")
asinh = Elementary("asinh", 1, "inverse hyperbolic sine")
atan = Elementary("atan", 1, "inverse tangent")
sigmoid = Elementary("sigmoid", 1, "logistic function 1/(1 + e^-x), accurate in both tails")
log_sigmoid = Elementary("log_sigmoid", 1, "ln(sigmoid(x)) = -softplus(-x)")
softplus = Elementary("softplus", 1, "ln(1 + e^x), accurate in both tails")
erf = Elementary("erf", 1, "error function")
erfc = Elementary("erfc", 1, "1 - erf(x), accurate for large x")
erf_slope = Elementary("erf_slope", 1, "the derivative of erf: 2/sqrt(π) exp(-x²)")
normal_pdf = Elementary("normal_pdf", 1, "density of N(0,1): exp(-x²/2)/sqrt(2π)")
normal_cdf = Elementary("normal_cdf", 1, "distribution function of N(0,1), accurate in the lower tail")
squareplus = Elementary("squareplus", 2, "(x + sqrt(x² + b))/2 for b >= 0, accurate for x -> -inf")
hill = Elementary("hill", 3, "x^n/(K^n + x^n) for x >= 0, K > 0, n > 0, never overflowing; arguments x, K, n")
maximum = Elementary("maximum", 2, "the larger of two numbers; NaN if either is")
minimum = Elementary("minimum", 2, "the smaller of two numbers; NaN if either is")
where = Elementary("where", 3, "where(condition, a, b): a where the condition holds, else b")
with_slope = Elementary(
    "with_slope",
    3,
    "with_slope(u, value, slope): a function of u alone, whose derivative by u is written out because the rules of "
    "differentiation would give one that cancels",
)

_exprel = Elementary("exprel", 2, "")
_sinc = Elementary("sinc", 2, "")


def exprel(x: Any, n: int = 0) -> Any:
    """(e^x - 1)/x, continued by 1 at 0; with n, its n-th derivative ∫₀¹ tⁿ e^(xt) dt."""
    return _exprel(x, n)


def sinc(x: Any, n: int = 0) -> Any:
    """sin(x)/x, continued by 1 at 0; with n, its n-th derivative ∫₀¹ tⁿ cos(xt + nπ/2) dt."""
    return _sinc(x, n)


def explinear(x: Any) -> Any:
    """x/(1 - e^-x), continued by 1 at 0: the rate law that NeuroML calls HHExpLinearRate."""
    # For x < 0 the slope is g(x), e^x over what decays as 1/x; for x > 0 it is 1 - g(-x).
    t = where(x > 0, -x, x)
    mean = exprel(t)
    g = exp(t) * (1 - exprel(t, 1) / mean) / mean
    return with_slope(x, 1 / exprel(-x), where(x > 0, 1 - g, g))


def clamp(x: Any, lower: Any = None, upper: Any = None) -> Any:
    """x limited to [lower, upper]; either end may be None."""
    if lower is not None:
        x = maximum(x, lower)
    return x if upper is None else minimum(x, upper)


# Every operation a number system may be asked for, the operators included.
OPERATORS = ("add", "sub", "mul", "div", "neg", "pow", "abs", "lt", "le", "gt", "ge", "eq", "ne")
ELEMENTARY: dict[str, Elementary] = {
    function.name: function for function in list(globals().values()) if isinstance(function, Elementary)
}
OPERATIONS = (*OPERATORS, *ELEMENTARY)
