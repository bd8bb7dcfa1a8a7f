"""Parameter domains as frozen values."""
