"""Next steps of a sweep as pure functions of its state: decide at a rung, promote a paused trial, propose a point."""
