"""Which features are watched."""

import numpy as np

from monitor.drift.features import watched_features


def test_all_but_the_ignored_are_watched_in_one_order() -> None:
    """Sorted, and constants included."""
    reference = {"width": np.full(3, 640.0), "noise": np.arange(3.0), "contrast": np.arange(3.0)}
    assert watched_features(reference, ignored={"contrast", "unheard_of"}) == ("noise", "width")
