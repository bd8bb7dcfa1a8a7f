"""Robustness to adversarial examples."""
