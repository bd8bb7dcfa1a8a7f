"""Augmentation of images on whole batches: crops and flips, deformations, and policies with their operations."""
