"""Groups of a trial's configuration, one for each part of training; the attack has a module of its own.

A parameter of a method that is off, or of a choice that is not made (the temperature where it is minimised,
`nesterov` under adamw), is inactive: valid, and without effect.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from trainables.config.adversarial import Epsilon, Norm
from trainables.config.values import Arguments, Epochs, Frozen, Layers, Real, of_own_code
from trainables.errors import short_repr
from trainables.import_paths import name_in

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "LossConfig",
    "MixupConfig",
    "ModelConfig",
    "SnnlConfig",
]

MODEL_NAMES = ("mlp", "cnn", "cnn_bn", "preact_resnet18", "preact_resnet34", "wide_resnet28_10")
MODEL_GROUP = "ravel.models"
MIXUP_NAMES = ("mixup", "cutmix")
MIXUP_GROUP = "ravel.batch_transforms"


DATA_NAMES = (
    *("digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100", "svhn"),
    *("image_folder", "arrays", "huggingface"),
)
DATA_GROUP = "ravel.datasets"
_PART = re.compile(r"([1-9]\d?)/([1-9]\d?)")


def _part_of_a_whole(text: str) -> str:
    match = _PART.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"must be I/N with 1 <= I <= N <= 99, such as 1/2, got {short_repr(text)}")
    return text


class DataConfig(Frozen):
    """Data set, and random variation of its training images.

    A user's own data set, and `torchvision:NAME`, are in `trainables.data.own`. Trials train on `part` of the training
    split, and of that on a `fraction`; both are stratified, and the same for every trial.
    Variation is sampled per image and step, and applied in the order of the fields: a crop, a mirror image, rotation,
    shear and zoom, each uniform up to its value, then the `policy`, and last the erased box.
    """

    name: Annotated[str, name_in(DATA_NAMES, group=DATA_GROUP)] = "digits"
    """Data set, `torchvision:NAME`, or the import path of a user's own."""
    root: str | None = None
    """Folder or file that the set is read from; unused by the embedded digits."""
    download: bool = False
    """Download the set if it is missing."""
    cache: str | None = None
    """Folder in which each set is prepared once per machine; None: `RAVEL_CACHE`, else `~/.cache/ravel`."""
    args: Arguments = Arguments()
    """Arguments of a user's own data set, by name."""
    image_size: Annotated[int, Field(ge=1)] | None = None
    """Side that the images of an image_folder, or of a user's own set, get."""
    fraction: Annotated[Real, Field(gt=0, le=1)] = 1.0
    """Share of the training images that is used, stratified."""
    part: Annotated[str, AfterValidator(_part_of_a_whole)] | None = None
    """Part I/N of the training images, one of N disjoint ones."""
    crop_padding: Annotated[int, Field(ge=0)] = 0
    """Pixels of black around an image before it is cropped to its size at a random place."""
    flip: bool = False
    """Mirror an image with probability 1/2."""
    rotation: Annotated[Real, Field(ge=0, le=180)] = 0.0
    """Largest rotation, in degrees."""
    shear: Annotated[Real, Field(ge=0)] = 0.0
    """Largest shear, in radians."""
    zoom: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Largest zoom z: by a factor from U(1 - z, 1 + z)."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """'trivial' is TrivialAugment (Mueller and Hutter, 2021), 'rand' RandAugment (Cubuk et al., 2020)."""
    policy_ops: Annotated[int, Field(ge=1, le=16)] = 2
    """Operations of RandAugment."""
    policy_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Magnitude of RandAugment, of 30."""
    erasing: Annotated[Real, Field(ge=0, le=1)] = 0.0
    """Probability that a box is erased (Zhong et al., 2020)."""

    @property
    def is_own(self) -> bool:
        """True if the set is that of an import path, or of a name that a package registers.

        >>> DataConfig().is_own, DataConfig(name="pets:Pets").is_own
        (False, True)
        """
        return self.name not in DATA_NAMES


