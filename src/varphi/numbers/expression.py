"""Expressions: a definition written down as a graph, once, to be evaluated over any number system.

Evaluating a definition over a variable gives its expression. From it come the kernels (compiled), the printed formula
(over SymPy symbols), the proofs (over balls), the derivatives (over jets of expressions) and the key of the caches.

Nodes are shared: building the same node twice gives the same object, so equal subexpressions are computed once and
`is` compares expressions. Constants fold; the identities applied (x·0 = 0, x + 0 = x, ...) keep derivatives small.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

from ._operators import Operators
from ._system import System, UnsupportedOperation, register, system_of
from .real import OPERATIONS as _REAL_OPERATIONS

_LEAVES = ("variable", "constant")
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Expression(Operators):
    """A node: an operation applied to nodes; a variable; or a constant.

    Attributes:
        operation: an entry of `numbers.OPERATIONS`, or "variable", or "constant".
        arguments: the nodes it applies to; a variable's name; a constant's value (int, Fraction or float).
    """

    __slots__ = ("__weakref__", "_digest", "arguments", "operation", "variables")

    operation: str
    arguments: tuple[Any, ...]
    variables: frozenset[str]

    def __repr__(self) -> str:
        from .printing import plain

        return plain(self)

    def __bool__(self) -> bool:
        if self.operation in _COMPARISONS:
            raise UnsupportedOperation(
                f"the truth of {self!r} depends on its variable: write where(condition, a, b) instead of if/else"
            )
        return True

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        # One flat list: a deep formula must not be a deep recursion of the pickler.
        nodes = self.nodes()
        place = {id(node): i for i, node in enumerate(nodes)}
        rows = [
            (n.operation, n.arguments if n.operation in _LEAVES else [place[id(a)] for a in n.arguments]) for n in nodes
        ]
        return _rebuild, (rows,)

    @property
    def is_constant(self) -> bool:
        return self.operation == "constant"

    @property
    def value(self) -> int | Fraction | float:
        """The value of a constant node."""
        return self.arguments[0]

    def nodes(self) -> list[Expression]:
        """Every node below and including this one, arguments before their users."""
        return ordered([self])

    def evaluate(self, **values: Any) -> Any:
        """The value of this expression with each variable replaced by a value of any number system."""
        return evaluate([self], values)[0]

    @property
    def digest(self) -> str:
        """A key that depends on the formula alone: equal in every process and on every machine."""
        if self._digest is None:
            for node in self.nodes():
                if node._digest is None:
                    parts = [
                        a._digest if isinstance(a, Expression) else a.hex() if isinstance(a, float) else str(a)
                        for a in node.arguments
                    ]
                    text = f"{node.operation}({','.join(map(str, parts))})"
                    node._digest = hashlib.sha256(text.encode()).hexdigest()
        assert self._digest is not None
        return self._digest


_NODES: weakref.WeakValueDictionary[tuple[Any, ...], Expression] = weakref.WeakValueDictionary()


def _key(argument: Any) -> Any:
    if isinstance(argument, Expression):
        return id(argument)
    # 1 and 1.0, 0.0 and -0.0 are different constants.
    return (type(argument), argument.hex()) if isinstance(argument, float) else (type(argument), argument)


def _node(operation: str, *arguments: Any) -> Expression:
    key = (operation, *map(_key, arguments))
    node = _NODES.get(key)
    if node is None:
        node = object.__new__(Expression)
        node.operation, node.arguments, node._digest = operation, arguments, None
        if operation == "variable":
            node.variables = frozenset(arguments)
        else:
            node.variables = frozenset().union(*(a.variables for a in arguments if isinstance(a, Expression)))
        _NODES[key] = node
    return node


def variable(name: str) -> Expression:
    """The variable called `name`."""
    return _node("variable", name)


def constant(value: Any) -> Expression:
    """A constant node; ints and fractions stay exact."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UnsupportedOperation(f"{value!r} is not a real constant")
    if isinstance(value, Rational):
        exact = Fraction(int(value.numerator), int(value.denominator))
        return _node("constant", int(exact) if exact.denominator == 1 else exact)
    return _node("constant", float(value))


def _rebuild(rows: list[tuple[str, Any]]) -> Expression:
    nodes: list[Expression] = []
    for operation, arguments in rows:
        nodes.append(_node(operation, *(arguments if operation in _LEAVES else [nodes[i] for i in arguments])))
    return nodes[-1]


def ordered(roots: Iterable[Expression]) -> list[Expression]:
    """All nodes below `roots`, each once, arguments before their users."""
    seen: set[int] = set()
    order: list[Expression] = []
    stack: list[tuple[Expression, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.arguments) if isinstance(a, Expression))
    return order


def evaluate(roots: Iterable[Expression], values: Mapping[str, Any], known: dict[int, Any] | None = None) -> list[Any]:
    """The values of several expressions, with what they share computed once.

    Args:
        roots: the expressions.
        values: what each variable is replaced by.
        known: values of nodes already evaluated, by id; extended by this call.
    """
    roots = list(roots)
    known = {} if known is None else known
    for node in ordered(roots):
        if id(node) in known:
            continue
        if node.operation == "variable":
            name = node.arguments[0]
            if name not in values:
                raise KeyError(f"no value given for the variable {name!r}")
            known[id(node)] = values[name]
        elif node.operation == "constant":
            known[id(node)] = node.value
        else:
            arguments = [known[id(a)] for a in node.arguments]
            known[id(node)] = system_of(*arguments).apply(node.operation, *arguments)
    return [known[id(root)] for root in roots]


