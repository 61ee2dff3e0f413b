"""`make demo`: pretrains a small SignMAE on real fingerspelling and shows what it gives back of signing it never saw.

Leaves `outputs/demo/sign-mae/`, which `AutoModel.from_pretrained` loads, and `outputs/demo/reconstruction.svg`: truth above
reconstruction, on a clip of a sign language that training never saw. The last line printed is one JSON object.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel

from datasets_scripts.fingerspelling import check_held_out
from modeling_unigloR.rendering_uniglor import to_svg
from train import pretrain
from train.segments import FrameStore, load_rows
from train.trainers import reconstruct_segments, scored_points

OUTPUT = Path("outputs/demo")


def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    argv = ["demo.yaml", "--output_dir", str(OUTPUT / "sign-mae"), *argv]
    data, *_, args = pretrain.parse(argv)
    folder = Path(args.output_dir)
    picture = folder.parent / "reconstruction.svg"
    seen, held_out = ([language for spec in specs for language in spec["languages"]] for specs in (data.datasets, data.validation))
    check_held_out(set(seen), set(held_out))
    report = pretrain.main(argv)
    drawn = draw_reconstruction(folder, data, picture)
    scores, floors = report["validation"], report["floors"]
    print(f"\nDrew {drawn} into {picture}; the model is in {folder}.")
    print(
        json.dumps(
            {
                "task": "pretrain",
                "mpjpe": round(scores["eval_mpjpe"], 5),
                "floor_mean_pose": round(floors["mean_pose"], 5),
                "floor_static": round(floors["static"], 5),
                "floor_nearest_segment": round(floors["nearest_segment"], 5),
                "motion_ratio": round(scores["eval_motion_ratio"], 3),
                "border_jump": round(scores["eval_border_jump"], 3),
                "languages_held_out": held_out,
            }
        )
    )


def draw_reconstruction(folder, data, path):
    """Draws the held-out clip that moves most; returns its id."""
    model, processor = AutoModel.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    store = FrameStore.build(load_rows(data.validation[0], "validation"), processor, data.frames_dir, "validation")
    window = model.config.window_size
    clips = [clip for clip, length in enumerate(store.lengths) if length >= window]

    def motion(clip):
        frames = store.keypoints[store.offsets[clip] : store.offsets[clip + 1]]
        return float(abs(frames[1:] - frames[:-1]).mean())

    clip = max(clips, key=motion)
    span = slice(store.offsets[clip], store.offsets[clip] + store.lengths[clip] // window * window)
    keypoints, mask = (torch.from_numpy(np.array(part[span])).unflatten(0, (-1, window)) for part in (store.keypoints, store.keypoint_mask))
    mask = scored_points(mask, model).flatten(0, 1)
    rows = [(points.flatten(0, 1), mask) for points in (keypoints, reconstruct_segments(model, keypoints))]
    name = str(store.ids[clip])
    path.write_text(to_svg(rows, model.config.layout, titles=[f"{name}: estimated keypoints", "SignMAE's reconstruction"]))
    return name


if __name__ == "__main__":
    main()
