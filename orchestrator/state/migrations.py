"""What earlier formats of plans and event logs said, in today's words.

Format 1, of plans and of events alike, had one convolutional network, which it called ``cnn``, and one attack of a
single step, from a random start, which it called ``fgsm``. Today these are ``cnn_bn`` and ``fgsm_rs``, and the old
names mean something else. Format 1 trained in float32, today's default is what the device does best.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RENAMED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"model.name": {"cnn": "cnn_bn"}, "adversarial.attack": {"fgsm": "fgsm_rs"}}
)
"""The values that have another name since format 1, by parameter."""

PRECISION = {"precision": "float32"}


def plan_of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's document; its fingerprint stays that of the spec as it was launched.

    Raises:
        ValueError: it is no such document.
    """
    try:
        spec = document["spec"]
        search = {**spec["search"], "points": [point_of_format_1(point) for point in spec["search"]["points"]]}
        space = {**spec["space"], "parameters": _parameters(spec["space"]["parameters"])}
        trial = {**PRECISION, **point_of_format_1(spec["trial"])}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"spec: must be that of a plan of format 1, {type(error).__name__}: {error}") from None
    return {**document, "format": 2, "spec": {**spec, "trial": trial, "search": search, "space": space}}


def event_of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """An event's document; what is wrong with it is told as of any other."""
    point, config = document.get("point"), document.get("config")
    if not (isinstance(point, dict) and isinstance(config, dict)):
        return dict(document)
    return {**document, "point": point_of_format_1(point), "config": config_of_format_1(config)}


def config_of_format_1(config: Mapping[str, Any]) -> dict[str, Any]:
    """The whole flat configuration of a trial.

    >>> config_of_format_1({"model.name": "cnn", "epochs": 9})
    {'precision': 'float32', 'model.name': 'cnn_bn', 'epochs': 9}
    """
    return {**PRECISION, **point_of_format_1(config)}


def point_of_format_1(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point, or a part of one.

    >>> point_of_format_1({"adversarial.attack": "fgsm", "adversarial.epsilon": 0.1})
    {'adversarial.attack': 'fgsm_rs', 'adversarial.epsilon': 0.1}
    """
    return {name: _renamed(value, RENAMED.get(name, {})) for name, value in point.items()}


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a space document: domains, and conditions on what other parameters are."""
    return {
        name: {
            part: point_of_format_1(body) if part == "when" else _renamed(body, RENAMED.get(name, {}))
            for part, body in entry.items()
        }
        for name, entry in parameters.items()
    }


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A value, the options of a domain, or a condition, however it is written."""
    match value:
        case str():
            return names.get(value, value)
        case list():
            return [_renamed(item, names) for item in value]
        case dict():
            return {key: _renamed(item, names) for key, item in value.items()}
        case _:
            return value
