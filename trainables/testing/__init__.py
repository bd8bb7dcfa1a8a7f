"""Checks for authors of models, regularizers, metrics and all else that a sweep imports, for their own tests.

Each check raises an AssertionError that names the rule, or the error that a sweep would end with.
"""

from trainables.testing.batch_transforms import check_batch_transform
from trainables.testing.evaluation import check_metric, check_suite
from trainables.testing.models import check_model
from trainables.testing.optimizers import check_optimizer
from trainables.testing.regularizers import check_regularizer
from trainables.testing.tasks import check_task

__all__ = [
    "check_batch_transform",
    "check_metric",
    "check_model",
    "check_optimizer",
    "check_regularizer",
    "check_suite",
    "check_task",
]
