"""Order book of a sweep: files ``orders/NNNNNN-ID.json`` in its folder, or objects in S3, ordered by name."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import ObjectMissing, SpecError, StorageError, visible
from orchestrator.orders.order import ID_PATTERN, Order
from orchestrator.state.stray_files import leave_out
from orchestrator.state.sweep_folder import reference
from orchestrator.storage.atomic_files import create_exclusively
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.storage.s3 import Bucket

NAME = re.compile(rf"(\d{{6,12}})-({ID_PATTERN})\.json")
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
        """Return the content of an order, and no more than shows that it is too long; empty if it is gone."""

    def create(self, name: str, content: bytes) -> bool:
        """Create an order; return False if one of this name exists."""


@dataclass(frozen=True)
class FolderOrders:
    """Orders in a folder that all users of the sweep see. No link is followed: it may lead anywhere."""

    folder: Path

    def names(self) -> list[str]:
        """Return the names of all orders, in order."""
        if self.folder.is_symlink():
            leave_out(str(self.folder), "the folder of the orders must be one of this sweep, no link")
            return []
        try:
            with os.scandir(self.folder) as entries:
                files = [entry.name for entry in entries if _is_own_file(entry)]
        except FileNotFoundError:
            return []
        return _in_order(self.folder, files)

    def read(self, name: str) -> bytes:
        """Return the content of an order, and no more than shows that it is too long; empty if it is gone."""
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return b""

    def create(self, name: str, content: bytes) -> bool:
        """Create an order that every reader of the sweep can read; return False if one of this name exists."""
        if self.folder.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(self.folder))
        readers = self.folder.parent.stat().st_mode & 0o777
        with suppress(FileExistsError):
            self.folder.mkdir()
            self.folder.chmod(0o700 | readers)  # the umask of one user must not hide orders from the driver of another
        return create_exclusively(self.folder / name, content, mode=0o600 | (readers & 0o044))


@dataclass(frozen=True)
class BucketOrders:
    """Orders in S3: objects that are created only if they do not exist."""

    bucket: Bucket

    def names(self) -> list[str]:
        """Return the names of all orders, in order."""
        return _in_order(self.bucket.uri(), (item.key for item in self.bucket.list()))

    def read(self, name: str) -> bytes:
        """Return the content of an order, and no more than shows that it is too long; empty if it is gone."""
        content = b""
        with suppress(ObjectMissing):
            for piece in self.bucket.stream(name):
                content += piece
                if len(content) > MAX_BYTES:
                    break
        return content

    def create(self, name: str, content: bytes) -> bool:
        """Create an order; return False if one of this name exists."""
        return self.bucket.write(name, content, if_absent=True)


def book_of(folder: SweepFolder) -> OrderBook:
    """Return the order book of a sweep."""
    return FolderOrders(folder.path / ORDERS) if folder.remote is None else BucketOrders(folder.remote.child(ORDERS))


def submit(folder: SweepFolder, order: Order) -> None:
    """Write an order into a sweep, after those that it has.

    Raises:
        SpecError: it is too long.
        StorageError: the folder cannot be written by this user, or S3 refused.
    """
    book, content = book_of(folder), order.model_dump_json().encode()
    if len(content) > MAX_BYTES:
        requirement = f"must have at most {MAX_BYTES:,} bytes, got {len(content):,}"
        raise SpecError([Problem("order", f"{requirement}; give fewer points or trials in one order")])
    try:
        names = book.names()
        number = 1 + max(map(_number_of, names), default=0)
        book.create(f"{number:06d}-{order.id}.json", content)
    except OSError as error:
        place = folder.path / ORDERS
        requirement = f"must be a folder that this user can write, to order something ({error.strerror})"
        remedy = "free some space" if error.errno in FULL else "have its owner do it, or get write access"
        remedy += f"; to look at the sweep: ravel status {reference(folder)}"
        raise StorageError(f"{place}: {requirement}; {remedy}") from None


def unanswered(book: OrderBook, answered: Collection[str]) -> Iterator[Order | Unreadable]:
    """Yield the orders without an answer, in order; an order is known by the id in its name.

    An empty one is being written, where a file system has no links. One that this user may not read is an unreadable
    order, and delays no other.

    Raises:
        StorageError: the folder cannot be read by this user; or S3 refused, or could not be reached.
    """
    try:
        for name in book.names():
            if (order_id := id_of(name)) not in answered and (order := _order(book, name, order_id)) is not None:
                yield order
    except OSError as error:
        requirement = f"must be a folder that this user can read, as it holds the orders ({error.strerror})"
        raise StorageError(f"{error.filename}: {requirement}; get read access, or move it away") from None


def _order(book: OrderBook, name: str, order_id: str) -> Order | Unreadable | None:
    try:
        content = book.read(name)
    except PermissionError as error:
        return Unreadable(order_id, f"must be a file that the user of the driver can read ({error.strerror})")
    return _read(order_id, content) if content else None


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


def _in_order(place: object, names: Iterable[str]) -> list[str]:
    """Return the names that are those of orders, by number; name any other file once."""
    orders = []
    for name in names:
        if NAME.fullmatch(name):
            orders.append(name)
        elif not name.startswith("."):  # a draft that is being written
            leave_out(f"{place}/{visible(name)}", "no order has such a name")
    return sorted(orders, key=lambda name: (_number_of(name), name))


def _number_of(name: str) -> int:
    return int(name.partition("-")[0])
