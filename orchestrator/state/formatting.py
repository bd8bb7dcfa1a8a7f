"""Numbers and values as text for terminals and tables."""

from typing import Any


def shown(value: Any) -> str:
    """Format a value for people: floats with four significant digits, None as a dash.

    >>> shown(0.0312345), shown(None), shown("sgd")
    ('0.03123', '-', 'sgd')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
