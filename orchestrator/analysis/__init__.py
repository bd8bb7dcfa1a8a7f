"""Analyse a sweep from its plan and event log."""
