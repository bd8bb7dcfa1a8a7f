"""Language of constraints: Python's parser reads the text, and only the syntax listed here is accepted.

An accepted text becomes a tree of small functions of the values of a point; nothing is passed to `eval`. Arithmetic
takes finite numbers only (a text times a number is an error, not a long text). A power is computed in floats. `==`
compares as conditions do (0 is 0.0, True is not 1). The operands of `and`, `or` and `not` must be true or false.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from search_spaces.conditions.predicates import same
from search_spaces.domains.values import broken, is_number
from search_spaces.errors import cut, quoted, suggestion
from search_spaces.paths import check_name

# Map the values of a point to the value of an expression.
Reader: TypeAlias = Callable[[Mapping[str, Any]], Any]

# Longer than handwritten expressions, short enough for the nesting of Python's parser and for a database key.
LONGEST = 400
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
}
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, abs),
    "min": (2, min),
    "max": (2, max),
    "sqrt": (1, math.sqrt),
    "exp": (1, math.exp),
    "log": (1, math.log),
    "log2": (1, math.log2),
    "log10": (1, math.log10),
}
_ALLOWED = "names of parameters, numbers, texts, + - * / // % **, comparisons, in, and, or, not, " + ", ".join(
    _FUNCTIONS
)


def parse(text: object) -> ast.expr:
    """Parse an expression.

    Raises:
        DomainError: the text is not an expression of this language.

    >>> ast.unparse(parse("(a.b*2) >=1"))
    'a.b * 2 >= 1'
    >>> parse("__import__('os')")
    Traceback (most recent call last):
    search_spaces.errors.DomainError: Constraint: unknown function '__import__' in "__import__('os')"; known: abs, \
