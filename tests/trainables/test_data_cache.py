"""A set is prepared once per machine, never half, and never read when it is not what was written."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.data import cache
from trainables.data.splits import Parts, Split
from trainables.errors import ConfigError

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from trainables.data import cache
from trainables.data.splits import Parts, Split

folder, log = Path(sys.argv[1]), Path(sys.argv[2])

def prepare():
    with log.open("a") as file:
        file.write("prepared\\n")
    time.sleep(0.3)
    parts = (Split(torch.full((4, 1, 2, 2), i, dtype=torch.uint8), torch.arange(4)) for i in range(3))
    return Parts(*parts)
"""


def split(value, *, size=4):
    return Split(torch.full((size, 1, 2, 2), value, dtype=torch.uint8), torch.arange(size))


def parts(value=0):
    return Parts(split(value), split(value + 1), split(value + 2))


def entry_of(folder, made=parts, *, fingerprint="f"):
    return cache.prepared(folder, source="s", fingerprint=fingerprint, prepare=made)


def never():
    raise AssertionError("prepared again")


def same(one, other):
    return all(
        torch.equal(a.images_NCHW, b.images_NCHW) and torch.equal(a.labels_N, b.labels_N)
        for a, b in zip(one[:3], other[:3], strict=True)
    ) and (one.classes == other.classes)


def test_what_is_read_is_what_was_prepared(tmp_path):
    assert same(cache.read(entry_of(tmp_path)), parts())


def test_an_intact_entry_is_not_prepared_again(tmp_path):
    assert entry_of(tmp_path) == entry_of(tmp_path, never)


def test_the_folder_is_made(tmp_path):
    assert entry_of(tmp_path / "a" / "b").parent == tmp_path / "a" / "b"


