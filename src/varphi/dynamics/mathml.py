"""Formulas of SBML as expressions (numbers, conditions, functions), and expressions as formulas of SBML."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from typing import Any

from varphi.numbers import (
    Expression,
    asinh,
    cos,
    cosh,
    exp,
    log,
    maximum,
    minimum,
    sin,
    sinh,
    sqrt,
    tanh,
    variable,
    where,
)
from varphi.numbers import atan as arctan
from varphi.numbers.expression import constant

from .happenings import Condition

RATE_OF = "the rate of "
LAW_OF = "the law of "
"""What begin the names of rates and laws, which are put in when all are known."""

_AVOGADRO = 6.02214179e23
"""The value of SBML's symbol, level 3 version 1."""


class UnsupportedModel(ValueError):
    """A model that holds something that is not supported; the message names it."""


def unsupported(what: str) -> UnsupportedModel:
    """The refusal of something by name."""
    return UnsupportedModel(f"the model has {what}, which is not supported; libroadrunner can run it")


def exact(value: float) -> Any:
    """A number as a constant; whole ones as whole numbers, which powers need."""
    return constant(int(value) if math.isfinite(value) and value.is_integer() and abs(value) < 2**53 else value)


@dataclass
class Formulas:
    """Reads formulas.

    Attributes:
        library: libsbml.
        functions: function definitions by name.
        names: what a name in a formula stands for.
    """

    library: Any
    functions: Mapping[str, Any]
    names: dict[str, Expression] = field(default_factory=dict)

    def __call__(self, node: Any, local: Mapping[str, Any] | None = None) -> Expression:
        return constant(self.number(node, local or {}))

    def mentioned(self, node: Any) -> set[str]:
        """The names in a formula."""
        here = {node.getName()} if node.getType() == self.library.AST_NAME else set()
        return here.union(*(self.mentioned(node.getChild(i)) for i in range(node.getNumChildren())))

    def number(self, node: Any, local: Mapping[str, Any]) -> Any:
        """A formula's value."""
        ast, kind = self.library, node.getType()
        if kind == ast.AST_INTEGER:
            return constant(node.getInteger())
        if kind in (ast.AST_REAL, ast.AST_REAL_E):
            return exact(node.getReal())
        if kind == ast.AST_RATIONAL:
            return constant(node.getNumerator()) / node.getDenominator()
        if kind == ast.AST_NAME:
            return self.symbol(node.getName(), local)
        if kind == ast.AST_NAME_TIME:
            return variable("t")
        if kind == ast.AST_NAME_AVOGADRO:
            return constant(_AVOGADRO)
        if kind in (ast.AST_CONSTANT_PI, ast.AST_CONSTANT_E):
            return constant(math.pi if kind == ast.AST_CONSTANT_PI else math.e)
        if kind == ast.AST_FUNCTION:
            return self.number(*self.called(node, local))
        if kind == ast.AST_FUNCTION_PIECEWISE:
            return self.piecewise(node, local)
        if kind == ast.AST_FUNCTION_RATE_OF:
            return variable(RATE_OF + node.getChild(0).getName())
        if self.is_condition(node):
            return self.chosen(node, local, constant(1), constant(0))
        arguments = [node.getChild(i) for i in range(node.getNumChildren())]
        values = [self.number(a, local) for a in arguments]
        apply = self.operations().get(kind) or self.of_numbers(kind, values)
        if apply is None:
            raise unsupported(f"the operation {self.told(node)!r} in a formula")
        try:
            return apply(*values)
        except TypeError:
            raise unsupported(f"the operation {self.told(node)!r} with {len(values)} arguments") from None

    def of_numbers(self, kind: int, values: list[Any]) -> Callable[..., Any] | None:
        """Operations that are known of numbers only, such as those with jumps."""
        ast = self.library
        known: dict[int, Callable[..., float]] = {
            ast.AST_FUNCTION_FLOOR: math.floor, ast.AST_FUNCTION_CEILING: math.ceil,
            ast.AST_FUNCTION_FACTORIAL: lambda a: math.factorial(int(a)),
            ast.AST_FUNCTION_REM: math.fmod, ast.AST_FUNCTION_QUOTIENT: lambda a, b: math.trunc(a / b),
            ast.AST_FUNCTION_ARCCOS: math.acos, ast.AST_FUNCTION_ARCCOSH: math.acosh,
            ast.AST_FUNCTION_ARCSIN: math.asin, ast.AST_FUNCTION_ARCTANH: math.atanh,
            ast.AST_FUNCTION_ARCCOT: lambda a: math.atan(1 / a) if a else math.pi / 2,
            ast.AST_FUNCTION_ARCSEC: lambda a: math.acos(1 / a), ast.AST_FUNCTION_ARCCSC: lambda a: math.asin(1 / a),
            ast.AST_FUNCTION_ARCCOTH: lambda a: math.atanh(1 / a),
            ast.AST_FUNCTION_ARCSECH: lambda a: math.acosh(1 / a),
            ast.AST_FUNCTION_ARCCSCH: lambda a: math.asinh(1 / a),
        }  # fmt: skip
        if kind not in known or any(v.variables for v in values):
            return None
        return lambda *a: exact(float(known[kind](*(float(v.evaluate()) for v in a))))

    def told(self, node: Any) -> str:
        if node.getType() == self.library.AST_FUNCTION_DELAY:
            return "delay"
        return node.getName() or self.library.formulaToL3String(node)

    def symbol(self, name: str, local: Mapping[str, Any]) -> Any:
        if name in local:
            return local[name]
        if name in self.names:
            return self.names[name]
        raise unsupported(f"{name!r} in a formula, which is neither a species, a compartment nor a parameter")

    def called(self, node: Any, local: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The body of a function and its arguments' values."""
        definition = self.functions.get(node.getName())
        if definition is None or definition.getBody() is None:
            raise unsupported(f"the function {node.getName()!r} without a definition")
        given = [self.number(node.getChild(i), local) for i in range(node.getNumChildren())]
        names = [definition.getArgument(i).getName() for i in range(definition.getNumArguments())]
        if len(names) != len(given):
            raise UnsupportedModel(f"the function {node.getName()!r} takes {len(names)} arguments, got {len(given)}")
        return definition.getBody(), dict(zip(names, given, strict=True))

    def piecewise(self, node: Any, local: Mapping[str, Any]) -> Any:
        count = node.getNumChildren()
        if count % 2 == 0:
            raise unsupported("a piecewise formula that is undefined somewhere (no otherwise)")
        value = self.number(node.getChild(count - 1), local)
        for i in range(count - 3, -1, -2):
            value = self.chosen(node.getChild(i + 1), local, self.number(node.getChild(i), local), value)
        return value

    # Conditions -----------------------------------------------------------------------------------------------------

    def is_condition(self, node: Any) -> bool:
        """Whether a formula is true or false."""
        return node.isLogical() or node.isRelational() or node.getType() in (
            self.library.AST_CONSTANT_TRUE, self.library.AST_CONSTANT_FALSE, self.library.AST_LOGICAL_IMPLIES,
        )  # fmt: skip

    def condition(self, node: Any, local: Mapping[str, Any] | None = None) -> Condition:
        """A formula that is true or false; a number is true where it is not 0."""
        ast, kind, local = self.library, node.getType(), local or {}
        if kind == ast.AST_FUNCTION:
            return self.condition(*self.called(node, local))
        parts = [node.getChild(i) for i in range(node.getNumChildren())]
        if kind in (ast.AST_CONSTANT_TRUE, ast.AST_CONSTANT_FALSE):
            return Condition("all" if kind == ast.AST_CONSTANT_TRUE else "any")
        joined: dict[int, Callable[[list[Condition]], Condition]] = {
            ast.AST_LOGICAL_AND: lambda c: Condition("all", tuple(c)),
            ast.AST_LOGICAL_OR: lambda c: Condition("any", tuple(c)),
            ast.AST_LOGICAL_NOT: lambda c: Condition("not", (c[0],)),
            ast.AST_LOGICAL_XOR: lambda c: Condition("odd", tuple(c)),
            ast.AST_LOGICAL_IMPLIES: lambda c: Condition("any", (Condition("not", (c[0],)), c[1])),
        }
        if kind in joined:
            return joined[kind]([self.condition(p, local) for p in parts])
        signs = {
            ast.AST_RELATIONAL_LT: "<", ast.AST_RELATIONAL_LEQ: "<=", ast.AST_RELATIONAL_GT: ">",
            ast.AST_RELATIONAL_GEQ: ">=", ast.AST_RELATIONAL_EQ: "==", ast.AST_RELATIONAL_NEQ: "!=",
        }  # fmt: skip
        if kind not in signs:
            return Condition("!=", margin=constant(self.number(node, local)))
        if any(self.is_condition(p) for p in parts) and kind in (ast.AST_RELATIONAL_EQ, ast.AST_RELATIONAL_NEQ):
            odd = Condition("odd", tuple(self.condition(p, local) for p in parts))
            return odd if kind == ast.AST_RELATIONAL_NEQ else Condition("not", (odd,))
        if len(parts) == 1:
            return Condition("all")
        values = [constant(self.number(p, local)) for p in parts]
        pairs = [Condition(signs[kind], margin=constant(a - b)) for a, b in itertools.pairwise(values)]
        return pairs[0] if len(pairs) == 1 else Condition("all", tuple(pairs))

    def chosen(self, node: Any, local: Mapping[str, Any], yes: Any, no: Any) -> Any:
        """`yes` where the condition holds, else `no`."""
        return _chosen(self.condition(node, local), yes, no)

    def operations(self) -> dict[int, Callable[..., Any]]:
        ast = self.library

        def root(*a: Any) -> Any:
            return sqrt(a[-1]) if len(a) == 1 or (a[0].is_constant and a[0].value == 2) else a[1] ** (1 / a[0])

        def logarithm(*a: Any) -> Any:
            return log(a[-1]) / (math.log(10) if len(a) == 1 else log(a[0]))

        return {
            ast.AST_PLUS: lambda *a: sum(a[1:], start=a[0]) if a else constant(0),
            ast.AST_TIMES: lambda *a: math.prod(a[1:], start=a[0]) if a else constant(1),
            ast.AST_MINUS: lambda *a: -a[0] if len(a) == 1 else a[0] - a[1],
            ast.AST_DIVIDE: lambda a, b: a / b,
            ast.AST_POWER: lambda a, b: a**b,
            ast.AST_FUNCTION_POWER: lambda a, b: a**b,
            ast.AST_FUNCTION_ROOT: root,
            ast.AST_FUNCTION_LOG: logarithm,
            ast.AST_FUNCTION_LN: log,
            ast.AST_FUNCTION_EXP: exp,
            ast.AST_FUNCTION_ABS: abs,
            ast.AST_FUNCTION_SIN: sin,
            ast.AST_FUNCTION_COS: cos,
            ast.AST_FUNCTION_TAN: lambda a: sin(a) / cos(a),
            ast.AST_FUNCTION_SEC: lambda a: 1 / cos(a),
            ast.AST_FUNCTION_CSC: lambda a: 1 / sin(a),
            ast.AST_FUNCTION_COT: lambda a: cos(a) / sin(a),
            ast.AST_FUNCTION_SINH: sinh,
            ast.AST_FUNCTION_COSH: cosh,
            ast.AST_FUNCTION_TANH: tanh,
            ast.AST_FUNCTION_SECH: lambda a: 1 / cosh(a),
            ast.AST_FUNCTION_CSCH: lambda a: 1 / sinh(a),
            ast.AST_FUNCTION_COTH: lambda a: cosh(a) / sinh(a),
            ast.AST_FUNCTION_ARCTAN: arctan,
            ast.AST_FUNCTION_ARCSINH: asinh,
            ast.AST_FUNCTION_MAX: lambda *a: reduce(maximum, a),
            ast.AST_FUNCTION_MIN: lambda *a: reduce(minimum, a),
        }


def _chosen(condition: Condition, yes: Any, no: Any) -> Any:
    kind, parts = condition.kind, condition.parts
    if kind == "all":
        return reduce(lambda found, part: _chosen(part, found, no), reversed(parts), yes)
    if kind == "any":
        return reduce(lambda found, part: _chosen(part, yes, found), reversed(parts), no)
    if kind == "not":
        return _chosen(parts[0], no, yes)
    if kind == "odd":
        # Of an even number so far, and of an odd one.
        even, odd = no, yes
        for part in reversed(parts):
            even, odd = _chosen(part, odd, even), _chosen(part, even, odd)
        return even
    margin = condition.margin
    compare: dict[str, Callable[[Any], Any]] = {
        "<": lambda d: d < 0, "<=": lambda d: d <= 0, ">": lambda d: d > 0, ">=": lambda d: d >= 0,
        "==": lambda d: d == 0, "!=": lambda d: d != 0,
    }  # fmt: skip
    return where(compare[kind](margin), yes, no)


# Writing --------------------------------------------------------------------------------------------------------------

_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "pow": ("^", 4)}
_RELATIONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
# What SBML's mathematics has no word for, as a formula of its arguments. x == 0 is a single point: sinh is accurate
# beside it, where e^x - 1 is not.
_SPELLED: dict[str, Callable[..., str]] = {
    "expm1": lambda x: f"2*exp(({x})/2)*sinh(({x})/2)",
    "log1p": lambda x: f"ln(1 + ({x}))",
    "sigmoid": lambda x: f"1/(1 + exp(-({x})))",
    "log_sigmoid": lambda x: f"-ln(1 + exp(-({x})))",
    "softplus": lambda x: f"ln(1 + exp({x}))",
    "tanhshrink": lambda x: f"({x}) - tanh({x})",
    "asinh": lambda x: f"arcsinh({x})",
    "atan": lambda x: f"arctan({x})",
    "log": lambda x: f"ln({x})",
    "maximum": lambda a, b: f"piecewise({a}, ({a}) > ({b}), {b})",
    "minimum": lambda a, b: f"piecewise({a}, ({a}) < ({b}), {b})",
    "squareplus": lambda x, b: f"(({x}) + sqrt(({x})^2 + ({b})))/2",
    "hill": lambda x, k, n: f"({x})^({n})/(({k})^({n}) + ({x})^({n}))",
    "where": lambda condition, a, b: f"piecewise({a}, {condition}, {b})",
}
_SAME = frozenset({"exp", "sqrt", "sin", "cos", "sinh", "cosh", "tanh", "sech", "abs"})


