"""Errors of the S3 client as our own: the object, the server's message, and the remedy.

Nothing here imports the S3 client: its errors are recognized by their names, and by the response that some have.
"""

from __future__ import annotations

from typing import Any

from orchestrator.errors import ObjectChanged, ObjectMissing, StorageError
from orchestrator.storage.proxies import AWS, IN_THE_WAY, proxy_note

__all__ = ["code_of", "status_of", "storage_error"]

CREDENTIALS = (
    "give credentials in a standard way: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of every node, "
    "a profile in ~/.aws (AWS_PROFILE), or the role of the machine or pod; never in a spec"
)
KEYS = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and that the endpoint is the one they are of"
)
ENDPOINT = (
    "check AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (else MLFLOW_S3_ENDPOINT_URL), the network and the proxy settings"
)
RIGHTS = "these credentials need s3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject under it"
BUCKET = "create the bucket, or correct its name; ravel makes no buckets"
REMEDIES = {
    "NoSuchBucket": BUCKET,
    "InvalidBucketName": "correct the bucket's name",
    "AccessDenied": RIGHTS,
    "403": f"{RIGHTS}; if they have them, {KEYS}",
    "SignatureDoesNotMatch": f"{KEYS}; the secret does not belong to the key, or a proxy changes requests",
    "InvalidAccessKeyId": KEYS,
    "ExpiredToken": "renew the temporary credentials",
    "InvalidToken": "renew the temporary credentials",
    "RequestTimeTooSkewed": "set this machine's clock (NTP)",
    "PermanentRedirect": "set AWS_DEFAULT_REGION to the bucket's region",
    "AuthorizationHeaderMalformed": "set AWS_DEFAULT_REGION to the bucket's region",
    "NotImplemented": "this server lacks that function; use another server (see docs/storage.md)",
    "SlowDown": "the server throttles: run fewer trials at a time, or set AWS_MAX_ATTEMPTS higher",
    "NoCredentialsError": CREDENTIALS,
    "PartialCredentialsError": CREDENTIALS,
    "CredentialRetrievalError": CREDENTIALS,
    "ProfileNotFound": "correct AWS_PROFILE, or add the profile to ~/.aws/config",
    "SSLError": "check that the endpoint speaks TLS, and AWS_CA_BUNDLE",
    "SSOTokenLoadError": "log in: aws sso login",
    "UnauthorizedSSOTokenError": "log in: aws sso login",
    "TokenRetrievalError": "log in: aws sso login",
    "InvalidEndpointError": ENDPOINT,
}
LOCAL = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "AccessDenied", "SignatureDoesNotMatch"}
)
"""Errors that no proxy causes."""
MISSING = frozenset({"NoSuchKey", "404"})
CHANGED = frozenset({"PreconditionFailed", "412", "S3DownloadFailedError"})


def storage_error(error: Exception, *, doing: str, uri: str, endpoint: str | None) -> StorageError:
    """Return an error of the S3 client as one of ours.

    Args:
        error: Error of the client.
        doing: The request, as a verb: ``read``.
        uri: Address of the object or prefix.
        endpoint: URL of the server; None for AWS.

    Example:
        >>> print(storage_error(TimeoutError("no answer"), doing="read", uri="s3://bucket/key", endpoint="http://host:9000"))
        ... # doctest: +ELLIPSIS
        s3://bucket/key: cannot read at http://host:9000: TimeoutError: no answer; check AWS_ENDPOINT_URL_S3 or ...
    """
    error = _innermost(error)
    code = code_of(error)
    server = endpoint or "AWS"
    if code in MISSING:
        return ObjectMissing(f"{uri}: cannot {doing} at {server}: no such object")
    if code in CHANGED:
        return ObjectChanged(f"{uri}: cannot {doing} at {server}: it is no longer the version that was asked for")
    remedy = REMEDIES.get(code) or (ENDPOINT if status_of(error) is None else "see the server's log; then try again")
    note = proxy_note(endpoint or AWS) if status_of(error) in {None, *IN_THE_WAY} and code not in LOCAL else ""
    return StorageError(f"{uri}: cannot {doing} at {server}: {_words(error, code)}; {remedy}{note}")


def code_of(error: Exception) -> str:
    """Return the server's error code (``NoSuchKey``); without one, the name of the error's class."""
    return str(_response(error).get("Error", {}).get("Code") or type(error).__name__)


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of the server's answer, or None without an answer."""
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return None if status is None else int(status)


def _response(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


def _innermost(error: Exception) -> Exception:
    """Return the error inside that of a transfer, which wraps it."""
    wrapped = getattr(error, "last_exception", None) or error.__context__
    return wrapped if isinstance(wrapped, Exception) and type(error).__name__ in _WRAPPERS else error


_WRAPPERS = frozenset({"S3UploadFailedError", "RetriesExceededError"})


def _words(error: Exception, code: str) -> str:
    answer = _response(error).get("Error", {})
    status = status_of(error)
    message = answer.get("Message") if answer else str(error)
    return f"{code}{'' if status is None else f' (HTTP {status})'}: {message or 'no message'}"
