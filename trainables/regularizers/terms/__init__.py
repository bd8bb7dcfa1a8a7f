"""Regularizers by name: each module holds the one of its name."""
