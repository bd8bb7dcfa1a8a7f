"""YAML to ``SweepSpec``, or every mistake in it at once, each with its path, the law and the nearest valid name.

Static: everything the text alone decides is decided here, without torch, Ray or MLflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from orchestrator.errors import SpecError
from orchestrator.spec import SweepSpec, default_space
from search_spaces import Fixed, Problem, SearchSpace, SpaceError, YamlError, load_yaml, nearest, parse_space
from trainables.config import TrialConfig
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

NUM_SAMPLES_CHECKED = 256
FLAT_SECTIONS = ("trial", "space.parameters")  # below these a dotted name is one key


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """The sweep spec in a YAML file, with ``path=value`` overrides applied first.

    Raises:
        SpecError: the file cannot be read, or its ``problems`` list every mistake.

    Example:
        >>> load_spec("nowhere.yaml")
        Traceback (most recent call last):
        orchestrator.errors.SpecError: nowhere.yaml: cannot be read: No such file or directory
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise SpecError([Problem(str(path), f"must be UTF-8 text, byte {error.start} is not")]) from None
    return parse_spec(text, overrides, source=str(path))


def parse_spec(text: str, overrides: Sequence[str] = (), *, source: str = "<string>") -> SweepSpec:
    r"""The sweep spec in YAML text; see ``load_spec``.

    Example:
        >>> parse_spec("name: digits", ["search.num_trials=4"]).search.num_trials
        4
        >>> parse_spec("name: digits\nsearch: {num_trails: 4}")
        Traceback (most recent call last):
        orchestrator.errors.SpecError: search.num_trails: unknown field; did you mean 'num_trials'?
    """
    try:
        document = load_yaml(text, source=source)
    except YamlError as error:
        raise SpecError([Problem(source, str(error).removeprefix(f"{source}: "))]) from None
    if not isinstance(document, dict):
        raise SpecError([Problem(source, "must be a mapping of fields such as 'name: my-sweep'")])
    problems: list[Problem] = []
    document = {
        field: value for field, value in document.items() if value is not None
    }  # 'trial:' alone is an empty one
    for override in overrides:
        _apply(document, override, problems)
    spec = _validate(document, problems)
    if problems or spec is None:
        raise SpecError(dict.fromkeys(problems))
    return spec


def check_spec(spec: SweepSpec) -> SweepSpec:
    """The spec with its ``trial`` parameters fixed in its space, when every point of it makes a valid trial.

    Raises:
        SpecError: a name no trial knows, a value no trial takes, a point outside the space.
    """
    problems = [*_trial_problems(spec.trial), *_name_problems(spec.space.names)]
    if problems:
        raise SpecError(problems)
    spec = spec.model_copy(update={"space": _fix(spec.space, spec.trial)})
    problems = [*_law_problems(spec), *_given_point_problems(spec), *_space_problems(spec)]
    if problems:
        raise SpecError(problems)
    return spec


def _validate(document: dict[str, Any], problems: list[Problem]) -> SweepSpec | None:
    space, explicit = _space(document.get("space"), problems)
    try:
        spec = SweepSpec.model_validate({**document, "space": space})
    except ValidationError as error:
        problems += [_problem(detail) for detail in error.errors()]
    if problems:
        trial = document.get("trial")
        problems += _trial_problems(trial) if isinstance(trial, dict) else []
        problems += _name_problems(explicit)
        return None
    problems += [
        Problem(f"trial.{name}", "stands under space.parameters too: fix it in one place, search it in the other")
        for name in spec.trial
        if name in explicit
    ]
    try:
        return check_spec(spec)
    except SpecError as error:
        problems += error.problems
        return None


def _space(document: object, problems: list[Problem]) -> tuple[SearchSpace, list[str]]:
    """The space, and the names its document spells out itself."""
    if document is None:
        return default_space(), []
    parameters = document.get("parameters") if isinstance(document, dict) else None
    explicit = list(parameters) if isinstance(parameters, dict) else []
    try:
        return parse_space(document, path="space"), explicit
    except SpaceError as error:
        problems += error.problems
        return SearchSpace({}), explicit


def _fix(space: SearchSpace, trial: Mapping[str, Any]) -> SearchSpace:
    """``trial`` wins over what a catalog fragment would search, inside the fragment's range or not."""
    fixed = {name: Fixed(trial[name]) if name in trial else space.parameters[name] for name in space.names}
    return SearchSpace(fixed, when=space.when)


