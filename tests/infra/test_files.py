"""Every file of `infra/`, as `ravel up` writes it, passes its validators; each validator finds a mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from orchestrator.cli.up import Kind, Settings, write

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SEARCH = f"{BIN}:{os.environ['PATH']}"
KUBERNETES = "1.33"
SPEC = "name: digits\n"
YAMLLINT = """
extends: default
rules:
  braces: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 1}
  document-start: disable
  indentation: {indent-sequences: true, spaces: 2}
  line-length: {max: 150}
"""
WORKFLOW = """
name: check
on: [push]
permissions: {}
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - run: make check
"""


def tool(name):
    """Return the command of a validator, or skip with how to get it."""
    path = shutil.which(name, path=SEARCH)
    if path is None:
        pytest.skip(f"{name} is not installed here: make setup")
    return path


def found(*command, cwd):
    """Return what a validator says, or nothing if it accepts."""
    environment = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    return done.stdout + done.stderr if done.returncode else ""


def hadolint(path, folder):
    return found(tool("hadolint"), str(path), cwd=folder)


def shellcheck(path, folder):
    return found(tool("shellcheck"), "--shell=bash", str(path), cwd=folder)


def yamllint(path, folder):
    return found(tool("yamllint"), "--strict", "-d", YAMLLINT, str(path), cwd=folder)


def compose_schema(path, folder):
    return found(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path), cwd=folder)


def compose_lint(path, folder):
    # With the settings of .env it takes each password for a literal of the file.
    return found(tool("compose-lint"), "check", "--no-env", str(path), cwd=folder)


def workflow_schema(path, folder):
    return found(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(path), cwd=folder)


def actionlint(path, folder):
    return found(tool("actionlint"), "-no-color", str(path), cwd=folder)


def kubernetes(path, folder):
    return found(tool("kubernetes-validate"), "-k", KUBERNETES, "--strict", str(path), cwd=folder)


def kustomize(path, folder):
    return found(tool("kubectl"), "kustomize", str(path.parent), cwd=folder)


def kuberay(path, _folder):
    """Check a custom resource, with its pods, by KubeRay's own schema, in which no unknown field is allowed."""
    (resource,) = yaml.safe_load_all(path.read_text())
    file = HERE / "schemas" / f"kuberay-{resource['kind'].lower()}s-v1.schema.json"
    problems = Draft7Validator(json.loads(file.read_text())).iter_errors(resource)
    return "\n".join(f"{'.'.join(map(str, problem.path))}: {problem.message}" for problem in problems)


def ray_launcher(path, folder):
    ray = pytest.importorskip("ray")
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    return found(tool("check-jsonschema"), "--schemafile", str(schema), str(path), cwd=folder)


def ec2(path, _folder):
    """Check what Ray's schema leaves open: each machine is what EC2 takes."""
    session = pytest.importorskip("botocore.session").get_session()
    validate = pytest.importorskip("botocore.validate").ParamValidator().validate
    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    types = yaml.safe_load(path.read_text())["available_node_types"]
    reports = [
        validate({"MinCount": 1, "MaxCount": 1, **kind["node_config"]}, shape).generate_report()
        for kind in types.values()
    ]
    return "\n".join(filter(None, reports))


def terraform_format(path, folder):
    return found(tool("terraform"), "fmt", "-check", "-diff", str(path), cwd=folder)


def terraform_syntax(path, _folder):
    hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed here: make setup")
    try:
        hcl2.loads(path.read_text())
    except Exception as error:  # noqa: BLE001  its parser's own kinds
        return str(error) or type(error).__name__
    return ""


@dataclass(frozen=True)
class Check:
    """A validator, the files that must pass it, and a mistake in the first one: a text, and what is in its place."""

    validator: object
    files: tuple[str, ...]
    text: str
    fault: str
    says: str = field(default="")

    @property
    def name(self):
        return self.validator.__name__


