"""Space documents of the catalog, as plain data.

`use:` in a space document reads them, and so do the functions of `search_spaces.catalog`, whose docstrings give the
meaning and the source of every range.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

_Document: TypeAlias = Mapping[str, Any]


def _switched(strength: str, domain: _Document, parameters: _Document) -> dict[str, _Document]:
    """Return the entries of a method: its strength, 0 or in a domain, and parameters that exist unless it is 0."""
    existing = {
        name: {**entry, "when": {strength: {"not": 0}, **entry.get("when", {})}} for name, entry in parameters.items()
    }
    return {strength: {"zero_or": domain, "probability": 0.5}, **existing}


def _snnl(weight: _Document) -> _Document:
    return {
        "parameters": _switched(
            "snnl.weight",
            weight,
            {
                "snnl.temperature_mode": {"choice": ["minimised", "relative"]},
                "snnl.temperature": {
                    "float": [0.05, 20.0],
                    "log": True,
                    "when": {"snnl.temperature_mode": ["relative", "absolute"]},
                },
                "snnl.layers": {"choice": ["hidden"]},
                "snnl.distance": {"choice": ["sqeuclidean", "cosine"]},
            },
        )
    }


def _mixup(alpha: _Document, parameters: _Document) -> _Document:
    existing = {**parameters, "mixup.per_sample": {"choice": [False, True]}}
    return {"parameters": _switched("mixup.alpha", alpha, existing)}


def _adversarial(parameters: _Document, *constraints: str) -> _Document:
    existing = {"adversarial.norm": {"fixed": "linf"}, **parameters}
    return {
        "parameters": _switched("adversarial.epsilon", {"float": [0.01, 0.3], "log": True}, existing),
        "constraints": list(constraints),
    }


_GAN_IS_ENTANGLED = {"any": [{"gan.generator_snnl": {"not": 0}}, {"gan.discriminator_snnl": {"not": 0}}]}
# An attack that cannot come from the centre to the edge of its ball is a smaller epsilon under another name.
_REACHES = "adversarial.relative_step * adversarial.steps >= 1"

# Fragments that define the same parameter are alternatives: two of them do not merge.
FRAGMENTS: Mapping[str, _Document] = MappingProxyType(
    {
        "optimizer": {
            "parameters": {
                "optimizer.name": {"choice": ["sgd", "adamw"]},
                "optimizer.lr": {"float": [1e-4, 1.0], "log": True},
                "optimizer.momentum": {"float": [0.5, 0.99], "when": {"optimizer.name": "sgd"}},
                "optimizer.weight_decay": {"float": [1e-5, 1e-2], "log": True},
                "optimizer.schedule": {"choice": ["cosine", "constant"]},
            }
        },
        "sgd": {
            "parameters": {
                "optimizer.name": "sgd",
                "optimizer.lr": {"float": [1e-3, 1.0], "log": True},
                "optimizer.momentum": {"float": [0.8, 0.99]},
                "optimizer.nesterov": {"choice": [False, True]},
                "optimizer.weight_decay": {"float": [1e-5, 5e-3], "log": True},
                "optimizer.schedule": {"choice": ["cosine", "step", "one_cycle"]},
            }
        },
        "adamw": {
            "parameters": {
                "optimizer.name": "adamw",
                "optimizer.lr": {"float": [1e-5, 1e-2], "log": True},
                "optimizer.weight_decay": {"float": [1e-4, 0.3], "log": True},
                "optimizer.schedule": {"choice": ["cosine", "one_cycle", "constant"]},
            }
        },
        "snnl": _snnl({"symlog": [-1.0, 1.0], "gap": 1e-3}),
        "entangle": _snnl({"symlog": [-0.3, -1e-3], "gap": 1e-3}),
        "disentangle": _snnl({"float": [1e-2, 10.0], "log": True}),
        "mixup": _mixup(
            {"float": [0.1, 4.0], "log": True},
            {"mixup.layers": {"choice": ["input", "hidden", "input+hidden"]}},
        ),
        "input_mixup": _mixup(
            {"float": [0.1, 4.0], "log": True},
            {"mixup.layers": {"fixed": "input"}, "mixup.kind": {"choice": ["mixup", "cutmix"]}},
        ),
        "manifold_mixup": _mixup(
            {"float": [0.2, 8.0], "log": True},
            {"mixup.layers": {"choice": ["input+hidden", "hidden"]}, "mixup.detached": {"fixed": False}},
        ),
        "adversarial": _adversarial(
            {
                "adversarial.attack": {"choice": ["fgsm_rs", "pgd"]},
                "adversarial.steps": {"int": [2, 10], "when": {"adversarial.attack": "pgd"}},
                "adversarial.relative_step": {"float": [0.1, 1.5], "log": True},
                "adversarial.clean_fraction": {"float": [0.0, 1.0]},
            }
        ),
        "fgsm_rs": _adversarial(
            {
                "adversarial.attack": {"fixed": "fgsm_rs"},
                "adversarial.relative_step": {"float": [0.5, 1.25]},
                "adversarial.clean_fraction": {"float": [0.0, 0.5]},
                "adversarial.max_robust_drop": {"fixed": 0.2},
            }
        ),
        "pgd": _adversarial(
            {
                "adversarial.attack": {"fixed": "pgd"},
                "adversarial.steps": {"int": [2, 40], "log": True},
                "adversarial.relative_step": {"float": [0.03, 1.0], "log": True},
                "adversarial.clean_fraction": {"float": [0.0, 0.5]},
            },
            _REACHES,
        ),
        "trades": _adversarial(
            {
                "adversarial.attack": {"fixed": "trades"},
                "adversarial.trades_beta": {"float": [0.5, 12.0], "log": True},
                "adversarial.steps": {"int": [2, 40], "log": True},
                "adversarial.relative_step": {"float": [0.03, 1.0], "log": True},
            },
            _REACHES,
        ),
        "n_fgsm": _adversarial(
            {
                "adversarial.attack": {"fixed": "n_fgsm"},
                "adversarial.noise_k": {"float": [0.5, 4.0], "log": True},
                "adversarial.relative_step": {"float": [0.5, 1.5]},
                "adversarial.clean_fraction": {"float": [0.0, 0.5]},
                "adversarial.max_robust_drop": {"fixed": 0.2},
            }
        ),
        "mart": _adversarial(
            {
                "adversarial.attack": {"fixed": "mart"},
                "adversarial.mart_lambda": {"float": [0.5, 12.0], "log": True},
                "adversarial.steps": {"int": [2, 40], "log": True},
                "adversarial.relative_step": {"float": [0.03, 1.0], "log": True},
            },
            _REACHES,
        ),
        "awp": {"parameters": _switched("adversarial.awp_gamma", {"float": [1e-3, 3e-2], "log": True}, {})},
        "sam": {"parameters": _switched("optimizer.sam_rho", {"float": [0.01, 0.5], "log": True}, {})},
        "regularizers": {"use": ["snnl", "mixup", "adversarial"]},
        "gan": {
            "parameters": {
                "gan.generator_lr": {"float": [1e-5, 1e-3], "log": True},
                "gan.discriminator_lr": {"float": [1e-5, 1e-3], "log": True},
                "gan.beta_1": {"float": [0.0, 0.9]},
                "gan.latent_dim": {"choice": [32, 64, 100, 128], "ordered": True},
                "gan.generator_snnl": {"zero_or": {"float": [0.01, 10.0], "log": True}},
                "gan.discriminator_snnl": {"zero_or": {"float": [0.01, 10.0], "log": True}},
                "gan.snnl_features": {"choice": ["pixels", "discriminator"], "when": _GAN_IS_ENTANGLED},
                "gan.snnl_distance": {"choice": ["sqeuclidean", "cosine"], "when": _GAN_IS_ENTANGLED},
            }
        },
        "dropout": {"parameters": {"model.dropout": {"zero_or": {"float": [0.05, 0.7]}, "probability": 0.5}}},
        "rand_augment": {
            "parameters": {
                "data.policy": {"choice": ["none", "rand"]},
                "data.policy_ops": {"int": [1, 3], "when": {"data.policy": "rand"}},
                "data.policy_magnitude": {"int": [1, 30], "when": {"data.policy": "rand"}},
            }
        },
    }
)
