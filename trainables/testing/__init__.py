"""Checks for authors of models, training functions, optimizers, batch transforms and regularizers, for their own tests.

Each check raises an AssertionError that names the rule, or the error that a sweep would end with.
"""

from trainables.testing.batch_transforms import check_batch_transform
from trainables.testing.models import check_model
from trainables.testing.optimizers import check_optimizer
from trainables.testing.regularizers import check_regularizer
from trainables.testing.tasks import check_task

__all__ = ["check_batch_transform", "check_model", "check_optimizer", "check_regularizer", "check_task"]
