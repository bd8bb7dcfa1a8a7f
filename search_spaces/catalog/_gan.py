"""The soft nearest neighbour loss between real and generated images (Frosst et al. 2019, arXiv 1902.01889)."""

from __future__ import annotations

from search_spaces.space import SearchSpace


def gan() -> SearchSpace:
    """Return the parameters of a generative adversarial network trained with the loss between two classes.

    The classes are real and generated, equally many in each batch: high entanglement, up to log 2, is the mark of
    a good generator. The paper does not give its architectures and rates; the ranges are those of networks that are
    common in this setting.

    - `gan.generator_lr`, `gan.discriminator_lr` [1e-5, 1e-3]: 2e-4 for both in Radford et al. (arXiv 1511.06434), a
      rate for each in Heusel et al. (arXiv 1706.08500).
    - `gan.beta_1` [0, 0.9]: Adam's first moment, 0.5 in Radford et al.
    - `gan.latent_dim`: entries of the noise vector, 100 in Radford et al.
    - `gan.generator_snnl`, 0 (off) or [0.01, 10]: weight with which the generator raises the entanglement of real and
      generated features.
    - `gan.discriminator_snnl`, 0 (off) or [0.01, 10]: weight with which the discriminator lowers it.
    - `gan.snnl_features`: pixels, or the discriminator's features.
    - `gan.snnl_distance`: squared Euclidean or cosine.

    >>> sorted(gan().active({"gan.generator_snnl": 0.0, "gan.discriminator_snnl": 0.0}))[:2]
    ['gan.beta_1', 'gan.discriminator_lr']
    """
    return SearchSpace.from_dict({"use": ["gan"]})
