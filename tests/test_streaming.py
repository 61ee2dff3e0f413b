"""A stream of frames gives what the whole clip gives, frame by frame and window by window."""

import queue
import threading
import time

import numpy as np
import pytest
import torch

from modeling_unigloR import KeypointClip, KeypointProcessor, SignToTextStreamer
from modeling_unigloR.keypoint_processing_uniglor import Calibration
from modeling_unigloR.limits_uniglor import MAX_WAITING_FRAMES
from modeling_unigloR.streaming_uniglor import KEPT_WINDOWS, CausalKeypointProcessor
from tests.conftest import random_signing
from tests.soak import streams


def gappy(num_frames, seed=0):
    """Signing in pixels with confidence, points missing in bursts, and a hand that is never seen at first."""
    rng = np.random.default_rng(seed)
    keypoints = random_signing(num_frames, seed) * 100 + 300
    confidence = np.ones(keypoints.shape[:2], np.float32)
    for _ in range(num_frames // 3):
        start, point = rng.integers(num_frames), rng.integers(8, 73)
        confidence[start : start + rng.integers(1, 20), point] = 0
    confidence[:30, 50:] = 0
    return keypoints, confidence


@pytest.mark.parametrize("fps", [None, 25.0, 50.0, 30.0, 12.0])
@pytest.mark.parametrize("normalize", ["clip", "frame"])
@pytest.mark.parametrize("portion", [1, 7, 100])
def test_a_stream_gives_the_frames_of_causal_processing(fps, normalize, portion):
    processor = KeypointProcessor(normalize=normalize)
    keypoints, confidence = gappy(100)
    offline = processor.process(KeypointClip(keypoints, confidence, fps=fps), causal=True).keypoints
    stream = CausalKeypointProcessor(processor, fps=fps)
    starts = range(0, len(keypoints), portion)
    frames = [stream.push(keypoints[start : start + portion], confidence[start : start + portion]) for start in starts]
    np.testing.assert_allclose(np.concatenate(frames), offline, atol=1e-5)


def test_nothing_comes_out_before_the_calibration_frames_have_arrived():
    keypoints, confidence = gappy(40)
    stream = CausalKeypointProcessor(KeypointProcessor(calibration_frames=25))
    assert len(stream.push(keypoints[:24], confidence[:24])) == 0
    assert len(stream.push(keypoints[24:25], confidence[24:25])) == 25
    assert len(stream.push(keypoints[25:26], confidence[25:26])) == 1


def test_a_given_calibration_needs_no_frames_to_wait_for():
    keypoints, confidence = gappy(40)
    processor = KeypointProcessor()
    calibration = processor.calibrate(KeypointClip(keypoints[:25], confidence[:25]))
    stream = CausalKeypointProcessor(processor, calibration)
    first = stream.push(keypoints[:1], confidence[:1])
    np.testing.assert_allclose(
        first, processor.process(KeypointClip(keypoints[:1], confidence[:1]), causal=True, calibration=calibration).keypoints
    )


@pytest.mark.parametrize("num_frames", [5, 15, 60])
@pytest.mark.parametrize("portion", [1, 11])
def test_a_streamed_translation_equals_the_offline_causal_one(tiny_sign_to_text, num_frames, portion):
    pipeline = tiny_sign_to_text()
    keypoints, confidence = gappy(num_frames)
    confidence[:, :] = 1
    model, processor, tokenizer = pipeline.model, pipeline.feature_extractor, pipeline.tokenizer
    streamer = SignToTextStreamer(model, processor, tokenizer, fps=25.0)
    for start in range(0, num_frames, portion):
        streamer.push(keypoints[start : start + portion], confidence[start : start + portion])
    streamed = streamer.translate(max_new_tokens=8)
    offline = processor([keypoints], [confidence], fps=25.0, causal=True, return_tensors="pt")
    latents, _ = model.encode_sequence(offline["keypoints"], offline["attention_mask"])
    if num_frames >= 15:
        torch.testing.assert_close(streamer.latents, latents[0], atol=1e-5, rtol=1e-5)
    assert streamed["num_segments"] == latents.shape[1]
    assert (
        streamed["translation_text"]
        == pipeline({"keypoints": keypoints, "confidence": confidence, "fps": 25.0}, causal=True, max_new_tokens=8)["translation_text"]
    )


def test_every_window_is_encoded_once(tiny_sign_to_text):
    pipeline = tiny_sign_to_text()
    encoded = []
    encode = pipeline.model.sign_mae.encode
    pipeline.model.sign_mae.encode = lambda segments: encoded.append(len(segments)) or encode(segments)
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer)
    keypoints, confidence = gappy(64)
    for frame in range(64):
        streamer.push(keypoints[frame : frame + 1], confidence[frame : frame + 1])
        if frame in (40, 50, 63):
            streamer.translate(max_new_tokens=3)
    assert sum(encoded) == pipeline.model.sign_mae.num_segments(64, 7) == len(streamer.latents)


