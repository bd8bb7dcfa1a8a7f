"""Tasks of a trial: train a classifier or a generative adversarial network."""
