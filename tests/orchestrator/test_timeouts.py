"""Waits of a process that is stopped meanwhile."""

import signal
import subprocess
import sys
import threading
import time

from orchestrator import timeouts

STOPPED_S = 3.0
WAITS = """
import threading, time
from orchestrator import timeouts

def work():
    time.sleep(0.3)
    print("the wait began", flush=True)
    for _ in range(10):
        time.sleep(0.1)

thread = threading.Thread(target=work, daemon=True)
thread.start()
print(timeouts.ends(thread, 2.0))
"""


def test_time_in_which_the_process_is_stopped_does_not_count():
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "the wait began\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "True\n"


def test_a_thread_that_does_not_end_is_given_up():
    release = threading.Event()
    thread = threading.Thread(target=release.wait, daemon=True)
    thread.start()
    assert not timeouts.ends(thread, 0.6)
    assert not timeouts.ends(thread, 0.0)
    release.set()
    assert timeouts.ends(thread, 60.0)
