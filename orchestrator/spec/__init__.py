"""Sweep specs: the validated model of a YAML document, and its JSON Schema."""
