"""Exports of a sweep that is kept in S3."""

import pytest
import varied_sweep as varied

from orchestrator.export import registry
from orchestrator.state.s3_mirror import Mirror, publish
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.storage.s3 import Bucket


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_sweep_in_s3_is_exported_on_another_machine_as_one_on_a_disk(s3, tmp_path, monkeypatch):
    local = varied.write(tmp_path)
    remote = Bucket(s3.location / "sweeps").child(local.sweep)
    folder = SweepFolder(local.path, remote)
    publish(folder)
    Mirror(folder, remote).catch_up()
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "another machine"))
    mirrored = find_sweep((s3.location / "sweeps").uri, local.sweep)
    assert mirrored.path != local.path
    texts = []
    for item in (local, mirrored):
        place = registry.export(item, "csv", tmp_path / "out", force=True).path
        texts.append([(place / name).read_text() for name in ("trials.csv", "reports.csv")])
    assert texts[0] == texts[1]
