"""Trials of several workers in a spec: what is refused and why, what is reserved, and what stays as it was."""

import json

import pytest

pytest.importorskip("ray.tune")

from ray.util.placement_group import validate_placement_group

from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.tune.placement import resource_request
from orchestrator.planning.loading import parse_spec
from orchestrator.spec.model import Resources

SPEC = """
name: pair
trial: {{{trial}, epochs: 3}}
space: {{parameters: {{{space}}}}}
resources: {{workers: {workers}{resources}}}
"""


def spec(*, trial="model.name: mlp", space="optimizer.lr: {float: [0.01, 0.1]}", workers=2, resources=""):
    return parse_spec(SPEC.format(trial=trial, space=space, workers=workers, resources=resources))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"trial": "batch_size: 101"},
            "trial.batch_size: must be a multiple of resources.workers (2), which each train an equal share, got 101",
        ),
        (
            {"space": "batch_size: {choice: [64, 99]}"},
            "space.parameters.batch_size: must be a multiple of resources.workers (2), which each train an equal share",
        ),
        ({"workers": 3}, "resources.workers: must divide batch_size (128) into equal shares, got 3"),
        (
            {"resources": ", gpus: 0.5"},
            "resources.gpus: must be 'auto', 0 or 1 with several workers, as two of a trial cannot share a GPU",
        ),
        ({"workers": 0}, "resources.workers: must be >= 1, got 0"),
    ],
)
def test_what_several_workers_cannot_train_is_refused_with_its_place(words, message):
    with pytest.raises(SpecError) as caught:
        spec(**words)
    assert any(line.startswith(message) for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    "document",
    [
        "trial: {task: gan}, objective: {metric: val/mode_kl, mode: min}",
        "trial: {task: 'm:f'}, space: {parameters: {x: {int: [1, 2]}}}, objective: {metric: a, mode: max}",
    ],
    ids=["gan", "function"],
)
def test_tasks_other_than_the_classifier_have_one_worker(document):
    with pytest.raises(SpecError, match=r"resources.workers: must be 1 for task (gan|m:f), got 2; leave it out"):
        parse_spec(f"{{name: a, {document}, resources: {{workers: 2}}}}")


def test_networks_with_batch_normalisation_are_named_where_there_are_several_workers():
    space = "model.name: {choice: [mlp, cnn_bn, preact_resnet18]}"
    searched = {"space": space, "trial": "batch_size: 128"}
    assert set(preflight.unequal_networks(spec(**searched))) == {"cnn_bn", "preact_resnet18"}
    assert preflight.unequal_networks(spec(workers=1, **searched)) == ()
    assert preflight.unequal_networks(spec(trial="model.name: cnn")) == ()
    assert preflight.unequal_networks(spec(trial="model.name: cnn_bn, model.sync_batch_norm: true")) == ()


def test_a_plan_with_one_worker_is_what_it_was_before_there_could_be_several():
    assert "workers" not in json.loads(spec(workers=1).canonical())["resources"]
    document = spec(workers=2).document()
    assert document["resources"]["workers"] == 2
    assert parse_spec(json.dumps(document)) == spec(workers=2)


def test_tune_reserves_a_bundle_for_each_worker_all_off_excluded_nodes():
    node = "d473e8b657d38776efb138db38eea8928d472a280a9f3054711e88dc"
    request = resource_request({"ravel.excluded_nodes": [node]}, resources=Resources(cpus=2, workers=3), gpus=1)
    assert request.bundles == [{"CPU": 2, "GPU": 1}] * 3
    assert request.strategy == "PACK"
    validate_placement_group(**request._bound.arguments)
    assert request._bound.arguments["bundle_label_selector"] == [{"ray.io/node-id": f"!in({node})"}] * 3


@pytest.mark.parametrize(("strategy", "asked"), [("pack", "PACK"), ("spread", "SPREAD")])
def test_ray_is_asked_for_the_strategy_of_the_spec_on_excluded_nodes_too(strategy, asked):
    resources = spec(resources=f", strategy: {strategy}").resources
    for config in ({}, {"ravel.excluded_nodes": ["ab"]}):
        request = resource_request(config, resources=resources, gpus=0)
        assert (request.strategy, len(request.bundles)) == (asked, 2)
        validate_placement_group(**request._bound.arguments)


def test_a_strategy_without_effect_is_refused():
    expected = (
        "resources.strategy: must be left out with one worker, as Ray gives each trial the node with the most room "
        "already; got 'spread'"
    )
    with pytest.raises(SpecError) as caught:
        spec(workers=1, resources=", strategy: spread")
    assert str(caught.value) == expected
    with pytest.raises(SpecError, match=r"resources\.strategy: must be 'pack' or 'spread', got 'strict_pack'"):
        spec(resources=", strategy: strict_pack")


def test_a_plan_with_the_usual_strategy_is_what_it_was_before_there_were_two():
    assert "strategy" not in json.loads(spec(resources=", strategy: pack").canonical())["resources"]
    document = spec(resources=", strategy: spread").document()
    assert document["resources"]["strategy"] == "spread"
    assert parse_spec(json.dumps(document)) == spec(resources=", strategy: spread")


@pytest.mark.parametrize(("nodes", "slots"), [([4], 2), ([4, 1], 2), ([3, 3], 3), ([1, 1], 1), ([2, 2, 2], 3)], ids=str)
def test_workers_of_a_trial_may_be_on_several_nodes(nodes, slots):
    capacity = Capacity(tuple(Node(cpus=cpus, gpus=0) for cpus in nodes))
    assert capacity.slots(Resources(workers=2), 0.0) == slots


def test_more_workers_than_the_cluster_fits_are_refused():
    capacity = Capacity((Node(cpus=2, gpus=0), Node(cpus=3, gpus=0)))
    with pytest.raises(PreflightError, match=r"resources.workers: must be <= 2, as each worker takes 2 CPUs .* got 3"):
        capacity.slots(Resources(cpus=2, workers=3), 0.0)
    with pytest.raises(PreflightError, match=r"resources.workers: must be <= 2"):
        preflight.check_devices(spec(workers=4), cpus=2, gpus=0)
