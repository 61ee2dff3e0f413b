"""Reading keypoint files: ours against pose-format, by turns, on the same files.

    python -m benchmarks.run openpose_json pose_file --rounds 15

`openpose_json` reads a clip as OpenPose writes it, a file for each frame, against `load_openpose_directory`; `pose_file` takes a
whole Holistic `.pose` to the model's points, against pose-format's masked arrays and the same mapping.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import compare
from modeling_unigloR.keypoint_clip_uniglor import KeypointClip
from modeling_unigloR.keypoint_processing_uniglor import map_layout
from modeling_unigloR.keypoint_readers_uniglor import read_keypoints

NUM_FRAMES = 173  # the mean length of How2Sign's clips
OPENPOSE_PARTS = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
OPENPOSE_2D_AND_3D = [f"{part}_keypoints_{dimensions}d" for dimensions in (2, 3) for part in OPENPOSE_PARTS]


def write_openpose(folder, num_frames=NUM_FRAMES, seed=0):
    """A clip as OpenPose's `--write_json` leaves it, one person in a file."""
    rng = np.random.default_rng(seed)
    for number in range(num_frames):
        person = {"person_id": [-1]} | {key: [] for key in OPENPOSE_2D_AND_3D}
        for part, size in OPENPOSE_PARTS.items():
            points = np.c_[rng.uniform(100, 1000, (size, 2)).round(3), rng.uniform(0.1, 1, size).round(6)]
            person[f"{part}_keypoints_2d"] = points.ravel().tolist()
        content = json.dumps({"version": 1.3, "people": [person]}, separators=(",", ":"))
        (folder / f"clip_{number:012d}_keypoints.json").write_text(content)


def write_pose(path, num_frames=300, seed=0):
    """A Holistic `.pose` of 576 points, with world landmarks, as pose-format's video conversion writes it."""
    from pose_format import Pose
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    parts = {"POSE": 33, "FACE": 468, "LEFT_HAND": 21, "RIGHT_HAND": 21, "POSE_WORLD": 33}
    components = [
        PoseHeaderComponent(f"{part}_LANDMARKS", list(map(str, range(size))), [], [(0, 0, 0)], "XYZC") for part, size in parts.items()
    ]
    rng = np.random.default_rng(seed)
    points = rng.uniform(100, 500, (num_frames, 1, sum(parts.values()), 3)).astype(np.float32)
    confidence = (rng.uniform(0, 1, points.shape[:3]) > 0.1).astype(np.float32)
    with open(path, "wb") as file:
        Pose(PoseHeader(0.2, PoseHeaderDimensions(640, 480, 0), components), NumPyPoseBody(25.0, points, confidence)).write(file)


def openpose_json(device, rounds, num_frames=NUM_FRAMES):
    from pose_format.utils.openpose import load_openpose_directory

    with tempfile.TemporaryDirectory() as folder:
        write_openpose(Path(folder), num_frames)
        row = compare(lambda: read_keypoints(folder), lambda: load_openpose_directory(folder), rounds)
    return [{"case": f"a clip of {num_frames} frames"} | row | {"frames_per_second": round(num_frames / row["ours"])}]


def pose_file(device, rounds, num_frames=300):
    from pose_format import Pose

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.pose"
        write_pose(path, num_frames)

        def ours():
            return map_layout(read_keypoints(path))

        def reference():
            pose = Pose.read(path.read_bytes())
            return map_layout(KeypointClip(pose.body.data.filled(0)[:, 0], pose.body.confidence[:, 0], "mediapipe543"))

        row = compare(ours, reference, rounds)
    return [{"case": f"{num_frames} frames of 576 points to 73"} | row | {"frames_per_second": round(num_frames / row["ours"])}]
