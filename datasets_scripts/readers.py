"""Readers of keypoint files, for builders; they live in `modeling_unigloR`, since pipelines read files too."""

from modeling_unigloR.keypoint_readers_uniglor import (
    KeypointClip,
    clip_from_array,
    clip_from_arrays,
    follow_person,
    read_keypoints,
    read_skels,
)
from modeling_unigloR.video_extraction_uniglor import HolisticExtractor, RTMPoseExtractor, extract_video

__all__ = [
    "HolisticExtractor",
    "KeypointClip",
    "RTMPoseExtractor",
    "clip_from_array",
    "clip_from_arrays",
    "extract_video",
    "follow_person",
    "read_keypoints",
    "read_skels",
]
