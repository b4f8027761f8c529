"""Expressions over metrics, evaluated by simpleeval and never by `eval`.

Numbers, names of metrics (`temperature`, `air.t`), `+ - * / // % **`, comparisons, `and`, `or`, `not`,
`A if B else C`, and the functions of `FUNCTIONS`. Everything is a float, so that no expression takes long or much
memory: a result that is too large is an error, as in any calculator.
"""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Final

from simpleeval import InvalidExpression, SimpleEval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LENGTH_MAX: Final = 1_000
NODES_MAX: Final = 400


def _round(value: float, digits: float = 0.0) -> float:
    return round(value, int(digits))


FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "atan2": math.atan2,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "hypot": math.hypot,
    "log": math.log,
    "log10": math.log10,
    "max": max,
    "min": min,
    "round": _round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
CONSTANTS: Final = {"pi": math.pi, "e": math.e}
_OPERATORS: Final[dict[type[ast.AST], Callable[..., object]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_PARTS: Final = (
    ast.Expression,
    ast.Load,
    ast.Constant,
    ast.Name,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    *_OPERATORS,
)


class MissingMetric(LookupError):
    """A metric of the expression is not there."""


class _Names(ast.NodeTransformer):
    """Makes names of what has dots (`air.t`), and floats of numbers."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        owner = self.visit(node.value)
        return ast.Name(f"{owner.id}.{node.attr}", ast.Load()) if isinstance(owner, ast.Name) else node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not isinstance(node.value, int | float):
            return node
        try:
            return ast.Constant(float(node.value))
        except OverflowError:
            raise ValueError("a number is too large") from None


class Expression:
    """A checked expression.

    Args:
        text: What was written.

    Raises:
        ValueError: It is none, or uses what there is not here; the message says what and where.

    Attributes:
        metrics: The names of the metrics in it.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LENGTH_MAX:
            raise ValueError(f"an expression may have {LENGTH_MAX} characters at most")
        try:
            tree = _Names().visit(ast.parse(text.strip(), mode="eval"))
        except SyntaxError as error:
            place = f" at character {error.offset}" if error.offset else ""
            raise ValueError(f"not an expression{place}: {text!r}") from None
        except (RecursionError, MemoryError):
            raise ValueError("the expression is nested too deeply") from None
        nodes = list(ast.walk(tree))
        if len(nodes) > NODES_MAX:
            raise ValueError(f"the expression has too many parts ({len(nodes)}, {NODES_MAX} are allowed)")
        self._text = text
        self._body = tree.body
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        self.metrics = {
            name for node in nodes if id(node) not in called and (name := _metric(node)) is not None
        }
        self._evaluator = SimpleEval(operators=_OPERATORS, functions=FUNCTIONS)

    def evaluate(self, values: Mapping[str, bool | int | float | str]) -> float:
        """The result for these metrics; a truth value counts as 0 or 1.

        Raises:
            MissingMetric: One is not there.
            ValueError: It has no result: division by zero, a root of a negative number, a text, an overflow.
        """
        self._evaluator.names = CONSTANTS | {name: _float(name, values) for name in self.metrics}
        try:
            result = float(self._evaluator.eval(self._text, self._body))
        except ZeroDivisionError:
            raise ValueError("division by zero") from None
        except OverflowError:
            raise ValueError("the result is too large") from None
        except (TypeError, InvalidExpression) as error:
            raise ValueError(str(error)) from None
        if not math.isfinite(result):
            raise ValueError("the result is too large")
        return result


def _metric(node: ast.AST) -> str | None:
    """The metric that a part of an expression names, None for any other part.

    Raises:
        ValueError: It is none that an expression can have.
    """
    match node:
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return None
        case ast.Call(func=ast.Name(id=name)):
            raise ValueError(f"there is no function {name!r}; there are {', '.join(FUNCTIONS)}")
        case ast.Constant(value=float()):
            return None
        case ast.Name(id=name):
            return None if name in CONSTANTS else name
        case ast.Constant() | ast.Call():
            raise ValueError(f"an expression cannot have {ast.unparse(node)!r}")
    if not isinstance(node, _PARTS):
        raise ValueError(f"an expression cannot have {ast.unparse(node) or type(node).__name__!r}")
    return None


def _float(name: str, values: Mapping[str, bool | int | float | str]) -> float:
    value = values.get(name)
    if value is None:
        raise MissingMetric(name)
    if isinstance(value, str):
        raise ValueError(f"{name} is a text, {value!r}")
    return float(value)
