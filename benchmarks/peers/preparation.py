"""Inputs of a run, made before its clock starts: images, their split, the database of MLflow, settings."""

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import Size
from settings import Settings

from trainables.data.splits import Split, partition

sys.path.insert(0, str(Path(__file__).parents[1] / "scheduling"))

from images import subset  # after the folder that it is in

BATCH_SIZE = 128
SLOTS = 2
POINTS = Path(__file__).with_name("points.json")
EXPERIMENT = "peers"
DATABASE = f"""
import sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("{EXPERIMENT}")
"""


def prepare_images(folder: Path, *, data_root: Path, size: Size) -> None:
    """Make the images of a size, and their split into training and validation, which all runs share."""
    subset(data_root, folder / "data", data="mnist", images=size.images + size.images // 5, skip=0)
    split = split_of(folder / "data" / "MNIST" / "raw")
    if len(split["train"]) != size.images:
        raise SystemExit(f"--images: must leave {size.images} for training, got {len(split['train'])}; try 12000")
    (folder / "split.json").write_text(json.dumps(split) + "\n", encoding="utf-8")


def prepare_database(folder: Path) -> None:
    """Make the database of MLflow, of which each run has a copy."""
    subprocess.run([sys.executable, "-c", DATABASE, uri_of(folder)], cwd=folder, check=True)  # noqa: S603


def uri_of(folder: Path) -> str:
    """Return the address of the database of MLflow in a folder."""
    return f"sqlite:///{folder}/mlflow.db"


def prepare_run(shared: Path, folder: Path, *, work: str, size: Size, seed: int) -> Settings:
    """Make the folder of a run: its settings, and a fresh copy of MLflow's database."""
    settings = settings_of(shared, folder, work=work, size=size, seed=seed)
    folder.mkdir()
    shutil.copy(shared / "mlflow.db", folder)
    settings.write()
    return settings


def settings_of(shared: Path, folder: Path, *, work: str, size: Size, seed: int) -> Settings:
    """Return the settings of a run in a folder, with the images of another one."""
    document = json.loads(POINTS.read_text(encoding="utf-8"))[work]
    return Settings(
        work=work,
        points=document["points"][: size.points],
        space=document["space"],
        rungs=size.rungs,
        seed=seed,
        slots=SLOTS,
        batch_size=BATCH_SIZE,
        data_root=str(shared / "data"),
        split=str(shared / "split.json"),
        folder=str(folder),
        tracking_uri=uri_of(folder),
    )


def split_of(raw: Path) -> dict[str, list[int]]:
    """Return the places of training and validation images in MNIST's training file, by Ravel's rule (5 to 1)."""
    images = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    whole = Split(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))
    places = defaultdict[Any, list[int]](list)
    for place, key in enumerate(_keys(whole)):
        places[key].append(place)
    train, val = ([places[key].pop(0) for key in _keys(part)] for part in partition(whole, (5 / 6,)))
    return {"train": sorted(train), "val": sorted(val)}


def _keys(split: Split) -> list[tuple[bytes, int]]:
    images = split.images_NCHW.numpy()
    return [(image.tobytes(), int(label)) for image, label in zip(images, split.labels_N, strict=True)]
