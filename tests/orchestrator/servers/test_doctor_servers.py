"""`ravel doctor` on real servers: a well one is said to be well and left as it was, and planted faults are named."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.doctor import buckets, tracking

RAVEL = str(Path(sys.executable).with_name("ravel"))


def named(findings, name):
    return next(finding for finding in findings if finding.name == name)


def statuses(findings):
    return {finding.name: finding.status for finding in findings}


def keys(s3):
    client = s3.client()
    listed = client.list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", [])
    client.close()
    return [entry["Key"] for entry in listed], len(uploads)


# S3


def test_a_bucket_that_works_is_well_in_every_way_and_left_as_it_was(s3):
    before = keys(s3)
    findings = list(buckets.bucket_findings(s3.location.uri))
    wanted = {"server", "list", "its clock", "put", "get", "conditional put", "multipart", "checkpoints", "delete"}
    assert statuses(findings) == dict.fromkeys([*wanted, "clean up"], "ok"), findings
    assert keys(s3) == before


def test_a_wrong_key_is_refused_with_the_remedy_and_not_shown(s3, aws):
    if s3.name == "moto":
        pytest.skip("moto checks no signature")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    findings = list(buckets.bucket_findings(s3.location.uri))
    refused = named(findings, "list")
    assert (refused.status, "SignatureDoesNotMatch" in refused.text) == ("fail", True)
    assert "AWS_SECRET_ACCESS_KEY" in refused.fix
    assert "not-the-secret" not in str(findings)
    assert statuses(findings).keys() == {"server", "list"}


def test_a_bucket_that_does_not_exist_is_named_with_the_remedy(s3):
    assert s3
    refused = named(list(buckets.bucket_findings("s3://ravel-absent/a")), "list")
    assert (refused.status, "NoSuchBucket" in refused.text) == ("fail", True)
    assert "create the bucket" in refused.fix


def test_a_server_that_is_away_is_one_failure(aws, free_port):
    aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    findings = list(buckets.bucket_findings("s3://team/ravel"))
    assert statuses(findings) == {"server": "ok", "list": "fail"}
    assert "AWS_ENDPOINT_URL" in named(findings, "list").fix


@pytest.mark.usefixtures("aws")
def test_an_address_that_breaks_the_grammar_is_one_failure():
    (finding,) = buckets.bucket_findings("s3://team/a//b")
    assert finding.status == "fail"
    assert "empty part" in finding.text


def test_without_boto3_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    (finding,) = buckets.bucket_findings("s3://team/ravel")
    assert (finding.status, finding.fix) == ("fail", "pip install 'ravel-sweeps[s3]'")


def test_a_server_that_ignores_conditions_is_refused_as_two_drivers_could_run_one_sweep(s3, monkeypatch):
    """The server is real; only the condition is left out of the request, as some servers leave it out of account."""
    plain = buckets.Bucket.write
    monkeypatch.setattr(
        buckets.Bucket, "write", lambda self, key, data, *, if_absent=False: plain(self, key, data) or if_absent
    )
    before = keys(s3)
    findings = list(buckets.bucket_findings(s3.location.uri))
    assert named(findings, "conditional put").status == "fail"
    assert keys(s3) == before


def test_a_clock_that_is_wrong_by_twenty_minutes_is_named(s3, tmp_path):
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed here")
    words = ["-f", "-20m", RAVEL, "doctor", "--storage", s3.location.uri, "--json"]
    done = subprocess.run(
        [faketime, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250, env=os.environ
    )
    groups = {group["title"]: group["findings"] for group in json.loads(done.stdout)["groups"]}
    findings = {finding["name"]: finding for finding in groups[f"Storage {s3.location.uri}"]}
    if s3.name == "moto":  # which takes requests of any time
        clock = findings["its clock"]
        assert (clock["status"], "ahead of this machine's" in clock["text"]) == ("warn", True)
        assert "NTP" in clock["fix"]
    else:
        assert findings["list"]["status"] == "fail"
        assert "RequestTimeTooSkewed" in findings["list"]["text"]
        assert "NTP" in findings["list"]["fix"]


# MLflow


def test_a_team_server_is_well_and_asks_strangers_for_a_login(team_server, tmp_path):
    environ = {"HOME": str(tmp_path), **team_server.environment}
    findings = list(tracking.tracking_findings(team_server.address, environ))
    assert statuses(findings) == dict.fromkeys(["store", "version", "latency", "its clock", "login"], "ok"), findings
    assert "required" in named(findings, "login").text


def test_a_wrong_password_of_a_team_server_is_one_failure(team_server, tmp_path):
    environ = {"HOME": str(tmp_path), **team_server.environment, "MLFLOW_TRACKING_PASSWORD": "not-the-password"}
    (finding,) = tracking.tracking_findings(team_server.address, environ)
    assert (finding.status, "refuses the login" in finding.text) == ("fail", True)
    assert "not-the-password" not in str(finding)


def test_a_name_that_a_team_server_does_not_have_is_named_with_the_option(team_server, tmp_path):
    address = team_server.address.replace("127.0.0.1", "localhost.localdomain")
    try:
        (finding,) = tracking.tracking_findings(address, {"HOME": str(tmp_path), **team_server.environment})
    except ValueError:
        pytest.skip("this machine has no second name for loopback")
    if "does not answer" in finding.text:
        pytest.skip("this machine has no second name for loopback")
    assert "--allowed-hosts localhost.localdomain" in finding.fix


def test_a_database_is_well_while_it_runs(postgres, tmp_path):
    findings = list(tracking.tracking_findings(postgres.uri, {"HOME": str(tmp_path)}))
    assert statuses(findings) == {"store": "ok"}


def test_a_database_that_is_away_is_one_failure_without_its_password(free_port, tmp_path):
    (finding,) = tracking.tracking_findings(
        f"postgresql://ada:planted@127.0.0.1:{free_port}/db", {"HOME": str(tmp_path)}
    )
    assert finding.status == "fail"
    assert "planted" not in str(finding)
