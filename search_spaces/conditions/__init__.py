"""Conditions under which parameters exist, and constraints between them."""
