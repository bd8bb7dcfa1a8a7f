"""Check of a regularizer, for its author's tests."""

from collections.abc import Mapping
from typing import Any

from trainables.config.regularizers import RegularizerConfig
from trainables.config.trial import TrialConfig
from trainables.regularizers.preflight_checks import check_arguments, check_regularizers
from trainables.regularizers.user_terms import class_of, needs_of
from trainables.testing.trials import SMALL, Trained, check_resumed, train

__all__ = ["check_regularizer"]

LABEL = "checked"


def check_regularizer(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    weight: float = 0.01,
    layers: str | None = None,
    seed: int = 0,
    trial: Mapping[str, Any] | None = None,
) -> list[Mapping[str, float]]:
    """Check a regularizer, and return the metrics of the epochs of a short trial; its own are below `train/checked`.

    Its arguments fit its signature; its value is a number with a gradient that reaches the network; weight 0 changes
    no bit of a trial, and `weight` does; its value and its metrics are reported; it trains under mixup, on unmixed
    images and, if it takes soft labels (`needs.soft_labels`), on the mixture, and under adversarial training; and a
    trial that is interrupted has the same memory and ends in the same bits.

    Args:
        name: its import path, `module:Class`, or any other name that `regularizers.LABEL.use` takes.
        arguments: values of its own arguments, by name.
        weight: its weight in the loss.
        layers: the taps that it reads; None for its own choice.
        seed: of the trials.
        trial: further parameters of the trials, such as `model.name`.

    Raises:
        ConfigError: it cannot be imported or built, or returns no term.
        AssertionError: it breaks one of the other rules.
    """
    use: dict[str, Any] = {"use": name, "layers": layers, **(arguments or {})}
    needs = needs_of(class_of(LABEL, RegularizerConfig(use=name)))
    use |= {"passes": getattr(needs, "passes", 0), "weight": weight}
    plain = {"seed": seed, **(trial or {})}
    point = {**plain, **{f"regularizers.{LABEL}.{key}": value for key, value in use.items()}}
    config = TrialConfig.from_point({**SMALL, **point})
    check_arguments(config)
    check_regularizers(config)
    whole, without = train(name, point), train(name, plain)
    off = train(name, {**point, f"regularizers.{LABEL}.weight": 0.0})
    _check_weight(whole, without, off, name, weight=weight, arguments=arguments or {})
    _check_reported(whole, name)
    check_resumed(name, point, whole)
    on_mixed = {f"regularizers.{LABEL}.on_mixed": True}
    for further in ({"mixup.alpha": 1.0}, {"mixup.alpha": 1.0, **on_mixed}, {"adversarial.epsilon": 0.05}):
        if needs.soft_labels or not on_mixed.keys() & further.keys():
            _check_reported(train(f"{name} with {', '.join(further)}", {**point, "epochs": 1, **further}), name)
    return list(whole.metrics)


def _check_weight(
    whole: Trained, without: Trained, off: Trained, name: str, *, weight: float, arguments: Mapping[str, Any]
) -> None:
    if not off.equals(without):
        raise AssertionError(f"{name}: at weight 0 a trial ends in other bits than without it; change nothing global")
    if whole.equals(without):
        values = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "its defaults"
        remedy = f"raise the weight, or change its arguments ({values}), as its gradient may be 0 with these"
        raise AssertionError(f"{name}: at weight {weight:g} a trial ends in the same bits as without it; {remedy}")


def _check_reported(trained: Trained, name: str) -> None:
    for epoch, metrics in enumerate(trained.metrics, start=1):
        if f"train/{LABEL}" not in metrics:
            raise AssertionError(f"{name}: epoch {epoch} has no value train/{LABEL}")
