"""Read and write search spaces as YAML, JSON, JSON Schema, and tables."""