def _trial_problems(trial: Mapping[str, Any]) -> list[Problem]:
    try:
        TrialConfig.from_point(trial)
    except ConfigError as error:
        return [Problem(f"trial.{problem.path}", problem.message) for problem in error.problems]
    return []


def _name_problems(names: Iterable[str]) -> list[Problem]:
    known = TrialConfig.parameter_names()
    return [
        Problem(f"space.parameters.{name}", f"no trial has this parameter{_did_you_mean(name, known)}")
        for name in names
        if name not in known
    ]


def _law_problems(spec: SweepSpec) -> list[Problem]:
    """Laws between fields."""
    problems = []
    first = 1 + len(spec.search.points)
    if spec.search.num_trials < first:
        law = f"must be >= {first}: the baseline and each of search.points run first"
        problems.append(Problem("search.num_trials", f"{law}, got {spec.search.num_trials}"))
    if spec.objective.metric == "val/robust_accuracy" and spec.evaluation.robust_epsilon == 0:
        problems.append(
            Problem("evaluation.robust_epsilon", "must be > 0 to measure the objective val/robust_accuracy")
        )
    return problems


def _given_point_problems(spec: SweepSpec) -> list[Problem]:
    known = frozenset(spec.space.names)
    problems = []
    for index, point in enumerate(spec.search.points):
        for name, value in point.items():
            path = f"search.points.{index}.{name}"
            if name not in known:
                problems.append(Problem(path, f"not in the space{_did_you_mean(name, known)}"))
            elif not spec.space.parameters[name].contains(value):
                problems.append(Problem(path, f"must be {spec.space.parameters[name].describe()}, got {value!r}"))
    return problems


def _space_problems(spec: SweepSpec) -> list[Problem]:
    """The corners and seeded samples of the space that make no valid trial, one problem for each path and law."""
    found: dict[tuple[str, str], Problem] = {}
    points = [*spec.space.corners(), *spec.space.sample_many(NUM_SAMPLES_CHECKED, seed=spec.search.seed)]
    for point in points:
        try:
            TrialConfig.from_point({**spec.trial, **point})
        except ConfigError as error:
            for problem in error.problems:
                law = problem.message.split(", got ")[0]
                found.setdefault((problem.path, law), Problem(f"space.parameters.{problem.path}", problem.message))
    return list(found.values())


def _apply(document: dict[str, Any], override: str, problems: list[Problem]) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path:
        problems.append(Problem(f"--set {override}", "must be path=value, for example search.num_trials=8"))
        return
    try:
        value = load_yaml(text, source=f"--set {path}")
    except YamlError as error:
        problems.append(Problem(f"--set {path}", str(error).partition(": ")[2]))
        return
    target = document
    keys = _keys(path)
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            problems.append(Problem(f"--set {path}", f"{key!r} is no section of the spec"))
            return
    target[keys[-1]] = value


def _keys(path: str) -> list[str]:
    for section in FLAT_SECTIONS:
        if path.startswith(f"{section}."):
            return [*section.split("."), path.removeprefix(f"{section}.")]
    return path.split(".")


def _problem(detail: ErrorDetails) -> Problem:
    location = [str(part) for part in detail["loc"][: 3 if detail["loc"][:2] == ("search", "points") else 2]]
    return Problem(".".join(location), _law(detail, location))


def _law(detail: ErrorDetails, location: Sequence[str]) -> str:
    kind, context, got = detail["type"], detail.get("ctx", {}), detail["input"]
    match kind:
        case "extra_forbidden":
            return f"unknown field{_did_you_mean(location[-1], _fields(location[:-1]))}"
        case "missing":
            return "is required"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
            hint = _did_you_mean(got, choices) if isinstance(got, str) else ""
            return f"must be {context['expected']}, got {got!r}{hint}"
        case "greater_than_equal":
            return f"must be >= {context['ge']}, got {got!r}"
        case "greater_than":
            return f"must be > {context['gt']:g}, got {got!r}"
        case "less_than_equal":
            return f"must be <= {context['le']}, got {got!r}"
        case "model_type" | "dict_type":
            return f"must be a mapping, got {got!r}"
        case _:
            message = detail["msg"].replace("Input should be", "must be")
            return f"{message[:1].lower()}{message[1:]}, got {got!r}"


def _fields(location: Sequence[str]) -> Iterable[str]:
    model: Any = SweepSpec
    for part in location:
        model = model.model_fields[part].annotation
    return tuple(model.model_fields) if issubclass(model, BaseModel) else ()


def _did_you_mean(name: str, candidates: Iterable[str]) -> str:
    closest = nearest(name, candidates)
    return f"; did you mean {closest!r}?" if closest else ""
