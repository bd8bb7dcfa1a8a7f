"""Load a ``SweepSpec`` from YAML, or report every mistake at once: path, requirement, value and nearest valid name.

Static: everything that the text alone decides is decided here, without torch, Ray or MLflow. A regularizer that
`space.use` names is imported, with torch, for its search space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from orchestrator.errors import SpecError, quoted
from orchestrator.planning.fields import did_you_mean
from orchestrator.planning.overrides import apply
from orchestrator.planning.validation import check_spec, name_problems, trial_problems
from orchestrator.spec.model import SweepSpec, default_space
from search_spaces import Problem, SearchSpace, SpaceError, YamlError, catalog, load_yaml, parse_space
from trainables.errors import ConfigError
from trainables.regularizers.fragments import with_fragments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

OBJECTIVES = ("objective", "others")  # the second and later ones of a list
MAX_CHARACTERS = 150_000
"""Of a spec, which is then read in about a second."""
MAX_PROBLEMS = 100


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Return the sweep spec in a YAML file, with ``path=value`` overrides applied first.

    Raises:
        SpecError: the file cannot be read, or its ``problems`` list every mistake.

    Example:
        >>> load_spec("nowhere.yaml")
        Traceback (most recent call last):
        orchestrator.errors.SpecError: nowhere.yaml: cannot be read: No such file or directory
    """
    return parse_spec(_read(path), overrides, source=str(path))


