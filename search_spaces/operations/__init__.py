"""Operations that return a new space: merge, fix, narrow, refine, warm-start."""
