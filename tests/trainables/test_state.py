"""Checkpoints: whole or absent, readable for ever, and no code in them."""

import json
import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from trainables.config.trial import TrialConfig
from trainables.engine import checkpoint as state
from trainables.engine.checkpoint import FILE_NAME, Checkpoint
from trainables.errors import CheckpointError
from trainables.models.loading import load_model
from trainables.tasks.classifier.run import restore

# What the model of the asset answers to a ramp from black to white.
GOLDEN_LOGITS = [
    0.0028533,
    0.0041383,
    0.0145504,
    0.0065415,
    0.0151158,
    0.0148715,
    -0.0015321,
    0.0170200,
    -0.0234175,
    -0.0501412,
]
ASSETS = Path(__file__).parent / "assets"


def checkpoint(epoch=3):
    return Checkpoint(
        config="{}", epoch=epoch, model={"w": torch.arange(3.0)}, optimizer={"state": {}}, streams={"mixup": "{}"}
    )


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    state.save(tmp_path / "new" / "folder", checkpoint())
    loaded = state.load(tmp_path / "new" / "folder")
    assert torch.equal(loaded.model["w"], torch.arange(3.0))
    assert (loaded.config, loaded.epoch, loaded.streams) == ("{}", 3, {"mixup": "{}"})


def test_the_file_is_one_that_the_restricted_unpickler_accepts(tmp_path):
    state.save(tmp_path, checkpoint())
    assert torch.load(tmp_path / FILE_NAME, weights_only=True)["format"] == state.FORMAT


def test_a_save_that_fails_keeps_the_earlier_checkpoint_and_leaves_nothing_behind(tmp_path, monkeypatch):
    state.save(tmp_path, checkpoint(epoch=3))

    def half_written(_content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(OSError, match="No space left"):
        state.save(tmp_path, checkpoint(epoch=4))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert state.load(tmp_path).epoch == 3


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor):
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(self, target):
        calls.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    state.save(tmp_path, checkpoint())
    assert calls == ["file", "rename", "directory"]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_named_with_a_remedy(tmp_path, keep):
    state.save(tmp_path, checkpoint())
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(CheckpointError, match=r"state\.pt: is truncated or damaged .*start from an older checkpoint"):
        state.load(tmp_path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{FILE_NAME}: does not exist; give the directory"):
        state.load(tmp_path / "nowhere")


@pytest.mark.parametrize("version", [0, 3, None])
def test_a_format_of_another_version_is_refused(tmp_path, version):
    torch.save({"format": version, "epoch": 1}, tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match=rf"has format {version}, this version reads formats 1 to 2"):
        state.load(tmp_path)


def test_a_checkpoint_with_a_part_missing_is_refused(tmp_path):
    torch.save({"format": 1, "epoch": 1}, tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match="lacks or adds a part"):
        state.load(tmp_path)


def test_a_file_that_is_no_dictionary_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match="holds a list, no checkpoint"):
        state.load(tmp_path)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_code_in_a_file_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"format": 1, "epoch": Payload(marker)}, tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match="damaged"):
        state.load(tmp_path)
    assert not marker.exists()
    with (tmp_path / "plain").open("wb") as file:
        pickle.dump(Payload(marker), file)
    pickle.loads((tmp_path / "plain").read_bytes())  # noqa: S301 - shows that the payload is live
    assert marker.exists()


def test_a_checkpoint_of_format_1_is_still_read():
    loaded = state.load(ASSETS / "checkpoint-v1")
    assert loaded.epoch == 1
    model = load_model(ASSETS / "checkpoint-v1")
    assert model.taps == ("fc1", "fc2", "penultimate", "logits")
    x = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    expected = torch.tensor(GOLDEN_LOGITS)
    torch.testing.assert_close(model(x)[0].detach(), expected, rtol=1e-5, atol=1e-6)


def test_a_trial_of_format_1_says_in_todays_words_what_it_was(tmp_path):
    old = {"model": {"name": "cnn"}, "adversarial": {"attack": "fgsm", "epsilon": 0.1}}
    parts = {"epoch": 1, "model": {}, "optimizer": {}, "streams": {}}
    torch.save({"format": 1, "config": json.dumps(old), **parts}, tmp_path / FILE_NAME)
    config = TrialConfig.model_validate_json(state.load(tmp_path).config)
    assert (config.model.name, config.adversarial.attack, config.precision) == ("cnn_bn", "fgsm_rs", "float32")


@pytest.mark.parametrize("config", ["not json", "[1]", '{"model": null}', None])
def test_a_damaged_description_of_format_1_is_a_checkpoint_error(tmp_path, config):
    parts = {"epoch": 1, "model": {}, "optimizer": {}, "streams": {}}
    torch.save({"format": 1, "config": config, **parts}, tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match="describes no trial"):
        state.load(tmp_path)


def test_a_checkpoint_of_format_2_is_read_with_its_average_and_its_temperatures():
    loop = restore(ASSETS / "checkpoint-v2")
    run = loop.run
    assert loop.epoch == 2
    assert {name: round(float(value), 4) for name, value in run.memory["snnl"].items() if "log_beta" in name} == {
        "fc1/log_beta": 0.1540,
        "fc2/log_beta": -0.6611,
    }
    assert run.pgd_accuracy == 0.11328125
    x = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    logits = load_model(ASSETS / "checkpoint-v2")(x)[0].detach()
    expected = [-0.0011, 0.0015, 0.0059, 0.0096, 0.0096, 0.0099, 0.0011, 0.0120, -0.0139, -0.0343]
    torch.testing.assert_close(logits, torch.tensor(expected), rtol=0, atol=1e-4)
    assert not torch.equal(run.model.head.weight, run.evaluated_model.head.weight)


def test_a_checkpoint_with_the_memory_of_regularizers_is_read_and_continues():
    loop = restore(ASSETS / "checkpoint-v2-memory")
    memory = {
        place: {name: round(float(value), 4) for name, value in kept.items()} for place, kept in loop.run.memory.items()
    }
    assert memory == {
        "snnl": {"fc1/log_beta": -0.7813, "fc1/origin": -1.9631, "fc2/log_beta": -0.1934, "fc2/origin": -1.004},
        "regularizers.late": {"penultimate/log_beta": -0.0494, "penultimate/origin": -0.1368},
    }
    assert loop.run_epoch().epoch == 3


@pytest.mark.parametrize("learned", [3, {"fc1": 1.0}, {"fc1": [1.0, 2.0, 3.0]}])
def test_damaged_temperatures_are_a_checkpoint_error(tmp_path, learned):
    parts = {"epoch": 1, "model": {}, "optimizer": {}, "streams": {}, "temperatures": learned}
    torch.save({"format": 2, "config": "{}", **parts}, tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match="lacks or adds a part"):
        state.load(tmp_path)