def test_frames_that_arrive_25_a_second_are_not_waited_for(tiny_sign_to_text):
    """A camera puts a frame into a queue every 40 ms; whenever the streamer takes one, usually no other one waits yet."""
    pipeline = tiny_sign_to_text()
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0)
    keypoints, confidence = gappy(50)
    streamer.push(keypoints[:1], confidence[:1])
    arrived, backlog = queue.Queue(), []

    def camera():
        for frame in range(1, 50):
            time.sleep(0.04)
            arrived.put(frame)

    thread = threading.Thread(target=camera)
    thread.start()
    for _ in range(1, 50):
        frame = arrived.get(timeout=10)
        streamer.push(keypoints[frame : frame + 1], confidence[frame : frame + 1])
        backlog.append(arrived.qsize())
    thread.join()
    assert np.median(backlog) <= 1  # a machine that stalls for a moment is forgiven
    assert len(streamer.latents) == pipeline.model.sign_mae.num_segments(50, 7)


def test_a_stream_without_frames_says_so(tiny_sign_to_text):
    pipeline = tiny_sign_to_text()
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer)
    with pytest.raises(ValueError, match="No frame was pushed"):
        streamer.translate()


# --- Whatever comes ---------------------------------------------------------------------------------------------------------------


def nobody(num_frames):
    return np.full((num_frames, 73, 2), np.nan, np.float32)


def portions(num_frames, rng):
    """Slices that cover the frames, empty ones among them."""
    bounds = np.sort(np.append(rng.integers(0, num_frames + 1, rng.integers(1, 30)), [0, num_frames]))
    return [slice(*pair) for pair in zip(bounds[:-1], bounds[1:])]


@pytest.mark.parametrize("seed", range(24))
def test_any_portions_of_any_stream_give_the_frames_of_causal_processing(seed):
    rng = np.random.default_rng(seed)
    keypoints, confidence = gappy(rng.integers(1, 150), seed)
    fps = [None, 25.0, 50.0, 30.0, 12.0, 7.3, 59.94, 120][seed % 8]
    for _ in range(rng.integers(0, 4)):  # nobody is in the picture for a while
        start = rng.integers(len(keypoints))
        confidence[start : start + rng.integers(1, 60)] = 0
    if seed % 3 == 0:  # the shoulders come late
        confidence[: rng.integers(1, 90), [2, 5]] = 0
    processor = KeypointProcessor(normalize=("clip", "frame")[seed % 2], calibration_frames=int(rng.integers(1, 40)))
    stream = CausalKeypointProcessor(processor, fps=fps)
    frames = [stream.push(keypoints[portion], confidence[portion]) for portion in portions(len(keypoints), rng)] + [stream.flush()]
    try:
        offline = processor.process(KeypointClip(keypoints, confidence, fps=fps), causal=True).keypoints
    except ValueError:
        assert not ((confidence[:, 2] > 0) & (confidence[:, 5] > 0)).any()
        assert sum(map(len, frames)) == 0
    else:
        np.testing.assert_allclose(np.concatenate(frames), offline, atol=1e-5)
        assert stream.first_frame == 0


def test_a_frame_in_which_nobody_is_seen_holds_the_last_one():
    """One such frame raised, and all later ones came too early: of 60 frames 57 came out, offline 60."""
    keypoints, confidence = gappy(60)
    confidence[[30, 40, 41]] = 0
    processor = KeypointProcessor()
    stream = CausalKeypointProcessor(processor, fps=25.0)
    frames = np.concatenate([stream.push(keypoints[frame : frame + 1], confidence[frame : frame + 1]) for frame in range(60)])
    assert len(frames) == 60
    np.testing.assert_array_equal(frames[30], frames[29])
    np.testing.assert_array_equal(frames[41], frames[39])
    np.testing.assert_allclose(frames, processor.process(KeypointClip(keypoints, confidence, fps=25.0), causal=True).keypoints, atol=1e-5)


def test_nan_frames_are_held_without_a_confidence():
    stream = CausalKeypointProcessor(KeypointProcessor(calibration_frames=2))
    keypoints = random_signing(10) * 100 + 300
    frames = np.concatenate([stream.push(part) for part in (nobody(1), keypoints[:5], nobody(3), keypoints[5:])])
    assert len(frames) == 14
    np.testing.assert_array_equal(frames[6:9], np.repeat(frames[5:6], 3, 0))