def test_an_entry_holds_a_manifest_of_this_format(tmp_path):
    manifest = json.loads((entry_of(tmp_path) / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["arrays"]["train_images.npy"]["shape"] == [4, 1, 2, 2]
    assert len(manifest["arrays"]) == 6


def test_a_write_to_a_tensor_does_not_reach_the_file(tmp_path):
    entry = entry_of(tmp_path)
    cache.read(entry).train.images_NCHW.fill_(9)
    assert same(cache.read(entry), parts())


def test_images_are_mapped_not_copied(tmp_path):
    entry = entry_of(tmp_path)
    train = cache.read(entry).train
    maps = Path("/proc/self/maps").read_text().splitlines()
    begin, end = next(line.split()[0].split("-") for line in maps if line.endswith(f"{entry}/train_images.npy"))
    assert int(begin, 16) <= train.images_NCHW.data_ptr() < int(end, 16)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def rewrite_manifest(change):
    def rewrite(path):
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return rewrite


DAMAGES = {
    "an array with one bit flipped": ("test_labels.npy", flip_a_byte),
    "a truncated array": ("train_images.npy", truncate),
    "an empty array": ("train_images.npy", lambda path: path.write_bytes(b"")),
    "a missing array": ("val_images.npy", Path.unlink),
    "a truncated manifest": ("manifest.json", truncate),
    "a missing manifest": ("manifest.json", Path.unlink),
    "a manifest of another format": ("manifest.json", rewrite_manifest(lambda m: m.update(format=0))),
    "a manifest of another set": ("manifest.json", rewrite_manifest(lambda m: m.update(fingerprint="g"))),
    "a manifest that lists too little": ("manifest.json", rewrite_manifest(lambda m: m["arrays"].popitem())),
    "a manifest with another shape": (
        "manifest.json",
        rewrite_manifest(lambda m: m["arrays"]["val_images.npy"].update(shape=[2, 2, 2, 2])),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_mended(damage, tmp_path, caplog):
    file, harm = DAMAGES[damage]
    entry = entry_of(tmp_path)
    harm(entry / file)
    with caplog.at_level(logging.WARNING, logger="trainables.data.cache"):
        assert same(cache.read(entry_of(tmp_path)), parts())
    (record,) = caplog.records
    message = record.getMessage()
    assert str(entry) in message
    assert ("manifest.json" if file == "manifest.json" else file) in message
    assert "preparing it from the raw files once more" in message
    assert entry_of(tmp_path, never) == entry


def test_the_names_of_the_classes_are_kept(tmp_path):
    named = parts()._replace(classes=("cat", "dog"))
    assert cache.read(entry_of(tmp_path, lambda: named)).classes == ("cat", "dog")


def test_an_entry_that_was_written_before_classes_had_names_is_intact(tmp_path):
    entry = entry_of(tmp_path)
    rewrite_manifest(lambda manifest: manifest.pop("classes"))(entry / "manifest.json")
    assert cache.read(entry_of(tmp_path, never)).classes == ()


def test_a_fingerprint_does_not_depend_on_the_folder(tmp_path):
    paths = [tmp_path / name / "raw" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("content")
        os.utime(path, ns=(1, 1))
    one, other = (cache.fingerprint("recipe", {"raw": path}) for path in paths)
    assert one == other


def test_a_fingerprint_changes_with_size_time_name_and_recipe(tmp_path):
    path = tmp_path / "raw"
    path.write_text("content")
    os.utime(path, ns=(1, 1))
    seen = {cache.fingerprint("recipe", {"raw": path})}
    seen |= {cache.fingerprint("other", {"raw": path}), cache.fingerprint("recipe", {"name": path})}
    os.utime(path, ns=(1, 2))
    seen.add(cache.fingerprint("recipe", {"raw": path}))
    path.write_text("contents")
    os.utime(path, ns=(1, 1))
    seen.add(cache.fingerprint("recipe", {"raw": path}))
    assert len(seen) == 5


def test_changed_raw_files_get_an_entry_of_their_own(tmp_path):
    before, after = entry_of(tmp_path), entry_of(tmp_path, lambda: parts(5), fingerprint="g")
    assert same(cache.read(before), parts())
    assert same(cache.read(after), parts(5))


def test_a_preparation_that_fails_leaves_no_entry(tmp_path):
    with pytest.raises(AssertionError, match="prepared again"):
        entry_of(tmp_path, never)
    assert same(cache.read(entry_of(tmp_path)), parts())


def start(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_of_two_processes_one_prepares_and_both_read(tmp_path):
    program = """
(log.parent / f"ready-{os.getpid()}").touch()
while len(list(log.parent.glob("ready-*"))) < 2:
    time.sleep(0.01)
entry = cache.prepared(folder, source="s", fingerprint="f", prepare=prepare)
print(*(int(part.images_NCHW.sum()) for part in cache.read(entry)[:3]))
"""
    log = tmp_path / "log"
    processes = [start(program, tmp_path / "cache", log) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == ["0 16 32\n"] * 2
    assert log.read_text() == "prepared\n"


def test_what_a_crash_left_is_never_read_and_is_swept_away(tmp_path):
    program = """
class Crash:
    @property
    def images_NCHW(self):
        os._exit(9)

cache.prepared(folder, source="s", fingerprint="f", prepare=lambda: prepare()._replace(test=Crash()))
"""
    process = start(program, tmp_path, tmp_path / "log")
    process.communicate()
    assert process.returncode == 9
    assert (tmp_path / ".s-f.unfinished" / "val_images.npy").exists()
    assert not (tmp_path / "s-f").exists()
    assert same(cache.read(entry_of(tmp_path)), parts())
    assert {path.name for path in tmp_path.iterdir()} == {"s-f", "s-f.lock", "log"}


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_cache_that_cannot_be_written_is_named(below, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / below
    message = rf"data\.cache: cannot write to {folder}.*name another folder here or in RAVEL_CACHE"
    with pytest.raises(ConfigError, match=message):
        entry_of(folder)
    with pytest.raises(ConfigError, match=message):
        cache.require_writable(folder, source="s")


def test_a_folder_that_is_to_be_made_can_be_written(tmp_path):
    cache.require_writable(tmp_path / "a" / "b", source="s")
    assert not (tmp_path / "a").exists()


def test_an_entry_is_read_where_nothing_can_be_written(tmp_path):
    program = """
from trainables.errors import ConfigError

os.chdir(folder)
here = Path()
entry = cache.prepared(here, source="s", fingerprint="f", prepare=prepare)
here.chmod(0o555)
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
cache.require_writable(here, source="s")
print(cache.prepared(here, source="s", fingerprint="f", prepare=None) == entry)
for ask in (lambda: cache.require_writable(here, source="t"), lambda: cache.prepared(
    here, source="t", fingerprint="f", prepare=prepare)):
    try:
        ask()
    except ConfigError as error:
        print(error)
"""
    lines = start(program, tmp_path, tmp_path / "log").communicate()[0].splitlines()
    tmp_path.chmod(0o755)
    assert lines[0] == "True"
    assert len(lines) == 3
    assert all(line.startswith("data.cache: cannot write to .: ") for line in lines[1:])
    assert (tmp_path / "log").read_text() == "prepared\n"
