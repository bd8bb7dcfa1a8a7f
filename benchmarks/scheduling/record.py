"""Record whole learning curves: every point of a space trained to its last epoch, none stopped.

The effect of early stopping can only be measured on trials that it did not stop. Each table holds the same points under
several training seeds. ``TABLES`` defines them; a table of the role 'test' is for reports alone (decision 120).

    python benchmarks/scheduling/record.py digits-cnn --points 64 --seeds 0 1
    python benchmarks/scheduling/record.py fashion --points 64 --seeds 0 1 --data-root data
    python benchmarks/scheduling/record.py --pack          keep unfinished tables as TABLE.jsonl.gz
    python benchmarks/scheduling/record.py --describe      write the rows of tables/README.md

A trial that is done is kept in TABLE.jsonl next to the table, so that a recording that was stopped continues. It also
continues from TABLE.jsonl.gz and from TABLE.json.gz, on another machine too: more points or seeds extend a table.

The images of --data-root, of which each table uses ``images`` after the first ``skip``; a sixth of them validates.
Files of MNIST and Fashion-MNIST may be unpacked or end in .gz:

    MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte           as torchvision has them
    FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte    in /usr/share/datasets/fashion-mnist of Debian's
                                                                     package dataset-fashion-mnist
    cifar10/test/CLASS/*.jpg                                         the 10,000 test images, as image files
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from describe import describe, passes
from images import subset

from search_spaces import Float, SearchSpace, catalog

HERE = Path(__file__).parent / "tables"
METRICS = ("val/accuracy", "val/robust_accuracy", "val/nll", "train/loss", "time/epoch_s")
FEW_IMAGES = 30


@dataclass(frozen=True, slots=True)
class Table:
    """What a table records: the parameters that all of its trials share, and where its points are from."""

    role: Literal["development", "test"]
    fixed: dict[str, Any]
    epochs: int = 27
    points_seed: int = 0
    strong: bool = False
    narrowed: tuple[tuple[str, Any], ...] = ()
    images: int = 2_100
    skip: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """All fixed parameters, without the place of the data."""
        every = list(range(1, self.epochs + 1))
        common = {"optimizer.name": "sgd", "batch_size": 64, "epochs": self.epochs, "evaluation.epochs": every}
        return {**common, **self.fixed}

    @property
    def space(self) -> SearchSpace:
        """The three families of the catalog, or strong ones, and the learning rate."""
        return (strong_space() if self.strong else space()).narrow(dict(self.narrowed))


def _on(data: str, model: str, epsilon: float, **more: Any) -> dict[str, Any]:
    names = {"width": "model.width", "images": "evaluation.robust_images", "steps": "evaluation.robust_steps"}
    more = {names.get(name, f"data.{name}"): value for name, value in more.items()}
    return {"data.name": data, "model.name": model, "evaluation.robust_epsilon": epsilon, **more}


TABLES: dict[str, Table] = {
    "digits": Table("development", _on("digits", "cnn_bn", 0.1)),
    "digits-mlp": Table("development", _on("digits", "mlp", 0.05), points_seed=2),
    "mnist": Table("development", _on("mnist", "cnn_bn", 0.2, images=200, steps=7), points_seed=1),
    "digits-mlp-strong": Table(
        "development", _on("digits", "mlp", 0.1, images=300, steps=5), epochs=81, points_seed=102, strong=True
    ),
    "digits-cnn": Table("test", _on("digits", "cnn", 0.1, width=0.5, images=300, steps=7), points_seed=101),
    "mnist-pgd": Table(
        "test",
        _on("mnist", "cnn", 0.15, width=0.125, images=300, steps=4, fraction=0.3),
        points_seed=103,
        narrowed=(("adversarial.attack", ["pgd"]),),
        skip=2_100,
    ),
    "fashion": Table(
        "test", _on("fashion_mnist", "cnn_bn", 0.05, width=0.25, images=300, steps=4, fraction=0.3), points_seed=104
    ),
    "cifar10": Table(
        "test",
        _on("image_folder", "preact_resnet18", 0.01, width=0.125, images=300, steps=3, fraction=0.35, image_size=16),
        points_seed=105,
        images=2_400,
    ),
    "fashion-strong": Table(
        "test",
        _on("fashion_mnist", "cnn", 0.05, width=0.125, images=300, steps=3, fraction=0.2),
        epochs=81,
        points_seed=106,
        strong=True,
        skip=2_100,
    ),
}


def space() -> SearchSpace:
    """Return the three families as the catalog has them, and the learning rate."""
    return SearchSpace({"optimizer.lr": Float(0.01, 0.3, log=True)}) | catalog.regularizers()


def strong_space() -> SearchSpace:
    """Return the same parameters in ranges that reach further: slower rates, and strengths up to ten times as large."""
    document: Any = space().to_dict()
    document["parameters"] |= {
        "optimizer.lr": {"float": [0.002, 0.3], "log": True},
        "snnl.weight": {"zero_or": {"symlog": [-3.0, 10.0], "gap": 0.01}, "probability": 0.3},
        "mixup.alpha": {"zero_or": {"float": [0.1, 16.0], "log": True}, "probability": 0.3},
        "adversarial.epsilon": {"zero_or": {"float": [0.01, 0.5], "log": True}, "probability": 0.3},
    }
    return SearchSpace.from_dict(document)


def record(job: dict[str, Any]) -> dict[str, Any]:
    """Train one point to its end, or to where it diverged; a worker's whole work."""
    import torch  # noqa: PLC0415  in the workers alone

    from trainables import TrialConfig, train  # noqa: PLC0415
    from trainables.errors import Diverged  # noqa: PLC0415
    from trainables.evaluation.core import validation  # noqa: PLC0415

    torch.set_num_threads(1)
    # Entanglement is not recorded, and of 256 images costs as much as the attack. Nothing else depends on it.
    vars(validation)["ENTANGLEMENT_IMAGES"] = FEW_IMAGES
    reports: list[dict[str, float]] = []
    status = "completed"
    parameters = {**job["fixed"], **job["point"], "seed": job["seed"]}
    try:
        train(TrialConfig.from_point(parameters), report=lambda report: reports.append(dict(report.metrics)))
    except Diverged:
        status = "diverged"
    return {
        **{key: job[key] for key in ("trial", "seed", "point", "settings")},
        "status": status,
        "curves": {metric: [round(report[metric], 6) for report in reports] for metric in METRICS},
    }


