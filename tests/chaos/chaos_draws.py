"""What a seed chooses for a run of chaos: the moment, where the sweep is kept and tracked, the victim, how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moments import Moment

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER, S3 = "folder", "S3"
SQLITE, POSTGRES, SERVER = "SQLite", "PostgreSQL", "MLflow server"
DURING = ("an epoch", "a rung", "a promotion", "the sweep starts")
ALWAYS = (*DURING, "the end")


@dataclass(frozen=True)
class Choices:
    """What a seed chooses from for a fault.

    Args:
        places: Places of moments.
        storages: Where the sweep is kept.
        trackings: Where MLflow's data are.
        lasts_s: Shortest and longest time until the fault is over.
        variants: Ways to do it.
    """

    places: tuple[str, ...] = DURING
    storages: tuple[str, ...] = (FOLDER, S3)
    trackings: tuple[str, ...] = (SQLITE, POSTGRES, SERVER)
    lasts_s: tuple[float, float] = (0.0, 0.0)
    variants: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Draw:
    """One run: ``victim`` is the last number of a node's address."""

    moment: Moment
    storage: str
    tracking: str
    victim: int
    lasts_s: float
    variant: str

    @classmethod
    def of(cls, fault: str, seed: int, choices: Mapping[str, Choices]) -> Draw:
        """Draw the run of a seed; seeds that follow each other take storages, trackings and variants in turn."""
        among, kinds = choices[fault], list(choices)
        place = seed + kinds.index(fault)
        rng = random.Random(f"chaos {fault} {seed}")
        return cls(
            moment=Moment.drawn(fault, seed, kinds=kinds, places=among.places, first=0),
            storage=among.storages[place % len(among.storages)],
            tracking=among.trackings[place // len(among.storages) % len(among.trackings)],
            victim=rng.choice((3, 4)),
            lasts_s=rng.uniform(*among.lasts_s),
            variant=among.variants[seed % len(among.variants)],
        )

    @property
    def about(self) -> dict[str, str]:
        """What is recorded of the run besides its moment."""
        variant = {"variant": self.variant} if self.variant else {}
        lasts = {"lasts_s": f"{self.lasts_s:.1f}"} if self.lasts_s else {}
        return {"storage": self.storage, "tracking": self.tracking, **variant, **lasts}