def _fold(operation: str, values: list[Any]) -> Any:
    """The exact or float value of an operation on constants; None where folding would lose exactness."""
    if operation == "div" and all(isinstance(v, Rational) for v in values) and values[1] != 0:
        return Fraction(values[0]) / Fraction(values[1])
    if operation == "pow" and isinstance(values[0], Rational) and isinstance(values[1], int) and values[0] != 0:
        return Fraction(values[0]) ** values[1]
    exact = all(isinstance(v, Rational) for v in values)
    if exact and operation in ("add", "sub", "mul", "neg", "abs", "maximum", "minimum", "sign"):
        return _REAL_OPERATIONS[operation](*values)
    return None


def build(operation: str, *arguments: Any) -> Expression:
    """The node of `operation` on `arguments` (expressions or constants), simplified."""
    nodes = [constant(a) for a in arguments]
    if all(n.is_constant for n in nodes) and operation != "where":
        folded = _fold(operation, [n.value for n in nodes])
        if folded is not None:
            return constant(folded)
    simplify = _SIMPLIFICATIONS.get(operation)
    simpler = simplify(*nodes) if simplify else None
    return _node(operation, *nodes) if simpler is None else simpler


def _is(node: Expression, value: int) -> bool:
    return node.is_constant and node.value == value


def _simplify_add(a: Expression, b: Expression) -> Expression | None:
    return b if _is(a, 0) else a if _is(b, 0) else None


def _simplify_sub(a: Expression, b: Expression) -> Expression | None:
    return build("neg", b) if _is(a, 0) else a if _is(b, 0) else constant(0) if a is b else None


def _simplify_mul(a: Expression, b: Expression) -> Expression | None:
    if _is(a, 0) or _is(b, 0):
        return constant(0)
    if _is(a, 1) or _is(b, 1):
        return b if _is(a, 1) else a
    if _is(a, -1) or _is(b, -1):
        return build("neg", b if _is(a, -1) else a)
    # Constants stand first and gather: 2·(3·x) = 6·x, exactly.
    if b.is_constant and not a.is_constant:
        return build("mul", b, a)
    if a.is_constant and b.operation == "mul" and b.arguments[0].is_constant:
        folded = _fold("mul", [a.value, b.arguments[0].value])
        return None if folded is None else build("mul", folded, b.arguments[1])
    return None


def _simplify_div(a: Expression, b: Expression) -> Expression | None:
    return constant(0) if _is(a, 0) and not _is(b, 0) else a if _is(b, 1) else None


def _simplify_neg(a: Expression) -> Expression | None:
    if a.operation == "neg":
        return a.arguments[0]
    return constant(-a.value) if a.is_constant else None


def _simplify_pow(a: Expression, b: Expression) -> Expression | None:
    return constant(1) if _is(b, 0) else a if _is(b, 1) else None


def _simplify_where(condition: Expression, a: Expression, b: Expression) -> Expression | None:
    if condition.is_constant:
        return a if condition.value else b
    return a if a is b else None


def _simplify_compare(operation: str) -> Callable[[Expression, Expression], Expression | None]:
    def simplify(a: Expression, b: Expression) -> Expression | None:
        if a.is_constant and b.is_constant:
            return constant(int(_REAL_OPERATIONS[operation](a.value, b.value)))
        return None

    return simplify


_SIMPLIFICATIONS: dict[str, Callable[..., Expression | None]] = {
    "add": _simplify_add,
    "sub": _simplify_sub,
    "mul": _simplify_mul,
    "div": _simplify_div,
    "neg": _simplify_neg,
    "pow": _simplify_pow,
    "where": _simplify_where,
    **{name: _simplify_compare(name) for name in _COMPARISONS},
}


def _compare(operation: str) -> Callable[[Any, Any], Expression]:
    """Comparison nodes. One side must be free of the input `x`: pieces of a definition begin at constants."""

    def compare(a: Any, b: Any) -> Expression:
        if all(isinstance(v, Expression) and "x" in v.variables for v in (a, b)):
            raise UnsupportedOperation(
                f"expressions cannot compare two non-constants ({a!r} {_COMPARISONS[operation]} {b!r}): "
                "compare their difference with 0, or use maximum/minimum"
            )
        return build(operation, a, b)

    return compare


def _where(condition: Any, a: Any, b: Any) -> Expression:
    # A parameter compared with a constant is Python's own True or False.
    return build("where", int(condition) if isinstance(condition, bool) else condition, a, b)


def _with_slope(u: Any, value: Any, slope: Any) -> Expression:
    u, value, slope = map(constant, (u, value, slope))
    if extra := sorted((value.variables | slope.variables) - u.variables):
        raise UnsupportedOperation(
            f"with_slope(u, value, slope) takes a function of u = {u!r} alone, but {', '.join(extra)} occurs in it"
        )
    return _node("with_slope", u, value, slope) if value.variables else value


def without_slopes(expression: Expression) -> Expression:
    """The expression with each `with_slope(u, value, slope)` replaced by its value."""
    if all(node.operation != "with_slope" for node in expression.nodes()):
        return expression
    known: dict[int, Expression] = {}
    for node in expression.nodes():
        if node.operation in _LEAVES:
            known[id(node)] = node
        elif node.operation == "with_slope":
            known[id(node)] = known[id(node.arguments[1])]
        else:
            known[id(node)] = build(node.operation, *[known[id(a)] for a in node.arguments])
    return known[id(expression)]


def _operation(name: str) -> Callable[..., Expression]:
    return lambda *arguments: build(name, *arguments)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _operation(name) for name in _REAL_OPERATIONS},
    **{name: _compare(name) for name in _COMPARISONS},
    "where": _where,
    "with_slope": _with_slope,
}
EXPRESSIONS = register(System("expressions", _OPERATIONS, rank=2, types=(Expression,)))