def main() -> None:
    """Record one table, pack unfinished ones, or describe all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(TABLES))
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pack", action="store_true", help="compress the trials of unfinished tables")
    parser.add_argument("--describe", action="store_true", help="write the rows of tables/README.md")
    arguments = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    if arguments.name:
        _record_table(arguments.name, TABLES[arguments.name], arguments)
    if arguments.pack:
        for name in TABLES:
            _pack(name)
    if arguments.describe:
        describe(HERE, TABLES)
    if not (arguments.name or arguments.pack or arguments.describe):
        parser.error("name a table, or --pack or --describe")


def _record_table(name: str, table: Table, arguments: argparse.Namespace) -> None:
    embedded = table.fixed["data.name"] == "digits"
    if not embedded and arguments.data_root is None:
        raise SystemExit(f"--data-root: must be the folder of {table.fixed['data.name']!r} (see --help), got nothing")
    with tempfile.TemporaryDirectory() as folder:
        fixed = dict(table.settings)
        if not embedded:
            root = Path(folder, "root")
            root.mkdir()
            subset(arguments.data_root, root, data=table.fixed["data.name"], images=table.images, skip=table.skip)
            fixed |= {"data.root": str(root), "data.cache": str(Path(folder, "cache"))}
        trials = _record_all(name, table, fixed, arguments)
    path = HERE / f"{name}.json.gz"
    keys = ("trial", "seed", "point", "status", "curves")
    document = {
        "name": name,
        "role": table.role,
        "images": None if embedded else [table.skip, table.skip + table.images],
        "points_seed": table.points_seed,
        "fixed": table.settings,
        "space": table.space.to_dict(),
        "trials": [{key: trial[key] for key in keys} | {"passes_per_epoch": passes(table, trial)} for trial in trials],
    }
    _write(path, json.dumps(document, separators=(",", ":")))
    (HERE / f"{name}.jsonl.gz").unlink(missing_ok=True)
    print(f"{path}: {len(trials)} trials, {path.stat().st_size / 1e3:.0f} kB")


def _write(path: Path, text: str) -> None:
    with gzip.GzipFile(path, "wb", mtime=0) as file:  # the same table, the same bytes
        file.write(text.encode())


def _digest(table: Table) -> str:
    """Return a mark of what all trials share: trials recorded with other settings do not mix."""
    text = json.dumps([table.settings, table.space.to_dict(), table.images, table.skip], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _kept(name: str, table: Table) -> dict[str, dict[str, Any]]:
    """Return the trials that are done, by name.

    A table that is finished has its settings once; lines of unfinished ones carry their digest.
    """
    done: dict[str, dict[str, Any]] = {}
    finished, packed, raw = (HERE / f"{name}.{ending}" for ending in ("json.gz", "jsonl.gz", "jsonl"))
    if finished.exists():
        document = json.loads(gzip.decompress(finished.read_bytes()))
        if (document["fixed"], document["space"]) != (table.settings, table.space.to_dict()):
            raise SystemExit(f"{finished}: must have the settings of TABLES[{name!r}] to continue; move it away")
        done |= {trial["trial"]: trial for trial in document["trials"]}
    text = gzip.decompress(packed.read_bytes()).decode() if packed.exists() else ""
    text += raw.read_text() if raw.exists() else ""
    for line in text.splitlines():
        trial = json.loads(line)
        if trial["settings"] != _digest(table):
            raise SystemExit(f"{raw}: trial {trial['trial']} must have the settings of TABLES[{name!r}]; move it away")
        done[trial["trial"]] = trial
    return done


def _record_all(name: str, table: Table, fixed: dict[str, Any], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    points = table.space.sample_many(arguments.points, seed=table.points_seed)
    mark = _digest(table)
    jobs = [
        {"trial": f"p{i:03d}-s{seed}", "seed": seed, "point": point, "fixed": fixed, "settings": mark}
        for seed in arguments.seeds
        for i, point in enumerate(points)
    ]
    done = _kept(name, table)
    elsewhere = [job["trial"] for job in jobs if job["trial"] in done and done[job["trial"]]["point"] != job["point"]]
    if elsewhere:
        raise SystemExit(f"{name}: trial {elsewhere[0]} was recorded at another point; move its file away")
    waiting = [job for job in jobs if job["trial"] not in done]
    with (HERE / f"{name}.jsonl").open("a") as file, _pool(arguments.processes) as pool:
        for result in pool.imap_unordered(record, waiting):
            done[result["trial"]] = result
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"{len(done)} of {len(jobs)} {result['trial']} {result['status']}", flush=True)
    return sorted(done.values(), key=lambda trial: (trial["seed"], trial["trial"]))


def _pool(processes: int) -> Any:
    return multiprocessing.get_context("spawn").Pool(processes)


def _pack(name: str) -> None:
    """Compress the lines of a table that is not finished."""
    finished, raw = HERE / f"{name}.json.gz", HERE / f"{name}.jsonl"
    if not raw.exists():
        return
    done = _kept(name, TABLES[name])
    ended = json.loads(gzip.decompress(finished.read_bytes()))["trials"] if finished.exists() else []
    lines = [json.dumps(trial) + "\n" for key, trial in sorted(done.items()) if key not in {t["trial"] for t in ended}]
    if lines:
        _write(HERE / f"{name}.jsonl.gz", "".join(lines))
        print(f"{name}: {len(lines)} trials of an unfinished table packed")


if __name__ == "__main__":
    main()
