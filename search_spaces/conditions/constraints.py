"""Constraints between parameters: `Constraint("adversarial.relative_step * adversarial.steps >= 1")`.

The text is an expression in Python's grammar. It is parsed into a tree of functions and never executed by Python. It
may contain the dotted names of parameters (without keywords of Python), numbers, strings, `True`, `False` and `None`;
`+ - * / // % **`; comparisons, also chained; `in` and `not in` a tuple of values; `and`, `or`, `not`; and the
functions `abs`, `min`, `max`, `sqrt`, `exp`, `log`, `log2` and `log10`. A constraint applies to the points in which
all the parameters that it names are active; every other point satisfies it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from search_spaces.conditions import expressions
from search_spaces.domains.values import Scalar, broken
from search_spaces.errors import Problem, SpaceError, cut, quoted

_Rename: TypeAlias = Callable[[str], str]


@final
@dataclass(frozen=True, slots=True, init=False, eq=False)
class Constraint:
    """Requirement on the values of a point, taken together.

    Two constraints are equal if their canonical texts are; spaces and brackets do not matter.

    Args:
        text: the expression, in the language of this module.

    Raises:
        DomainError: the text is not an expression of this language, or names no parameter.

    >>> reach = Constraint("adversarial.relative_step*adversarial.steps >= 1")
    >>> reach.text
    'adversarial.relative_step * adversarial.steps >= 1'
    >>> reach.holds({"adversarial.relative_step": 0.25, "adversarial.steps": 3})
    False
    >>> reach.holds({"adversarial.relative_step": 0.25})
    True
    """

    text: str
    names: tuple[str, ...]
    _truth: Callable[[Mapping[str, Any]], Any]

    def __init__(self, text: str) -> None:
        expression = expressions.parse(text)
        names = tuple(dict.fromkeys(expressions.names(expression)))
        if not names:
            raise broken("Constraint", f"must name a parameter, got {quoted(text)}")
        object.__setattr__(self, "text", ast.unparse(expression))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_truth", expressions.reader(expression))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constraint) and self.text == other.text

    def __hash__(self) -> int:
        return hash((Constraint, self.text))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Constraint({self.text!r})"

    def __reduce__(self) -> tuple[type[Constraint], tuple[str]]:
        return Constraint, (self.text,)

    @property
    def place(self) -> str:
        """Place of the constraint, for messages."""
        return f"constraint {quoted(self.text)}"

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Return True if the values satisfy the constraint, or if one that it names is absent.

        Raises:
            SpaceError: the expression has no value: it divides by zero, or compares a text with a number.
        """
        if any(name not in values for name in self.names):
            return True
        try:
            truth = self._truth(values)
        except TypeError as error:
            raise self._no_value(values, f"{error}", "compare like with like") from error
        except (ArithmeticError, ValueError) as error:
            raise self._no_value(values, f"{error}", "guard it, as in 'b != 0 and a / b > 1'") from error
        if type(truth) is not bool:
            raise self._no_value(values, f"it is {quoted(truth)}, neither true nor false", "end in a comparison")
        return truth

    def renamed(self, rename: _Rename) -> Constraint:
        """Return the same constraint with other parameter names.

        >>> Constraint("a < b").renamed("x.{}".format)
        Constraint('x.a < x.b')
        """
        return Constraint(ast.unparse(expressions.renamed(expressions.parse(self.text), rename)))

    def _no_value(self, values: Mapping[str, Scalar], why: str, remedy: str) -> SpaceError:
        where = cut(", ".join(f"{name} = {values[name]!r}" for name in self.names))
        return SpaceError(Problem(self.place, f"has no value where {where} ({cut(why)}); {remedy}"))


def as_constraints(items: Iterable[Constraint | str]) -> tuple[Constraint, ...]:
    """Return the constraints among the items, texts parsed, duplicates removed.

    Raises:
        DomainError: a text is not a constraint, or `items` is a single text.

    >>> as_constraints(["a <= b", Constraint("a<=b")])
    (Constraint('a <= b'),)
    """
    if isinstance(items, str | Constraint):
        raise broken("constraints", f"must be a list, got {quoted(str(items))}; write [{quoted(str(items))}]")
    return tuple(dict.fromkeys(item if isinstance(item, Constraint) else Constraint(item) for item in items))