min, max, sqrt, exp, log, log2, log10
    """
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise broken("Constraint", f"must be an expression of 1 to {LONGEST} characters, got {quoted(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        reader(tree)
        ast.unparse(tree)  # as a constraint is written; from Python 3.12 on, it recurses deeper than the parser
    except SyntaxError as error:
        raise broken("Constraint", f"is not an expression: {cut(error.msg)} in {quoted(text)}") from None
    except (RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, ValueError) and hasattr(error, "problems"):
            raise
        raise broken("Constraint", f"is not an expression that can be read: {quoted(text)}") from None
    return tree


def names(tree: ast.expr) -> Iterator[str]:
    """Yield the dotted names in an expression from left to right, with repetitions.

    >>> list(names(parse("a.b < min(c, a.b)")))
    ['a.b', 'c', 'a.b']
    """
    match tree:
        case ast.Name() | ast.Attribute():
            yield _dotted(tree)
        case ast.Call(args=args):
            for argument in args:
                yield from names(argument)
        case _:
            for child in ast.iter_child_nodes(tree):
                if isinstance(child, ast.expr):
                    yield from names(child)


def renamed(tree: ast.expr, rename: Callable[[str], str]) -> ast.expr:
    """Return the expression with other parameter names.

    >>> ast.unparse(renamed(parse("log(a.b) < 2"), "x.{}".format))
    'log(x.a.b) < 2'
    """
    result: ast.expr = _Renaming(rename).visit(tree)
    return result


def reader(tree: ast.expr) -> Reader:
    """Return the function that evaluates an expression.

    The function raises ArithmeticError, TypeError or ValueError if the expression has no value.

    >>> reader(parse("a.b ** 2 + 1"))({"a.b": 3})
    10.0
    """
    match tree:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return lambda _: value
        case ast.Name() | ast.Attribute():
            return operator.itemgetter(_dotted(tree))
        case ast.Tuple(elts=members):
            return _tuple(members)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _applied(_ARITHMETIC[type(op)], [left, right])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _applied(operator.neg, [operand])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _negated(_truth(operand))
        case ast.BoolOp(op=ast.And(), values=parts):
            return _every([_truth(part) for part in parts])
        case ast.BoolOp(op=ast.Or(), values=parts):
            return _some([_truth(part) for part in parts])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _chain(left, ops, comparators)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _call(name, args, tree)
        case _:
            raise broken("Constraint", f"cannot contain {quoted(ast.unparse(tree))}; it may contain {_ALLOWED}")


class _Renaming(ast.NodeTransformer):
    def __init__(self, rename: Callable[[str], str]) -> None:
        self._rename = rename

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self._rename(_dotted(node)), mode="eval").body

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return ast.parse(self._rename(_dotted(node)), mode="eval").body

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])


def _dotted(tree: ast.expr) -> str:
    if not set(map(type, ast.walk(tree))) <= {ast.Name, ast.Attribute, ast.Load}:
        raise broken("Constraint", f"cannot contain {quoted(ast.unparse(tree))}; it may contain {_ALLOWED}")
    return check_name(ast.unparse(tree))


def _numbers(values: list[Any]) -> list[Any]:
    for value in values:
        if not is_number(value):
            raise TypeError(f"{quoted(value)} is not a finite number")
    return values


def _applied(function: Callable[..., Any], arguments: list[ast.expr]) -> Reader:
    readers = [reader(argument) for argument in arguments]
    return lambda values: function(*_numbers([read(values) for read in readers]))


def _call(name: str, arguments: list[ast.expr], tree: ast.expr) -> Reader:
    if name not in _FUNCTIONS:
        known = suggestion(name, _FUNCTIONS) or f"; known: {', '.join(_FUNCTIONS)}"
        raise broken("Constraint", f"unknown function {quoted(name)} in {quoted(ast.unparse(tree))}{known}")
    least, function = _FUNCTIONS[name]
    if len(arguments) < least or (least == 1 and len(arguments) > 1):
        takes = "one argument" if least == 1 else f"at least {least} arguments"
        raise broken("Constraint", f"{name} takes {takes}, got {quoted(ast.unparse(tree))}")
    return _applied(function, arguments)


def _tuple(members: list[ast.expr]) -> Reader:
    readers = [reader(member) for member in members]
    return lambda values: tuple(read(values) for read in readers)


def _truth(tree: ast.expr) -> Callable[[Mapping[str, Any]], bool]:
    read = reader(tree)

    def holds(values: Mapping[str, Any]) -> bool:
        truth = read(values)
        if type(truth) is not bool:
            raise TypeError(f"{quoted(truth)} is neither true nor false")
        return truth

    return holds


def _negated(part: Callable[[Mapping[str, Any]], bool]) -> Reader:
    return lambda values: not part(values)


def _every(parts: list[Callable[[Mapping[str, Any]], bool]]) -> Reader:
    return lambda values: all(part(values) for part in parts)


def _some(parts: list[Callable[[Mapping[str, Any]], bool]]) -> Reader:
    return lambda values: any(part(values) for part in parts)


def _chain(first: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr]) -> Reader:
    read_first, steps = reader(first), []
    for op, operand in zip(ops, comparators, strict=True):
        if isinstance(op, ast.In | ast.NotIn) and not isinstance(operand, ast.Tuple | ast.List):
            raise broken("Constraint", f"'in' requires a tuple of values, got {quoted(ast.unparse(operand))}")
        right = ast.Tuple(operand.elts, ast.Load()) if isinstance(operand, ast.List) else operand
        steps.append((_comparison(op), reader(right)))

    def holds(values: Mapping[str, Any]) -> bool:
        left = read_first(values)
        for compare, read in steps:
            right = read(values)
            if not compare(left, right):
                return False
            left = right
        return True

    return holds


def _comparison(op: ast.cmpop) -> Callable[[Any, Any], bool]:
    match op:
        case ast.Eq():
            return same
        case ast.NotEq():
            return lambda left, right: not same(left, right)
        case ast.In():
            return lambda left, options: any(same(left, option) for option in options)
        case ast.NotIn():
            return lambda left, options: not any(same(left, option) for option in options)
        case _ if type(op) in _ORDER:
            return _ordered(_ORDER[type(op)])
        case _:
            raise broken("Constraint", "cannot contain 'is'; write ==")


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return compare(left, right)
        return compare(*_numbers([left, right]))

    return holds
