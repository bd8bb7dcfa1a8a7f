"""Object storage: S3 and local files, without knowledge of sweeps."""