class ModelConfig(Frozen):
    """Network; `width` multiplies the number of units or channels of every hidden layer of those that have a name.

    Users' own networks are in `trainables.models.own`.

    `final_norm`: True if a pre-activation ResNet normalises and rectifies before it pools (Rice et al.,
    2020), False if it pools the last block's sum unchanged (the code of Verma et al., 2019), None where the
    network has no such choice.

    `dropout` is the probability p with which a step zeroes a unit, and scales the others by 1 / (1 - p) (Srivastava
    et al., 2014): after each hidden layer of mlp, on the penultimate activations of cnn, cnn_bn and preact_resnet, and
    between the convolutions of each block of wide_resnet28_10. At 0 no random number is sampled.

    With `sync_batch_norm`, batch normalisation takes its statistics from the whole batch where several workers train
    the trial, as one worker does; without, each of them from its share. It has no effect in a trial with one worker.
    """

    name: Annotated[str, name_in(MODEL_NAMES, group=MODEL_GROUP)] = "cnn_bn"
    """Network: one of the package, `torchvision:NAME`, `timm:NAME`, or the import path of a user's own."""
    args: Arguments = Arguments()
    """Arguments of a user's own network, by name."""
    width: Annotated[Real, Field(gt=0)] = 1.0
    """Factor of the units or channels of every hidden layer, for networks of the package."""
    final_norm: bool | None = None
    """True if a pre-activation ResNet normalises before it pools, False if not; None for other networks."""
    normalize: bool = True
    """Standardise images by the training images' mean and deviation; else the network gets [0, 1]."""
    # Absent where they are not set, so that configurations are what they were before them.
    dropout: Annotated[Real, Field(ge=0, lt=1, exclude_if=lambda value: value == 0)] = 0.0
    """Share of the features that are dropped in training; 0 drops none."""
    sync_batch_norm: Annotated[bool | None, Field(exclude_if=lambda value: value is None)] = None
    """Take batch statistics from the whole batch, if several workers train the trial."""

    @property
    def is_own(self) -> bool:
        """True if the network is not one of this package.

        >>> ModelConfig().is_own, ModelConfig(name="nets:SmallNet").is_own
        (False, True)
        """
        return self.name not in MODEL_NAMES

    @field_validator("args")
    @classmethod
    def _takes_arguments(cls, args: Arguments, info: ValidationInfo) -> Arguments:
        return of_own_code(args, info.data.get("name"), MODEL_NAMES)

    @field_validator("width", "final_norm", "dropout")
    @classmethod
    def _is_of_this_package(cls, value: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("name")
        usual = value == {"width": 1, "final_norm": None, "dropout": 0}[info.field_name or ""]
        if name is not None and name not in MODEL_NAMES and not usual:
            raise ValueError(f"must be left out for {short_repr(name)}, got {value}; its parameters are model.args.*")
        return value


class LossConfig(Frozen):
    """Classification term of the loss.

    'binary_cross_entropy' is that of softmax outputs, averaged over images and classes: the loss in the code
    of Verma et al. (2019), kept for fidelity. Its gradient is about 1 / (K - 1) of the other's.
    """

    name: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """'binary_cross_entropy' is that of the code of Verma et al. (2019)."""
    label_smoothing: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""


class SnnlConfig(Frozen):
    """Soft nearest neighbour loss: off at weight 0; a negative weight entangles the classes.

    `temperature` is in units of the batch's median pairwise distance when relative, of the squared
    (or cosine) distance when absolute; unused when minimised (over each batch) or learned (kept per
    layer and moved towards the minimum at every step). `layers`: taps joined by '+', or 'hidden' (all
    but penultimate and logits), or 'all'. With `on_mixed`, and mixup on, the soft-label form is taken
    on the mixed activations; otherwise the hard-label form is taken on activations of a separate pass.

    `penalty`: the term that is added at these layers with this weight. Two of them are controls without a
    temperature (see `snnl.controls`): 'class_mean', the limit of the loss at a high temperature, in medians of
    the distance, and 'activation_l2', the mean squared length of the activations.
    """

    weight: Real = 0.0
    """Strength; below 0 entangles classes, above 0 separates them, 0 is off."""
    temperature: Annotated[Real, Field(gt=0)] = 1.0
    """Temperature where it is 'relative' or 'absolute'."""
    temperature_mode: Literal["minimised", "learned", "relative", "absolute"] = "minimised"
    """'minimised' over each batch, 'learned' for each layer, or given."""
    layers: Layers = "hidden"
    """Taps joined by '+', or 'hidden' (all but penultimate and logits), or 'all'."""
    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    """Distance between activations."""
    on_mixed: bool = False
    """With mixup, take the soft-label form on mixed activations, rather than a pass of unmixed images."""
    penalty: Literal["soft_nearest_neighbor", "class_mean", "activation_l2"] = "soft_nearest_neighbor"
    """Term: the loss itself, or one of two controls without a temperature."""


class MixupConfig(Frozen):
    """Mixup: off at alpha 0; `layers` are boundaries joined by '+', 'input', 'hidden' or 'all'.

    'cutmix' (Yun et al., 2019) pastes a box instead of blending, at the input only. `detached` stops the
    gradient at the mixture, so that the layers before it are not updated in that step: the ablation of
    Verma et al., section 5.1. `kind` may be the import path of a user's own function, whose arguments are `args`
    (see `trainables.regularizers.batch_transforms`).
    """

    kind: Annotated[str, name_in(MIXUP_NAMES, group=MIXUP_GROUP)] = "mixup"
    """'mixup', 'cutmix' (at the input only), or the import path of a user's own function."""
    args: Arguments = Arguments()
    """Arguments of a user's own function, by name."""
    alpha: Annotated[Real, Field(ge=0)] = 0.0
    """Strength: the share of the other image is Beta(alpha, alpha); 0 is off."""
    layers: Layers = "input"
    """Boundaries to mix at, joined by '+', or 'input', 'hidden' or 'all'; above 'input' it is manifold mixup."""
    per_sample: bool = False
    """A share for each image, rather than one for a batch."""
    detached: bool = False
    """Stop the gradient at the mixture (Verma et al., section 5.1)."""

    @property
    def is_own(self) -> bool:
        """True if the mixture is that of a user's own function.

        >>> MixupConfig(kind="cutmix").is_own, MixupConfig(kind="mixing:resize_mix").is_own
        (False, True)
        """
        return self.kind not in MIXUP_NAMES

    @field_validator("args")
    @classmethod
    def _takes_arguments(cls, args: Arguments, info: ValidationInfo) -> Arguments:
        return of_own_code(args, info.data.get("kind"), MIXUP_NAMES)

    @field_validator("per_sample", "detached")
    @classmethod
    def _is_of_this_package(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        kind = info.data.get("kind")
        if value and kind is not None and kind not in MIXUP_NAMES:
            raise ValueError(f"must be false for {short_repr(kind)}, got true; its parameters are mixup.args.*")
        return value


class EvaluationConfig(Frozen):
    """Evaluation on the validation split.

    Robust accuracy and entanglement are measured after the last epoch and after `epochs`;
    `robust_epsilon` 0 switches robust accuracy off.
    """

    robust_norm: Norm = "linf"
    """Norm of the attack behind `val/robust_accuracy`."""
    robust_epsilon: Epsilon = 0.1
    """Its radius; 0 measures no robust accuracy."""
    robust_steps: Annotated[int, Field(ge=1)] = 10
    """Its steps."""
    robust_images: Annotated[int, Field(ge=1)] = 256
    """Validation images that it attacks."""
    epochs: Epochs = ()
    """Epochs after which robust accuracy and entanglement are measured, besides the last one."""
