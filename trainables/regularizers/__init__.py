"""Regularizers of a training step, resolved from a trial."""
