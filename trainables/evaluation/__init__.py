"""Evaluation of classifiers: accuracy and likelihood, calibration, robustness, representations, stability."""
