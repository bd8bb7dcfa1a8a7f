"""Calibration, out-of-distribution detection, deep k-nearest neighbours."""