@pytest.mark.parametrize("fps", [None, 25.0, 30.0, 60.0, 10.0])
def test_frames_that_wait_for_shoulders_too_long_are_left_out_and_times_stay_true(fps):
    num_late = MAX_WAITING_FRAMES + 137
    keypoints, confidence = gappy(num_late + 60)
    confidence[:num_late, 2] = 0
    processor = KeypointProcessor()
    offline = processor.process(KeypointClip(keypoints, confidence, fps=fps), causal=True).keypoints
    stream = CausalKeypointProcessor(processor, fps=fps)
    frames = []
    for portion in portions(len(keypoints), np.random.default_rng(0)):
        frames.append(stream.push(keypoints[portion], confidence[portion]))
        assert stream.num_waiting <= MAX_WAITING_FRAMES + 25
    frames = np.concatenate(frames)
    assert stream.first_frame == np.ceil(137 / (fps or 25) * 25)
    assert len(frames) == len(offline) - stream.first_frame
    np.testing.assert_allclose(frames[-30:], offline[-30:], atol=1e-5)  # points that were last seen before the ones left out may differ


def test_relative_coordinates_are_known_after_the_frames_that_wait():
    """The first portion shows hands alone, or nobody: what it holds says nothing of the units."""
    keypoints = random_signing(50) * 0.1 + 0.5
    keypoints[:10, :8] = np.nan
    keypoints[10:12] = np.nan
    processor = KeypointProcessor()
    given = dict(fps=25.0, layout="uniglor73", relative=True, width=640, height=480)
    offline = processor.process(KeypointClip(keypoints, **given), causal=True).keypoints
    stream = CausalKeypointProcessor(processor, **given)
    frames = np.concatenate([stream.push(keypoints[frame : frame + 1]) for frame in range(50)])
    np.testing.assert_allclose(frames, offline, atol=1e-5)


def test_a_given_calibration_is_fine_when_nobody_is_there_at_first():
    keypoints, confidence = gappy(40)
    processor = KeypointProcessor()
    calibration = processor.calibrate(KeypointClip(keypoints, confidence))
    confidence[:10] = 0
    stream = CausalKeypointProcessor(processor, calibration)
    frames = np.concatenate([stream.push(keypoints[frame : frame + 1], confidence[frame : frame + 1]) for frame in range(40)])
    offline = processor.process(KeypointClip(keypoints, confidence), causal=True, calibration=calibration).keypoints
    np.testing.assert_allclose(frames, offline, atol=1e-5)


WRONG = {
    "None": (None, None),
    "a word": ("frames", None),
    "a number": (5, None),
    "two dimensions": (np.zeros((5, 73)), None),
    "72 points": (np.zeros((1, 72, 2)), None),
    "one channel": (np.zeros((1, 73, 1)), None),
    "objects": (np.full((1, 73, 2), None), None),
    "complex numbers": (np.zeros((1, 73, 2), complex), None),
    "frames of two shapes": ([np.zeros((73, 2)), np.zeros((72, 2))], None),
    "another confidence": (np.ones((1, 73, 2)), np.ones((1, 72))),
    "a confidence of words": (np.ones((1, 73, 2)), [["a"] * 73]),
    "NaN that is sure": (np.full((1, 73, 2), np.nan), np.ones((1, 73))),
    "infinity": (np.full((1, 73, 2), np.inf), np.ones((1, 73))),
    "1e300": (np.full((1, 73, 2), 1e300), np.ones((1, 73))),
    "shoulders a million shoulder lengths away": (np.full((1, 73, 2), 1e10), np.ones((1, 73))),
    "too many frames": (np.broadcast_to(np.float32(1), (200_000, 73, 2)), None),
}


@pytest.mark.parametrize("when", [0, 10, 30])
def test_a_portion_that_is_refused_leaves_the_stream_as_it_was(when, tiny_sign_to_text):
    """push(None) poisoned the stream: every later portion raised."""
    pipeline = tiny_sign_to_text()
    keypoints, confidence = gappy(60)
    streamers = [SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0) for _ in range(2)]
    for frame in range(60):
        if frame == when:
            for what, portion in WRONG.items():
                if what == "shoulders a million shoulder lengths away" and frame < 25:
                    continue  # nobody can tell yet
                with pytest.raises(ValueError, match=r"[Ee]xpected|marked as seen|right\?|but layout"):
                    streamers[0].push(*portion)
        for streamer in streamers:
            streamer.push(keypoints[frame : frame + 1], confidence[frame : frame + 1])
    torch.testing.assert_close(*(streamer.latents for streamer in streamers), rtol=0, atol=0)


