"""The reference of the site is complete: what the code has is on its pages, with a meaning."""

import doctest
import importlib
import json
from typing import get_args

import pytest
import reference

from orchestrator.cli import main as cli
from orchestrator.spec.json_schema import sweep_schema
from orchestrator.spec.meanings import meanings
from orchestrator.spec.model import SweepSpec
from orchestrator.state.events.kinds import Event
from trainables.metrics import METRICS
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.registry import TASKS

MODULES = ("command_line", "field_types", "metrics_and_events", "navigation", "python_names", "repository_files")


@pytest.fixture(scope="module")
def pages():
    return reference.pages()


@pytest.fixture(scope="module")
def models():
    """Every model of a spec and of a trial: its sections, and the groups of each task."""
    specs = [SweepSpec, *(field.annotation for field in SweepSpec.model_fields.values())]
    configs = [*(task.config for task in TASKS.values()), FunctionConfig, LightningConfig]
    groups = [field.annotation for config in configs for field in config.model_fields.values()]
    return [model for model in (*specs, *configs, *groups) if hasattr(model, "model_fields") and model.model_fields]


def commands(group, words):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def test_every_command_and_option_is_on_the_page_with_its_meaning(pages):
    import typer

    page = pages["reference/command-line.md"]
    listed = dict(commands(typer.main.get_command(cli.app), "ravel"))
    assert len(listed) > 30
    for words, command in listed.items():
        section = page.partition(f"\n### {words}\n")[2].partition("\n### ")[0]
        assert command.help.partition("\n")[0].replace("``", "`") in section, words
        for option in command.params:
            shown = f"`{option.opts[0]}`" in section or f"`{option.metavar or option.name.upper()}`" in section
            assert shown is not option.hidden, (words, option.name)


def test_every_exit_code_of_an_error_is_on_the_page(pages):
    from orchestrator import errors

    codes = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    section = pages["reference/command-line.md"].partition("## Exit codes")[2]
    assert [code for code in codes | {0, 1} if f"\n| `{code}` |" not in section] == []


def test_every_field_of_a_spec_and_a_trial_has_a_meaning(models):
    missing = [(model.__name__, name) for model in models for name in model.model_fields if name not in meanings(model)]
    assert missing == []
    assert len(models) > 20


def test_every_field_of_a_spec_is_on_the_page(pages):
    page, schema = pages["reference/spec.md"], sweep_schema()
    for name, field in SweepSpec.model_fields.items():
        assert f"\n| `{name}` |" in page
        inner = getattr(field.annotation, "model_fields", {}) if name != "space" else {}
        known = schema["$defs"].get(getattr(field.annotation, "__name__", ""), {}).get("properties", {})
        assert [key for key in inner if key in known and f"\n| `{name}.{key}` |" not in page] == []


@pytest.mark.parametrize("task", TASKS)
def test_every_parameter_of_a_trial_is_on_the_page(task, pages):
    page = pages["reference/trial-parameters.md"]
    assert [name for name in TASKS[task].parameter_names if f"\n| `{name}` |" not in page] == []


def test_the_page_has_the_default_that_a_spec_gets(pages):
    assert (
        f"| `search.num_trials` | whole number >= 1 and <= 100,000 | `{SweepSpec(name='a').search.num_trials}` |"
        in (pages["reference/spec.md"])
    )


def test_every_metric_is_on_the_page(pages):
    assert [metric.name for metric in METRICS if f"\n| `{metric.name}` |" not in pages["reference/metrics.md"]] == []


def test_every_event_is_on_the_page_with_its_fields(pages):
    page = pages["reference/events.md"]
    for event in get_args(Event):
        section = page.partition(f"\n## {event.model_fields['kind'].default}\n")[2].partition("\n## ")[0]
        named = set(event.model_fields) - {"v", "kind", "time"}
        assert [name for name in named if f"\n| `{name}` |" not in section] == []


def test_editors_are_given_the_meaning_of_each_field():
    schema = sweep_schema()
    sections = [schema, *(part for name, part in schema["$defs"].items() if name[0].isupper())]
    fields = [(name, field) for part in sections for name, field in part["properties"].items()]
    assert len(fields) > 50
    assert [name for name, field in fields if not field.get("description")] == []
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_generators_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
