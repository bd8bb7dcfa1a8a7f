"""MLflow shows what the event log holds: runs, metrics, artifacts, prepared views, registered models."""
