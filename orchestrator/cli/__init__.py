"""The `ravel` command line."""
