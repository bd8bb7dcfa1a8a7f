"""Complete validated configuration of one trial.

It is frozen and strict: a numpy scalar, a string for a number or NaN is an error; an int is accepted for a float.
A *point* is the same configuration as flat dotted names, the form that search spaces, Ray Tune and MLflow share.

>>> config = TrialConfig.from_point({"model.name": "mlp", "optimizer.lr": 0.1, "snnl.weight": None})
>>> config.optimizer.lr, config.snnl.weight
(0.1, 0.0)
>>> TrialConfig.from_point(config.to_point()) == config
True
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.config.adversarial import ATTACK_NAMES, AdversarialConfig
from trainables.config.optimizer import OptimizerConfig
from trainables.config.own_metrics import OwnMetrics
from trainables.config.points import FlatConfig
from trainables.config.regularizers import Regularizers
from trainables.config.sections import DataConfig, EvaluationConfig, LossConfig, MixupConfig, ModelConfig, SnnlConfig
from trainables.errors import short_repr

__all__ = [
    "PLACE",
    "AdversarialConfig",
    "DataConfig",
    "EvaluationConfig",
    "LossConfig",
    "MixupConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SnnlConfig",
    "TrialConfig",
]

# The place and the speed of a trial, not its result: these may differ when it is resumed.
PLACE = frozenset({"data.root", "data.download", "data.cache", "device", "compile"})


class TrialConfig(FlatConfig):
    """Configuration of one trial: data, model, optimizer, the three methods, other regularizers, and evaluation.

    A batch has `batch_size` random images, or with `classes_per_batch` equally many images of each of so many
    classes. `precision` 'auto' is bfloat16 autocast where the device computes in it (attacks and SNNL
    stay in float32), float32 elsewhere. `compile` compiles the model's stages with torch.compile.
    """

    data: DataConfig = DataConfig()
    """Data set, and variation of its training images."""
    model: ModelConfig = ModelConfig()
    """Network."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and learning rate."""
    loss: LossConfig = LossConfig()
    """Classification term of the loss."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images of a batch."""
    classes_per_batch: Annotated[int, Field(ge=1)] | None = None
    """Classes of a batch, with equally many images of each; None: random images."""
    epochs: Annotated[int, Field(ge=1)] = 27
    """Epochs of a full run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, of the order of images and of all else that is random."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device: 'auto' is the first GPU, or the CPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic: 'auto' is bfloat16 autocast where the device computes in it, else float32."""
    compile: bool = False
    """Compile the network's stages with torch.compile."""
    snnl: SnnlConfig = SnnlConfig()
    """Soft nearest neighbour loss."""
    mixup: MixupConfig = MixupConfig()
    """Mixup."""
    adversarial: AdversarialConfig = AdversarialConfig()
    """Adversarial training."""
    regularizers: Regularizers = Regularizers()
    """Further terms of the loss, by label."""
    metrics: OwnMetrics = OwnMetrics()
    """A user's own metrics, by label."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation on the validation split."""

    @property
    def has_user_terms(self) -> bool:
        """True if a step runs a user's code besides the network: a regularizer, attack, mixture or optimizer."""
        own = self.optimizer.is_own, self.mixup.is_own, self.adversarial.attack not in ATTACK_NAMES
        return bool(self.regularizers.by_label) or any(own)

    @model_validator(mode="after")
    def _check_across_groups(self) -> Self:
        """Check requirements across groups; the message begins with the parameter to change."""
        if self.optimizer.schedule != "one_cycle" and self.optimizer.warmup_epochs >= self.epochs:
            got = short_repr(self.optimizer.warmup_epochs)
            raise ValueError(f"optimizer.warmup_epochs: must be < epochs ({self.epochs}), got {got}")
        if self.classes_per_batch is not None and not _at_least_pairs(self.batch_size, self.classes_per_batch):
            raise ValueError(
                f"classes_per_batch: must divide batch_size ({self.batch_size}) into at least 2 images of each, "
                f"got {self.classes_per_batch}"
            )
        if self.compile and self.model.is_own:
            raise ValueError(f"compile: must be false for {short_repr(self.model.name)}; compile within that network")
        if self.compile and self.model.sync_batch_norm:
            raise ValueError("compile: must be false with model.sync_batch_norm, whose workers talk in each layer")
        if self.mixup.alpha > 0 and self.mixup.kind == "cutmix" and self.mixup.layers != "input":
            raise ValueError(f"mixup.layers: must be 'input' for cutmix, got {short_repr(self.mixup.layers)}")
        if self.adversarial.epsilon > 0:
            self._check_attack()
        return self

    def _check_attack(self) -> None:
        """Check requirements of an attack that is on."""
        attack, loss, alpha = self.adversarial.attack, self.loss, self.mixup.alpha
        if attack == "n_fgsm" and self.adversarial.norm != "linf":
            raise ValueError("adversarial.norm: must be 'linf' for n_fgsm, which is defined there alone, got 'l2'")
        if attack == "mart" and loss.label_smoothing:
            raise ValueError(f"loss.label_smoothing: must be 0 for mart, {_OWN_LOSS}, got {loss.label_smoothing:g}")
        if attack == "mart" and loss.name != "cross_entropy":
            raise ValueError(f"loss.name: must be 'cross_entropy' for mart, {_OWN_LOSS}, got {short_repr(loss.name)}")
        if attack == "mart" and alpha:
            raise ValueError(f"mixup.alpha: must be 0 for mart, {_OWN_LOSS}, got {alpha:g}")
        if self.adversarial.awp_gamma and self.optimizer.sam_rho:
            reason = "as a step moves the weights for one of them"
            raise ValueError(
                f"optimizer.sam_rho: must be 0 with adversarial.awp_gamma, {reason}, got {self.optimizer.sam_rho:g}"
            )


_OWN_LOSS = "whose own loss takes images with one label each"


def _at_least_pairs(batch_size: int, classes: int) -> bool:
    return batch_size % classes == 0 and batch_size // classes >= 2
