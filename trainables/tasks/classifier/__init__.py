"""Classifier task: train an image classifier."""
