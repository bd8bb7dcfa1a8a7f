"""Complete validated configuration of one trial of a generative adversarial network.

As `trainables.config.trial.TrialConfig`, it is frozen and strict, and a *point* is the same configuration as flat
dotted names.

>>> config = GanConfig.from_point({"gan.generator_snnl": 0.3, "epochs": 5, "gan.discriminator_snnl": None})
>>> config.gan.generator_snnl, config.gan.discriminator_snnl
(0.3, 0.0)
>>> GanConfig.from_point(config.to_point()) == config
True
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainables.config.points import FlatConfig
from trainables.config.sections import DataConfig
from trainables.config.values import Frozen, Real

__all__ = ["LEAST_IMAGES", "GanConfig", "GanEvaluationConfig", "GanSettings"]

LEAST_IMAGES = 32
"""Fewest images of each kind that are compared: the standard error of a 1-NN accuracy is then 0.06."""

Rate = Annotated[Real, Field(gt=0)]
Weight = Annotated[Real, Field(ge=0)]
Width = Annotated[Real, Field(gt=0)]


class GanSettings(Frozen):
    """Both networks, their optimizers, and the soft nearest neighbour loss between real and synthetic images.

    `beta_1` is Adam's decay of the first moment for both. The widths multiply the channels of every layer.
    With the weight `generator_snnl` the generator raises the entanglement of real and synthetic images, in pixels
    or in the discriminator's features (`snnl_features`); with `discriminator_snnl` the discriminator lowers it
    in its features, whatever `snnl_features` is, because it cannot move pixels. Both are off at 0.
    The `snnl_penalty` 'class_mean' is the limit of the loss at a high temperature, for a control: it sees the distance
    between the means of real and synthetic images, and no neighbours.
    `classifier` is the folder of a checkpoint of a classifier of the same data set, which classifies synthetic
    images; None trains a small one.
    """

    generator_lr: Rate = 1e-3
    """Learning rate of the generator."""
    discriminator_lr: Rate = 1e-3
    """Learning rate of the discriminator."""
    beta_1: Annotated[Real, Field(ge=0, lt=1)] = 0.5
    """Adam's decay of the first moment, for both networks."""
    latent_dim: Annotated[int, Field(ge=1)] = 64
    """Numbers that the generator makes an image of."""
    generator_width: Width = 1.0
    """Factor of the channels of the generator."""
    discriminator_width: Width = 1.0
    """Factor of the channels of the discriminator."""
    generator_snnl: Weight = 0.0
    """Weight with which the generator raises the entanglement of real and synthetic images; 0 is off."""
    discriminator_snnl: Weight = 0.0
    """Weight with which the discriminator lowers it in its features; 0 is off."""
    snnl_features: Literal["pixels", "discriminator"] = "pixels"
    """What the generator entangles: pixels, or the discriminator's features."""
    snnl_distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    """Distance of both terms."""
    # Absent where it is not set, so that configurations are what they were before it.
    snnl_penalty: Annotated[
        Literal["soft_nearest_neighbor", "class_mean"], Field(exclude_if=lambda value: value == "soft_nearest_neighbor")
    ] = "soft_nearest_neighbor"
    """Term of both weights: the loss itself, or 'class_mean', a control that sees the means alone."""
    classifier: str | None = None
    """Checkpoint folder of a classifier that classifies synthetic images; None trains a small one."""


class GanEvaluationConfig(Frozen):
    """Evaluation after every epoch.

    Entanglement is that of at most `images` real validation images, equally many of each class, and as many
    synthetic images. Use one `distance` for all trials that you compare. Classes are counted in `mode_images`
    synthetic images. A class is covered if it has at least `mode_share` of its images at equal frequencies.
    With the `feature_space` 'classifier' the same images are also compared in the penultimate features of the
    classifier that counts the classes (`val/feature_...`, `val/manifold_...`).
    """

    images: Annotated[int, Field(ge=LEAST_IMAGES)] = 512
    """Real validation images that are compared with as many synthetic ones, at most."""
    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    """Distance of the comparison: one for all trials that you compare."""
    mode_images: Annotated[int, Field(ge=1)] = 1024
    """Synthetic images whose classes are counted."""
    mode_share: Annotated[Real, Field(gt=0, le=1)] = 0.2
    """Share of its images at equal frequencies with which a class is covered."""
    # Absent where it is not set, so that configurations are what they were before it.
    feature_space: Annotated[Literal["classifier"] | None, Field(exclude_if=lambda value: value is None)] = None
    """'classifier': compare in the penultimate features of the classifier, too; None: in pixels alone."""


class GanConfig(FlatConfig):
    """Configuration of one trial: data, networks and evaluation. Everything is computed in float32."""

    trial_kind: ClassVar[str] = "trial of a generative adversarial network"

    data: DataConfig = DataConfig()
    """Data set."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images of a batch."""
    epochs: Annotated[int, Field(ge=1)] = 60
    """Epochs of a full run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all that is random."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device: 'auto' is the first GPU, or the CPU."""
    gan: GanSettings = GanSettings()
    """Networks, optimizers, and the soft nearest neighbour loss."""
    evaluation: GanEvaluationConfig = GanEvaluationConfig()
    """Evaluation after every epoch."""
