"""Networks of the tables of Szegedy et al. (2014), by name."""

from collections.abc import Mapping
from typing import Any

from fully_connected import point_of

Point = Mapping[str, Any]


def networks(settings: Mapping[str, Any]) -> dict[str, Point]:
    """Return the networks of table 2 by name; the autoencoder is left out."""
    own, further = _common(settings), settings["deep_settings"]
    softmax, deep = settings["softmax_epochs"], settings["deep_epochs"]
    return {
        **{
            f"FC10({decay})": point_of((), decay=weight, epochs=softmax, settings=own)
            for decay, weight in (("1e-4", 2e-5), ("1e-2", 2e-3), ("1", 0.2))
        },
        **{
            f"FC{size}-{size}-10": point_of((size, size), decay=weight, epochs=deep, settings=own | further)
            for size, weight in ((100, 2e-7), (200, 1e-7))
            if size in settings["deep"]
        },
    }


def halves(settings: Mapping[str, Any]) -> dict[str, Point]:
    """Return the networks of table 4, and a second FC100-100-10 of the first half, which the paper has not.

    Its initial weights and order of images are those of another seed, as FC100'(P2) has, so that the two differ in
    the training images alone.
    """
    own, epochs = _common(settings) | settings["deep_settings"], settings["halves_epochs"]
    other = {**own, "seed": own["seed"] + 1000}
    first, second = {"data.part": "1/2"}, {"data.part": "2/2"}
    return {
        "FC100(P1)": point_of((100, 100), decay=2e-7, epochs=epochs, settings=own | first),
        "FC123(P1)": point_of((123, 456), decay=2e-7, epochs=epochs, settings=own | first),
        "FC100'(P1)": point_of((100, 100), decay=2e-7, epochs=epochs, settings=other | first),
        "FC100'(P2)": point_of((100, 100), decay=2e-7, epochs=epochs, settings=other | second),
    }


def stability_networks(settings: Mapping[str, Any]) -> dict[str, Point]:
    """Return the networks whose norms are measured: those of table 2, and a small convolutional one."""
    convolutional = {
        **point_of((), decay=1e-4, epochs=settings["convolutional_epochs"], settings=_common(settings)),
        "model.name": "cnn",
        "model.width": 0.25,
        "optimizer.lr": 0.05,
    }
    del convolutional["model.args.hidden"]
    return {**networks(settings), "CNN": convolutional}


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"data.name": settings["data"], "batch_size": settings["batch"], "seed": settings["seed"]}
