"""Connections to S3: settings that all nodes share, boto3's client for our objects, pyarrow's file system for Tune's.

Each process finds its credentials in the standard chain (environment, profile, role of the machine or pod). They are no
field of any class here, so no pickle and no file of a sweep holds them.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self, final
from urllib.parse import urlsplit

from orchestrator.errors import WrongLocation
from orchestrator.storage.refusals import code_of, storage_error
from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from orchestrator.storage.locations import Location

__all__ = ["Connection", "Settings", "client_error", "cut_errors", "filesystem", "storage_errors", "transfer"]

DEFAULT_REGION = "us-east-1"
DEFAULT_ATTEMPTS = 8
PART_BYTES = 8 << 20
PARTS_AT_A_TIME = 4
CONNECTIONS = 32


@dataclass(frozen=True)
class Settings:
    """Settings of the connection to a server. They are pickled with a bucket, so all nodes use the same.

    Args:
        endpoint: URL of the server; None for AWS.
        region: Region that requests are signed for.
        attempts: Number of attempts at a request, including the first. Temporary errors are retried: 5xx, throttling
            (SlowDown, 429), a lost connection, a time-out; with growing random pauses of up to 20 s (botocore's
            standard mode).
        connect_timeout_s: Time to open a connection.
        read_timeout_s: Time without a byte of the answer.
        virtual_hosts: True if a bucket is a host name at your own server (``http://bucket.host``), and not the first
            part of the path; `addressing_style = virtual` in the ``s3`` section of the AWS profile.

    Raises:
        WrongLocation: the endpoint is no http URL, or holds credentials.
    """

    endpoint: str | None = None
    region: str = DEFAULT_REGION
    attempts: int = DEFAULT_ATTEMPTS
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    virtual_hosts: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is None:
            return
        url = urlsplit(self.endpoint)
        if url.username or url.password:
            raise WrongLocation("AWS_ENDPOINT_URL: an endpoint must not hold credentials; write http[s]://HOST[:PORT]")
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise WrongLocation(f"{self.endpoint}: an endpoint must be a URL; write http[s]://HOST[:PORT]")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings from this process's environment and AWS profile, as boto3 does.

        The endpoint is AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL, else `endpoint_url` of the profile, else
        MLFLOW_S3_ENDPOINT_URL, so that one variable can serve MLflow's artifacts and us; else AWS. The region is
        AWS_DEFAULT_REGION, else that of the profile, else us-east-1. AWS_MAX_ATTEMPTS, if set, limits the attempts.

        Raises:
            MissingExtraError: boto3 is not installed.
            StorageError: the profile does not exist.
            WrongLocation: the endpoint is no http URL.
        """
        require_boto3()
        from botocore.configprovider import ConfiguredEndpointProvider  # noqa: PLC0415
        from botocore.session import get_session  # noqa: PLC0415

        session = get_session()
        with storage_errors("read the AWS configuration", "s3", None):
            profile = {"full_config": session.full_config, "scoped_config": session.get_scoped_config()}
            ignored = session.get_config_variable("ignore_configured_endpoint_urls")
            configured = None if ignored else ConfiguredEndpointProvider(**profile, client_name="s3").provide()
            return cls(
                endpoint=configured or os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None,
                region=session.get_config_variable("region") or DEFAULT_REGION,
                attempts=int(session.get_config_variable("max_attempts") or DEFAULT_ATTEMPTS),
                virtual_hosts=_profile_s3(session).get("addressing_style") == "virtual",
            )


@final
class Connection:
    """Client of boto3, one for each process. Only the settings are pickled."""

    def __init__(self, settings: Settings) -> None:
        require_boto3()
        self.settings = settings
        self._clients: dict[int, Any] = {}

    def __reduce__(self) -> tuple[type[Connection], tuple[Settings]]:
        return Connection, (self.settings,)

    def client(self) -> Any:
        """Return this process's client, which its threads share."""
        process = os.getpid()  # after a fork, the sockets belong to the parent
        if process not in self._clients:
            self._clients.setdefault(process, _make_client(self.settings))
        return self._clients[process]


def filesystem(location: Location, settings: Settings | None = None) -> tuple[Any, str]:
    """Return pyarrow's file system and the path in it, for ``RunConfig(storage_filesystem=..., storage_path=...)``.

    It has the endpoint, region, attempts and time-outs of `Bucket`. Its chain of credentials is pyarrow's own: the
    environment, the profile files, web identity, and the role of the container or machine, but no single sign-on and
    no `credential_process`. It also gets AWS_CA_BUNDLE, which must be at the same path on every node. Only the settings
    are pickled; each process creates its own file system.

    Raises:
        MissingExtraError: boto3 or pyarrow is not installed.
    """
    return _filesystem(settings or Settings.from_environment()), _path(location)


@contextmanager
def storage_errors(doing: str, uri: str, endpoint: str | None, *, unless: Collection[str] = ()) -> Iterator[None]:
    """Raise an error of the S3 client as a StorageError, unless the caller handles its code (``unless``)."""
    try:
        yield
    except _errors() as error:
        if code_of(error) in unless:
            raise
        raise storage_error(error, doing=doing, uri=uri, endpoint=endpoint) from error


def client_error() -> Any:
    """Return the class of errors that are an answer of the server."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    return ClientError


@cache
def cut_errors() -> tuple[type[Exception], ...]:
    """Return the classes of errors for an answer that was cut short."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415

    return HTTPClientError, IncompleteReadError


def transfer(client: Any) -> Any:
    """Return the context manager that uploads and downloads files in parts."""
    from boto3.s3.transfer import S3Transfer, TransferConfig  # noqa: PLC0415

    size = {"multipart_threshold": PART_BYTES, "multipart_chunksize": PART_BYTES}
    return S3Transfer(client, TransferConfig(**size, max_concurrency=PARTS_AT_A_TIME))


def require_boto3() -> None:
    """Return if boto3 can be imported.

    Raises:
        MissingExtraError: boto3 is not installed; names the extra.
    """
    try:
        import boto3  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtraError("boto3", extra="s3") from error


def _make_client(settings: Settings) -> Any:
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import get_session  # noqa: PLC0415

    style = "virtual" if settings.virtual_hosts else "path" if settings.endpoint else "auto"
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": style},
    )
    with storage_errors("connect", "s3", settings.endpoint):
        session = get_session()
        session.register_component("data_loader", _descriptions())
        return session.create_client("s3", settings.region, endpoint_url=settings.endpoint, config=config)


