"""Representations of hidden layers."""
