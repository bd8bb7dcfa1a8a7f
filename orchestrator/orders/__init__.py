"""Orders to a sweep: files that ask to stop or extend it, the answers in its event log, and what follows from them."""
