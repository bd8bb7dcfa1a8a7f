"""Worker processes of this machine, started by the driver without Ray."""