def sbml_formula(expression: Expression) -> str:
    """An expression in the infix notation of SBML level 3, which libsbml turns into MathML.

    Raises:
        UnsupportedModel: a function that SBML's mathematics cannot say.
    """
    return _written(expression, 0)


def _written(node: Expression, outer: int) -> str:
    operation, arguments = node.operation, node.arguments
    if operation == "variable":
        return arguments[0]
    if operation == "constant":
        return _number(arguments[0], outer)
    if operation == "with_slope":
        return _written(arguments[1], outer)
    if operation == "neg":
        text = "-" + _written(arguments[0], 3)
        return f"({text})" if outer > 0 else text
    if operation in _INFIX:
        sign, level = _INFIX[operation]
        left = _written(arguments[0], level + (operation == "pow"))
        right = _written(arguments[1], level + (operation in ("sub", "div", "pow")))
        text = f"{left} {sign} {right}" if level == 1 else left + sign + right
        return f"({text})" if level < outer else text
    if operation in _RELATIONS:
        return f" {_RELATIONS[operation]} ".join(_written(a, 2) for a in arguments)
    if operation == "exprel" and arguments[1].is_constant and arguments[1].value == 0:
        x = _written(arguments[0], 0)
        return f"piecewise(1, ({x}) == 0, exp(({x})/2)*sinh(({x})/2)/(({x})/2))"
    given = [_written(a, 0) for a in arguments]
    if operation in _SAME:
        return f"{operation}({', '.join(given)})"
    if operation not in _SPELLED:
        raise UnsupportedModel(f"SBML's mathematics has no {operation}, which {node!r} needs")
    return f"({_SPELLED[operation](*given)})"


def _number(value: Any, outer: int) -> str:
    if isinstance(value, Fraction) and value.denominator != 1:
        text = f"{value.numerator}/{value.denominator}"
        return f"({text})" if outer > 1 else text
    text = repr(value) if isinstance(value, float) else str(value)
    return f"({text})" if value < 0 and outer > 0 else text
