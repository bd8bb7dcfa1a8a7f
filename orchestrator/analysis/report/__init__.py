"""Report of a sweep: one self-contained HTML page, a function of plans and event logs (and a confirmation's claim)."""
