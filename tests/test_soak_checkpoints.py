"""The soak of checkpoints, small: real processes, killed, without room, and with a damaged checkpoint."""

import sys

import pytest

from .soak.checkpoints import soak


@pytest.mark.skipif(sys.platform != "linux", reason="forks, kills, and sets limits")
def test_what_is_killed_or_damaged_ends_as_if_nothing_had_happened(tmp_path):
    for row in soak(0.02, tmp_path, seed=0):
        assert row.bad == 0, (row.what, row.outcomes, row.examples)
