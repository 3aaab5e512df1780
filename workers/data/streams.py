"""Random numbers of a dataset: one counter-based generator for each thing that is drawn."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is for. The numbers fix the bits of every dataset: never change one."""

    TEACHER = 0  # directions and readout, weights of a network, or signs of the modes
    TRAIN_INPUTS = 1
    TEST_INPUTS = 2
    TRAIN_NOISE = 3
    ORDER = 4  # of a finite pool
    POOL_INPUTS = 5
    HELDOUT_INPUTS = 6
    TEST_ORDER = 7  # of points that a file reserves for testing


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """Philox with the 64-bit `seed` as its key and `stream` in the highest word of its counter.

    Streams are 2^192 blocks apart, so none ever runs into the next. What a generator gives is a
    sequence: an array of fewer rows is a prefix of one with more. Salmon et al. (2011,
    doi:10.1145/2063384.2063405).
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, int(stream)]))