MANIFESTS = tuple(f"kuberay/{name}.yaml" for name in ("postgres", "mlflow", "namespace", "network-policy"))
TERRAFORM = tuple(
    f"aws/terraform/{name}.tf"
    for name in ("bucket", "access", "mlflow", "network", "outputs", "passwords", "variables", "versions")
)
OTHERS = (
    "compose/compose.yaml",
    "aws/cluster.yaml",
    *(f"kuberay/{name}.yaml" for name in ("kustomization", "raycluster", "rayjob")),
)
SCRIPTS = ("slurm/sweep.sbatch", "aws/terraform/mlflow.sh")
HEADS = ("compose/compose.yaml", "kuberay/raycluster.yaml", "slurm/sweep.sbatch", "aws/cluster.yaml")
IN_FOLDER = 'cd "$(dirname "$SPEC")"'
CHECKS = [
    Check(hadolint, ("Dockerfile",), "USER 1000:1000", "USER 1000:1000\nRUN cd /tmp", "DL3003"),
    Check(shellcheck, SCRIPTS, IN_FOLDER, "cd $(dirname $SPEC)", "SC2046"),
    Check(yamllint, OTHERS + MANIFESTS, "name: ravel", "name: ravel\nname: b", "duplication of key"),
    Check(compose_schema, ("compose/compose.yaml",), "shm_size: 2gb", "shm_sice: 2gb", "shm_sice"),
    Check(compose_lint, ("compose/compose.yaml",), "shm_size: 2gb", "shm_size: 2gb\n  privileged: true", "CL-"),
    Check(kubernetes, MANIFESTS, "replicas: 1", "replicas: one", "replicas"),
    Check(kustomize, ("kuberay/kustomization.yaml",), "- mlflow.yaml", "- mlfow.yaml", "mlfow.yaml"),
    Check(kuberay, ("kuberay/raycluster.yaml",), "rayStartParams:", "rayStartParam:", "rayStartParam"),
    Check(kuberay, ("kuberay/raycluster.yaml",), "serviceAccountName:", "serviceAcountName:", "serviceAcountName"),
    Check(kuberay, ("kuberay/rayjob.yaml",), "entrypoint: >-", "entrypointt: >-", "entrypointt"),
    Check(ray_launcher, ("aws/cluster.yaml",), "idle_timeout_minutes", "idle_timeout_minutez", "idle_timeout_minutez"),
    Check(ray_launcher, ("aws/cluster.yaml",), "min_workers: 0", "min_workers: none", "none"),
    Check(ec2, ("aws/cluster.yaml",), "MarketType: spot", "MarketTyp: spot", "MarketTyp"),
    Check(terraform_format, TERRAFORM, "  bucket = ", "  bucket= ", "bucket="),
    Check(terraform_syntax, TERRAFORM, "rule {", "rule [", ""),
    Check(workflow_schema, ("workflows/check.yml",), "runs-on", "run-on", "run-on"),
    Check(actionlint, ("workflows/check.yml",), "make check", "make ${{ steps.none.output }}", "none"),
]
IDS = [f"{check.name}-{index}" for index, check in enumerate(CHECKS)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, repository):
    """The files of all kinds for a sweep, and those of the repository that are checked as they are."""
    root = tmp_path_factory.mktemp("infra")
    spec = root / "sweep.yaml"
    spec.write_text(SPEC)
    for kind in Kind:
        plain = {"nodes": 4, "gpus": 2, "cpus": 8, "storage": "s3://team/sweeps", "image": "ghcr.io/team/ravel:1"}
        write(Settings(kind, name="digits", spec=spec, region="us-east-1", **plain), root / kind.value)
    shutil.copy(repository / "infra" / "Dockerfile", root)
    (root / "workflows").mkdir()
    (root / "workflows" / "check.yml").write_text(WORKFLOW)
    template = (root / "aws" / "terraform" / "mlflow.sh.tftpl").read_text()
    (root / "aws" / "terraform" / "mlflow.sh").write_text(re.sub(r"(?<!\$)\$\{(\w+)\}", r"a-\1", template))
    return root


@pytest.mark.parametrize("check", CHECKS, ids=IDS)
def test_the_files_pass(check, cluster):
    assert {file: said for file in check.files if (said := check.validator(cluster / file, cluster))} == {}


@pytest.mark.parametrize("check", CHECKS, ids=IDS)
def test_a_planted_mistake_is_found(check, cluster, tmp_path):
    shutil.copytree(cluster, tmp_path / "copy")
    path = tmp_path / "copy" / check.files[0]
    text = path.read_text()
    assert check.text in text
    path.write_text(text.replace(check.text, check.fault, 1))
    said = check.validator(path, tmp_path / "copy")
    assert check.says in said
    assert said


def test_the_whole_of_what_kubectl_applies_is_valid(cluster, tmp_path):
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(cluster / "kuberay")], capture_output=True, text=True, check=True
    )
    (tmp_path / "all.yaml").write_text(done.stdout)
    assert kubernetes(tmp_path / "all.yaml", tmp_path) == ""
    resources = list(yaml.safe_load_all(done.stdout))
    assert {resource["metadata"].get("namespace", "digits") for resource in resources} == {"digits"}
    assert [image for image in re.findall(r"image: (\S+)", done.stdout) if image.startswith("ravel")] == []
    for resource in resources:
        if resource["kind"] == "RayCluster":
            (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(resource))
    assert kuberay(tmp_path / "cluster.yaml", tmp_path) == ""


