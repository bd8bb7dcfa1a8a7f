"""Points of a space: draw, enumerate, count and check them."""
