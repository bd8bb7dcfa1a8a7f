"""What a sweep does next, as pure functions of its state: judge at a rung, promote, propose."""