def test_the_workflows_of_the_repository_pass(repository):
    files = sorted((repository / ".github" / "workflows").glob("*.y*ml"))
    assert files
    assert {file.name: said for file in files if (said := workflow_schema(file, repository))} == {}
    assert {file.name: said for file in files if (said := actionlint(file, repository))} == {}


@pytest.mark.parametrize("file", HEADS)
def test_every_head_has_the_settings_of_the_page_on_clusters(file, cluster, repository):
    page = (repository / "docs" / "cluster.md").read_text()
    settings = dict(re.findall(r"\b(RAY_\w+_ms|RAY_\w+_threshold)=(\d+)", page))
    assert len(settings) == 4
    text = (cluster / file).read_text()
    there = dict(re.findall(r"\b(RAY_\w+_ms|RAY_\w+_threshold)(?:=|: |, value: )\"?(\d+)", text))
    assert there == settings


def test_the_drain_of_a_worker_is_shorter_than_the_time_it_is_given(cluster):
    compose = yaml.safe_load((cluster / "compose" / "compose.yaml").read_text())["services"]["ray-worker"]
    assert compose["stop_grace_period"] == "2m"
    drains = [int(compose["environment"]["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])]
    for group in yaml.safe_load((cluster / "kuberay" / "raycluster.yaml").read_text())["spec"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == 120
        values = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
        drains.append(int(values["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]))
    assert drains == [90] * 3


def test_every_port_of_compose_is_on_loopback_and_every_service_but_the_one_that_ends_has_a_health_check(cluster):
    services = yaml.safe_load((cluster / "compose" / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"buckets"}


def test_every_password_of_compose_comes_from_the_settings(cluster):
    text = (cluster / "compose" / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    lines = (cluster / "compose" / ".env").read_text().splitlines()
    assert used | {"COMPOSE_PROFILES"} == {line.partition("=")[0] for line in lines if not line.startswith("#")}
    assert re.findall(r"(?:PASSWORD|SECRET\w*|TOKEN|KEY): (?!\$\{)\S+", text) == []


def test_the_roles_of_aws_allow_no_more_than_they_name(cluster):
    hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed here: make setup")
    documents = hcl2.loads((cluster / "aws" / "terraform" / "access.tf").read_text())["data"]
    statements = [
        statement
        for entry in documents
        for kind, names in entry.items()
        if "aws_iam_policy_document" in kind
        for document in names.values()
        if isinstance(document, dict)
        for statement in document["statement"]
    ]
    assert len(statements) >= 12
    allowed = [statement for statement in statements if "Deny" not in str(statement.get("effect"))]
    whole_services = [a for statement in allowed for a in statement["actions"] if re.fullmatch(r'"?(\w+:)?\*"?', a)]
    assert whole_services == []
    lists = [statement for statement in allowed if isinstance(statement.get("resources"), list)]
    everywhere = [statement for statement in lists if "*" in {r.strip('"') for r in statement["resources"]}]
    assert [statement["sid"].strip('"') for statement in everywhere] == ["Look"]
    assert all(":Describe" in action for action in everywhere[0]["actions"])


def test_the_bucket_is_versioned_encrypted_private_and_cleans_up(cluster):
    text = (cluster / "aws" / "terraform" / "bucket.tf").read_text()
    encrypted = "server_side_encryption_configuration"
    for resource in ("versioning", encrypted, "lifecycle_configuration", "public_access_block"):
        assert f'resource "aws_s3_bucket_{resource}" "results"' in text
    assert text.count("= true\n") >= 5
    assert "abort_incomplete_multipart_upload" in text
    assert "noncurrent_version_expiration" in text


def test_no_password_is_in_the_state_of_terraform(cluster):
    text = "\n".join(path.read_text() for path in (cluster / "aws" / "terraform").glob("*.tf"))
    assert re.findall(r'^(?:resource|data) "random_password"', text, re.MULTILINE) == []
    assert re.findall(r"^\s*(?:password|secret_string)\s*=", text, re.MULTILINE) == []
    assert len(re.findall(r"^\s*(?:password_wo|secret_string_wo)\s*=\s*ephemeral\.", text, re.MULTILINE)) == 3
