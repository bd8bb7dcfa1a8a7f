"""Optimization of a trial: optimizers, rates and averaged weights, users' own optimizers, perturbed weights."""
