"""Train an image classifier."""
