"""Process of a worker: threads of torch and the allocator of GPU memory, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from trainables.engine.worker_process import EXPANDABLE, VARIABLES

SCRIPT = """
import json, os, torch
from trainables.engine.worker_process import VARIABLES, prepare_process
torch._C._accelerator_getAllocatorSettings()  # from here on torch reads no variable, as after an import on a GPU
for _ in range(2):  # the process of two trials
    prepare_process(cpus=3.5)
settings = torch._C._accelerator_getAllocatorSettings()
print(json.dumps([torch.get_num_threads(), settings, {name: os.environ.get(name) for name in VARIABLES}]))
"""


def prepared(**variables):
    """Return threads, the allocator's settings and the variables of a fresh process once it is prepared."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**environment, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_worker_has_the_threads_of_its_cpus_and_expandable_segments_in_its_children_too():
    threads, settings, variables = prepared()
    assert (threads, settings) == (3, EXPANDABLE)
    assert variables == {VARIABLES[0]: EXPANDABLE, VARIABLES[1]: None, VARIABLES[2]: None}


@pytest.mark.parametrize("name", VARIABLES)
def test_an_allocator_that_the_user_has_set_is_left_alone(name):
    _, settings, variables = prepared(**{name: "garbage_collection_threshold:0.8"})
    assert variables == {**dict.fromkeys(VARIABLES), name: "garbage_collection_threshold:0.8"}
    assert EXPANDABLE not in settings
