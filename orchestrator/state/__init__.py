"""The state of a sweep: events, the event log, what they add up to, and where a sweep is kept and locked."""
