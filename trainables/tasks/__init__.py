"""What a trial can train: a classifier or a GAN."""
