"""Where a catalogue's cells have their centres: k-means over a sample."""

from __future__ import annotations

import numpy as np

from xpert.core.cutting import Points

SAMPLE = 20
"""Points a centre that k-means looks at: more move the centres of a million pLLMs no more than the seed does."""

BATCH = 8192


def kmeans(points: Points, n: int) -> Points:
    """Find ``n`` centres of ``points``, the same ones every time."""
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(0)
    sample = points if len(points) <= SAMPLE * n else points[rng.choice(len(points), SAMPLE * n, replace=False)]
    found = MiniBatchKMeans(n, batch_size=BATCH, max_iter=20, n_init=1, random_state=0).fit(sample)
    centres: Points = found.cluster_centers_.astype(np.float32)
    return centres
