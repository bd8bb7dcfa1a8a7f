"""Before a sweep: read and validate its spec, and decide ids, seeds, rungs and provenance."""
