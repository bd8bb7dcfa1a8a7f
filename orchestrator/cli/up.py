"""Command up: write the files of ``infra/`` for a cluster, filled in for a sweep; start nothing.

A line of those files that ends with ``# <- SETTING`` has its last value replaced by that setting; a setting in a longer
value stands in braces. So the files are valid as they are in the repository, and no second copy of them exists.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.shared.arguments import complete_spec
from orchestrator.errors import SpecError, WrongLocation, quoted
from orchestrator.planning.loading import load_spec
from orchestrator.storage.locations import Location, is_remote
from search_spaces.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

PANEL = "Run"
TEMPLATES = files("orchestrator.cli") / "templates" / "up"
SPEC = Path("sweep.yaml")
MARK = re.compile(r"^(?P<before>(?:.*[\s=\"])?)(?P<value>[^\s=\"]+)(?P<after>\"?) +# <- (?P<setting>\S+)$")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
PLAIN = re.compile(r"[\w./:@+-]+")
SECRET_BYTES = 32


class Kind(StrEnum):
    """Places for a cluster."""

    SLURM = "slurm"
    COMPOSE = "compose"
    KUBERAY = "kuberay"
    AWS = "aws"


WRITTEN_AS = {"compose.env": ".env"}
"""Names of the files that are hidden where they are used."""
NEEDS_SPEC = frozenset({Kind.SLURM, Kind.KUBERAY})
NEXT = {
    Kind.SLURM: """\
cd {out} && sbatch sweep.sbatch        # a job; squeue --me, tail -f ravel-*.log
scancel JOB                            # stops the sweep; ravel resume continues it""",
    Kind.COMPOSE: """\
cd {out} && docker compose up --detach
set -a && . {out}/.env && set +a       # the token, for the commands below
ravel launch {spec} --address http://127.0.0.1:8265 --set storage.uri={storage} --set tracking.uri=http://mlflow:5000
docker compose stop                    # keeps everything; down --volumes deletes it""",
    Kind.KUBERAY: """\
kubectl apply -k {out}                 # needs KubeRay 1.6 or newer in the cluster
kubectl -n {name} get pods --watch
kubectl apply -f {out}/rayjob.yaml     # the sweep; kubectl -n {name} get rayjob
kubectl delete -k {out}                # stops everything, with MLflow's database""",
    Kind.AWS: """\
cd {out}/terraform && terraform init && terraform apply
cd {out} && ray up cluster.yaml && ray dashboard cluster.yaml
RAY_AUTH_TOKEN_PATH={out}/ray-token ravel launch {spec} --address http://127.0.0.1:8265 --set storage.uri={storage}
ray down cluster.yaml                  # stops the machines; terraform destroy the rest""",
}

app = typer.Typer()


@dataclass(frozen=True)
class Settings:
    """Settings of a cluster for one sweep, as the files take them.

    Args:
        name: Name of the sweep, of its job, its namespace or its cluster.
        spec: Sweep spec; None for a cluster without one.
        nodes: Nodes that run trials, at most.
        gpus: GPUs of each node.
        cpus: Cores of each node.
        storage: Folder, or ``s3://BUCKET/PREFIX``, of the results.
        image: Image of the containers.
        region: Region of AWS.

    Raises:
        SpecError: lists every wrong setting.
    """

    kind: Kind
    name: str
    spec: Path | None
    nodes: int
    gpus: int
    cpus: int
    storage: str
    image: str
    region: str

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise SpecError(problems)

    def values(self) -> Mapping[str, str]:
        """Return the value of each setting that a line of a file may take."""
        on_gpus = self.gpus > 0
        return {
            "name": self.name,
            "spec": str(self.spec),
            "nodes": str(self.nodes),
            "gpu_nodes": str(self.nodes if on_gpus else 0),
            "cpu_nodes": str(0 if on_gpus else self.nodes),
            "gpus": str(self.gpus),
            "cpus": str(self.cpus),
            "storage": self.storage,
            "bucket": Location.parse(self.storage).bucket if is_remote(self.storage) else "",
            "image": self.image,
            "region": self.region,
            "profile": "gpu" if on_gpus else "cpu",
        }


@app.command(rich_help_panel=PANEL, epilog="Example: ravel up slurm sweep.yaml --nodes 4 --gpus 8")
def up(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="slurm, compose, kuberay or aws.")],
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="SPEC", help="Sweep spec; default: sweep.yaml.", autocompletion=complete_spec),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write into; default: KIND.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the cluster; default: the spec's.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that run trials, at most.")] = 2,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each node.")] = 0,
    cpus: Annotated[int | None, typer.Option(min=1, help="Cores of each node; default: 8, and 2 for compose.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Results: s3://BUCKET/PREFIX, or for slurm a folder that all nodes mount.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Image that infra/Dockerfile built; default: ravel:cpu, or ravel:cuda.")
    ] = None,
    region: Annotated[str, typer.Option(help="Region of AWS.")] = "us-east-1",
) -> None:
    """Write what starts a cluster for a sweep; start nothing.

    Fill in reviewed files for Slurm, Docker Compose, Kubernetes or AWS. Generate their tokens and passwords into files
    that only you can read. Print the next commands.
    """
    path = _spec(kind, spec)
    loaded = None if path is None else load_spec(path)
    settings = Settings(
        kind,
        name=name or (loaded.name if loaded else "ravel"),
        spec=path,
        nodes=nodes,
        gpus=gpus,
        cpus=cpus or (2 if kind is Kind.COMPOSE else 8),
        storage=storage or _storage(kind, loaded.storage.uri if loaded else ""),
        image=image or f"ravel:{'cuda' if gpus else 'cpu'}",
        region=region,
    )
    folder = (out or Path(kind.value)).expanduser().resolve()
    for written in write(settings, folder):
        typer.echo(f"wrote {written}")
    shown = {"out": folder, "spec": path or "SPEC", "name": settings.name, "storage": settings.storage}
    typer.echo("next:")
    for line in NEXT[kind].format_map(shown).splitlines():
        typer.echo(f"  {line}")


