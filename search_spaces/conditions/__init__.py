"""Conditions of parameters, and constraints between them."""
