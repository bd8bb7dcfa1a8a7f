"""Images of more than 8 bits a channel, which are refused wherever images are read: Pillow would turn them white."""

from __future__ import annotations

DEEP = ("I", "F")
"""First letters of Pillow's modes of 16 and 32 bits."""


def depth_problem(mode: str) -> str | None:
    """Return what is wrong with an image of this mode of Pillow; None if it has 8 bits a channel.

    >>> depth_problem("RGB"), depth_problem("I;16")
    (None, 'has more than 8 bits a channel (mode I;16), all above 255 would become white')
    """
    if not mode.startswith(DEEP):
        return None
    return f"has more than 8 bits a channel (mode {mode}), all above 255 would become white"