def load_trial(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Return the spec for a single trial: what ``trial`` fixes is not searched, and ``search.points`` are not run.

    Raises:
        SpecError: as ``load_spec``.
    """
    problems: list[Problem] = []
    document = _document(_read(path), overrides, problems, source=str(path))
    if isinstance(search := document.get("search"), dict):
        document["search"] = {name: value for name, value in search.items() if name != "points"}
    return _checked(document, problems)


def parse_spec(text: str, overrides: Sequence[str] = (), *, source: str = "<string>") -> SweepSpec:
    r"""Return the sweep spec in YAML text; see ``load_spec``.

    Example:
        >>> parse_spec("name: digits", ["search.num_trials=4"]).search.num_trials
        4
        >>> parse_spec("name: digits\nsearch: {num_trails: 4}")
        Traceback (most recent call last):
        orchestrator.errors.SpecError: search.num_trails: unknown field; did you mean 'num_trials'?
    """
    problems: list[Problem] = []
    document = _document(text, overrides, problems, source=source)
    return _checked(document, problems, _clashes(document))


def override(spec: SweepSpec, settings: Sequence[str]) -> SweepSpec:
    """Return a validated spec with other values of some fields, ``path=value``.

    Raises:
        SpecError: the result is not a valid spec.

    Example:
        >>> override(parse_spec("name: digits"), ["scheduler.grace_period=4"]).scheduler.grace_period
        4
    """
    problems: list[Problem] = []
    document = spec.document()
    for setting in settings:
        problems += apply(document, setting)
    return _checked(document, problems)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise SpecError([Problem(str(path), f"must be UTF-8 text, byte {error.start} is not")]) from None


def _document(text: str, overrides: Sequence[str], problems: list[Problem], *, source: str) -> dict[str, Any]:
    size = len(text) + sum(map(len, overrides))
    if size > MAX_CHARACTERS:
        raise SpecError([Problem(source, f"must have at most {MAX_CHARACTERS:,} characters, got {size:,}")])
    try:
        document = load_yaml(text, source=source)
    except YamlError as error:
        raise SpecError([Problem(source, str(error).removeprefix(f"{source}: "))]) from None
    if not isinstance(document, dict):
        raise SpecError([Problem(source, "must be a mapping of fields such as 'name: my-sweep'")])
    # 'trial:' alone is an empty section.
    document = {field: value for field, value in document.items() if value is not None}
    for override in overrides:
        problems += apply(document, override)
    return document


def _checked(document: dict[str, Any], problems: list[Problem], clashes: Iterable[Problem] = ()) -> SweepSpec:
    spec = _validate(document, problems)
    problems += clashes
    if problems or spec is None:
        raise SpecError(dict.fromkeys(problems))
    return spec


def _validate(document: dict[str, Any], problems: list[Problem]) -> SweepSpec | None:
    trial = document.get("trial")
    fixed = trial if isinstance(trial, dict) else {}
    space = default_space(fixed) if document.get("space") is None else _space(document["space"], problems)
    try:
        spec = SweepSpec.model_validate({**document, "space": space})
    except ValidationError as error:
        details = error.errors()
        problems += [_problem(detail) for detail in details[:MAX_PROBLEMS]]
        if len(details) > MAX_PROBLEMS:
            problems.append(Problem("spec", f"has {len(details) - MAX_PROBLEMS:,} more problems"))
    if problems:
        problems += trial_problems(trial, space) if isinstance(trial, dict) else []
        problems += name_problems(_searched(document), fixed)
        return None
    try:
        return check_spec(spec)
    except SpecError as error:
        problems += error.problems
        return None


def _space(document: object, problems: list[Problem]) -> SearchSpace:
    try:
        return parse_space(with_fragments(document, catalog=catalog.FRAGMENTS), path="space")
    except ConfigError as error:  # a regularizer that `use` names cannot be imported
        problems += [Problem("space.use", f"{path}: {message}") for path, message in error.problems]
        return SearchSpace({})
    except SpaceError as error:
        problems += error.problems
        return SearchSpace({})


def _searched(document: Mapping[str, Any]) -> list[str]:
    """Return the parameters that the space document defines itself, not by a fragment."""
    space = document.get("space")
    parameters = space.get("parameters") if isinstance(space, dict) else None
    return list(parameters) if isinstance(parameters, dict) else []


def _clashes(document: Mapping[str, Any]) -> list[Problem]:
    """Return the parameters that are fixed and searched; a written spec has one that is fixed to one value twice."""
    message = "is both fixed in `trial` and searched in `space.parameters`; remove one"
    trial = document.get("trial")
    fixed = trial if isinstance(trial, dict) else {}
    clashes = [name for name in _searched(document) if name in fixed]
    domains = document["space"]["parameters"] if clashes else {}
    return [Problem(f"trial.{name}", message) for name in clashes if not _is_fixed_to(fixed[name], domains[name])]


def _is_fixed_to(value: object, domain: object) -> bool:
    return isinstance(domain, dict) and "fixed" in domain and repr(domain["fixed"]) == repr(value)


def _problem(detail: ErrorDetails) -> Problem:
    if detail["loc"][:2] == OBJECTIVES and len(detail["loc"]) > len(OBJECTIVES):  # named by its place in the list
        _, _, index, *field = detail["loc"]
        place = ".".join(["objective", str(int(index) + 1), *map(str, field)])
        return Problem(place, _message(detail, ["objective", *map(str, field)]))
    deep = detail["loc"][:2] in {("search", "points"), ("search", "args"), ("scheduler", "args")}
    location = [str(part) for part in detail["loc"][: 3 if deep else 2]]
    return Problem(".".join(location), _message(detail, location))


def _message(detail: ErrorDetails, location: Sequence[str]) -> str:
    """Return the requirement that an input breaks, in the words of this project, and the input."""
    kind, context, got = detail["type"], detail.get("ctx", {}), quoted(detail["input"])
    match kind:
        case "extra_forbidden":
            return f"unknown field{did_you_mean(location[-1], _fields(location[:-1]))}"
        case "missing":
            return "is required"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
            hint = did_you_mean(detail["input"], choices) if isinstance(detail["input"], str) else ""
            return f"must be {context['expected']}, got {got}{hint}"
        case "greater_than_equal":
            return f"must be >= {context['ge']:g}, got {got}"
        case "greater_than":
            return f"must be > {context['gt']:g}, got {got}"
        case "less_than_equal":
            return f"must be <= {context['le']:g}, got {got}"
        case "tuple_type" | "list_type":
            return f"must be a list, got {got}"
        case "too_long":
            return f"must have at most {context['max_length']} entries, got {context['actual_length']}"
        case "model_type" | "dict_type":
            return f"must be a mapping, got {got}"
        case _:
            message = detail["msg"].replace("Input should be", "must be")
            return f"{message[:1].lower()}{message[1:]}, got {got}"


def _fields(location: Sequence[str]) -> Iterable[str]:
    model: Any = SweepSpec
    for part in location:
        model = model.model_fields[part].annotation
    return tuple(model.model_fields) if issubclass(model, BaseModel) else ()
