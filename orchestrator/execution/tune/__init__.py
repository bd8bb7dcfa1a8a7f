"""Adapters of Ray Tune: placement of trials, proposals, decisions, and the record of what trials report."""
