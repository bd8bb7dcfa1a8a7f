"""Trials of a running sweep, whatever runs their workers: the queue, the recorder, the rungs, and a worker's part."""
