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
    `classifier` is the folder of a checkpoint of a classifier of the same data set, which classifies synthetic
    images; None trains a small one.
    """

    generator_lr: Rate = 1e-3
    discriminator_lr: Rate = 1e-3
    beta_1: Annotated[Real, Field(ge=0, lt=1)] = 0.5
    latent_dim: Annotated[int, Field(ge=1)] = 64
    generator_width: Width = 1.0
    discriminator_width: Width = 1.0
    generator_snnl: Weight = 0.0
    discriminator_snnl: Weight = 0.0
    snnl_features: Literal["pixels", "discriminator"] = "pixels"
    snnl_distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    classifier: str | None = None


class GanEvaluationConfig(Frozen):
    """Evaluation after every epoch.

    Entanglement is that of at most `images` real validation images, equally many of each class, and as many
    synthetic images. Use one `distance` for all trials that you compare. Classes are counted in `mode_images`
    synthetic images. A class is covered if it has at least `mode_share` of its images at equal frequencies.
    """

    images: Annotated[int, Field(ge=LEAST_IMAGES)] = 512
    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    mode_images: Annotated[int, Field(ge=1)] = 1024
    mode_share: Annotated[Real, Field(gt=0, le=1)] = 0.2


class GanConfig(FlatConfig):
    """Configuration of one trial: data, networks and evaluation. Everything is computed in float32."""

    trial_kind: ClassVar[str] = "trial of a generative adversarial network"

    data: DataConfig = DataConfig()
    batch_size: Annotated[int, Field(ge=2)] = 64
    epochs: Annotated[int, Field(ge=1)] = 60
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    gan: GanSettings = GanSettings()
    evaluation: GanEvaluationConfig = GanEvaluationConfig()
