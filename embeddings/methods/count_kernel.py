"""Counts the words before each word of a text, row by row: the inner loops of `embeddings.methods.cooccurrence`."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def left_contexts(
    ids: np.ndarray, starts: int, lines: np.ndarray, weight: np.ndarray, vocabulary_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights of the pairs in a part of a text, added up in CSR format: row = word, column = one before it.

    A row is added up in an array of V numbers, which stays in a core's cache. The sum of a cell is that of its
    distances, the smallest first, and of a distance that of its pairs. So it is rounded as a sum of one sparse matrix
    for each distance is.

    Args:
        ids: (n,) the words.
        starts: a pair counts if the earlier of its words is among so many first ones.
        lines: (n,) the number of the line of each word, or (0,): then pairs count across lines.
        weight: (W,) what a pair at distance 1 to W counts.
        vocabulary_size: V.

    Returns:
        data (pairs,) float64, indices (pairs,) int32, rising in each row, and indptr (V + 1,) int64.
    """
    first = np.zeros(vocabulary_size + 1, np.int64)
    for word in ids:
        first[word + 1] += 1
    first = np.cumsum(first)
    places = np.empty(len(ids), np.int32)  # where each word stands, word after word
    free = first.copy()
    for place, word in enumerate(ids):
        places[free[word]] = place
        free[word] += 1

    data, indices = np.empty(len(ids), np.float64), np.empty(len(ids), np.int32)
    indptr = np.zeros(vocabulary_size + 1, np.int64)
    total, part = np.zeros(vocabulary_size), np.zeros(vocabulary_size)
    found, of_distance = np.empty(vocabulary_size, np.int32), np.empty(vocabulary_size, np.int32)
    size = 0
    for word in range(vocabulary_size):
        contexts = 0
        for distance in range(1, len(weight) + 1):
            value = weight[distance - 1]
            if value == 0:
                continue
            new = 0
            for at in range(first[word], first[word + 1]):
                left = places[at] - distance
                if left < 0 or left >= starts:
                    continue
                if len(lines) and lines[left] != lines[places[at]]:
                    continue
                context = ids[left]
                if part[context] == 0:
                    of_distance[new] = context
                    new += 1
                part[context] += value
            for number in range(new):
                context = of_distance[number]
                if total[context] == 0:
                    found[contexts] = context
                    contexts += 1
                total[context] += part[context]
                part[context] = 0
        if size + contexts > len(data):
            room = max(2 * len(data), size + contexts)
            data, old = np.empty(room, np.float64), data
            data[:size] = old[:size]
            indices, before = np.empty(room, np.int32), indices
            indices[:size] = before[:size]
        row = np.sort(found[:contexts])
        for number in range(contexts):
            context = row[number]
            indices[size + number], data[size + number] = context, total[context]
            total[context] = 0
        size += contexts
        indptr[word + 1] = size
    return data[:size].copy(), indices[:size].copy(), indptr
