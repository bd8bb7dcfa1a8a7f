"""What a classifier is measured by: accuracy and likelihood, calibration, robustness, entanglement."""
