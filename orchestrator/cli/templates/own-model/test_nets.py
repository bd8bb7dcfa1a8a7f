"""Run with `pytest`: the network keeps the rules that the methods of a sweep rely on."""

from trainables.testing import check_model


def test_the_network_keeps_the_rules_of_a_sweep() -> None:
    layers = check_model("nets:SmallNet", {"width": 8}, image_shape=(1, 8, 8), num_classes=10)
    assert {"block1", "block2"} <= set(layers)
