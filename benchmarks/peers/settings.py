"""What every peer of a run is given, in a JSON file that its script gets as its argument."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Settings:
    """Work of a run: points, rungs (epochs, the last of them the whole training), seed, slots; and its places.

    `space` has the lowest and the highest value of each parameter, and whether it is searched by its logarithm.
    """

    work: str
    points: Sequence[Mapping[str, float]]
    space: Mapping[str, Mapping[str, Any]]
    rungs: Sequence[int]
    seed: int
    slots: int
    batch_size: int
    data_root: str
    split: str
    folder: str
    tracking_uri: str

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the settings from a file."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    def write(self) -> Path:
        """Write the settings into their folder, and return the file."""
        path = Path(self.folder, "settings.json")
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    @property
    def epochs(self) -> int:
        """Epochs of a trial that is never stopped."""
        return self.rungs[-1]

    @property
    def factor(self) -> int:
        """Factor from one rung to the next."""
        return self.rungs[1] // self.rungs[0]

    @property
    def reports(self) -> Path:
        """File with a line for each epoch of each trial."""
        return Path(self.folder, "reports.jsonl")

    def report(self, trial: int, epoch: int, accuracy: float) -> None:
        """Append what an epoch measured, in one write, as several processes do so."""
        line = json.dumps({"time": time.time(), "trial": trial, "epoch": epoch, "accuracy": accuracy}) + "\n"
        file = os.open(self.reports, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
