"""Forecasts of a sweep: its cost, what batches of trials gain, and the sizes of its checkpoints."""
