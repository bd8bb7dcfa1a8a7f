"""Mutations of sweep specs, each from its seed: the same number gives the same text on every machine."""

import copy
import json
import random

import yaml

VALUES = (
    None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e-320, 1e308, 10**9, 10**18, 10**30, 10**400, float("inf"),
    float("-inf"), float("nan"), "", " ", "auto", "cpu", "no", "1e-3", "x" * 5000, "naïve\u202e😀", "\x07",
    "../../escape", "s3://", "s3://b/k?x", "http://h/#token=a", "sqlite://mlflow.db", "val/accuracy",
    "val/accuracy min", [], [1], [[]],
    [0.1, 1.0], [1.0, 0.1], [1, 10**9], [None], {}, {"a": 1}, {"float": [0.1, 1.0]}, {"float": [0, 1e308], "log": True},
    {"int": [1, 10**12]}, {"int": [1, 10**30]}, {"choice": []}, {"choice": [1, "a", None]},
    {"choice": list(range(3000))},
    {"fixed": None}, {"zero_or": {"symlog": [-1.0, 1.0], "gap": 0.001}, "probability": 2},
    {"float": [0.0, 1.0], "step": 1e-300}, {"float": [0.0, 1.0], "when": {"optimizer.name": "sgd"}},
    {"float": [0.0, 1.0], "when": {"optimizer.lr": {"greater_than": "a"}}}, {"symlog": [-1e308, 1e308], "gap": 1e-300},
)  # fmt: skip
NAMES = (
    "epochs",
    "task",
    "optimizer.lr",
    "optimizer",
    "batch_size",
    "evaluation.epochs",
    "a..b",
    "ünïcode",
    "",
    "x" * 500,
)
LINES = (
    "  name: b",
    "\tname: c",
    "- 1",
    "name: again",
    "trial: {epochs: 3}",
    "%",
    "!!python/object:os.system x",
    "? [a]",
    "<<: *a",
    "}",
)


def fields_of(model, path=()):
    """Yield the path of every documented field of a spec."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        if hasattr(field.annotation, "model_fields"):
            yield from fields_of(field.annotation, (*path, name))


def mutated(texts, fields, seed):
    """Return the text of one mutated spec: two in three with other values, the rest with other text."""
    rng = random.Random(seed)
    text = rng.choice(texts)
    if rng.random() < 2 / 3:
        document = yaml.safe_load(text)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            rng.choice((_set_field, _set_leaf, _set_leaf, _drop, _rename, _nest))(document, fields, rng)
        return _written(document, rng)
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = rng.choice((_double, _indent, _insert, _cut, _characters))(lines, rng)
    return "\n".join(lines)


def _written(document, rng):
    if rng.random() < 0.5:
        return json.dumps(document, ensure_ascii=False).replace("Infinity", ".inf").replace("NaN", ".nan")
    return yaml.safe_dump(document, allow_unicode=True)


def _places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _parent(document, place):
    for key in place[:-1]:
        document = document[key]
    return document


def _set_field(document, fields, rng):
    *sections, name = rng.choice(fields)
    for section in sections:
        if not isinstance(document.get(section), dict):
            document[section] = {}
        document = document[section]
    document[name] = copy.deepcopy(rng.choice(VALUES))


def _set_leaf(document, _, rng):
    if places := list(_places(document)):
        place = rng.choice(places)
        _parent(document, place)[place[-1]] = copy.deepcopy(rng.choice(VALUES))


def _drop(document, _, rng):
    if places := list(_places(document)):
        place = rng.choice(places)
        del _parent(document, place)[place[-1]]


def _rename(document, _, rng):
    if places := [place for place in _places(document) if isinstance(place[-1], str)]:
        place = rng.choice(places)
        parent, name = _parent(document, place), rng.choice((*NAMES, place[-1] + "s", place[-1].upper()))
        parent[name] = parent.pop(place[-1])


def _nest(document, _, rng):
    if places := list(_places(document)):
        place = rng.choice(places)
        parent = _parent(document, place)
        for _ in range(rng.choice((1, 2, 60))):
            parent[place[-1]] = [parent[place[-1]]] if rng.random() < 0.5 else {"a": parent[place[-1]]}


def _double(lines, rng):
    at = rng.randrange(len(lines))
    return [*lines[: at + 1], *lines[at:]]


def _indent(lines, rng):
    at = rng.randrange(len(lines))
    change = rng.choice((" ", "  ", "\t", "      "))
    moved = change + lines[at] if rng.random() < 0.6 else lines[at].removeprefix("  ")
    return [*lines[:at], moved, *lines[at + 1 :]]


def _insert(lines, rng):
    at = rng.randrange(len(lines))
    return [*lines[:at], rng.choice(LINES), *lines[at:]]


def _cut(lines, rng):
    at = rng.randrange(len(lines))
    line = lines[at]
    return [*lines[:at], line[: rng.randrange(len(line) + 1)], *lines[at + 1 :]]


def _characters(lines, rng):
    at = rng.randrange(len(lines))
    line = lines[at]
    place = rng.randrange(len(line) + 1)
    character = rng.choice("\x00\x07\ufeff\u202eé😀:{}[]\"'&*!|>%@`#,-?\t 0")
    return [*lines[:at], line[:place] + character + line[place + rng.randrange(2) :], *lines[at + 1 :]]
