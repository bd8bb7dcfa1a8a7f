"""Evaluation of trained trials: its targets, its output, the confirmation of a search, and the claim as a file."""
