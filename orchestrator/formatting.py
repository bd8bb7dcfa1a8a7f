"""Numbers and values as text for terminals and tables."""

from typing import Any


def shown(value: Any) -> str:
    """A value as a person reads it: floats to four significant digits, an absent one as a dash.

    >>> shown(0.0312345), shown(None), shown("sgd")
    ('0.03123', '-', 'sgd')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
