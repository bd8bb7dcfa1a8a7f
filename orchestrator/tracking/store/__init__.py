"""MLflow's tracking store: open and search it, a local sqlite file, a check that it can be reached, its errors."""
