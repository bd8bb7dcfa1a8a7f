"""Suites, results, reports, figures and basic metrics."""
