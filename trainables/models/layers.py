"""Resolution of a layers string ('conv1+conv2', 'hidden') to the names of one model."""

from collections.abc import Mapping, Sequence

from trainables.errors import ConfigError, Problem, short_repr, suggestion
from trainables.models.staged import INPUT, LOGITS, PENULTIMATE, StagedClassifier

__all__ = ["resolve_boundaries", "resolve_taps"]


def resolve_taps(spec: str, model: StagedClassifier) -> tuple[str, ...]:
    """Return taps in the model's order: 'all', 'hidden' (all but penultimate and logits), or names joined by '+'.

    Raises:
        ConfigError: unknown names, under the path snnl.layers.
    """
    hidden = [tap for tap in model.taps if tap not in {PENULTIMATE, LOGITS}]
    groups = {"all": model.taps, "hidden": hidden}
    return _resolve(spec, model.taps, groups=groups, path="snnl.layers")


def resolve_boundaries(spec: str, model: StagedClassifier) -> tuple[str, ...]:
    """Return boundaries in the model's order: 'all', 'hidden' (all but the input), or names joined by '+'.

    Raises:
        ConfigError: unknown names, under the path mixup.layers.
    """
    hidden = [boundary for boundary in model.boundaries if boundary != INPUT]
    groups = {"all": model.boundaries, "hidden": hidden}
    return _resolve(spec, model.boundaries, groups=groups, path="mixup.layers")


def _resolve(spec: str, names: Sequence[str], *, groups: Mapping[str, Sequence[str]], path: str) -> tuple[str, ...]:
    parts = spec.split("+")
    unknown = [part for part in parts if part not in names and part not in groups]
    if unknown:
        valid = [*groups, *names]
        raise ConfigError(
            Problem(path, f"{short_repr(part)} is no layer of this model; {suggestion(part, valid)}")
            for part in unknown
        )
    chosen = {name for part in parts for name in groups.get(part, (part,))}
    return tuple(name for name in names if name in chosen)
