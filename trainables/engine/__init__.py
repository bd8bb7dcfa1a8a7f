"""The training engine shared by all tasks: checkpoints, guards, precision, optimization."""
