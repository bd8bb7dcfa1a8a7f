"""Raw files, cache and process together: what is read when one of them has changed."""

import logging
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.config.trial import DataConfig
from trainables.data import available, load_splits, load_test, loading
from trainables.errors import ConfigError, DatasetDamaged, DatasetMissing

PARTS = {"train": 60, "t10k": 12}


@pytest.fixture
def config(tmp_path):
    """A small KMNIST with a cache of its own."""
    raw = tmp_path / "root" / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, (part, size) in enumerate(PARTS.items()):
        images = np.random.default_rng(seed).integers(0, 256, (size, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, *images.shape) + images.tobytes())
        labels = bytes(i % 10 for i in range(size))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, size) + labels)
    return DataConfig(name="kmnist", root=str(tmp_path / "root"), cache=str(tmp_path / "cache"))


def raw(config, file="t10k-images-idx3-ubyte"):
    return Path(config.root, "KMNIST", "raw", file)


def entries(config):
    return sorted(path for path in Path(config.cache).iterdir() if path.is_dir())


def next_process():
    """What one process has loaded, another does not know of."""
    loading._load_once.cache_clear()


def test_a_warm_cache_needs_no_torchvision(config):
    expected = load_test(config).images_NCHW.sum()
    program = f"""
import sys
from trainables.config.trial import DataConfig
from trainables.data import available, load_splits, load_test, shape_of
config = DataConfig(**{config.model_dump()})
available(config), shape_of(config), load_splits(config)
print(int(load_test(config).images_NCHW.sum()), "torchvision" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected} False\n"


def test_a_second_process_opens_the_same_entry(config):
    before, entry = load_splits(config), entries(config)
    next_process()
    after = load_splits(config)
    assert after.train is not before.train
    assert torch.equal(after.train.images_NCHW, before.train.images_NCHW)
    assert entries(config) == entry


def test_changed_raw_files_are_read_again(config):
    before = load_test(config)
    content = bytearray(raw(config).read_bytes())
    content[-1] ^= 255
    raw(config).write_bytes(content)
    next_process()
    after = load_test(config)
    assert (before.images_NCHW != after.images_NCHW).any()
    assert len(entries(config)) == 2


def test_a_copy_in_another_folder_with_the_same_times_shares_the_entry(config, tmp_path):
    load_splits(config)
    Path(config.root).rename(tmp_path / "moved")
    load_splits(config.model_copy(update={"root": str(tmp_path / "moved")}))
    assert len(entries(config)) == 1


def test_a_damaged_entry_is_made_again_from_the_raw_files(config, caplog):
    before = load_splits(config).val.images_NCHW.clone()
    (entry,) = entries(config)
    (entry / "val_images.npy").write_bytes(b"")
    next_process()
    with caplog.at_level(logging.WARNING, logger="trainables.data.cache"):
        assert torch.equal(load_splits(config).val.images_NCHW, before)
    assert "val_images.npy" in caplog.text


def test_a_damaged_entry_of_damaged_raw_files_is_an_error(config):
    load_splits(config)
    (entry,) = entries(config)
    (entry / "val_images.npy").write_bytes(b"")
    stat = raw(config).stat()
    raw(config).write_bytes(bytes(stat.st_size))
    os.utime(raw(config), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    next_process()
    with pytest.raises(DatasetDamaged, match="t10k-images-idx3-ubyte does not begin like idx3-ubyte data; delete"):
        load_splits(config)


def test_an_entry_does_not_stand_for_raw_files_that_are_gone(config):
    load_splits(config)
    raw(config).unlink()
    next_process()
    with pytest.raises(DatasetMissing, match="lacks t10k-images-idx3-ubyte"):
        load_splits(config)


def test_a_cache_that_cannot_be_written_is_told_before_a_trial_starts(config, tmp_path):
    (tmp_path / "file").write_text("")
    wrong = config.model_copy(update={"cache": str(tmp_path / "file")})
    for ask in (available, load_splits):
        with pytest.raises(ConfigError, match=r"data\.cache: cannot write to"):
            ask(wrong)


def test_the_digits_need_no_cache(tmp_path):
    (tmp_path / "file").write_text("")
    digits = DataConfig(cache=str(tmp_path / "file"))
    available(digits)
    assert len(load_test(digits)) == 359


def test_the_cache_is_named_by_the_config_then_the_environment_then_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAVEL_CACHE", "/of/environment")
    assert loading.cache_folder(DataConfig(cache="/of/config")) == Path("/of/config")
    assert loading.cache_folder(DataConfig()) == Path("/of/environment")
    monkeypatch.delenv("RAVEL_CACHE")
    assert loading.cache_folder(DataConfig()) == tmp_path / ".cache" / "ravel"
