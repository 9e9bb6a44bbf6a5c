"""A start for the token embeddings: skip-gram vectors over the same tokens, minutes on a CPU."""

from collections.abc import Iterable

import numpy as np
from gensim.models import Word2Vec
from numpy.typing import NDArray


def skip_gram(
    sentences: Iterable[list[int]], *, vocabulary: int, width: int, workers: int, seed: int
) -> NDArray[np.float32]:
    """Vectors (vocabulary, width), centred, of length 0.02·√width each; tokens never seen get random ones.

    `sentences` are lists of token ids and are read once for the counts and once for the training, so they must be
    re-iterable.
    """
    words = [[str(token) for token in sentence] for sentence in sentences]
    model = Word2Vec(
        words,
        vector_size=width,
        window=6,
        negative=8,
        sg=1,
        min_count=5,
        epochs=1,
        workers=workers,
        seed=seed,
        sample=1e-4,
    )
    vectors = np.random.default_rng(seed).standard_normal((vocabulary, width)).astype(np.float32)
    known = np.asarray([int(str(word)) for word in model.wv.index_to_key])
    learned = np.asarray(model.wv.vectors, np.float32)
    vectors[known] = learned - learned.mean(axis=0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-6) * (0.02 * width**0.5)
