"""Objects in S3, on a real object store (OpenStack Swift) and on moto's server."""

import os
import pickle
import runpy
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from orchestrator.errors import ObjectChanged, ObjectMissing, StorageError, WrongLocation
from orchestrator.storage.s3 import Bucket, Location, Settings, filesystem
from search_spaces.errors import MissingExtraError

FaultyProxy = runpy.run_path(str(Path(__file__).with_name("faulty_proxy.py")))["FaultyProxy"]
MIB = 1 << 20


def unpickled(pickled):
    return pickle.loads(pickled)  # noqa: S301 - written by the test itself


@pytest.fixture
def dead_endpoint(free_port):
    return f"http://127.0.0.1:{free_port}"


# Addresses


def test_an_address_is_a_bucket_and_a_prefix():
    assert Location.parse("s3://team/a/b/") == Location("team", "a/b")
    assert Location.parse("s3://team") == Location.parse("s3://team/") == Location("team")
    assert (Location("team") / "a/b").uri == "s3://team/a/b"
    assert Location("team", "a").child("") == Location("team", "a")


@pytest.mark.parametrize(
    ("uri", "law"),
    [
        ("results", "must start with s3://"),
        ("S3://team", "must start with s3://"),
        ("s3://", "a bucket's name must be"),
        ("s3:///a", "a bucket's name must be"),
        ("s3://a b/c", "a bucket's name must be"),
        ("s3://team//a", "no empty part"),
        ("s3://team/a//b", "no empty part"),
        ("s3://team/../other", "'..'"),
        ("s3://team/a?endpoint_override=host:9000", "'?'"),
        ("s3://team/a\nb", "control character"),
    ],
)
def test_an_address_that_breaks_the_grammar_is_refused_with_rule_and_remedy(uri, law):
    with pytest.raises(WrongLocation) as caught:
        Location.parse(uri)
    assert str(caught.value).startswith(uri.rstrip("/"))
    assert law in str(caught.value)
    assert "write s3://BUCKET/PREFIX" in str(caught.value)


def test_an_address_or_endpoint_with_credentials_is_refused_and_not_repeated():
    with pytest.raises(WrongLocation, match="must not hold credentials") as caught:
        Location.parse("s3://key:hidden@team/a")
    assert "hidden" not in str(caught.value)
    with pytest.raises(WrongLocation, match="must not hold credentials") as caught:
        Settings(endpoint="http://key:hidden@host:9000")
    assert "hidden" not in str(caught.value)


# Settings


def test_the_endpoint_is_that_of_the_aws_variables_before_that_of_mlflow(aws):
    assert Settings.from_environment().endpoint is None
    aws.setenv("MLFLOW_S3_ENDPOINT_URL", "http://mlflow:1")
    assert Settings.from_environment().endpoint == "http://mlflow:1"
    aws.setenv("AWS_ENDPOINT_URL", "http://general:2")
    assert Settings.from_environment().endpoint == "http://general:2"
    aws.setenv("AWS_ENDPOINT_URL_S3", "http://special:3")
    assert Settings.from_environment().endpoint == "http://special:3"


def test_a_profile_says_what_the_environment_leaves_open(aws, tmp_path):
    profile = "[default]\nendpoint_url = http://profile:3\nregion = eu-north-1\nmax_attempts = 3\n"
    (tmp_path / "config").write_text(f"{profile}s3 =\n  addressing_style = virtual\n")
    aws.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    aws.delenv("AWS_DEFAULT_REGION")
    found = Settings.from_environment()
    assert found == Settings("http://profile:3", "eu-north-1", attempts=3, virtual_hosts=True)


def test_the_default_region_is_us_east_1(aws):
    aws.delenv("AWS_DEFAULT_REGION")
    assert Settings.from_environment().region == "us-east-1"


def test_without_boto3_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ravel-sweeps\[s3\]'"):
        Bucket(Location("team"), Settings())


def test_importing_the_door_imports_neither_boto3_nor_pyarrow():
    code = "import sys, orchestrator.storage.s3; print({'boto3', 'botocore', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Objects


def test_what_is_written_is_read(bucket):
    assert bucket.write("a/b.json", b"hello")
    assert bucket.write("a/b.json", b"again")
    assert bucket.read("a/b.json") == b"again"
    assert bucket.child("a").read("b.json") == b"again"
    assert bucket.head("a/b.json").size == 5
    assert bucket.head("a/c.json") is None


