"""Claims from repeated measurements: intervals, paired comparisons, and what of a gain is left. Pure functions."""
