"""`ravel up compose`: the services of its file, started as processes, run `examples/cluster.yaml` from a laptop."""

import base64
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from compose_stack import MACHINES, ROOT, Stack

from orchestrator.cli.up import Kind, Settings, write

PROBLEM = MACHINES["missing_tools"]()
pytestmark = [
    pytest.mark.skipif(PROBLEM is not None, reason=f"no machines can be made here: {PROBLEM}"),
    pytest.mark.skipif(shutil.which("initdb") is None, reason="PostgreSQL (initdb) is not installed here"),
    pytest.mark.skipif(
        not Path(sys.executable).with_name("swift-proxy-server").exists(),
        reason="OpenStack Swift runs on Linux, from the development group",
    ),
    pytest.mark.skipif(os.environ.get("RAVEL_KILLS") != "all", reason="takes three minutes: make kills"),
]
EXAMPLE = ROOT / "examples" / "cluster.yaml"
ASK_MLFLOW = (
    "import sys, urllib.request as r; "
    "print(r.urlopen(r.Request(sys.argv[1], headers={'Authorization': sys.argv[2]})).read().decode())"
)
COUNT_OBJECTS = (
    "import boto3, sys; print(len(boto3.client('s3').list_objects_v2(Bucket=sys.argv[1]).get('Contents', [])))"
)


def basic(password):
    return "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()


@pytest.fixture
def stack(tmp_path):
    size = {"nodes": 2, "gpus": 0, "cpus": 1}
    places = {"storage": "s3://ravel/sweeps", "image": "ravel:cpu", "region": "us-east-1"}
    write(Settings(Kind.COMPOSE, name="cluster", spec=EXAMPLE, **size, **places), tmp_path / "cluster")
    (tmp_path / "machines").mkdir()
    with Stack(tmp_path / "cluster", tmp_path / "machines") as stack:
        yield stack


@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_the_services_of_compose_run_a_sweep_that_a_laptop_submits(stack):
    keys = stack.services["ray-head"]["environment"]
    s3 = {name: value for name, value in keys.items() if name.startswith("AWS_")}
    launch = f"ravel launch {EXAMPLE} --address http://ray-head:8265"

    refused = stack.laptop(launch, code=3, RAY_AUTH_TOKEN="not-the-token")  # noqa: S106
    assert "the cluster refuses the token of RAY_AUTH_TOKEN" in refused

    output = stack.laptop(launch, RAY_AUTH_TOKEN=stack.settings["RAY_AUTH_TOKEN"])
    print(refused, output)  # noqa: T201  seen with -s
    sweep = re.search(r"submitted (\S+) to", output).group(1)
    assert "12/12 trials" in output
    status = stack.laptop(f"ravel status {sweep} --storage s3://ravel/sweeps", **s3)
    assert "completed" in status or "12/12" in status

    login, wrong = (basic(password) for password in (stack.settings["MLFLOW_PASSWORD"], "not-the-password"))
    address = "http://mlflow:5000/api/2.0/mlflow/experiments/get-by-name?experiment_name=cluster"
    assert '"name": "cluster"' in stack.laptop(f'python -c "{ASK_MLFLOW}" {address} "{login}"')
    assert "401" in stack.laptop(f'python -c "{ASK_MLFLOW}" {address} "{wrong}"', code=1)
    assert int(stack.laptop(f'python -c "{COUNT_OBJECTS}" mlflow', **s3)) > 0, "files went through the server"

    printed = output + "".join(stack.log(name) for name in ("postgres", "mlflow", "ray-head", "ray-worker-1"))
    secrets = [value for name, value in stack.settings.items() if name.endswith(("TOKEN", "PASSWORD", "SECRET_KEY"))]
    assert len(secrets) == 4
    assert [secret for secret in secrets if secret in printed] == []
