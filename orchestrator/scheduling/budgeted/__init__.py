"""Budgeted ASHA: the scheduler, the rung schedule of a budget, and the places at its rungs."""
