"""Record whole learning curves: every point of ``regularizers()`` trained to its last epoch, none stopped.

The effect of early stopping can only be measured on trials that it did not stop. Each table holds the
same points under several training seeds; ``simulate.py`` runs schedulers over it.

    python benchmarks/scheduling/record.py digits --points 64 --seeds 0 1 2
    python benchmarks/scheduling/record.py mnist --points 48 --data-root data

A trial that is done is kept in TABLE.jsonl next to the table, so that a recording that was stopped continues; run it
under ``nice``. Two cores: about 20 minutes for digits, 40 for mnist (1,750 training images).
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

from search_spaces import Float, SearchSpace, catalog

HERE = Path(__file__).parent / "tables"
EPOCHS = 27
METRICS = ("val/accuracy", "val/robust_accuracy", "val/nll", "train/loss", "time/epoch_s")
IDX_HEADERS = {"images": ">4i", "labels": ">2i"}
FIXED: dict[str, dict[str, Any]] = {
    "digits": {"data.name": "digits", "model.name": "cnn_bn", "evaluation.robust_epsilon": 0.1},
    "digits-mlp": {"data.name": "digits", "model.name": "mlp", "evaluation.robust_epsilon": 0.05},
    "mnist": {
        "data.name": "mnist",
        "model.name": "cnn_bn",
        "evaluation.robust_epsilon": 0.2,
        "evaluation.robust_images": 200,
        "evaluation.robust_steps": 7,
    },
}
COMMON = {"optimizer.name": "sgd", "batch_size": 64, "epochs": EPOCHS, "evaluation.epochs": list(range(1, EPOCHS + 1))}


def space() -> SearchSpace:
    """Return the three families as the catalog has them, and the learning rate."""
    return SearchSpace({"optimizer.lr": Float(0.01, 0.3, log=True)}) | catalog.regularizers()


def record(job: dict[str, Any]) -> dict[str, Any]:
    """Train one point to its end, or to where it diverged; a worker's whole work."""
    import torch  # noqa: PLC0415  in the workers alone

    from trainables import TrialConfig, train  # noqa: PLC0415
    from trainables.errors import Diverged  # noqa: PLC0415

    torch.set_num_threads(1)
    reports: list[dict[str, float]] = []
    status = "completed"
    try:
        config = TrialConfig.from_point({**job["fixed"], **job["point"], "seed": job["seed"]})
        train(config, report=lambda report: reports.append(dict(report.metrics)))
    except Diverged:
        status = "diverged"
    curves = {metric: [round(report[metric], 6) for report in reports] for metric in METRICS}
    return {"trial": job["trial"], "seed": job["seed"], "point": job["point"], "status": status, "curves": curves}


def subset(source: Path, folder: Path, *, images: int) -> None:
    """Make a torchvision root with the first so many training images of MNIST; its test set is not used."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in sorted((source / "MNIST" / "raw").glob("*-ubyte")):
        if not path.name.startswith("train"):
            shutil.copy(path, raw)
            continue
        content = path.read_bytes()
        header = IDX_HEADERS["images" if "images" in path.name else "labels"]
        magic, _, *shape = struct.unpack_from(header, content)
        size = struct.calcsize(header)
        item_bytes = (len(content) - size) // struct.unpack_from(header, content)[1]
        packed = struct.pack(header, magic, images, *shape) + content[size : size + images * item_bytes]
        (raw / path.name).write_bytes(packed)


def main() -> None:
    """Record one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(FIXED))
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--points-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=2_100, help="of MNIST; a sixth of them validates")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        fixed = {**COMMON, **FIXED[arguments.name]}
        if arguments.data_root is not None:
            subset(arguments.data_root, Path(folder), images=arguments.images)
            fixed |= {"data.root": folder, "data.cache": str(Path(folder, "cache"))}
        table = _record_all(arguments, fixed)
    path = HERE / f"{arguments.name}.json.gz"
    shown = {name: value for name, value in fixed.items() if name not in {"data.root", "data.cache"}}
    document = {"name": arguments.name, "fixed": shown, "space": space().to_dict(), "trials": table}
    with gzip.GzipFile(path, "wb", mtime=0) as file:  # the same table, the same bytes
        file.write(json.dumps(document, separators=(",", ":")).encode())
    print(f"{path}: {len(table)} trials, {path.stat().st_size / 1e3:.0f} kB")


def _record_all(arguments: argparse.Namespace, fixed: dict[str, Any]) -> list[dict[str, Any]]:
    points = space().sample_many(arguments.points, seed=arguments.points_seed)
    jobs = [
        {"trial": f"p{i:03d}-s{seed}", "seed": seed, "point": point, "fixed": fixed}
        for seed in arguments.seeds
        for i, point in enumerate(points)
    ]
    kept = HERE / f"{arguments.name}.jsonl"
    done = {line["trial"]: line for line in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    waiting = [job for job in jobs if job["trial"] not in done]
    with kept.open("a") as file, multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for result in pool.imap_unordered(record, waiting):
            done[result["trial"]] = result
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"{len(done)}/{len(jobs)} {result['trial']} {result['status']}", flush=True)
    return [done[job["trial"]] for job in jobs]


if __name__ == "__main__":
    main()