def test_what_fails_while_it_is_encoded_can_be_pushed_again(tiny_sign_to_text, monkeypatch):
    pipeline = tiny_sign_to_text()
    keypoints, confidence = gappy(60)
    streamers = [SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0) for _ in range(2)]
    for streamer in streamers:
        streamer.push(keypoints[:40], confidence[:40])

    def full(*_):
        raise MemoryError("no memory")

    with monkeypatch.context() as context:
        context.setattr(pipeline.model, "encode_sequence", full)
        with pytest.raises(MemoryError):
            streamers[0].push(keypoints[40:], confidence[40:])
    for streamer in streamers:
        streamer.push(keypoints[40:], confidence[40:])
    torch.testing.assert_close(*(streamer.latents for streamer in streamers), rtol=0, atol=0)


def test_wild_coordinates_among_the_frames_that_wait_do_not_stop_the_stream():
    keypoints, confidence = gappy(80)
    keypoints[5, 60] = 1e11
    keypoints[3, 2] = 1e11  # a shoulder
    stream = CausalKeypointProcessor(KeypointProcessor())
    frames = np.concatenate([stream.push(keypoints[frame : frame + 1], confidence[frame : frame + 1]) for frame in range(80)])
    assert len(frames) == 80 and np.isfinite(frames).all() and np.abs(frames).max() < 1e4


def test_empty_portions_are_taken_at_any_time():
    keypoints, confidence = gappy(60)
    stream, plain = (CausalKeypointProcessor(KeypointProcessor(), fps=30.0) for _ in range(2))
    frames = []
    for frame in range(60):
        for empty in (np.zeros((0, 73, 2)), [], np.zeros(0)):
            assert len(stream.push(empty)) == 0
        assert len(stream.push(np.zeros((0, 73, 2)), np.zeros((0, 73)))) == 0
        frames.append(stream.push(keypoints[frame : frame + 1], confidence[frame : frame + 1]))
    np.testing.assert_array_equal(np.concatenate(frames), plain.push(keypoints, confidence))


@pytest.mark.parametrize(
    "given",
    [
        dict(fps=0), dict(fps=-1), dict(fps=1e-9), dict(fps=1e9), dict(fps=float("nan")), dict(fps="25"), dict(fps=[25]), dict(fps=True),
        dict(layout="pose"), dict(layout=["uniglor73"]), dict(width=-5, height=3), dict(width=640, height="a"), dict(aspect=-1),
        dict(aspect=float("nan")), dict(missing="none"), dict(relative="yes"), dict(relative=True), dict(calibration="clip"),
        dict(calibration=(1, 2)), dict(calibration=Calibration(np.zeros(2), 0, False)),
        dict(calibration=Calibration(np.zeros(3), 1, False)), dict(calibration=Calibration(np.array([0, np.inf]), 1, False)),
    ],
)  # fmt: skip
def test_what_is_said_of_a_stream_is_checked_when_it_is_made(given):
    with pytest.raises(ValueError, match="expected|must be one of|Unknown keypoint layout|Pass width and height"):
        CausalKeypointProcessor(KeypointProcessor(), **given)


# --- For hours --------------------------------------------------------------------------------------------------------------------


def resting(num_frames, keypoints):
    """Frames after these in which nothing moves."""
    return np.repeat(keypoints[-1:], num_frames, 0)


@pytest.fixture
def short_streamer(tiny_sign_to_text):
    """A streamer of a text model with 12 positions."""
    pipeline = tiny_sign_to_text(text_config=dict(max_position_embeddings=12))
    return SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0)


def test_translation_goes_on_when_there_are_more_segments_than_positions(short_streamer):
    """The text model has so many positions; after them, translate raised for ever."""
    keypoints, confidence = gappy(400)
    for start in range(0, 400, 5):
        short_streamer.push(keypoints[start : start + 5], confidence[start : start + 5])
        answer = short_streamer.translate(max_new_tokens=2)
    assert answer["num_segments"] == 12
    assert (answer["start"], answer["end"]) == ((55 - 11) * 7 / 25, (55 * 7 + 15) / 25)  # 56 segments in all
    assert len(short_streamer.latents) == 12 * KEPT_WINDOWS


