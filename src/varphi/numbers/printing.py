"""Expressions as text: infix notation with the fewest parentheses, in Python's spelling."""

from __future__ import annotations

from .expression import Expression

_INFIX = {"add": (" + ", 1), "sub": (" - ", 1), "mul": ("*", 2), "div": ("/", 2), "pow": ("**", 4)}
_COMPARISONS = {"lt": " < ", "le": " <= ", "gt": " > ", "ge": " >= ", "eq": " == ", "ne": " != "}


def plain(expression: Expression) -> str:
    """`expression` as Python would write it: `x*tanh(softplus(x))`."""
    return _write(expression, 0)


def _write(node: Expression, outer: int) -> str:
    operation, arguments = node.operation, node.arguments
    if operation == "variable":
        return arguments[0]
    if operation == "constant":
        text = str(arguments[0])
        return f"({text})" if outer and (text.startswith("-") or "/" in text) else text
    if operation == "with_slope":
        return _write(arguments[1], outer)
    if operation in _INFIX:
        symbol, level = _INFIX[operation]
        # The right operand of - and / needs its own level in parentheses; ** groups to the right.
        left = _write(arguments[0], level + (operation == "pow"))
        right = _write(arguments[1], level + (operation in ("sub", "div")))
        text = left + symbol + right
        return f"({text})" if level < outer else text
    if operation == "neg":
        text = "-" + _write(arguments[0], 3)
        return f"({text})" if outer > 1 else text
    if operation in _COMPARISONS:
        return _COMPARISONS[operation].join(_write(a, 1) for a in arguments)
    if operation in ("exprel", "sinc") and arguments[1].is_constant and arguments[1].value == 0:
        arguments = arguments[:1]
    return f"{operation}({', '.join(_write(a, 0) for a in arguments)})"
