"""The list of the examples is complete, its specs are valid, and the data set of one is trained on."""

import re
from pathlib import Path

import pytest
import torch

from orchestrator.planning.loading import load_spec
from trainables.config.trial import TrialConfig
from trainables.tasks.classifier.run import start

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_every_example_is_listed_and_every_link_leads_to_a_file():
    links = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    assert [link for link in links if not (EXAMPLES / link).exists()] == []
    names = {path.name for path in EXAMPLES.iterdir() if path.name not in {"README.md", "__pycache__"}}
    assert names <= links


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_spec_of_an_example_is_valid(path):
    assert load_spec(path).checked is not None


def test_a_network_learns_the_example_of_a_data_set(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_data import Bars

    first, again = Bars()[4], Bars()[4]
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] == 1
    point = {"data.name": "own_data:Bars", "data.args.noise": 0.1, "data.args.count": 300, "data.cache": str(tmp_path)}
    trial = start(TrialConfig.from_point({**point, "model.name": "mlp", "batch_size": 32, "epochs": 6}))
    scores = [report.metrics["val/accuracy"] for report in trial.run_all()]
    assert scores[-1] > 0.6
