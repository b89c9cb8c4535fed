"""A formula and its partial derivatives: what the torch layer evaluates."""

from __future__ import annotations

from typing import Any

from varphi.numbers import Expression, derivatives, evaluate, variable
from varphi.numbers.expression import constant, without_slopes
from varphi.numbers.straight import StraightLine


class Formula:
    """An expression in `x` and some parameters, or a partial derivative of one.

    Attributes:
        base: the expression that is differentiated.
        parameters: the names of its variables besides `x`, in the order in which values are passed.
        orders: how often it is differentiated by `x` and by each parameter.
        kernels: what has been compiled of it, by element type and form.
    """

    def __init__(
        self, base: Expression, parameters: tuple[str, ...] = (), orders: tuple[int, ...] | None = None
    ) -> None:
        self.base = base
        self.parameters = parameters
        self.orders = orders or (0,) * (1 + len(parameters))
        self.kernels: dict[Any, Any] = {}
        self._derivatives: dict[int, Formula] = {}
        self._expression: Expression | None = None
        self._program: StraightLine | None = None
        self._hides_nan: bool | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Formula, (self.base, self.parameters, self.orders)

    def __repr__(self) -> str:
        return f"Formula({self.expression!r})"

    @property
    def variables(self) -> tuple[str, ...]:
        return ("x", *self.parameters)

    def derivative(self, position: int = 0) -> Formula:
        """The partial derivative by the variable at `position` (0 is x)."""
        if position not in self._derivatives:
            orders = tuple(n + (i == position) for i, n in enumerate(self.orders))
            self._derivatives[position] = Formula(self.base, self.parameters, orders)
        return self._derivatives[position]

    @property
    def expression(self) -> Expression:
        # Not a cached_property: torch.compile cannot trace the lock in it.
        if self._expression is None:
            self._expression = without_slopes(self._derive())
        return self._expression

    def _derive(self) -> Expression:
        expression = self.base
        # Parameters first, x last: the jet in x then carries all orders of x at once.
        for name, order in reversed(list(zip(self.variables, self.orders, strict=True))):
            if order:
                expression = _derivatives(expression, name, order)[order]
        return expression

    @property
    def program(self) -> StraightLine:
        """The formula as a list of torch operations."""
        if self._program is None:
            self._program = torch_program([self.expression], self.variables)
        return self._program

    @property
    def hides_nan(self) -> bool:
        """Whether NaN in x may not reach the result by itself."""
        if self._hides_nan is None:
            self._hides_nan = hides_nan(self.expression)
        return self._hides_nan

    def prepare(self) -> None:
        """Make now what torch.compile could not trace the making of."""
        assert self.program is not None and self.hides_nan is not None

    def times(self, factor: str) -> Expression:
        """This formula times a further variable."""
        return constant(variable(factor) * self.expression)

    def tower(self, order: int) -> list[Expression]:
        """The expressions of this formula and its first `order` derivatives by x."""
        return [without_slopes(row) for row in _derivatives(self._derive(), "x", order)]


def torch_program(expressions: list[Expression], variables: tuple[str, ...]) -> StraightLine:
    """The expressions as a list of torch operations on the values of the variables."""
    from varphi.numbers.real import OPERATIONS
    from varphi.numbers.tensor import TENSORS, choose

    assert TENSORS.lift is not None

    def closed(operation: str, numbers: list[Any]) -> Any:
        return OPERATIONS[operation](*numbers)  # torch's functions take no plain numbers

    return StraightLine(expressions, TENSORS.operations, TENSORS.lift, variables, closed, choose)


def _derivatives(expression: Expression, name: str, order: int) -> list[Expression]:
    others: dict[str, object] = {v: variable(v) for v in expression.variables}

    def along(value: object) -> object:
        return evaluate([expression], others | {name: value})[0]

    return [constant(d) for d in derivatives(along, variable(name), order)]


def hides_nan(expression: Expression) -> bool:
    """Whether NaN in x may not reach the result by itself: a comparison chooses a value, or x does not occur."""
    return "x" not in expression.variables or any(n.operation in ("where", "sign", "hill") for n in expression.nodes())
