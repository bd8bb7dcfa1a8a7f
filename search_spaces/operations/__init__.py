"""Operations on spaces: merge, fix, narrow, drop, prefix, compare."""
