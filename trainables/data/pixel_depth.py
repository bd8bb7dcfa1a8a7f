"""Images of more than 8 bits a channel: Pillow makes white what is above 255, so they are refused wherever files are read."""

from __future__ import annotations

DEEP = ("I", "F")
"""First letters of Pillow's modes of 16 and 32 bits."""


def depth_problem(mode: str) -> str | None:
    """Return what is wrong with an image of this mode of Pillow; None if it has 8 bits a channel.

    >>> depth_problem("RGB"), depth_problem("I;16")
    (None, 'has more than 8 bits a channel (mode I;16), all above 255 would become white')
    """
    return (
        f"has more than 8 bits a channel (mode {mode}), all above 255 would become white"
        if mode.startswith(DEEP)
        else None
    )
