"""The validated description of a trial."""

from trainables.config.trial import TrialConfig

__all__ = ["TrialConfig"]
