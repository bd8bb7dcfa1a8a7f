"""Accuracy on deformed images."""
