"""A private Ray on this machine, for the length of one sweep.

``process`` starts and stops the keeper. ``keeper`` is the process that starts and stops Ray. ``folder`` has its files.
``failure`` reads why it did not start. ``bytecode`` spares its processes a compilation.
"""
