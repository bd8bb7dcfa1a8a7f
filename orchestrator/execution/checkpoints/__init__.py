"""Checkpoints of a sweep: which are dropped, and the deletion of their files."""
