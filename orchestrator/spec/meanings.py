"""Meanings of the fields of a spec and of a trial: the text that follows each field in its model.

Editors show them (`orchestrator.spec.json_schema`), and the reference of the documentation lists them.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


@cache
def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the meaning of each field of a model that has one; none if the source is not installed.

    >>> from orchestrator.spec.model import Failures
    >>> meanings(Failures)["infrastructure"]
    'Retries of a trial whose worker was lost.'
    """
    try:
        source = inspect.getsource(inspect.getmodule(model) or model)
    except OSError:
        return {}
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == model.__name__)
    texts = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                texts[name] = inspect.cleandoc(meaning).replace("``", "`")
            case _:
                pass
    return texts
