"""Process group of the processes that train one trial: gloo on CPUs, NCCL on GPUs.

The first process opens a store on its own address; the others reach it there. Neither the store nor gloo knows a
password: a process that reaches the ports of a worker can disturb its trial, as with all of torch.distributed.
"""

import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store, TCPStore

from trainables.engine.faults import fault_of, first_line
from trainables.errors import PeerLost

__all__ = ["TIMEOUT", "communicating", "join", "leave", "open_store", "reach_store"]

TIMEOUT = timedelta(minutes=5)
"""Wait for another process: a process that ends is noticed at once, this is for one that hangs, or its machine."""
_ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux


def open_store(address: str, *, world_size: int) -> TCPStore:
    """Open the store of the first process at a free port of this address, and listen at no other one."""
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen()
    port = listener.getsockname()[1]
    return TCPStore(
        address, port, world_size, True, TIMEOUT, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def reach_store(address: str, port: int, *, world_size: int) -> TCPStore:
    """Connect to the store of the first process.

    Raises:
        PeerLost: it does not answer.
    """
    with communicating():
        return TCPStore(address, port, world_size, False, TIMEOUT)


def join(store: Store, rank: int, world_size: int, *, device: torch.device, address: str) -> None:
    """Join the group of a trial, over the network interface of this machine's `address`; wait for all to join.

    Raises:
        PeerLost: another process does not join.
    """
    leave()
    interface = _interface_of(address)
    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface
    backend = "nccl" if device.type == "cuda" else "gloo"
    with communicating():
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)


def leave() -> None:
    """Leave the group, if this process is in one: the others notice it at their next message."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def communicating() -> Iterator[None]:
    """Raise an error of communication as that of a lost process.

    Raises:
        PeerLost: another process ended, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:  # gloo raises plain ones
        if fault_of(error) in {"device memory", "host memory"}:
            raise
        raise PeerLost(_reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of an error, without gloo's place in its source.

    >>> _reason(RuntimeError("[/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:14: Connection reset. GLHF"))
    'RuntimeError: Read error [127.0.0.1]:14: Connection reset'
    """
    return re.sub(r"\[\S*\.cc:\d+\] ", "", first_line(error)).partition(". ")[0]


def _interface_of(address: str) -> str | None:
    """Return the name of the interface with this address; None where the system does not say."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _ADDRESS_OF_INTERFACE, request)
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
