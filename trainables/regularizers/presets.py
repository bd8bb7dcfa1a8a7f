"""Presets of the soft nearest neighbour loss with a known effect, as flat points.

Use `entangle` and `disentangle` as starting points. `paper_demo` is the configuration of the demonstration that
Frosst and Papernot released with the paper (a fixed temperature of 100, weight -10, every hidden layer, the
penultimate one included; the demonstration uses Adam at 0.001). Use it to reproduce the demonstration, not as a
starting point. Where distances are far below the temperature, it is a mild penalty of weight / temperature = -0.1 on
the distances between class means. But a fixed temperature is a fixed scale, and maximising at a fixed scale has no
bound. Here, where images are normalised, it diverged: with AdamW at 0.001 on digits, accuracy was 0.74 (mlp) and
0.66 (cnn) instead of 0.94 and 0.96, and on MNIST with cnn it was at chance, in the exact and in the released form.

`entangle` and `disentangle` minimise over the temperature, which is the form that the paper describes
(equation 2) and the only one that is bounded when maximised. They exclude the penultimate layer,
because entangling it costs accuracy first. The weight that a network tolerates depends on the network: that of the
paper, on MNIST for five epochs, lost 1 point of accuracy at -0.1 (its hidden layers then nearly at chance), 0.5 at
-0.03 and 0.1 at -0.01, which is the preset; a small MLP on digits tolerated -0.1.

The preset `entangle` does not measurably entangle: at -0.01 the term has about 1 % of the cross-entropy's gradient
while the learning rate is high. To entangle, merge a stronger `snnl.weight` into it. On 5,000 images of MNIST -0.1
doubled the entanglement and cost 0.4 points; on digits -0.3 quadrupled that of conv2 and cost 0.5 (one network each,
docs/results/dose.md).
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PRESETS"]

PRESETS: Mapping[str, Mapping[str, float | str]] = MappingProxyType(
    {
        "paper_demo": MappingProxyType(
            {
                "snnl.weight": -10.0,
                "snnl.temperature_mode": "absolute",
                "snnl.temperature": 100.0,
                "snnl.distance": "sqeuclidean",
                "snnl.layers": "hidden+penultimate",
            }
        ),
        "entangle": MappingProxyType(
            {
                "snnl.weight": -0.01,
                "snnl.temperature_mode": "minimised",
                "snnl.distance": "sqeuclidean",
                "snnl.layers": "hidden",
            }
        ),
        "disentangle": MappingProxyType(
            {
                "snnl.weight": 0.3,
                "snnl.temperature_mode": "minimised",
                "snnl.distance": "sqeuclidean",
                "snnl.layers": "hidden",
            }
        ),
    }
)
"""Presets by name; pass one to `TrialConfig.from_point`, alone or merged with other parameters.

>>> PRESETS["paper_demo"]["snnl.weight"]
-10.0
"""
