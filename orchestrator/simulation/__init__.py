"""Simulation: test samplers and schedulers on recorded learning curves, by the code that decides in a live sweep."""
