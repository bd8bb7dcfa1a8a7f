"""Data sets that are not in the list of published ones: a user's own, those of a library, arrays in a file."""

from trainables.data.own.source import OwnData

__all__ = ["OwnData"]
