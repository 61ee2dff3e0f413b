"""One clip from a file, a row or an array to a batch, a text, a stream and a picture: always a KeypointClip."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets_scripts.schema import check_row
from modeling_unigloR import KeypointClip, KeypointProcessor, clip_from_array, map_layout, read_keypoints
from modeling_unigloR.keypoint_clip_uniglor import looks_relative
from modeling_unigloR.rendering_uniglor import render, to_html, to_svg
from modeling_unigloR.streaming_uniglor import CausalKeypointProcessor

from .conftest import random_signing


@pytest.fixture
def clip():
    return clip_from_array(random_signing(40) * 90 + 300, fps=25.0, width=640, height=480, name="a.npy")


def test_a_clip_goes_through_a_row_and_comes_back(clip):
    again = KeypointClip.from_row(check_row(clip.row("a", "ase", text="hello")))
    np.testing.assert_array_equal(again.keypoints, clip.keypoints)
    np.testing.assert_array_equal(again.confidence, clip.confidence)
    assert again.id == "a" and (again.layout, again.fps, again.width, again.height) == ("uniglor73", 25.0, 640, 480)


def test_a_row_needs_no_confidence_to_say_what_was_seen():
    keypoints = random_signing(10)
    keypoints[3, 20] = np.nan
    confidence = check_row(KeypointClip(keypoints, layout="uniglor73", id="a").row())["confidence"]
    assert confidence.sum() == 10 * 73 - 1 and confidence[3, 20] == 0


def test_nulls_of_a_row_that_came_through_numpy_are_nulls(clip):
    row = clip.row("a", "ase") | {"fps": np.float32("nan"), "width": float("nan"), "height": None}
    again = KeypointClip.from_row(row)
    assert again.fps is None and again.width is None and again.height is None


def test_the_processor_takes_a_clip_a_row_and_an_array_alike(clip):
    processor = KeypointProcessor()
    given = [clip, clip.row("a", "ase")]
    batches = [processor(inputs)["keypoints"] for inputs in given]
    batches.append(processor(clip.keypoints, clip.confidence, layout=clip.layout, fps=clip.fps)["keypoints"])
    for batch in batches:
        np.testing.assert_array_equal(batch, batches[0])
    both = processor([clip, replace(clip, keypoints=clip.keypoints[:20], confidence=clip.confidence[:20])], return_tensors="pt")
    assert both["attention_mask"].sum(1).tolist() == [40, 20]


def test_what_a_clip_says_itself_comes_before_what_the_call_says(clip):
    assert len(KeypointProcessor()(clip, fps=50.0)["keypoints"][0]) == 40
    assert len(KeypointProcessor()(replace(clip, fps=None), fps=50.0)["keypoints"][0]) == 20


def test_an_array_is_no_clip():
    for call in (KeypointProcessor().process, KeypointProcessor().calibrate, map_layout):
        with pytest.raises(ValueError, match="expected a KeypointClip"):
            call(random_signing(5))


def test_errors_name_the_clip_by_its_file(tmp_path):
    np.save(tmp_path / "still.npy", np.zeros((5, 73, 2)) + 7)
    clip = read_keypoints(tmp_path / "still.npy")
    assert clip.source == str(tmp_path / "still.npy")
    with pytest.raises(ValueError, match="still.npy: right_shoulder and left_shoulder lie on one place"):
        KeypointProcessor().process(clip)


# --- Relative coordinates ---------------------------------------------------------------------------------------------------------


def relative_clip(**known):
    points = np.full((20, 75, 2), np.nan)
    points[:, :33] = np.random.default_rng(0).uniform(0.2, 0.8, (20, 33, 2))
    return KeypointClip(points, layout="mediapipe75", **known)


def test_reader_processor_and_pixels_agree_on_what_is_relative():
    clip = relative_clip(width=1600, height=900)
    assert clip.is_relative() and not clip.in_pixels().is_relative()
    np.testing.assert_allclose(clip.in_pixels().keypoints[:, 11], clip.keypoints[:, 11] * [1600, 900])
    expected = KeypointProcessor().process(clip.in_pixels()).keypoints
    np.testing.assert_allclose(KeypointProcessor().process(clip).keypoints, expected, atol=1e-5)
    with pytest.raises(ValueError, match="relative to the image"):
        clip_from_array(clip.keypoints, layout="mediapipe75")
    for call in (lambda: KeypointProcessor().process(relative_clip()), lambda: relative_clip().in_pixels()):
        with pytest.raises(ValueError, match="Pass width and height"):
            call()


def test_what_a_clip_says_of_its_units_is_not_judged_again():
    small = replace(relative_clip(), relative=False)
    assert small.in_pixels() is small and len(KeypointProcessor().process(small).keypoints) == 20
    large = replace(relative_clip(aspect=2.0), keypoints=relative_clip().keypoints * 100, relative=True)
    np.testing.assert_allclose(large.in_pixels().keypoints, large.keypoints * [2, 1])


def test_points_that_are_not_seen_say_nothing_of_the_units():
    keypoints = np.full((4, 3, 2), 500.0)
    keypoints[:, 0] = 0.5
    seen = np.zeros((4, 3), bool)
    assert not looks_relative(keypoints, ~seen) and not looks_relative(keypoints, seen)
    seen[:, 0] = True
    assert looks_relative(keypoints, seen)


# --- Layouts ----------------------------------------------------------------------------------------------------------------------


def test_mapping_keeps_what_is_known_of_a_clip(clip):
    mapped = map_layout(replace(clip, id="a"))
    assert (mapped.id, mapped.fps, mapped.width, mapped.layout) == ("a", 25.0, 640, "uniglor73")
    np.testing.assert_array_equal(mapped.confidence, clip.confidence)
    np.testing.assert_allclose(mapped.keypoints, clip.keypoints, atol=1e-4)


def test_a_mapped_point_of_several_has_the_mean_of_their_confidences():
    confidence = np.full((4, 75), 0.5)
    confidence[:, 11], confidence[:, 12] = 0.2, 0.6  # the shoulders, whose middle is the neck
    mapped = map_layout(replace(relative_clip(width=100, height=100), confidence=confidence, keypoints=np.ones((4, 75, 2))))
    np.testing.assert_allclose(mapped.confidence[:, 1], 0.4, rtol=1e-6)


# --- Streams, pipelines, pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [np.inf, np.nan, -1.0])
def test_a_mapped_clip_has_finite_confidences_whatever_it_had(clip, odd):
    """The soak found infinite ones: `missing="nan"` sees points by their coordinates alone."""
    confidence = np.ones(clip.keypoints.shape[:2])
    confidence[3, 20:30] = odd
    mapped = map_layout(replace(clip, confidence=confidence, missing="nan"))
    assert np.isfinite(mapped.confidence).all() and (mapped.confidence >= 0).all() and mapped.confidence[0].all()


def test_a_stream_takes_what_it_knows_from_its_first_clip(clip):
    fast = replace(clip, fps=50.0)
    offline = KeypointProcessor().process(fast, causal=True).keypoints
    stream = CausalKeypointProcessor(KeypointProcessor())
    assert stream.rate is None
    parts = [replace(fast, keypoints=fast.keypoints[span], confidence=fast.confidence[span]) for span in (slice(0, 30), slice(30, 40))]
    np.testing.assert_allclose(np.concatenate([stream.push(part) for part in parts]), offline, atol=1e-5)
    assert stream.rate == 25.0
    with pytest.raises(ValueError, match="found a clip of fps=30.0, expected 50.0"):
        stream.push(replace(parts[1], fps=30.0))
    stream.reset()
    assert stream.fps is None


def test_a_stream_that_has_begun_learns_nothing_new(clip):
    stream = CausalKeypointProcessor(KeypointProcessor())
    stream.push(clip.keypoints, clip.confidence)
    with pytest.raises(ValueError, match="says layout, fps.*unknown to this stream"):
        stream.push(clip)


def test_a_pipeline_takes_a_clip_as_it_takes_its_row(clip, tiny_sign_recognition):
    pipe = tiny_sign_recognition()
    assert pipe(clip) == pipe(clip.row("a", "ase")) == pipe(clip.keypoints, confidence=clip.confidence, fps=25.0)


def test_what_text_to_sign_returns_is_drawn_and_saved_as_it_is(tiny_text_to_sign, tmp_path):
    sign = tiny_text_to_sign()
    signing = sign("morgen regnet es", num_segments=2)
    render(signing, tmp_path / "a.svg")
    expected = to_svg((signing["keypoints"], signing["keypoint_mask"]), signing["layout"])
    assert to_svg(signing) == expected and (tmp_path / "a.svg").stat().st_size > 100
    row = check_row(KeypointClip.from_row(signing).row("a", "gsg", text="morgen regnet es"))
    assert row["layout"] == signing["layout"] and len(row["keypoints"]) == len(signing["keypoints"])
    pixels = sign("morgen regnet es", num_segments=2, units="pixels", width=640, height=480)
    assert (pixels["width"], pixels["height"]) == (640, 480) and to_svg(pixels)


def test_a_raw_clip_is_drawn_as_the_processor_sees_it(clip):
    seen = KeypointProcessor(fps=None, noisy_frame_threshold=None).process(clip)
    assert to_html(clip) == to_html(seen) == to_html((seen.keypoints, seen.keypoint_mask), fps=25.0)
    assert to_html(clip.row("a", "ase")) == to_html(clip)
    assert '"fps":50' in to_html(replace(clip, fps=50.0)) and '"fps":10' in to_html(clip, fps=10)


def test_clips_of_several_rates_are_not_drawn_as_one(clip):
    with pytest.raises(ValueError, match="25 and 50 frames a second"):
        to_html([clip, replace(clip, fps=50.0)])
    to_html([clip, replace(clip, fps=50.0)], fps=25)


def test_a_clip_of_another_copy_of_the_package_is_a_clip(clip):
    """A checkpoint's own code brings its own KeypointClip; the installed package's clips must pass its doors."""
    other = type("KeypointClip", (), vars(clip))()
    np.testing.assert_array_equal(KeypointProcessor().process(other).keypoints, KeypointProcessor().process(clip).keypoints)
    assert torch.equal(*(KeypointProcessor()(each, return_tensors="pt")["keypoints"] for each in (other, clip)))