@cache
def _descriptions() -> Any:
    """Load botocore's descriptions of services, which takes nine tenths of the time to create a client."""
    from botocore.session import get_session  # noqa: PLC0415

    return get_session().get_component("data_loader")


@cache
def _errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    from s3transfer.exceptions import S3DownloadFailedError  # noqa: PLC0415

    return BotoCoreError, ClientError, Boto3Error, S3DownloadFailedError


def _path(location: Location) -> str:
    return "/".join(part for part in (location.bucket, location.prefix) if part)


def _filesystem(settings: Settings) -> Any:
    try:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="tune") from error

    class RavelS3FileSystem(S3FileSystem):  # type: ignore[misc]
        """Pyarrow's file system, pickled with all its settings: pyarrow itself loses the attempts."""

        def __reduce__(self) -> tuple[Any, tuple[Settings]]:
            return _filesystem, (settings,)

    url = urlsplit(settings.endpoint) if settings.endpoint else None
    server = {"scheme": url.scheme, "endpoint_override": url.netloc + url.path.rstrip("/")} if url else {}
    authorities = os.environ.get("AWS_CA_BUNDLE")
    return RavelS3FileSystem(
        **server,
        **({"tls_ca_file_path": authorities} if authorities else {}),
        region=settings.region,
        connect_timeout=settings.connect_timeout_s,
        request_timeout=settings.read_timeout_s,
        force_virtual_addressing=settings.virtual_hosts,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
    )


def _profile_s3(session: Any) -> dict[str, Any]:
    section = session.get_scoped_config().get("s3")
    return section if isinstance(section, dict) else {}
