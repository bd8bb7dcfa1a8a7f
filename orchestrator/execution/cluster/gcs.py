"""Look at a cluster before joining it: who answers, with which token and version, and which nodes it has.

Ray itself tries for 20 seconds to three minutes, and then names no cause.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import PreflightError
from orchestrator.execution.cluster.addresses import OPTION
from orchestrator.execution.cluster.authentication import MODE, remedy_without, token_here, uses_token
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.private_ray.failure import in_one_line

if TYPE_CHECKING:
    from orchestrator.execution.cluster.authentication import Token

ANSWER_S = 4.0
TLS = "RAY_USE_TLS"
DIRECT = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True)
class Gcs:
    """A cluster that this process may join.

    ``node_ip`` is the address of its node on this machine, and ``capacity`` what its nodes have; null if not known.
    """

    address: str
    node_ip: str | None = None
    capacity: Capacity | None = None

    def __str__(self) -> str:
        return f"Ray at {self.address}" + ("" if self.capacity is None else f": {self.capacity}")


def resolved(address: str) -> str:
    """Return ``HOST:PORT`` of an address; ``auto`` is the running Ray of this machine.

    Raises:
        PreflightError: no Ray runs here.
    """
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address  # noqa: PLC0415

    try:
        address = canonicalize_bootstrap_address("auto") or ""
    except ConnectionError:
        address = ""
    if not address:
        remedy = "start one with `ray start`, or name the head of a cluster with --address HOST:PORT"
        raise PreflightError([f"{OPTION} auto: no Ray runs on this machine; {remedy}"])
    return address


def probe(address: str) -> Gcs:
    """Return the cluster at ``HOST:PORT``, if this process can join it; this takes at most a few seconds.

    Raises:
        PreflightError: no host, no server, no GCS, another mode of authentication, a token that is missing or wrong, or
            another version of Ray.
    """
    problem = _port_problem(address)
    if problem is None and os.environ.get(TLS, "0").lower() in {"1", "true"}:  # the rest is left to Ray
        return Gcs(address)
    try:
        if problem is None:
            return _asked(address)
    except _Refused as refusal:
        problem = str(refusal)
    raise PreflightError([f"{OPTION} {address}: {problem}"])


class _Refused(Exception):
    """A cluster that this process cannot join; the text is the problem."""


def _port_problem(address: str) -> str | None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S):
            return None
    except socket.gaierror:
        return f"no host has the name {host}; check it"
    except ConnectionRefusedError:
        return "nothing listens on that port; start Ray there, or correct the port (that of `ray start --head` is 6379)"
    except TimeoutError:
        return f"no answer within {ANSWER_S:.0f} s; check the address, the network and the firewall"
    except OSError as error:
        return f"cannot be reached ({os.strerror(error.errno or 0)}); check the address and the network"


def _asked(address: str) -> Gcs:
    import grpc  # noqa: PLC0415  a dependency of Ray

    with grpc.insecure_channel(address, options=DIRECT) as channel:
        asks_for_token = _version_reply(channel, token=None) is None
        token = token_here() if uses_token() else None
        problem = mode_problem(asks_for_token=asks_for_token, token=token)
        if problem is not None:
            raise _Refused(problem)
        text = None if token is None else token.text
        reply = _version_reply(channel, token=text)
        if reply is None:
            raise _Refused(refused_token(token))
        if problem := version_problem(reply):
            raise _Refused(problem)
        nodes = _nodes(channel, token=text)
        node_ip = _node_here([node.node_manager_address for node in nodes], head=address)
        resources = [node.resources_total for node in nodes]
        counts = [Node(cpus=part.get("CPU", 0.0), gpus=part.get("GPU", 0.0)) for part in resources]
        return Gcs(address, node_ip, Capacity(tuple(counts)))


def mode_problem(*, asks_for_token: bool, token: Token | None) -> str | None:
    """Return why the modes of authentication of a cluster and of this process do not fit, or None.

    Args:
        asks_for_token: the cluster runs with ``RAY_AUTH_MODE=token``.
        token: that of this process; None if ``RAY_AUTH_MODE`` is ``disabled`` here.
    """
    if asks_for_token and token is None:
        return f"the cluster asks for a token, and {MODE} is {os.environ.get(MODE)} here; unset it and set a token"
    if asks_for_token and token is not None and token.text is None:
        return f"the cluster asks for a token, and none is set; {remedy_without(token)}"
    if not asks_for_token and token is not None:
        danger = "the cluster asks for no token, so anyone who reaches it can run code on it"
        return f"{danger}; start its nodes with {MODE}=token, or set {MODE}=disabled to join it as it is"
    return None


def refused_token(token: Token | None) -> str:
    """Return the message for a token that the cluster refuses."""
    source = "the token" if token is None else f"the token of {token.source}"
    return f"the cluster refuses {source}; use that of its head, where `ray get-auth-token` prints it"


def version_problem(reply: bytes) -> str | None:
    """Return why a cluster's Ray does not fit to that of this process, or None.

    >>> version_problem(b"")
    'it is no GCS of a cluster that is ready; try again in a moment'
    """
    if not reply:
        return "it is no GCS of a cluster that is ready; try again in a moment"
    return number_problem(json.loads(reply)["ray_version"])


def number_problem(number: str) -> str | None:
    """Return why this version of Ray does not fit to that of this process, or None."""
    import ray  # noqa: PLC0415

    if number == ray.__version__:
        return None
    return f"the cluster runs Ray {number}, and this machine has {ray.__version__}; install ray=={number} here"


def _version_reply(channel: Any, *, token: str | None) -> bytes | None:
    """Return what the GCS says about its version; None if it refuses the token, or asks for one."""
    import grpc  # noqa: PLC0415
    from ray.core.generated.gcs_service_pb2 import InternalKVGetRequest  # noqa: PLC0415
    from ray.core.generated.gcs_service_pb2_grpc import InternalKVGcsServiceStub  # noqa: PLC0415

    request = InternalKVGetRequest(namespace=b"cluster", key=b"CLUSTER_METADATA")
    try:
        reply = InternalKVGcsServiceStub(channel).InternalKVGet(request, timeout=ANSWER_S, metadata=_header(token))
    except grpc.RpcError as error:
        if error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
            return None
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            silent = f"the port is open and does not answer within {ANSWER_S:.0f} s"
            raise _Refused(f"{silent}; it is no GCS, or Ray there is stopped or busy") from None
        reason = in_one_line(error.details() or error.code().name)[:120]
        hint = "use the port of `ray start --head`, or http://HOST:8265 for its dashboard"
        raise _Refused(f"what listens on that port is no GCS of Ray ({reason}); {hint}") from None
    return bytes(reply.value)


def _nodes(channel: Any, *, token: str | None) -> list[Any]:
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # noqa: PLC0415
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoRequest  # noqa: PLC0415
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub  # noqa: PLC0415

    service = NodeInfoGcsServiceStub(channel)
    reply = service.GetAllNodeInfo(GetAllNodeInfoRequest(), timeout=ANSWER_S, metadata=_header(token))
    return [node for node in reply.node_info_list if node.state == GcsNodeInfo.ALIVE]


def _header(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def _node_here(addresses: list[str], *, head: str) -> str | None:
    """Return the address of a node on this machine, that of the head first."""
    first = head.rpartition(":")[0]
    return next(filter(_is_here, sorted(addresses, key=lambda address: address != first)), None)


def _is_here(address: str) -> bool:
    """Return True for an address of this machine: the kernel binds no other."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe_socket:
            probe_socket.bind((address, 0))
    except OSError:
        return False
    return True
