"""The Soft Nearest Neighbor Loss of Frosst, Papernot and Hinton (2019), arXiv 1902.01889."""

from __future__ import annotations

from search_spaces.space import SearchSpace


def snnl() -> SearchSpace:
    """Return the parameters of the loss term of Frosst et al., of either sign.

    - `snnl.weight`, alpha in equation 3, 0 or 1e-3 to 1 in magnitude: negative entangles classes, positive
      disentangles. No published range is known to us. With the minimised temperature, a small MLP on
      scikit-learn's digits entangled at -0.03 to -0.3 without loss of accuracy; -1 cost accuracy, +1 did not.
    - `snnl.temperature_mode`: `minimised` takes the T of least loss (equation 2), the only bounded thing to
      maximise; `relative` fixes T as a multiple of the batch's median pairwise distance.
    - `snnl.temperature`, T in equation 1, [0.05, 20] when fixed: lower, only the nearest neighbour
      counts; higher, the loss is linear in 1/T, so that T merely rescales the weight.
    - `snnl.layers`: `hidden` is every tap but the penultimate one and the logits. The paper entangles hidden
      layers "unlike the penultimate layer".
    - `snnl.distance`: squared Euclidean as in equation 1, or cosine as in the authors' code.

    >>> sorted(snnl().active({"snnl.weight": -0.1, "snnl.temperature_mode": "minimised"}))
    ['snnl.distance', 'snnl.layers', 'snnl.temperature_mode', 'snnl.weight']
    """
    return SearchSpace.from_dict({"use": ["snnl"]})


def entangle() -> SearchSpace:
    """Return the parameters of the loss term that entangles classes in hidden layers, as Frosst et al. propose.

    - `snnl.weight`, 0 or [-0.3, -1e-3]: on MNIST the paper's network lost 0.2 points at -0.01, the preset `entangle`,
      and 1 point at -0.1; a small MLP on digits bore -0.3 (docs/results.md, `trainables.regularizers.presets`).
    - `snnl.temperature_mode`, `snnl.temperature`, `snnl.layers`, `snnl.distance`: as in `snnl`.

    >>> entangle().parameters["snnl.weight"].contains(0.1)
    False
    """
    return SearchSpace.from_dict({"use": ["entangle"]})


def disentangle() -> SearchSpace:
    """Return the parameters of the loss term that separates classes in hidden layers.

    - `snnl.weight`, 0 or [1e-2, 10]: separating costs little accuracy, so that it may be strong; 0.3 is the preset
      `disentangle`, which on MNIST was as accurate as no term (docs/results.md).
    - `snnl.temperature_mode`, `snnl.temperature`, `snnl.layers`, `snnl.distance`: as in `snnl`.

    >>> disentangle().parameters["snnl.weight"].contains(-0.1)
    False
    """
    return SearchSpace.from_dict({"use": ["disentangle"]})