def test_the_rest_of_an_object_is_read_and_nothing_beyond_its_end(bucket):
    bucket.write("log", b"0123456789")
    bucket.write("empty", b"")
    assert bucket.read_from("log", 4) == b"456789"
    assert bucket.read_from("log", 10) == bucket.read_from("log", 11) == b""
    assert bucket.read("empty") == bucket.read_from("empty", 0) == b""


def test_a_missing_object_is_its_own_error(bucket):
    with pytest.raises(ObjectMissing, match=r"absent: cannot read at http://.*: no such object"):
        bucket.read("absent")


def test_a_version_that_is_gone_is_not_read(bucket):
    bucket.write("data", b"first")
    etag = bucket.head("data").etag
    assert b"".join(bucket.stream("data", start=1, etag=etag)) == b"irst"
    bucket.write("data", b"second")
    with pytest.raises(ObjectChanged):
        b"".join(bucket.stream("data", start=1, etag=etag))


def test_an_object_is_created_once(bucket):
    assert bucket.write("plan", b"mine", if_absent=True)
    assert not bucket.write("plan", b"theirs", if_absent=True)
    assert not bucket.write("plan", b"mine", if_absent=True)
    assert bucket.read("plan") == b"mine"


def test_of_many_writers_at_once_one_creates_the_object(s3, bucket):
    if s3.name == "swift":
        pytest.skip(
            "Swift looks and writes in two steps: of writers at one moment several create, and one object stays"
        )
    with ThreadPoolExecutor(8) as pool:
        for race in range(10):
            assert (
                sum(pool.map(lambda i, key=f"race/{race}": bucket.write(key, b"%d" % i, if_absent=True), range(8))) == 1
            )


def test_keys_of_any_letters_come_back_as_they_were(bucket):
    keys = sorted(["a b", "a+b", "a%20b", "é/ü", "a&b=c", "ta~il", "q?x#y"])
    for key in keys:
        bucket.write(f"odd/{key}", key.encode())
    assert sorted(found.key for found in bucket.list("odd")) == [f"odd/{key}" for key in keys]
    assert all(bucket.read(f"odd/{key}") == key.encode() for key in keys)
    bucket.delete(f"odd/{key}" for key in keys)
    assert not list(bucket.list())


def test_a_listing_names_all_objects(bucket):
    before = datetime.now(UTC)
    for key in ("b/2", "b/1", "a", "bc/1"):
        bucket.write(key, b"content")
    found = list(bucket.list())
    assert [one.key for one in found] == ["a", "b/1", "b/2", "bc/1"]
    assert {one.size for one in found} == {7}
    assert {one.etag for one in found} == {"9a0364b9e99bb480dd25e1f0284c8555"}
    assert all(abs(one.modified - before) < timedelta(seconds=60) for one in found)
    assert [one.key for one in bucket.list("b")] == [one.key for one in bucket.list("b/")] == ["b/1", "b/2"]
    assert list(bucket.list_folders()) == ["b", "bc"]
    assert list(bucket.list_folders("b")) == []
    assert list(bucket.list("absent")) == []


def test_deleting_a_prefix_leaves_its_namesakes(bucket):
    for key in ("a/b/1", "a/b/c/2", "a/bc/3", "a/b", "a/d"):
        bucket.write(key, b"x")
    assert bucket.delete_prefix("a/b") == 2
    assert [found.key for found in bucket.list()] == ["a/b", "a/bc/3", "a/d"]
    assert bucket.child("a/bc").delete_prefix() == 1
    assert [found.key for found in bucket.list()] == ["a/b", "a/d"]


def test_a_whole_bucket_is_never_deleted(s3):
    with pytest.raises(StorageError, match="a whole bucket is never deleted"):
        Bucket(Location(s3.bucket)).delete_prefix()


def test_deleting_a_missing_object_is_no_error(bucket):
    bucket.write("a", b"x")
    bucket.delete(["a", "b"])
    bucket.delete([])
    assert not list(bucket.list())


def test_more_keys_than_a_page_holds_are_listed_and_deleted(s3, bucket):
    if s3.name == "swift":
        pytest.skip("its listings are cut into pages like those of moto, but a thousand writes take it long")
    from moto.s3.models import s3_backends  # a thousand requests would take most of this file's time

    backend = s3_backends["123456789012"]["aws"]
    for i in range(1003):
        backend.put_object(s3.bucket, f"{s3.location.prefix}/many/{i:04d}/x", b"")
    assert len(list(bucket.list("many"))) == len(list(bucket.list_folders("many"))) == 1003
    assert bucket.delete_prefix("many") == 1003
    assert not list(bucket.list())


