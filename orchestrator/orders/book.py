"""Order book of a sweep: files ``orders/NNNNNN-ID.json`` in its folder, or objects in S3, ordered by name."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import StorageError
from orchestrator.orders.order import ID_PATTERN, Order
from orchestrator.state.stray_files import leave_out
from orchestrator.state.sweep_folder import reference
from orchestrator.storage.atomic_files import create_exclusively

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.storage.s3 import Bucket

NAME = re.compile(rf"(\d{{6,}})-({ID_PATTERN})\.json")
MAX_BYTES = 1_000_000
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
ORDERS = "orders"


@dataclass(frozen=True)
class Unreadable:
    """An order that this version cannot read, and the reason."""

    id: str
    reason: str


class OrderBook(Protocol):
    """Orders of one sweep."""

    def names(self) -> list[str]:
        """Return the names of all orders, in order."""

    def read(self, name: str) -> bytes:
        """Return the content of an order."""

    def create(self, name: str, content: bytes) -> bool:
        """Create an order; return False if one of this name exists."""


@dataclass(frozen=True)
class FolderOrders:
    """Orders in a folder that all users of the sweep see. A link is no order: it may lead anywhere."""

    folder: Path

    def names(self) -> list[str]:
        """Return the names of all orders, in order."""
        try:
            with os.scandir(self.folder) as entries:
                files = [entry.name for entry in entries if _is_own_file(entry)]
        except FileNotFoundError:
            return []
        return sorted(_orders(self.folder, files))

    def read(self, name: str) -> bytes:
        """Return the content of an order, and no more than tells that it is too long."""
        with (self.folder / name).open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def create(self, name: str, content: bytes) -> bool:
        """Create an order; return False if one of this name exists."""
        return create_exclusively(self.folder / name, content)


@dataclass(frozen=True)
class BucketOrders:
    """Orders in S3: objects that are created only if they do not exist."""

    bucket: Bucket

    def names(self) -> list[str]:
        """Return the names of all orders, in order."""
        return sorted(_orders(self.bucket.uri(), (item.key for item in self.bucket.list())))

    def read(self, name: str) -> bytes:
        """Return the content of an order."""
        return self.bucket.read(name)

    def create(self, name: str, content: bytes) -> bool:
        """Create an order; return False if one of this name exists."""
        return self.bucket.write(name, content, if_absent=True)


def book_of(folder: SweepFolder) -> OrderBook:
    """Return the order book of a sweep."""
    return FolderOrders(folder.path / ORDERS) if folder.remote is None else BucketOrders(folder.remote.child(ORDERS))


def submit(folder: SweepFolder, order: Order) -> None:
    """Write an order into a sweep, after those that it has.

    Raises:
        StorageError: the folder cannot be written by this user, or S3 refused.
    """
    book = book_of(folder)
    try:
        names = book.names()
        number = 1 + max((int(name.partition("-")[0]) for name in names), default=0)
        book.create(f"{number:06d}-{order.id}.json", order.model_dump_json().encode())
    except OSError as error:
        place = folder.path / ORDERS
        requirement = f"must be a folder that this user can write, to order something ({error.strerror})"
        remedy = "free some space" if error.errno in FULL else "have its owner do it, or get write access"
        remedy += f"; to look at the sweep: ravel status {reference(folder)}"
        raise StorageError(f"{place}: {requirement}; {remedy}") from None


def unanswered(book: OrderBook, answered: Collection[str]) -> Iterator[Order | Unreadable]:
    """Yield the orders without an answer, in order; an order is known by the id in its name."""
    for name in book.names():
        order_id = id_of(name)
        if order_id not in answered:
            yield _read(order_id, book.read(name))


def id_of(name: str) -> str:
    """Return the id in the name of an order.

    >>> id_of("000001-" + "0a" * 16 + ".json")
    '0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a'
    """
    return name.partition("-")[2].removesuffix(".json")


def _read(order_id: str, content: bytes) -> Order | Unreadable:
    if len(content) > MAX_BYTES:
        return Unreadable(order_id, f"must have at most {MAX_BYTES:,} bytes")
    try:
        order = Order.read(content)
    except ValueError as error:
        return Unreadable(order_id, str(error))
    return order if order.id == order_id else Unreadable(order_id, f"must have the id of its name, got {order.id}")


def _is_own_file(entry: os.DirEntry[str]) -> bool:
    if entry.is_file(follow_symlinks=False):
        return True
    leave_out(entry.path, "an order must be a file of this folder, no link and no folder")
    return False


def _orders(place: object, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if NAME.fullmatch(name):
            yield name
        elif not name.startswith("."):  # a draft that is being written
            leave_out(f"{place}/{name}", "no order has such a name")
