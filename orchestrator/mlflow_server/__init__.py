"""A team's MLflow server: its processes, users and host check."""
