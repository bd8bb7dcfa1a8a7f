"""Search spaces of regularizers as plain data: fragments that `use:` in the space of a sweep reads by name.

The attribute `space` of a regularizer's class has a domain, as in a space document, for `weight` where it is on, and
for arguments, by their own names, in conditions too:

    space: ClassVar = {
        "weight": {"float": [1e-4, 0.1], "log": True},
        "rate": {"float": [0.1, 0.9]},
    }

The fragment switches it: the weight is 0 or in its domain, and arguments exist unless it is 0.
"""

from collections.abc import Collection, Mapping
from typing import Any

from trainables.config.regularizers import GROUP, NAMES, REGISTRY, RegularizerConfig
from trainables.import_paths import registered

__all__ = ["fragment", "with_fragments"]


def fragment(use: str, *, label: str) -> dict[str, Any]:
    """Return the space document of a regularizer under a label; imports its class.

    Raises:
        ConfigError: it cannot be imported.

    >>> document = fragment("snnl", label="late")
    >>> document["parameters"]["regularizers.late.temperature"]["when"]["regularizers.late.weight"]
    {'not': 0}
    """
    from trainables.regularizers.user_terms import class_of, needs_of  # noqa: PLC0415  imports torch

    target = class_of(label, RegularizerConfig(use=use))
    space: Mapping[str, Any] = getattr(target, "space", {})
    prefix, passes = f"{GROUP}.{label}", needs_of(target).passes
    parameters: dict[str, Any] = {f"{prefix}.use": {"fixed": use}}
    if passes:
        parameters[f"{prefix}.passes"] = {"fixed": passes}
    if "weight" in space:
        parameters[f"{prefix}.weight"] = {"zero_or": space["weight"], "probability": 0.5}
    for name, entry in space.items():
        if name != "weight":
            when = {f"{prefix}.{parent}": condition for parent, condition in entry.get("when", {}).items()}
            on = {f"{prefix}.weight": {"not": 0}} if "weight" in space else {}
            parameters[f"{prefix}.{name}"] = {**entry, "when": {**on, **when}}
    return {"parameters": parameters}


def with_fragments(document: Any, *, catalog: Collection[str]) -> Any:
    """Return a space document with the regularizers that `use:` names, each labelled by its name, written out.

    A name that the catalog of search spaces has is the catalog's. Entries of the document replace those of a fragment
    and keep its conditions, unless they have a `when` of their own.

    Raises:
        ConfigError: a regularizer cannot be imported.

    >>> document = with_fragments({"use": ["mixup", "class_mean"]}, catalog=["mixup"])
    >>> document["use"], list(document["parameters"])[0]
    (['mixup'], 'regularizers.class_mean.use')
    """
    if not isinstance(document, Mapping) or not isinstance(names := document.get("use"), list):
        return document
    texts = [name for name in names if isinstance(name, str)]
    ours = [name for name in texts if name not in catalog and (name in NAMES or name in registered(REGISTRY))]
    entries = document.get("parameters", {})
    if not ours or not isinstance(entries, Mapping):
        return document
    parameters: dict[str, Any] = {}
    for name in ours:
        parameters |= fragment(name, label=name)["parameters"]
    for name, entry in entries.items():
        parameters[name] = _with_condition(entry, parameters.get(name, {}).get("when"))
    return {**document, "use": [name for name in names if name not in ours], "parameters": parameters}


def _with_condition(entry: object, when: object) -> object:
    if when is None or (isinstance(entry, Mapping) and "when" in entry):
        return entry
    return {**(entry if isinstance(entry, Mapping) else {"fixed": entry}), "when": when}
