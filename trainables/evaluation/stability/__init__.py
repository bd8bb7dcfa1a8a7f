"""Lipschitz constants and the stability of layers."""
