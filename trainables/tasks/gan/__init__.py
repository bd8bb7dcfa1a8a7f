"""Task of a generative adversarial network: a small DCGAN with the soft nearest neighbour loss.

Real images are one class, synthetic images the other (Frosst, Papernot and Hinton, ICML 2019). High entanglement,
up to chance, means a good generator. As a term of the objective, the generator raises it and the discriminator
lowers it in its features. As a metric, it measures the distance between synthetic and real images.

    config          the complete validated configuration of one trial
    networks        generator and discriminator
    step            one step of both networks
    streams         the random streams of training
    classifier      the network that classifies synthetic images
    measures        entanglement of real and synthetic images, and classes covered
    feature_space   the same comparison in the classifier's features
    figures         entanglement and images as figures
    run             one trial in progress

Importing this package imports no torch; its exports are imported on first use (PEP 562).

>>> from trainables.tasks.gan import GanConfig
>>> GanConfig().gan.latent_dim
64
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.tasks.gan.config import GanConfig
    from trainables.tasks.gan.run import GanResult, GanRun, load_generator, train_gan

__all__ = ["GanConfig", "GanResult", "GanRun", "load_generator", "train_gan"]

_HOME = {
    "GanConfig": "trainables.tasks.gan.config",
    **dict.fromkeys(("GanResult", "GanRun", "load_generator", "train_gan"), "trainables.tasks.gan.run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(
            f"module 'trainables.tasks.gan' has no attribute {name!r}; it exports {', '.join(__all__)}"
        )
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