def test_sentences_end_where_the_hands_rest(tiny_sign_to_text):
    pipeline = tiny_sign_to_text()
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0)
    signing = random_signing(100, 3) * 300 + 600
    clip = np.concatenate([signing, resting(60, signing), nobody(40), signing[::-1], resting(60, signing[::-1])])
    told = []
    for frame in clip:
        streamer.push(frame[None])
        told += streamer.sentences(max_new_tokens=4)
    assert len(told) == 2 and streamer.sentences() == []
    # A window is 15 frames: the first ones at rest begin at frame 98, so the last that moves begins at most 7 frames before.
    assert told[0]["start"] == 0 and 3.6 <= told[0]["end"] <= 4.4
    assert 7.4 <= told[1]["start"] <= 8.2 and 11.6 <= told[1]["end"] <= 12.4
    assert all(set(sentence) == {"translation_text", "start", "end", "num_segments"} for sentence in told)
    assert streamer.translate() == {"translation_text": "", "start": 14.0, "end": 14.0, "num_segments": 0}


def test_a_sentence_is_translated_as_its_segments_are(tiny_sign_to_text):
    pipeline = tiny_sign_to_text()
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0)
    signing = random_signing(100, 3) * 300 + 600
    streamer.push(np.concatenate([signing, resting(60, signing)]))
    latents = streamer.latents
    (sentence,) = streamer.sentences(max_new_tokens=6)
    ids = pipeline.model.generate(latents=latents[None, : sentence["num_segments"]], max_new_tokens=6)
    assert sentence["translation_text"] == pipeline.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def test_a_sentence_without_rest_ends_at_its_longest(short_streamer):
    keypoints, _ = gappy(400)
    short_streamer.push(keypoints[:200])
    told = short_streamer.sentences(max_new_tokens=2)
    short_streamer.push(keypoints[200:])
    told += short_streamer.sentences(max_new_tokens=2)
    assert [sentence["num_segments"] for sentence in told] == [12] * 4  # 56 segments
    assert [sentence["start"] for sentence in told] == [0, 12 * 7 / 25, 24 * 7 / 25, 36 * 7 / 25]
    assert short_streamer.translate(max_new_tokens=2)["num_segments"] == 8


def test_translating_early_changes_nothing(tiny_sign_to_text):
    """A translation before the calibration frames have arrived fixed centre and scale on those few."""
    pipeline = tiny_sign_to_text()
    keypoints, confidence = gappy(60)
    streamers = [SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0) for _ in range(2)]
    for frame in range(60):
        for streamer in streamers:
            streamer.push(keypoints[frame : frame + 1], confidence[frame : frame + 1])
        if frame % 9 == 0:
            streamers[0].translate(max_new_tokens=2)
    torch.testing.assert_close(*(streamer.latents for streamer in streamers), rtol=0, atol=0)


def test_a_stream_that_has_not_seen_shoulders_says_so(tiny_sign_to_text):
    pipeline = tiny_sign_to_text()
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer)
    streamer.push(nobody(60))
    with pytest.raises(ValueError, match="None of the latest 60 frames shows (left|right)_shoulder and"):
        streamer.translate()
    assert streamer.sentences() == []


def test_a_stream_that_is_reset_begins_anew(tiny_sign_to_text):
    pipeline = tiny_sign_to_text()
    keypoints, confidence = gappy(60)
    streamers = [SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=30.0) for _ in range(2)]
    streamers[0].push(keypoints * 2 + 50, confidence)
    streamers[0].sentences()
    streamers[0].reset()
    for streamer in streamers:
        streamer.push(keypoints, confidence)
    torch.testing.assert_close(*(streamer.latents for streamer in streamers), rtol=0, atol=0)
    assert streamers[0].translate(max_new_tokens=3) == streamers[1].translate(max_new_tokens=3)


def test_a_stride_longer_than_a_window_leaves_frames_out_as_offline(tiny_sign_to_text, tiny_sign_mae):
    pipeline = tiny_sign_to_text(sign_mae=tiny_sign_mae(window_size=8, stride=11))
    keypoints, confidence = gappy(90)
    streamer = SignToTextStreamer(pipeline.model, pipeline.feature_extractor, pipeline.tokenizer, fps=25.0)
    for frame in range(90):
        streamer.push(keypoints[frame : frame + 1], confidence[frame : frame + 1])
    offline = pipeline.feature_extractor([keypoints], [confidence], fps=25.0, causal=True, return_tensors="pt")
    torch.testing.assert_close(streamer.latents, pipeline.model.encode_sequence(offline["keypoints"])[0][0], atol=1e-5, rtol=1e-5)


def test_the_soak_of_streams_holds_when_it_is_small(tmp_path):
    assert [(row.what, row.examples) for row in streams.soak(0.02, tmp_path, 0) if row.bad] == []
