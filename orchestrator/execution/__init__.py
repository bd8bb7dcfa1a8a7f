"""Run a sweep: driver, Ray cluster, Tune searcher and scheduler, exporters, preflight checks."""
