"""Rendered PHOENIX14T: the same motion as the first renderer made, and what `--variation` adds."""

from pathlib import Path

import numpy as np
import pytest

from datasets_scripts.schema import check_row
from experiments.rendered_phoenix import LEFT_HAND, RIGHT_HAND, main, mirrored, render_clip, rows, write

REFERENCE = Path(__file__).parent / "data" / "rendered_phoenix.npz"


def record(name="11August_2010-1", signer="Signer08", repeats=1):
    """An invented sentence of three signs, in the form of the annotations."""
    states = ([0, 0, 4, 4, 5, 6, 6] + [0] + [13, 13, 14, 14, 15] + [22, 23, 23, 24]) * repeats
    shapes = [number % 7 for number in range(len(states))]
    return dict(id=name, signer=signer, text="morgen regen .", gloss="MORGEN REGEN", sign_state=states, mouth_shape=shapes[::-1],
                hand_shape=shapes)  # fmt: skip


@pytest.mark.parametrize("variation", [0.0, 1.2])
def test_the_motion_is_that_of_the_first_renderer(variation):
    """Every second point of this sentence, as the tool that made the committed results rendered it."""
    expected = np.load(REFERENCE)[f"variation_{variation}"]
    np.testing.assert_allclose(render_clip(record(), 7, 0.03, variation=variation)[:, ::2], expected, rtol=0, atol=2e-3)


def test_tokens_of_a_sign_differ_only_with_variation():
    """The same sentence twice, by one signer: its second half follows the first at another distance from the estimator's noise alone."""
    for variation, low, high in ((0.0, 0, 2.5), (1.2, 2.5, 100)):
        clip = render_clip(record(repeats=2), 7, 0.0, jitter=0.0, variation=variation)[:, :8, :2]
        first, second = clip[8:13, 4], clip[8 + 17 : 13 + 17, 4]  # the right wrist in the second sign, well after the start
        distance = np.linalg.norm((first - first.mean(0)) - (second - second.mean(0)), axis=-1).mean()
        assert low <= distance < high


def test_lost_hands_have_no_confidence_and_stand_at_zero():
    clip = render_clip(record(repeats=20), 7, dropout=0.3)
    for hand in (LEFT_HAND, RIGHT_HAND):
        lost = (clip[:, hand, 2] == 0).all(1)
        assert 0.1 < lost.mean() < 0.5 and not clip[lost][:, hand].any()


def test_a_left_handed_signer_is_the_mirror_image_of_a_right_handed_one(rng):
    points = rng.normal(size=(4, 137, 2))
    there = mirrored(points)
    np.testing.assert_array_equal(mirrored(there), points)
    np.testing.assert_array_equal(there[:, LEFT_HAND], points[:, RIGHT_HAND] * [-1, 1])


def test_rows_are_canonical_and_a_build_is_read_back(tmp_path):
    datasets = pytest.importorskip("datasets")
    import pyarrow
    import pyarrow.parquet as parquet

    records = [record("a"), record("b", "Signer01"), record("c")]
    assert [check_row(row)["id"] for row in rows(records[:1])] == ["a"]
    write(records, tmp_path / "out" / "dev.parquet", variation=1.2, chunk=2)
    table = datasets.Dataset.from_parquet(str(tmp_path / "out" / "dev.parquet"))
    assert table["id"][:] == ["a", "b", "c"] and np.array(table[1]["keypoints"]).shape == (17, 137, 2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dev.parquet"]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "annotations.parquet")
    told = ["--annotations", str(tmp_path / "annotations.parquet"), "--limit", "2", "--variation", "1.2"]
    main([*told, "--output", str(tmp_path / "again.parquet")])
    again = datasets.Dataset.from_parquet(str(tmp_path / "again.parquet"))
    assert again["keypoints"][:] == table["keypoints"][:2]
