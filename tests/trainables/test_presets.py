"""The presets are trials that can be run."""

import pytest

from trainables.config.trial import TrialConfig
from trainables.models import check_layers
from trainables.regularizers.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_valid_trial_that_says_what_it_was_given(name):
    config = TrialConfig.from_point(PRESETS[name])
    check_layers(config)
    assert PRESETS[name].items() <= config.to_point().items()


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["entangle"]["snnl.weight"] = 1.0


def test_names_tell_the_sign():
    assert PRESETS["entangle"]["snnl.weight"] < 0 < PRESETS["disentangle"]["snnl.weight"]