def write(settings: Settings, folder: Path) -> list[Path]:
    """Write the files of a kind into a folder, and return them; files with a secret are readable by their owner only.

    Raises:
        SpecError: the folder has some of them.
    """
    texts = dict(_texts(settings))
    present = [str(place) for place in texts if os.path.lexists(folder / place)]
    if present:
        remedy = "give another --out, or move them away"
        raise SpecError([Problem(str(folder), f"has {', '.join(present)} already; {remedy}")])
    for place, (text, mode) in texts.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w", encoding="utf-8") as file:
            file.write(text)
    return [folder / place for place in texts]


def filled(text: str, values: Mapping[str, str]) -> tuple[str, bool]:
    r"""Return a file's text with every marked value replaced, and whether secrets are in it.

    >>> filled("replicas: 2  # <- nodes\nrestart: never\n", {"nodes": "8"})
    ('replicas: 8\nrestart: never\n', False)
    >>> filled('bucket = "your-bucket"  # <- bucket', {"bucket": "team"})
    ('bucket = "team"', False)
    >>> filled("Name: ravel-head  # <- {name}-head", {"name": "digits"})
    ('Name: digits-head', False)

    Raises:
        KeyError: a mark names a setting that does not exist.
    """
    has_secret = False
    lines = []
    for line in text.split("\n"):
        if mark := MARK.match(line):
            is_secret = mark["setting"] == "secret"
            has_secret |= is_secret
            setting = mark["setting"] if "{" in mark["setting"] else f"{{{mark['setting']}}}"
            value = secrets.token_hex(SECRET_BYTES) if is_secret else setting.format_map(values)
            lines.append(f"{mark['before']}{value}{mark['after']}")
        else:
            lines.append(line)
    return "\n".join(lines), has_secret


def _texts(settings: Settings) -> Iterator[tuple[Path, tuple[str, int]]]:
    """Yield each file's place, text and mode; the last one has git leave the secrets out."""
    values, private = settings.values(), []
    for place, source in sorted(_sources(TEMPLATES / settings.kind.value, Path())):
        text, has_secret = filled(source.read_text(encoding="utf-8"), values)
        if place == SPEC and settings.spec is not None:
            text = settings.spec.read_text(encoding="utf-8")
        private += [place] if has_secret else []
        yield place, (text, 0o600 if has_secret else 0o644)
    yield Path(".gitignore"), ("".join(f"/{place.as_posix()}\n" for place in private), 0o644)


def _sources(folder: Traversable, place: Path) -> Iterator[tuple[Path, Traversable]]:
    for source in folder.iterdir():
        name = WRITTEN_AS.get(source.name, source.name)
        if source.is_dir():
            yield from _sources(source, place / name)
        else:
            yield place / name, source


def _spec(kind: Kind, spec: Path | None) -> Path | None:
    if spec is not None:
        return spec.expanduser().resolve()
    if SPEC.exists():
        return SPEC.resolve()
    if kind in NEEDS_SPEC:
        rule = f"is required for {kind.value}, and no {SPEC} is here"
        raise SpecError([Problem("SPEC", f"{rule}; name it, or run ravel init")])
    return None


def _storage(kind: Kind, uri: str) -> str:
    """Return the storage of the spec if the kind can have it; an empty one is refused with the remedy."""
    if kind is Kind.COMPOSE:
        return "s3://ravel/sweeps"  # its own server
    if is_remote(uri) or not uri:
        return uri
    return str(Path(uri).expanduser().resolve()) if kind is Kind.SLURM else ""


def _problems(settings: Settings) -> Iterator[Problem]:
    if not NAME.fullmatch(settings.name):
        rule = "must be at most 40 lower-case letters, digits and dashes, as it names machines"
        yield Problem("--name", f"{rule}, got {quoted(settings.name)}; give another one")
    texts = {"--image": settings.image, "--storage": settings.storage, "--region": settings.region}
    for option, value in {**texts, "SPEC": settings.spec}.items():
        if value and not PLAIN.fullmatch(str(value)):
            yield Problem(option, f"must have no spaces, quotes or other special characters, got {quoted(str(value))}")
    if settings.kind is Kind.AWS and "/" not in settings.image:
        rule = "must name a registry from which EC2 can pull, as in ghcr.io/TEAM/ravel:cuda"
        yield Problem("--image", f"{rule}, got {quoted(settings.image)}; push the image of infra/Dockerfile there")
    yield from _storage_problems(settings)


def _storage_problems(settings: Settings) -> Iterator[Problem]:
    if settings.kind is Kind.SLURM and not is_remote(settings.storage):
        if not Path(settings.storage).is_absolute():
            rule = "must be s3://BUCKET/PREFIX, or the absolute path of a folder that all nodes mount"
            yield Problem("--storage", f"{rule}, got {quoted(settings.storage)}")
        return
    try:
        Location.parse(settings.storage)
    except WrongLocation:
        rule = f"must be s3://BUCKET/PREFIX for {settings.kind.value}, as its machines share no disk"
        value = quoted(settings.storage) if settings.storage else "none"
        yield Problem("--storage", f"{rule}, got {value}; name it here, or in storage.uri of the spec")
