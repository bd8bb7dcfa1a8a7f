"""Streams are independent of each other, equal for equal seeds, and continue where they were saved."""

import hashlib

import torch

from trainables.seeding import Streams, derive


def consume(streams):
    return (
        torch.randperm(20, generator=streams.order).tolist(),
        streams.mixup.beta(0.3, 0.3),
        torch.rand(5, generator=streams.attack).tolist(),
    )


def test_seed_is_the_documented_hash():
    digest = hashlib.sha256(b"7/order").digest()
    assert derive(7, "order") == int.from_bytes(digest[:8], "big") >> 1


def test_equal_seeds_give_equal_streams_and_other_seeds_others():
    assert consume(Streams.from_seed(1)) == consume(Streams.from_seed(1))
    assert all(a != b for a, b in zip(consume(Streams.from_seed(1)), consume(Streams.from_seed(2)), strict=True))


def test_using_one_stream_moves_no_other():
    used, fresh = Streams.from_seed(3), Streams.from_seed(3)
    for _ in range(10):
        used.mixup.beta(1, 1)
        torch.rand(100, generator=used.attack)
    assert torch.equal(torch.randperm(50, generator=used.order), torch.randperm(50, generator=fresh.order))


def test_restored_streams_continue_where_they_were_saved(tmp_path):
    streams = Streams.from_seed(4)
    consume(streams)
    torch.save(streams.state(), tmp_path / "streams")
    expected = consume(streams)
    other = Streams.from_seed(99)
    other.restore(torch.load(tmp_path / "streams", weights_only=True))
    assert consume(other) == expected
