"""Small parts of `python -m tests.soak --only media`."""

import pytest

from .soak import media


def test_uploads_that_fail_half_way_are_completed_by_the_next(tmp_path):
    row = media.failing_uploads(0.1, tmp_path / "uploads")
    assert row.bad == 0, row.examples


def test_hostile_videos_end_nothing(tmp_path):
    pytest.importorskip("av", reason="video needs PyAV: pip install av")
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed: pip install mediapipe==0.10.14")
    row = media.hostile_videos(0.05, tmp_path / "videos", seed=1)
    assert row.bad == 0, row.examples
