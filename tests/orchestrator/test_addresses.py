"""Addresses of Ray that a sweep can use, and what is said about all others."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import launching
from orchestrator.errors import SpecError
from orchestrator.execution.cluster.addresses import chosen_address, kind_of
from orchestrator.execution.cluster.gcs import mode_problem
from orchestrator.spec.model import SweepSpec

RAVEL = Path(sys.executable).with_name("ravel")
FORM = (
    "--address: must be local, processes, auto, HOST:PORT of a Ray cluster's head, "
    "or http://HOST:PORT of its dashboard, got"
)


@pytest.mark.parametrize(
    ("option", "variable", "address"),
    [
        (None, None, "local"),
        (None, "", "local"),
        (None, "10.0.0.5:6379", "10.0.0.5:6379"),
        (None, "auto", "auto"),
        ("local", "10.0.0.5:6379", "local"),
        ("10.0.0.6:6379", "10.0.0.5:6379", "10.0.0.6:6379"),
        ("auto", "10.0.0.5:6379", "10.0.0.5:6379"),
        ("auto", None, "auto"),
        ("auto", "local", "auto"),
        ("http://head:8265", None, "http://head:8265"),
        ("[::1]:6379", None, "[::1]:6379"),
    ],
)
def test_the_option_comes_before_the_environment_and_a_private_ray_last(option, variable, address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert chosen_address(option) == address


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "head:70000", "http://", "http://a:b@h:1"])
def test_what_is_no_address_is_refused_with_the_forms_that_are(address):
    with pytest.raises(SpecError) as raised:
        kind_of(address)
    assert str(raised.value) == f"{FORM} {address!r}"


def test_ray_client_is_refused_with_the_ways_that_work(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: digits\n")
    command = [RAVEL, "launch", "sweep.yaml", "--address", "ray://head:10001"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    first, *ways = done.stderr.splitlines()
    assert done.returncode == 2
    assert first.startswith("--address: Ray Client ('ray://head:10001') cannot run a sweep")
    assert ways == [
        "--address: from here, the cluster runs the driver: --address http://head:8265",
        "--address: on the head or another node of the cluster: --address auto",
    ]


def test_a_dashboard_is_no_address_for_a_driver_in_this_process():
    with pytest.raises(
        SpecError, match="must be local, processes, auto or HOST:PORT from Python, got http://head:8265"
    ):
        launching.launch(SweepSpec(name="digits"), address="http://head:8265")


def test_modes_of_authentication_that_agree_are_no_problem():
    assert mode_problem(asks_for_token=False, token=None) is None
