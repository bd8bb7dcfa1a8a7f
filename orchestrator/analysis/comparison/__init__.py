"""Comparison of trials at equal epochs, from the plan and the event log alone: pure, without an array library."""
