"""The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

It is imported where it is used: other data need none.
"""

import numpy as np

from storage.errors import CampaignError
from workers.data.collection import Images


def load() -> Images:
    """All images as rows of 64 pixels from 0 to 16."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise CampaignError(
            "digits come with scikit-learn, which is missing; install it"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    parts = (("the digits", len(pixels)),)
    return Images(np.asarray(pixels, np.uint8), np.asarray(labels, np.uint8), 16.0, parts)
