"""Adapters to Optuna and Ray Tune."""
