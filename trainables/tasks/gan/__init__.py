"""A small DCGAN with the soft nearest neighbour loss between real and synthetic images.

Real images are one class, synthetic ones the other (Frosst, Papernot and Hinton, ICML 2019): high entanglement,
up to chance, is what a good generator looks like. As a term of the objective the generator raises it and the
discriminator lowers it in its features; as a metric it says how near the synthetic images came.

    config      the whole validated description of one trial
    networks    generator and discriminator
    step        one step of both networks, on one page
    streams     the random streams that training consumes
    classifier  the network that says which class a synthetic image shows
    measures    entanglement of real and synthetic images, and classes covered
    figures     both as figures
    run         one trial in progress

Importing this package imports no torch; what it exports is fetched on first use (PEP 562).

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
