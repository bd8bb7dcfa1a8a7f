"""Pages of the reference, each made from the code."""

from __future__ import annotations

import command_line
import metrics_and_events
import python_names
import spec_fields

INDEX = """# Reference

Every page of this part is made from the code of this version when the site is built.

- [Command line](command-line.md): each command, option, default and exit code.
- [Spec](spec.md): each field of a sweep's YAML, its type, default, allowed values and meaning.
- [Parameters of a trial](trial-parameters.md): what you fix in `trial`, or search in `space`.
- [Metrics](metrics.md): names, units, and which direction is better.
- [Events of the log](events.md): kinds, fields, versions.
- Python: [`ravel`](python/ravel.md), [`search_spaces`](python/search_spaces.md),
  [`trainables`](python/trainables.md), and [`ravel.testing`](python/testing.md) for your own code.

Two pages of this part are written by hand: [Search spaces](../search_spaces.md) has the syntax of `space`, and
[What a trial can be](../training.md) the data sets, networks and methods.
"""


def pages() -> dict[str, str]:
    """Return the pages of the reference, by their place on the site."""
    return {
        "reference/index.md": INDEX,
        "reference/command-line.md": command_line.page(),
        "reference/spec.md": spec_fields.spec_page(),
        "reference/trial-parameters.md": spec_fields.trial_page(),
        "reference/metrics.md": metrics_and_events.metrics_page(),
        "reference/events.md": metrics_and_events.events_page(),
        **python_names.pages(),
    }
