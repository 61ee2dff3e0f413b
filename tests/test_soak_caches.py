"""The soak of caches, at a small scale."""

from .soak import caches


def test_a_small_soak_of_caches_finds_nothing(tmp_path):
    rows = caches.soak(0.1, tmp_path, seed=1)
    assert [row.what for row in rows if row.bad] == [], [row.examples for row in rows]
    assert all(sum(row.outcomes.values()) >= row.tried for row in rows)
