"""Data sets brought from S3 to a node, on a real object store (OpenStack Swift) and on moto's server."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import StorageError
from orchestrator.storage.etags import etag_of
from orchestrator.storage.s3 import Bucket, Settings
from orchestrator.storage.staging import stage

MIB = 1 << 20
FILES = {"train/cat/1.png": b"a cat", "train/dog/1.png": b"a dog", "test/cat/2.png": b"another cat", "empty": b""}


@pytest.fixture
def images(bucket):
    """A small data set, and its address."""
    for key, content in FILES.items():
        bucket.child("images").write(key, content)
    return bucket.child("images")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def staged(bucket, cache, proxy=None):
    """Staged, and how many objects were asked for on the way."""
    before = len(proxy.ranges()) if proxy else 0
    folder = stage(bucket.location.uri, cache)
    return folder, len(proxy.ranges()) - before if proxy else None


def test_a_staged_folder_holds_exactly_the_objects(images, bucket, tmp_path):
    bucket.write("images2/other", b"a namesake")
    folder, _ = staged(images, tmp_path)
    assert contents(folder) == FILES
    assert folder.is_relative_to(tmp_path / "staged")
    assert not (folder.parent / "fetched").exists()
    manifest = json.loads((folder.parent / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert set(manifest["files"]) == set(FILES)


def test_a_set_is_fetched_once(images, s3, proxy, tmp_path):
    images = Bucket(images.location)
    folder, asked = staged(images, tmp_path, proxy)
    assert asked == len(FILES) - 1  # the empty one needs no request
    assert staged(images, tmp_path, proxy) == (folder, 0)
    assert s3.secret not in (folder.parent / "manifest.json").read_text()


def test_processes_of_one_node_fetch_a_set_once(images, proxy, tmp_path):
    code = (
        "import sys; from pathlib import Path; from orchestrator.storage.staging import stage\n"
        "print(stage(sys.argv[1], Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, images.location.uri, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate()[0].strip() for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert first == second
    assert contents(Path(first)) == FILES
    assert len(proxy.ranges()) == len(FILES) - 1


def test_threads_of_one_process_fetch_a_set_once(images, proxy, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert len({folder for folder, _ in pool.map(lambda _: staged(images, tmp_path), range(4))}) == 1
    assert len(proxy.ranges()) == len(FILES) - 1


def test_after_an_interruption_only_the_rest_is_asked_for(bucket, proxy, tmp_path):
    content = os.urandom(3 * MIB)
    bucket.write("set/large", content)
    proxy.cuts = [MIB] + [0] * 100
    settings = Settings(proxy.endpoint, attempts=1)
    with pytest.raises(StorageError, match="large: cannot read"):
        stage(bucket.child("set").location.uri, tmp_path, settings)
    (part,) = tmp_path.rglob("*.part")
    assert part.stat().st_size == MIB
    proxy.cuts, proxy.requests = [], []
    folder = stage(bucket.child("set").location.uri, tmp_path, settings)
    assert contents(folder) == {"large": content}
    assert proxy.ranges() == [f"bytes={MIB}-"]


def test_a_process_killed_while_it_fetches_leaves_what_the_next_one_takes_up(bucket, proxy, tmp_path):
    content = os.urandom(3 * MIB)
    bucket.write("set/large", content)
    bucket.write("set/small", b"x")
    code = (
        "import os, sys; from pathlib import Path; from orchestrator.storage import staging, s3\n"
        "def killed(self, key, **how):\n"
        "    for piece in stream(self, key, **how):\n"
        "        yield piece\n"
        "        if key == 'large': os.kill(os.getpid(), 9)\n"
        "stream, s3.Bucket.stream, staging.FILES_AT_A_TIME = s3.Bucket.stream, killed, 1\n"
        "staging.stage(sys.argv[1], Path(sys.argv[2]))"
    )
    uri = bucket.child("set").location.uri
    assert subprocess.run([sys.executable, "-c", code, uri, str(tmp_path)], check=False).returncode == -9
    proxy.requests.clear()
    folder = stage(uri, tmp_path)
    assert contents(folder) == {"large": content, "small": b"x"}
    rest, whole = sorted(proxy.ranges(), key=lambda asked: asked is None)
    assert 0 < int(rest.removeprefix("bytes=").removesuffix("-")) <= MIB
    assert whole is None


def test_an_object_that_changed_after_a_cut_is_fetched_from_the_start(bucket, proxy, tmp_path):
    uri = bucket.child("set").location.uri
    bucket.write("set/large", os.urandom(3 * MIB))
    proxy.cuts = [MIB] + [0] * 100
    with pytest.raises(StorageError):
        stage(uri, tmp_path, Settings(proxy.endpoint, attempts=1))
    content = os.urandom(2 * MIB)
    bucket.write("set/large", content)
    proxy.cuts, proxy.requests = [], []
    assert contents(stage(uri, tmp_path)) == {"large": content}
    assert proxy.ranges() == [None]


def test_only_changed_objects_are_fetched_and_files_without_objects_are_removed(images, proxy, tmp_path):
    staged(images, tmp_path)
    images.write("train/cat/1.png", b"a new cat")
    images.write("train/cat/3.png", b"one more")
    images.delete(["test/cat/2.png"])
    folder, asked = staged(images, tmp_path, proxy)
    assert asked == 2
    changed = {"train/cat/1.png": b"a new cat", "train/cat/3.png": b"one more"}
    assert contents(folder) == {key: content for key, content in FILES.items() if key != "test/cat/2.png"} | changed
    assert not (folder / "test").exists()


def test_an_object_uploaded_twice_is_fetched_once(images, proxy, tmp_path):
    folder, _ = staged(images, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    for key, content in FILES.items():
        images.write(key, content)
    assert staged(images, tmp_path, proxy) == (folder, 0)
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def test_a_stage_that_fails_leaves_the_one_before_it_whole(images, proxy, tmp_path):
    folder, _ = staged(images, tmp_path)
    images.write("train/cat/1.png", b"a new cat")
    proxy.cuts = [0] * 100
    with pytest.raises(StorageError):
        stage(images.location.uri, tmp_path, Settings(proxy.endpoint, attempts=1))
    assert contents(folder) == FILES


def harm_shorten(folder):
    os.truncate(folder / "train/cat/1.png", 2)


def harm_rewrite(folder):
    (folder / "train/cat/1.png").write_bytes(b"a dot")


def harm_delete(folder):
    shutil.rmtree(folder / "train")


def harm_add(folder):
    (folder / "train/cat/stray.png").write_bytes(b"x")
    (folder / "train/stray").mkdir()


def harm_link(folder):
    (folder / "train/cat/1.png").unlink()
    (folder / "train/cat/1.png").symlink_to("/etc/hostname")


def harm_folder_for_file(folder):
    (folder / "train/cat/1.png").unlink()
    (folder / "train/cat/1.png/deep").mkdir(parents=True)


def harm_file_for_folder(folder):
    shutil.rmtree(folder / "train/cat")
    (folder / "train/cat").write_bytes(b"x")


def harm_link_for_folder(folder):
    shutil.move(folder / "train/cat", folder.parents[2] / "outside")
    (folder / "train/cat").symlink_to(folder.parents[2] / "outside")


def harm_manifest(folder):
    (folder.parent / "manifest.json").write_text("{")


HARMS = (
    harm_shorten,
    harm_rewrite,
    harm_delete,
    harm_add,
    harm_link,
    harm_folder_for_file,
    harm_file_for_folder,
    harm_link_for_folder,
    harm_manifest,
)


def test_damage_on_the_disk_is_mended(images, tmp_path):
    folder, _ = staged(images, tmp_path)
    for harm in HARMS:
        harm(folder)
        assert staged(images, tmp_path)[0] == folder
        assert contents(folder) == FILES, harm
        assert not any(path.is_symlink() for path in folder.rglob("*")), harm
        assert not (folder / "train/stray").exists(), harm
    assert contents(tmp_path / "outside") == {"1.png": b"a cat"}


def test_a_damaged_part_is_fetched_from_the_start(bucket, proxy, tmp_path):
    uri = bucket.child("set").location.uri
    content = os.urandom(2 * MIB)
    bucket.write("set/large", content)
    proxy.cuts = [MIB] + [0] * 100
    with pytest.raises(StorageError):
        stage(uri, tmp_path, Settings(proxy.endpoint, attempts=1))
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(bytes(MIB))
    proxy.cuts, proxy.requests = [], []
    assert contents(stage(uri, tmp_path)) == {"large": content}
    assert proxy.ranges() == [f"bytes={MIB}-", None]


def test_an_object_written_in_parts_is_verified_too(bucket, proxy, tmp_path):
    content = os.urandom(9 * MIB)
    (tmp_path / "large").write_bytes(content)
    bucket.upload(tmp_path / "large", "set/large")
    etag = bucket.head("set/large").etag
    assert bucket.part_size("set/large") == 8 * MIB
    assert etag_of(tmp_path / "large", part_size=8 * MIB) == etag
    uri = bucket.child("set").location.uri
    proxy.cuts = [MIB] + [0] * 100
    with pytest.raises(StorageError):
        stage(uri, tmp_path / "cache", Settings(proxy.endpoint, attempts=1))
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(bytes(MIB))
    proxy.cuts = []
    assert contents(stage(uri, tmp_path / "cache")) == {"large": content}


def test_content_that_is_never_what_the_etag_says_is_refused(bucket, tmp_path, monkeypatch):
    bucket.write("set/file", b"content")
    monkeypatch.setattr(Bucket, "stream", lambda *_, **__: iter([b"CONTENT"]))
    with pytest.raises(
        StorageError, match=r"set/file: its content disagreed twice with its etag .*; upload it once more"
    ):
        stage(bucket.child("set").location.uri, tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_an_object_under_a_key_of_kms_is_verified_by_size(s3, bucket):
    if s3.name == "swift":
        pytest.skip("Swift has no such keys")
    s3.client().put_object(Bucket=s3.bucket, Key=f"{s3.location.prefix}/a", Body=b"x", ServerSideEncryption="aws:kms")
    bucket.write("b", b"x")
    assert bucket.is_opaque("a")
    assert not bucket.is_opaque("b")


def test_a_key_that_would_leave_the_folder_is_refused(s3, bucket, tmp_path):
    client = s3.client()
    for i, key in enumerate(["../outside", "a/../../outside", "/etc/outside", "a//b", "a/./b", "..", "a\\..\\b"]):
        client.put_object(Bucket=s3.bucket, Key=f"{s3.location.prefix}/set{i}/{key}", Body=b"x")
        with pytest.raises(StorageError, match=r"must be the path of a file below a folder; rename the object"):
            stage(bucket.child(f"set{i}").location.uri, tmp_path / "cache")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_an_object_that_is_also_a_folder_is_refused(bucket, tmp_path):
    bucket.write("set/a", b"x")
    bucket.write("set/a/b", b"x")
    with pytest.raises(StorageError, match="'a' is an object too, and cannot be a folder"):
        stage(bucket.child("set").location.uri, tmp_path)


def test_the_address_of_one_file_names_the_folder_above_it(bucket, tmp_path):
    bucket.write("set/all.npz", b"x")
    whole = bucket.child("set").location.uri
    with pytest.raises(
        StorageError, match=rf"set/all\.npz: must be a prefix of objects, got one object; name {whole}$"
    ):
        stage(bucket.child("set/all.npz").location.uri, tmp_path)
    assert (stage(whole, tmp_path) / "all.npz").read_bytes() == b"x"


def test_an_address_with_nothing_below_it_is_refused(bucket, tmp_path):
    with pytest.raises(StorageError, match=r"nothing: no object below this prefix; upload the data set there"):
        stage(bucket.child("nothing").location.uri, tmp_path)


def test_a_disk_without_room_is_refused_before_anything_is_fetched(images, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 3))
    with pytest.raises(StorageError, match=r"are free; make room, or name another folder in data.cache or RAVEL_CACHE"):
        staged(images, tmp_path)
    assert proxy.ranges() == []


def test_a_cache_that_cannot_be_written_is_named(images, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot be written.*RAVEL_CACHE"):
        staged(images, tmp_path / "cache")


def test_progress_is_logged(images, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="orchestrator.storage.staging"):
        staged(images, tmp_path)
    assert "staging 4 files" in caplog.text
    assert "staged 4 of 4 files" in caplog.text


def test_an_etag_of_one_piece_is_its_md5(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert etag_of(tmp_path / "file") == hashlib.md5(b"content", usedforsecurity=False).hexdigest()
