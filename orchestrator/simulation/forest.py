"""Random forests as plain arrays: fitted by scikit-learn, and asked for one point in some tens of microseconds.

Several forests over the same columns, one for each group of outputs, are descended together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

TREES = 100
BATCH = 64


@dataclass(frozen=True)
class Forests:
    """Trees of all forests, one after the other in flat arrays; a leaf is its own child.

    ``values`` has for each forest one row of outputs for each of its nodes, ``out_of_bag`` one for each fitted row,
    predicted by the trees that did not see it.
    """

    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    children: NDArray[np.int64]
    values: tuple[NDArray[np.float32], ...]
    starts: tuple[int, ...]
    depth: int
    out_of_bag: tuple[NDArray[np.float64], ...]

    @classmethod
    def fit(cls, groups: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], *, seed: int = 0) -> Self:
        """Fit one forest to the rows and targets (rows by outputs) of each group.

        Raises:
            ImportError: scikit-learn is not installed.
        """
        import numpy as np  # noqa: PLC0415  the simulator alone needs it
        from sklearn.ensemble import ExtraTreesRegressor  # noqa: PLC0415

        forests, out_of_bag = list[list[Any]](), []
        for rows, targets in groups:
            forest = ExtraTreesRegressor(TREES, bootstrap=True, oob_score=True, random_state=seed)
            forest.fit(rows.astype(np.float32), targets)
            forests.append([estimator.tree_ for estimator in forest.estimators_])
            out_of_bag.append(forest.oob_prediction_.reshape(targets.shape))
        flat = [tree for forest in forests for tree in forest]
        offsets = np.cumsum([0, *(tree.node_count for tree in flat)])
        left, right, threshold = [], [], []
        for start, tree in zip(offsets, flat, strict=False):
            is_leaf, own = tree.children_left < 0, np.arange(tree.node_count)
            left.append(start + np.where(is_leaf, own, tree.children_left))
            right.append(start + np.where(is_leaf, own, tree.children_right))
            threshold.append(np.where(is_leaf, np.inf, tree.threshold))
        return cls(
            roots=offsets[:-1],
            feature=np.maximum(np.concatenate([tree.feature for tree in flat]), 0),
            threshold=np.concatenate(threshold),
            children=np.stack([np.concatenate(right), np.concatenate(left)], axis=1).reshape(-1),
            values=tuple(
                np.concatenate([tree.value[:, :, 0] for tree in forest]).astype(np.float32) for forest in forests
            ),
            starts=tuple(int(offsets[TREES * number]) for number in range(len(forests))),
            depth=max(tree.max_depth for tree in flat),
            out_of_bag=tuple(out_of_bag),
        )

    def predict_one(self, row: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Return the outputs of each forest for one row."""
        import numpy as np  # noqa: PLC0415

        node, feature, threshold, children = self.roots, self.feature, self.threshold, self.children
        for _ in range(self.depth):
            node = children[2 * node + (row[feature[node]] <= threshold[node])]
        return [
            values[node[TREES * number : TREES * (number + 1)] - start].mean(axis=0, dtype=np.float64)
            for number, (values, start) in enumerate(zip(self.values, self.starts, strict=True))
        ]

    def predict(self, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the outputs of each forest for rows: rows by outputs."""
        import numpy as np  # noqa: PLC0415

        batches = [self._batch(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def _batch(self, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        import numpy as np  # noqa: PLC0415

        x, which = rows.astype(np.float32), np.arange(len(rows))[:, None]
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        for _ in range(self.depth):
            node = self.children[2 * node + (x[which, self.feature[node]] <= self.threshold[node])]
        return [
            values[node[:, TREES * number : TREES * (number + 1)] - start].mean(axis=1, dtype=np.float64)
            for number, (values, start) in enumerate(zip(self.values, self.starts, strict=True))
        ]
