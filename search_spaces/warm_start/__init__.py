"""Warm start: results of a finished sweep, brought into the next one."""
