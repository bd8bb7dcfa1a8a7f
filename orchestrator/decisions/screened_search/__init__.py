"""Screened search, the sampler of ``search.sampler: auto``: random points, then the best of several candidates."""
