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


def shown_bytes(size: float) -> str:
    """Return a size with its unit, in powers of ten.

    >>> shown_bytes(980), shown_bytes(1.23e6), shown_bytes(4.56e10), shown_bytes(2e13)
    ('980 B', '1.2 MB', '46 GB', '20 TB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB" if size < 9.95 else f"{size:,.0f} TB"
