"""Lightning task: a user's own `LightningModule`, of which one epoch is one epoch of a trial."""
