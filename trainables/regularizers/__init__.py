"""The regularizers of a training step, resolved from a trial."""
