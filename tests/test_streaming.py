"""A stream of frames gives what the whole clip gives, frame by frame and window by window."""

import queue
import threading
import time

import numpy as np
import pytest
import torch

from modeling_unigloR import KeypointProcessor, SignToTextStreamer
from modeling_unigloR.streaming_uniglor import CausalKeypointProcessor
from tests.conftest import random_signing


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
    offline = processor.process(keypoints, confidence, fps=fps, causal=True).keypoints
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
    calibration = processor.calibrate(keypoints[:25], confidence[:25])
    stream = CausalKeypointProcessor(processor, calibration)
    first = stream.push(keypoints[:1], confidence[:1])
    np.testing.assert_allclose(first, processor.process(keypoints[:1], confidence[:1], causal=True, calibration=calibration).keypoints)


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