def test_a_large_file_is_uploaded_in_parts_and_downloaded(bucket, tmp_path):
    content = os.urandom(12 * MIB)
    (tmp_path / "large").write_bytes(content)
    bucket.upload(tmp_path / "large", "large")
    assert bucket.head("large").etag.endswith("-2")
    bucket.download("large", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == bucket.read("large") == content


def test_a_download_that_fails_leaves_no_file(bucket, tmp_path):
    with pytest.raises(ObjectMissing):
        bucket.download("absent", tmp_path / "copy")
    assert not list(tmp_path.iterdir())


def test_the_servers_clock_is_read(bucket):
    assert abs(bucket.server_time() - datetime.now(UTC)) < timedelta(seconds=60)


# Refusals


def test_a_wrong_secret_is_refused_with_the_remedy(s3, bucket, monkeypatch):
    if s3.name == "moto":
        pytest.skip("moto checks no signature")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StorageError, match=r"SignatureDoesNotMatch \(HTTP 403\).*AWS_SECRET_ACCESS_KEY") as caught:
        bucket.read("a")
    assert "not-the-secret" not in str(caught.value)
    with pytest.raises(StorageError, match="403"):  # HEAD has no body that could say why
        bucket.head("a")


def test_without_credentials_the_error_names_the_standard_ways(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match=r"NoCredentialsError.*AWS_ACCESS_KEY_ID.*AWS_PROFILE.*role") as caught:
        bucket.read("a")
    assert bucket.uri("a") in str(caught.value)


def test_both_clients_find_credentials_in_a_profile(s3, aws, tmp_path):
    keys = f"aws_access_key_id = {s3.access}\naws_secret_access_key = {s3.secret}\n"
    (tmp_path / "credentials").write_text(f"[team]\n{keys}")
    (tmp_path / "config").write_text("[profile team]\nregion = us-east-1\n")
    aws.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    aws.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    aws.setenv("AWS_PROFILE", "team")
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    Bucket(s3.location).write("a", b"x")
    files, path = filesystem(s3.location)
    assert files.get_file_info(f"{path}/a").size == 1


def test_a_profile_that_does_not_exist_is_named(aws):
    aws.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"nobody.*correct AWS_PROFILE"):
        Settings.from_environment()


def test_a_bucket_that_does_not_exist_is_named_with_the_remedy(s3):
    assert s3
    with pytest.raises(StorageError, match=r"s3://ravel-absent/.*NoSuchBucket.*create the bucket"):
        list(Bucket(Location("ravel-absent", "a")).list())


def test_a_dead_endpoint_fails_soon_and_names_it(aws, dead_endpoint):
    aws.setenv("AWS_ENDPOINT_URL", dead_endpoint)
    start_s = time.monotonic()
    with pytest.raises(
        StorageError, match=f"cannot read at {dead_endpoint}: EndpointConnectionError.*check AWS_ENDPOINT_URL"
    ):
        Bucket(Location("team")).read("a")
    assert time.monotonic() - start_s < 30


@pytest.mark.usefixtures("aws")
def test_a_server_that_never_answers_is_given_up_after_its_timeouts():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings("http://{}:{}".format(*silent.getsockname()), attempts=2, read_timeout_s=0.3)
        start_s = time.monotonic()
        with pytest.raises(StorageError, match="ReadTimeoutError"):
            Bucket(Location("team"), settings).read("a")
        assert 0.6 < time.monotonic() - start_s < 20


# Faults


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (503, "")])
def test_a_request_to_a_server_that_throttles_or_fails_is_retried(status, code, s3, proxy):
    proxy.refusals, proxy.status, proxy.code = 2, status, code
    assert Bucket(s3.location).write("a", b"x")
    assert [request.method for request in proxy.requests] == ["PUT"] * 3
    assert Bucket(s3.location).read("a") == b"x"


def test_a_server_that_keeps_throttling_is_given_up_after_the_attempts(s3, proxy):
    proxy.refusals = 100
    settings = Settings(proxy.endpoint, attempts=2)
    with pytest.raises(StorageError, match=r"SlowDown \(HTTP 503\).*throttles"):
        Bucket(s3.location, settings).read("a")
    assert len(proxy.requests) == 2


