"""Training engine that all tasks share: epoch loop, checkpoints, guards, precision, optimization."""
