"""Description of an exported model, ``model.json``, and the page next to it. Format 1."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.errors import OrchestratorError, quoted

DOCUMENT, PROGRAM, WEIGHTS, PAGE = "model.json", "model.pt2", "model.safetensors", "README.md"


class Part(BaseModel):
    """Frozen part of the description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(Part):
    """Shape of an image, and its pixels: in [0, 1] at the input, standardised by ``mean`` and ``std`` inside."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width


class Score(Part):
    """Objective of the trial on the validation split, and its epoch."""

    metric: str
    mode: Literal["max", "min"]
    value: float
    epoch: int


class ModelDocument(Part):
    """Description of an exported model.

    ``classes`` are names in the order of the logits, or their indices where the data set names none. ``epoch`` is that
    of the weights. ``program`` is null, with a reason, where torch.export cannot express the network.
    """

    format: Literal[1] = 1
    task: Literal["classifier"] = "classifier"
    sweep: str
    trial: str
    status: str
    epoch: int
    objective: Score
    classes: tuple[str, ...]
    image: Image
    network: str
    parameters: int
    config: dict[str, Any]
    versions: dict[str, str]
    weights: str = WEIGHTS
    program: str | None = PROGRAM
    reason: str | None = None

    @classmethod
    def parse(cls, text: str | bytes, *, place: str) -> ModelDocument:
        """Read a description back.

        Raises:
            OrchestratorError: it is none, or of a format that this version does not know.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "content"
            got = quoted(first["input"])
            reason = f"{where} {first['msg'][:1].lower()}{first['msg'][1:]}, got {got}"
            remedy = "export the model again with this version"
            raise OrchestratorError(f"{place}: must be the description of a model ({reason}); {remedy}") from None


def page(document: ModelDocument) -> str:
    """Return the page of an exported model: what it is, and five lines that use it with torch alone."""
    score, image = document.objective, document.image
    origin = f"Trial {document.trial} of the sweep `{document.sweep}`, after epoch {document.epoch}."
    shape = f"(N, {image.channels}, {image.height}, {image.width})"
    measured = f"{score.metric} {score.value:.4f} on the validation split, at epoch {score.epoch}."
    use = _use(document) if document.program else _without_program(document)
    return f"""# {document.network}: {document.sweep}, {document.trial}

{origin}
{measured}

It takes float32 images {shape} with pixels in [0, 1], and gives logits (N, {len(document.classes)}).
It standardises pixels itself.
`{DOCUMENT}` has the classes in the order of the logits, the configuration and the versions.

{use}
"""


def _use(document: ModelDocument) -> str:
    image = document.image
    shape = f"1, {image.channels}, {image.height}, {image.width}"
    return f"""```python
import json, torch
classes = json.load(open("{DOCUMENT}"))["classes"]
model = torch.export.load("{PROGRAM}").module()
images = torch.rand({shape})  # yours: float32 in [0, 1]
print([classes[k] for k in model(images).argmax(1).tolist()])
```

Load `{PROGRAM}` only if you trust who wrote it: `torch.export.load` can run code from the file.
Another torch than the one that wrote it ({document.versions.get("torch")}) may refuse it.
`{WEIGHTS}` has the weights alone. It holds no code, and any version reads it."""


def _without_program(document: ModelDocument) -> str:
    return f"""torch.export cannot express this network: {document.reason}.
`{WEIGHTS}` has its weights. Build the network with your code, and load them:

```python
from safetensors.torch import load_file
state = load_file("{WEIGHTS}")
weights = {{name.removeprefix("module."): value for name, value in state.items() if name.startswith("module.")}}
network.load_state_dict(weights)  # after (images - state["mean"]) / state["std"]
```"""
