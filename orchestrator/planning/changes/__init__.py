"""Changes of a sweep that exists: its plan with orders, forks of it, and the check that a folder is the original."""
