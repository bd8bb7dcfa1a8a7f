"""Function task: a user's own training function, which yields the metrics of each epoch."""
