"""Layouts are tables: their counts, their graph, their mirror, and where each source keeps our points."""

import numpy as np
import pytest

from modeling_unigloR.keypoints_uniglor import (
    LAYOUTS,
    SOURCE_LAYOUTS,
    adjacency,
    edge_indices,
    get_layout,
    layout_hash,
    mirror_permutation,
    paths_to_center,
    point_index,
    source_table,
)


def test_uniglor73_has_the_papers_parts():
    layout = LAYOUTS["uniglor73"]
    assert len(layout.names) == len(set(layout.names)) == 73
    assert {part: span.stop - span.start for part, span in layout.parts.items()} == {
        "body": 8,
        "face": 19,
        "left_hand": 23,
        "right_hand": 23,
    }


def test_edges_form_one_tree_that_leads_to_the_neck():
    layout = LAYOUTS["uniglor73"]
    parent = dict(layout.edges)
    assert len(parent) == len(layout.edges) == 72
    for name in layout.names:
        steps = 0
        while name != layout.center:
            name, steps = parent[name], steps + 1
            assert steps < 73


def test_adjacency_of_a_chain_takes_the_child_inward_and_the_parent_outward():
    """Wrist, elbow, shoulder, neck is a chain: the elbow's child is the wrist, its parent the shoulder."""
    index = point_index("uniglor73")
    itself, inward, outward = adjacency("uniglor73")
    elbow, shoulder = index["right_elbow"], index["right_shoulder"]
    children = [index["right_wrist"], index["right_hand_elbow"]]
    assert itself[elbow, elbow] == 1 and itself.sum() == 73
    assert inward[elbow, children].tolist() == [0.5, 0.5] and inward[elbow].sum() == 1
    assert outward[elbow, shoulder] == 1 and outward[elbow].sum() == 1


def test_each_point_without_neighbours_in_a_subset_takes_nothing():
    _, inward, outward = adjacency("uniglor73")
    assert set(np.unique(inward.sum(1)).round(5)) == {0, 1}
    assert outward.sum(1)[point_index("uniglor73")["neck"]] == 0


def test_mirroring_twice_is_the_identity_and_keeps_edges():
    permutation = mirror_permutation("uniglor73")
    assert permutation[permutation].tolist() == list(range(73))
    edges = {tuple(edge) for edge in edge_indices("uniglor73")}
    assert {(permutation[a], permutation[b]) for a, b in edges} == edges


@pytest.mark.parametrize("name", SOURCE_LAYOUTS)
def test_blocks_and_tables_of_each_source_agree(name):
    source = SOURCE_LAYOUTS[name]
    for num_points, blocks in source.blocks.items():
        assert sum(size for _, size in blocks) == num_points
        table = source_table(name, num_points, "uniglor73")
        assert len(table) == 73
        assert all(0 <= index < num_points for indices in table for index in indices)


@pytest.mark.parametrize(
    "name, num_points, found",
    [("openpose137", 137, 73), ("openpose18", 18, 12), ("openpose67", 67, 54), ("mediapipe543", 586, 73), ("mediapipe75", 75, 54),
     ("pose178", 178, 73), ("wholebody133", 133, 73), ("skels50", 50, 54), ("uniglor73", 73, 73)],
)  # fmt: skip
def test_sources_hold_as_many_of_our_points_as_they_should(name, num_points, found):
    assert sum(bool(indices) for indices in source_table(name, num_points, "uniglor73")) == found


def test_the_signers_right_hand_is_the_last_block_of_openpose():
    table = dict(zip(LAYOUTS["uniglor73"].names, source_table("openpose137", 137, "uniglor73")))
    assert table["left_hand_root"] == (95,) and table["right_hand_root"] == (116,)
    assert table["right_wrist"] == table["right_hand_wrist"] == (4,)


def test_unknown_layouts_and_counts_are_named():
    with pytest.raises(ValueError, match="'coco17'.*uniglor73"):
        get_layout("coco17")
    with pytest.raises(ValueError, match="137 keypoints, found 100"):
        source_table("openpose137", 100, "uniglor73")


def test_the_hash_is_stable():
    """A changed hash makes every published checkpoint refuse to load: it must change only with the layout."""
    assert layout_hash("uniglor73") == "638d0fa07a42"


def test_offsets_summed_along_the_paths_are_positions():
    index, paths = point_index("uniglor73"), paths_to_center("uniglor73")
    positions = np.random.default_rng(0).normal(size=(73, 2))
    offsets = np.linalg.inv(paths) @ positions
    np.testing.assert_allclose(paths @ offsets, positions, atol=1e-5)
    for child, parent in LAYOUTS["uniglor73"].edges:
        np.testing.assert_allclose(offsets[index[child]], positions[index[child]] - positions[index[parent]], atol=1e-5)
    np.testing.assert_allclose(offsets[index["neck"]], positions[index["neck"]], atol=1e-5)
