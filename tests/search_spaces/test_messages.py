"""What is said about wrong inputs, word for word: `assets/messages.txt` is a doctest."""

import doctest
import re
from pathlib import Path

MESSAGES = Path(__file__).parent / "assets" / "messages.txt"


def test_every_wrong_input_is_told_as_the_golden_file_has_it():
    failed, attempted = doctest.testfile(str(MESSAGES), module_relative=False, verbose=False)
    assert failed == 0
    assert attempted >= 50


def test_every_message_of_the_golden_file_names_a_place_and_a_law():
    messages = re.findall(r"^search_spaces\.errors\.\w+: (.*)$", MESSAGES.read_text(), flags=re.MULTILINE)
    assert len(messages) >= 50
    assert all(re.match(r"[^:]+(:\d+:\d+)?: .{8,}", message) for message in messages)
