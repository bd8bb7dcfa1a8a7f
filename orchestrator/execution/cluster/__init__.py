"""Running Ray clusters: what a driver checks before it joins one, and what it sends to it."""
