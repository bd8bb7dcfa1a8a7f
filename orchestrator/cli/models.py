"""Command of the panel Models: model show. It builds a network without weights."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.cli.shared.arguments import HELP_NAMES, AsJson, Set, complete_spec
from orchestrator.errors import SpecError, quoted
from orchestrator.planning.loading import load_trial, parse_spec
from search_spaces import Problem
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from trainables.models import TappedClassifier
    from trainables.models.layers import Layer

PANEL = "Models"
SPECS = (".yaml", ".yml")
SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
ImageShape = tuple[int, int, int]

app = typer.Typer(
    name="model",
    help="Show the layers of a network.",
    epilog="Example: ravel model show cnn_bn --image 3x32x32",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


@app.callback()
def group() -> None:
    """Show the layers of a network."""


@app.command(epilog="Example: ravel model show torchvision:resnet18 --image 3x32x32 --classes 100")
def show(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="Name or import path of a network (cnn_bn, nets:Net, torchvision:resnet18), or a sweep spec in YAML.",
            autocompletion=complete_spec,
        ),
    ],
    image: Annotated[str, typer.Option(metavar="CxHxW", help="Shape of an image; default: of data.name.")] = "",
    classes: Annotated[int | None, typer.Option(min=1, help="Number of classes; default: of data.name.")] = None,
    overrides: Set = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show the layers of a network that snnl.layers and mixup.layers can name.

    Give its arguments, or a data set, with --set trial.model.args.NAME=VALUE, --set trial.data.name=mnist.
    """
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.models import build  # noqa: PLC0415
    from trainables.models.layers import describe  # noqa: PLC0415

    config = _config(network, overrides or [])
    try:
        of_data = None if image and classes else shape_of(config.data)
        image_shape = _image_shape(image) if of_data is None or image else of_data[0]
        num_classes = classes or (of_data[1] if of_data else 0)
        model = build(config.model, image_shape=image_shape, num_classes=num_classes, device="meta")
    except ConfigError as error:
        raise SpecError([Problem(path, message) for path, message in error.problems]) from error
    layers = describe(model, image_shape)
    if as_json:
        document = {"layers": [asdict(layer) for layer in layers], "unnamed": dict(model.unnamed)}
        typer.echo(json.dumps(document, indent=1))
        return
    console = Console(emoji=False, markup=False)
    console.print(_table(layers))
    console.print(_summary(config.model.name, model, image_shape, num_classes), soft_wrap=True)
    if model.unnamed:
        console.print(_unnamed(model))


def _config(network: str, overrides: list[str]) -> TrialConfig:
    """Return the configuration of a spec's baseline, or of the usual trial of a network.

    Raises:
        SpecError: the spec or an override is wrong, or it is a spec of another task.
    """
    from orchestrator.execution.local_trial import config_of  # noqa: PLC0415
    from orchestrator.planning.provenance import find_own_code  # noqa: PLC0415

    if network.endswith(SPECS):
        spec = load_trial(network, overrides)
    else:
        spec = parse_spec("name: model", [f"trial.model.name={json.dumps(network)}", *overrides])
    find_own_code(spec, Path.cwd())
    config = config_of(spec)
    if not isinstance(config, TrialConfig):
        raise SpecError([Problem("trial.task", "must be classifier to have a network with layers to name, got 'gan'")])
    return config


def _image_shape(text: str) -> ImageShape:
    match = SHAPE.fullmatch(text)
    if match is None or "0" in match.groups():
        requirement = "must be channels x height x width, such as 3x32x32"
        raise SpecError([Problem("--image", f"{requirement}, got {quoted(text)}")])
    channels, height, width = map(int, match.groups())
    return channels, height, width


def _table(layers: tuple[Layer, ...]) -> Table:
    table = Table("name", "module", "output", "parameters", "snnl.layers", "mixup.layers", box=None, pad_edge=False)
    for column in (2, 3):
        table.columns[column].justify = "right"
    for layer in layers:
        count = "" if layer.parameters is None else f"{layer.parameters:,}"
        shape = "x".join(map(str, layer.shape))
        table.add_row(layer.name, layer.kind or "", shape, count, _group(layer.tap), _group(layer.boundary))
    return table


def _group(group: str | None) -> str:
    return "-" if group is None else group or "by name"


def _summary(name: str, model: TappedClassifier, image_shape: ImageShape, num_classes: int) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    images = f"images of {'x'.join(map(str, image_shape))}, {num_classes} classes"
    return f"{name}: {parameters:,} parameters, {images}. A name of the group hidden is in all, too."


def _unnamed(model: TappedClassifier) -> Table:
    table = Table("cannot be named", "reason", box=None, pad_edge=False)
    for name, reason in model.unnamed.items():
        table.add_row(name, reason)
    return table