def test_an_answer_cut_in_the_middle_is_taken_up_where_it_was_cut(s3, proxy):
    content = os.urandom(3 * MIB)
    Bucket(s3.location).write("a", content)
    proxy.cuts = [MIB, MIB // 2]
    assert Bucket(s3.location).read("a") == content
    first, second, third = proxy.ranges()
    assert (first, third) == (None, f"bytes={MIB + MIB // 2}-")
    assert second == f"bytes={MIB}-"


def test_a_creation_whose_answer_was_lost_still_counts_as_ours(s3, proxy):
    proxy.lost_answers = 1
    assert Bucket(s3.location).write("lock", b"mine", if_absent=True)
    assert not Bucket(s3.location).write("lock", b"mine", if_absent=True)
    proxy.lost_answers = 1
    assert not Bucket(s3.location).write("lock", b"theirs", if_absent=True)


# TLS


@pytest.fixture
def certificate(tmp_path):
    """Of 127.0.0.1, signed by itself; the file holds the key too."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    built = built.add_extension(address, critical=False)
    signed = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "certificate.pem").write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return tmp_path / "certificate.pem"


def test_both_clients_trust_the_authority_that_aws_ca_bundle_names(s3, aws, certificate, tmp_path):
    with FaultyProxy(s3.endpoint, certificate=certificate) as proxy:
        settings = Settings(proxy.endpoint, attempts=2)
        with pytest.raises(StorageError, match=r"SSLError.*AWS_CA_BUNDLE"):
            Bucket(s3.location, settings).write("a", b"x")
        aws.setenv("AWS_CA_BUNDLE", str(certificate))
        bucket = Bucket(s3.location, settings)
        assert bucket.write("a", b"x")
        assert bucket.read("a") == b"x"
        (tmp_path / "large").write_bytes(bytes(9 * MIB))
        bucket.upload(tmp_path / "large", "large")
        files, path = filesystem(s3.location, settings)
        assert unpickled(pickle.dumps(files)).get_file_info(f"{path}/large").size == 9 * MIB


# What travels


def test_a_pickled_bucket_holds_no_secret_and_works(s3, bucket):
    bucket.write("a", b"x")
    pickled = pickle.dumps(bucket)
    assert s3.secret.encode() not in pickled
    assert s3.access.encode() not in pickled
    assert unpickled(pickled).read("a") == b"x"


def test_a_bucket_works_in_threads_and_in_another_process(bucket):
    bucket.write("a", b"x")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: bucket.read("a"), range(32))) == {b"x"}
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).read('a'))"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(bucket), capture_output=True, check=True)
    assert done.stdout.strip() == b"b'x'"


def test_what_pyarrow_writes_boto3_reads_and_the_other_way_round(s3, bucket):
    files, path = filesystem(s3.location / "tune")
    assert path == f"{s3.bucket}/{s3.location.prefix}/tune"
    files.create_dir(f"{path}/trial")
    content = os.urandom(12 * MIB)
    with files.open_output_stream(f"{path}/trial/weights") as file:
        file.write(content)
    assert bucket.read("tune/trial/weights") == content
    assert [found.key for found in bucket.list()] == ["tune/trial/weights"]
    bucket.write("tune/trial/note", b"x")
    with files.open_input_stream(f"{path}/trial/note") as file:
        assert file.read() == b"x"
    bucket.delete_prefix("tune")
    assert not s3.client().list_objects_v2(Bucket=s3.bucket, Prefix=f"{s3.location.prefix}/tune").get("Contents")


def test_a_pickled_file_system_holds_no_secret_and_keeps_its_attempts(s3, proxy):
    Bucket(s3.location).write("a", b"x")
    files, path = filesystem(s3.location, Settings(proxy.endpoint, attempts=5))
    pickled = pickle.dumps(files)
    assert s3.secret.encode() not in pickled
    assert s3.access.encode() not in pickled
    again = unpickled(pickle.dumps(unpickled(pickled)))
    proxy.requests.clear()
    proxy.refusals, proxy.status, proxy.code = 3, 500, "InternalError"
    assert again.get_file_info(f"{path}/a").size == 1
    assert len(proxy.requests) >= 4  # left alone, pyarrow forgets its attempts and makes three


@pytest.mark.usefixtures("aws")
def test_a_file_system_refuses_a_dead_endpoint_in_bounded_time(dead_endpoint):
    files, path = filesystem(Location("team"), Settings(dead_endpoint, attempts=3))
    start_s = time.monotonic()
    with pytest.raises(OSError, match="curlCode: 7"):
        files.get_file_info(f"{path}/a")
    assert time.monotonic() - start_s < 30
