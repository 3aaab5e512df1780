"""An output for each class: targets, the images that have them, and the class that is named."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storage.campaign.data_spec import Digits
from storage.errors import CampaignError
from theory.accuracy import right_class
from workers.data.balance import class_counts, stored_counts
from workers.data.collection import Images, one_output_each
from workers.data.sources import make, make_pool

SEED = 5
TEN = tuple(range(10))
some_classes = st.lists(st.integers(0, 9), min_size=2, max_size=10, unique=True).map(tuple)


def digits(classes=TEN, **changes):
    common = {"source": "digits", "train": 60, "test": 40, **changes}
    return Digits.model_validate({**common, "classes": classes} if classes else common)


def targets_of(classes):
    found = digits(classes).class_targets
    assert found is not None
    return np.array(found)


@given(some_classes)
def test_targets_have_no_mean_and_are_equally_far_apart(classes):
    targets, count = targets_of(classes), len(classes)
    assert targets.shape == (count, count)
    # Sums of at most ten numbers of size one at most: ten roundings of 2^-53 each.
    assert np.abs(targets.sum(axis=1)).max() < 10 * 2**-53
    assert (targets.diagonal() == 1 - 1 / count).all()
    distances = np.sqrt(np.square(targets[:, None] - targets).sum(axis=-1))
    apart = distances[~np.eye(count, dtype=bool)]
    assert apart == pytest.approx(np.full(apart.shape, 2**0.5), rel=1e-14)


@given(some_classes, st.integers(0, 99))
def test_the_nearest_target_is_that_of_the_largest_output(classes, seed):
    targets = torch.from_numpy(targets_of(classes))
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn((200, len(classes)), generator=draw, dtype=torch.float64)
    own = torch.randint(len(classes), (200,), generator=draw)
    right = right_class(outputs, targets[own], targets)
    assert torch.equal(right, outputs.argmax(1) == own)


def test_ten_targets_are_nine_tenths_and_less_one_tenth():
    assert {*targets_of(TEN).ravel().tolist()} == {0.9, -0.1}


def test_outputs_are_in_the_order_of_the_classes_and_images_those_of_two_signs():
    signs = digits(None, positive=[0, 2, 4, 6, 8], negative=[1, 3, 5, 7, 9])
    one, other = make(digits(), SEED), make(signs, SEED)
    assert one.y_train.shape == (60, 10)
    assert one.components.shape == (40, 10, 1)
    for name in ("train", "test"):
        assert np.array_equal(getattr(one, f"x_{name}"), getattr(other, f"x_{name}"))
        even = getattr(one, f"y_{name}").argmax(axis=1) % 2 == 0
        assert np.array_equal(np.where(even, 1.0, -1.0), getattr(other, f"y_{name}"))
    backwards = make_pool(digits(TEN[::-1]), 200, SEED, 30)
    forwards = make_pool(digits(), 200, SEED, 30)
    assert np.array_equal(backwards.y, forwards.y[:, ::-1])
    assert backwards.y_heldout.shape == (30, 10)


def test_images_of_other_classes_are_left_out():
    labels = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], np.uint8)
    images = Images(np.arange(20, dtype=np.uint8).reshape(10, 2), labels, 1.0, (("some", 10),))
    found = one_output_each(images, (5, 1), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert found.values[:, 0].tolist() == [2, 6, 8, 16]
    assert found.targets.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    assert found.origin.name(2) == "row 4 of some"
    with pytest.raises(CampaignError, match="no image of class 7 in the data; choose from the cl"):
        one_output_each(images, (5, 7), np.eye(2))


def test_classes_without_a_point_are_counted_where_the_data_name_them():
    known = targets_of((4, 2, 7)).tolist()
    y = np.array(known)[[2, 0, 2]]
    assert class_counts({"train": y}) is None  # three points say nothing of classes
    found = class_counts({"train": y[:2], "test": y[2:]}, known)
    assert found is not None
    targets, counts = found
    assert np.array_equal(targets, known)
    assert counts["train"].tolist() == [1, 0, 1]
    assert counts["test"].tolist() == [0, 0, 1]
    stored = stored_counts({"train": y[:2], "test": y[2:]}, known)
    assert np.array_equal(stored["class_target"][:3], known)
    assert stored["train_class_count"].tolist() == [1, 0, 1] + [0] * 7
