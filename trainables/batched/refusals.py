"""Trials that cannot be batched, and trials that cannot be batched with each other: why, in words.

Batched trials have one network, one data set, one batch size and one precision. Each has its own seed, number of
epochs, variation of images, settings of the optimizer and of the methods, and evaluation.
"""

import json
from collections.abc import Iterator, Mapping

from trainables.config.adversarial import ATTACK_NAMES, PAIRED_ATTACKS
from trainables.config.trial import TrialConfig
from trainables.errors import Problem, short_repr

__all__ = ["OWN_GROUPS", "OWN_NAMES", "program_key", "program_of", "why_not_batched", "why_not_together"]

OWN_GROUPS = ("optimizer.", "snnl.", "mixup.", "adversarial.", "regularizers.", "metrics.", "evaluation.")
"""Groups of parameters that each member has for itself, but for those that `program_of` returns."""
OWN_NAMES = frozenset(
    {
        *("seed", "epochs", "classes_per_batch", "loss.label_smoothing"),
        *("data.crop_padding", "data.flip", "data.rotation", "data.shear", "data.zoom"),
        *("data.policy", "data.policy_ops", "data.policy_magnitude", "data.erasing"),
    }
)
"""Further parameters that each member has for itself."""
_SHARED_OF_GROUPS = frozenset({"optimizer.name"})


def program_of(config: TrialConfig) -> Mapping[str, object]:
    """Return the parameters that batched trials have in common, by name: their network, data, batch and precision.

    >>> one, other = (TrialConfig.from_point({"optimizer.lr": rate, "seed": seed}) for rate, seed in ((0.1, 0), (1, 5)))
    >>> program_of(one) == program_of(other)
    True
    """
    return {name: value for name, value in config.to_point().items() if not _is_own(name)}


def program_key(config: TrialConfig) -> str | None:
    """Return a text that is equal for trials that can be batched with each other; None if this one cannot be batched.

    >>> keys = [program_key(TrialConfig.from_point(point)) for point in ({"seed": 1}, {"batch_size": 64}, {"seed": 2})]
    >>> keys[0] == keys[2], keys[0] == keys[1], program_key(TrialConfig(compile=True))
    (True, False, None)
    """
    return None if why_not_batched(config) else json.dumps(program_of(config), sort_keys=True, default=str)


def why_not_together(one: TrialConfig, other: TrialConfig) -> str | None:
    """Return the parameters in which two trials differ and batched ones must agree, a line for each, or None.

    >>> print(why_not_together(TrialConfig(batch_size=32), TrialConfig(batch_size=64)))
    batch_size: must be that of the other batched trials, 32, got 64
    """
    common, own = program_of(one), program_of(other)
    different = [name for name in {**common, **own} if common.get(name) != own.get(name)]
    pairs = {name: (short_repr(common.get(name)), short_repr(own.get(name))) for name in different}
    problems = [
        Problem(name, f"must be that of the other batched trials, {theirs}, got {mine}")
        for name, (theirs, mine) in pairs.items()
    ]
    return "\n".join(map(str, problems)) or None


def why_not_batched(config: TrialConfig) -> str | None:
    """Return what of a trial cannot be batched, a line for each parameter with its remedy, or None.

    Layers and data are not looked at: nothing is imported or read.

    >>> print(why_not_batched(TrialConfig.from_point({"model.name": "cnn", "model.dropout": 0.5})))
    model.dropout: must be 0 to be batched, as its random numbers come from one stream, got 0.5; train it by itself
    >>> why_not_batched(TrialConfig.from_point({"model.name": "cnn", "snnl.weight": -0.1, "mixup.alpha": 1.0}))
    """
    return "\n".join(f"{problem}; train it by itself" for problem in _problems(config)) or None


def _problems(config: TrialConfig) -> Iterator[Problem]:
    yield from _of_program(config)
    yield from _of_methods(config)


def _of_program(config: TrialConfig) -> Iterator[Problem]:
    model, optimizer = config.model, config.optimizer
    if model.is_own:
        requirement = "must be a network of the package to be batched, whose layers have stacked forms"
        yield Problem("model.name", f"{requirement}, got {short_repr(model.name)}")
    if model.dropout:
        requirement = "must be 0 to be batched, as its random numbers come from one stream"
        yield Problem("model.dropout", f"{requirement}, got {model.dropout:g}")
    if config.compile:
        yield Problem("compile", "must be false to be batched, as the compiled stages are those of one trial, got true")
    if optimizer.is_own:
        requirement = "must be one of the package to be batched"
        yield Problem("optimizer.name", f"{requirement}, got {short_repr(optimizer.name)}")
    if optimizer.sam_rho:
        requirement = "must be 0 to be batched, as a step makes a second pass"
        yield Problem("optimizer.sam_rho", f"{requirement}, got {optimizer.sam_rho:g}")


def _of_methods(config: TrialConfig) -> Iterator[Problem]:
    adversarial, mixup = config.adversarial, config.mixup
    if mixup.is_own:
        yield Problem("mixup.kind", f"must be one of the package to be batched, got {short_repr(mixup.kind)}")
    if mixup.alpha and mixup.detached:
        requirement = "must be false to be batched, as a step then skips the layers before the mixture"
        yield Problem("mixup.detached", f"{requirement}, got true")
    if config.regularizers.by_label:
        labels = ", ".join(config.regularizers.by_label)
        yield Problem("regularizers", f"must be left out to be batched, as such a term sees one model, got {labels}")
    if adversarial.epsilon == 0:
        return
    if adversarial.attack not in ATTACK_NAMES or adversarial.attack in PAIRED_ATTACKS:
        able = ", ".join(name for name in ATTACK_NAMES if name not in PAIRED_ATTACKS)
        requirement = f"must be one of {able} to be batched"
        yield Problem("adversarial.attack", f"{requirement}, got {short_repr(adversarial.attack)}")
    if adversarial.perturbs_weights:
        requirement = "must be 0 to be batched, as a step makes a second pass"
        yield Problem("adversarial.awp_gamma", f"{requirement}, got {adversarial.awp_gamma:g}")


def _is_own(name: str) -> bool:
    return name in OWN_NAMES or (name.startswith(OWN_GROUPS) and name not in _SHARED_OF_GROUPS)
