"""Warm start of a sweep from the results of a previous one."""
