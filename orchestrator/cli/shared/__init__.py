"""Parts that the panels share: arguments and options, the display of a sweep that runs, the wait for a cluster."""
