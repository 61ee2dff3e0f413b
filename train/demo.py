"""`make demo`: the whole journey on real fingerspelling, small, on two CPU cores.

Pretrains a SignMAE and shows what it gives back of signing it never saw; trains a SignToText on it and reads words it never saw;
trains a TextToSign, spells words that it never saw, and lets a reader that shares nothing with it read them back. The words are random
strings of letters, so that no model can guess a letter from its neighbours, and beside them `KNOWN_WORDS`, which people know. Leaves
`outputs/demo/sign-mae/`, `sign-mae-ase/` (the same after more steps on the words of the tasks), `sign-to-text/` and `text-to-sign/`,
which `AutoModel.from_pretrained` and `pipeline(...)` load,
`outputs/demo/reconstruction.svg`: truth above reconstruction, on a clip of a sign language that training never saw, and
`outputs/demo/index.html`: a player, truth beside generated. Each step ends with one line of JSON.
"""

from pathlib import Path

from train.engine.commands import CommandParser


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"), help="of models, pictures and the page")
    parser.add_argument("--max_steps", type=int, help="of every training, for a try")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse()  # answers --help and mistakes before the imports that take seconds

import json

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel, pipeline

from datasets_scripts.fingerspelling import check_held_out
from modeling_unigloR.rendering_uniglor import player_html, to_svg
from train import pretrain, train_sign_to_text, train_text_to_sign
from train.data.clips import Clips
from train.data.segments import FrameStore, load_rows
from train.engine.runs import run_script
from train.evaluation.reconstruction import reconstruct_segments, scored_points
from train.evaluation.sign_to_text import evaluate_sign_to_text
from train.evaluation.tables import rounded, without_nan
from train.evaluation.text_to_sign import evaluate_text_to_sign, load_readers, load_sign_mae, sign
from train.evaluation.translation import translate_inputs
from train.evaluation.verdicts import difference_in_words, verdict_of_rows
from train.metrics.text import paired_test, text_scores

PRETRAIN, ADAPT = "demo.yaml", "demo_adapt.yaml"
SIGN_TO_TEXT, TEXT_TO_SIGN = "demo_sign_to_text.yaml", "demo_text_to_sign.yaml"
SEAM_FRAMES = 3
# English words and names that belong to the split "test" (`fingerspelling.split_of_word`), so that none is in training; all letters
# that they have together are the alphabet's. The page opens with the first of them. Ten have a double letter, as a fifth of English words;
# of the random words hardly one in a hundred has, so "letter" is read as "leter": these words are harder than those that training is like.
KNOWN_WORDS = [
    "smile", "sonja", "lemon", "equal", "adam", "after", "berlin", "boxer", "brian", "broken", "chloe", "complex", "dallas", "early",
    "ella", "emma", "exact", "fly", "grass", "hannah", "horse", "jaw", "juan", "king", "letter", "liam", "lion", "lunch", "milan",
    "oscar", "pedro", "pillow", "plane", "potato", "sand", "shoe", "signer", "sixteen", "sophia", "sport", "steve", "summer",
    "sydney", "tennis", "thank", "tiger", "visit", "yuki", "zero", "palm",
]  # fmt: skip
KNOWN = {"path": "fingerspelling", "languages": ["ase"], "words": KNOWN_WORDS}
SHOWN = 4  # words in the player
ANEW = ["--overwrite_output_dir", "true"]  # a second demo replaces the first


def main(argv=None):
    arguments = parse(argv)
    shorter = ["--max_steps", str(arguments.max_steps)] if arguments.max_steps else []
    show_pretraining(arguments.output_dir, shorter)
    adapt(arguments.output_dir, shorter)
    show_sign_to_text(arguments.output_dir, shorter)
    show_text_to_sign(arguments.output_dir, shorter)


# --- SignMAE ----------------------------------------------------------------------------------------------------------------------


def show_pretraining(output_dir, options):
    argv = [PRETRAIN, "--output_dir", str(output_dir / "sign-mae"), *ANEW, *options]
    data, *_ = pretrain.parse(argv)
    folder, picture = output_dir / "sign-mae", output_dir / "reconstruction.svg"
    seen, held_out = ([language for spec in specs for language in spec["languages"]] for specs in (data.datasets, data.validation))
    check_held_out(set(seen), set(held_out))
    report = pretrain.main(argv)
    drawn = draw_reconstruction(folder, data, picture)
    scores, floors = report["validation"], report["floors"]
    print(f"\nDrew {drawn} into {picture}; the model is in {folder}.")
    say(
        task="pretrain",
        mpjpe=scores["eval_mpjpe"],
        floor_mean_pose=floors["mean_pose"],
        floor_static=floors["static"],
        floor_nearest_segment=floors["nearest_segment"],
        motion_ratio=scores["eval_motion_ratio"],
        border_jump=scores["eval_border_jump"],
        languages_held_out=held_out,
    )


def adapt(output_dir, options):
    """The same SignMAE after more steps on the words of the tasks, without labels: `sign-mae-ase`, which the tasks use."""
    folders = ["--init_from", str(output_dir / "sign-mae"), "--output_dir", str(output_dir / "sign-mae-ase")]
    pretrain.main([ADAPT, *folders, *ANEW, *options])


def draw_reconstruction(folder, data, path):
    """Draws the held-out clip that moves most; returns its id."""
    model, processor = AutoModel.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    store = FrameStore.build(load_rows(data.validation[0], "validation"), processor, data.cache_dir, "validation")
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


# --- Sign-to-text -----------------------------------------------------------------------------------------------------------------


def show_sign_to_text(output_dir, options):
    """Three readers of the same words: on the SignMAE, on every frame, and on a SignMAE that was never trained.

    Each of the others is compared with the first, with an interval over the words; where it covers 0, neither is called better.
    """
    untrained = output_dir / "controls" / "untrained-sign-mae"
    pretrain.main([PRETRAIN, "--output_dir", str(untrained), "--learning_rate", "0", "--max_steps", "1", *ANEW])
    readers = {
        "cer": (output_dir / "sign-to-text", ["--sign_mae", str(output_dir / "sign-mae-ase")]),
        "cer_frames": (output_dir / "controls" / "frames", ["--sign_mae", str(output_dir / "sign-mae-ase"), "--sign_encoder", "frames"]),
        "cer_untrained_signmae": (output_dir / "controls" / "untrained", ["--sign_mae", str(untrained)]),
    }
    error_rates, read = {}, {}
    for name, (folder, encoder_options) in readers.items():
        argv = [SIGN_TO_TEXT, *encoder_options, "--output_dir", str(folder), *ANEW, *options]
        data, *_ = train_sign_to_text.parse(argv)
        train_sign_to_text.main(argv)
        pipe = pipeline("sign-to-text", model=str(folder), device="cpu")
        test, train = (Clips(data.datasets, split, pipe.feature_extractor, data.cache_dir) for split in ("test", "train"))
        known_clips = Clips([KNOWN], "test", pipe.feature_extractor, data.cache_dir)
        report, read[name] = evaluate_sign_to_text(pipe.model, pipe.tokenizer, test, train if name == "cer" else None)
        known_report, known_texts = evaluate_sign_to_text(pipe.model, pipe.tokenizer, known_clips)
        error_rates |= {name: report["rows"]["system"]["cer"], f"known_words_{name}": known_report["rows"]["system"]["cer"]}
        if name == "cer":
            floors = {floor: scores["cer"] for floor, scores in report["rows"].items() if floor.startswith("floor")}
            shown = [*zip(known_clips.texts[:8], known_texts), *zip(test.texts[:8], read[name])]
            print("\n" + "\n".join(f"{truth} was read as {text}" for truth, text in shown))
            print("Character error rate in per cent; lower is better:")
            print("\n".join(f"  {row}: {value:.1f}" for row, value in ({"system": error_rates["cer"]} | floors).items()))
            print(*verdict_of_rows(report["rows"], metric="cer"))
    differences = compare_readers(read, test.texts)
    counts = dict(num_words=len(test), num_known_words=len(known_clips))
    say(task="sign-to-text", **error_rates, cer_floor=min(floors.values()), **differences, **counts, letter_clips="seen")


def compare_readers(read: dict[str, list[str]], texts: list[str]) -> dict[str, dict]:
    """Says how the reader on the SignMAE differs from the others, in character errors of the same words; returns the paired intervals.

    Args:
        read: {"cer": what it read, "cer_frames": ..., "cer_untrained_signmae": ...}.
        texts: what is spelled.
    """
    differences = {}
    for name, other in (("cer_frames", "frames"), ("cer_untrained_signmae", "segments of an untrained SignMAE")):
        test = paired_test(read[name], read["cer"], texts, metric="cer")
        print(difference_in_words(test, other, "segments"))
        differences[f"cer_minus_{name}"] = {bound: test[bound] for bound in ("delta", "low", "high")}
    return differences


# --- Text-to-sign -----------------------------------------------------------------------------------------------------------------


def show_text_to_sign(output_dir, options):
    """Spells words that are not in training. The frame-level reader reads them back: it shares no SignMAE with the model that spells."""
    folder, sign_mae = output_dir / "text-to-sign", output_dir / "sign-mae-ase"
    argv = [TEXT_TO_SIGN, "--sign_mae", str(sign_mae), "--output_dir", str(folder), *ANEW, *options]
    data, *_ = train_text_to_sign.parse(argv)
    train_text_to_sign.main(argv)
    pipe = pipeline("text-to-sign", model=str(folder), device="cpu")
    test, train = (Clips(data.datasets, split, pipe.feature_extractor, data.cache_dir) for split in ("test", "train"))
    judge, shared = load_readers([output_dir / "controls" / "frames", output_dir / "sign-to-text"], "cpu")
    encoder = load_sign_mae(sign_mae, pipe.model)
    report, _ = evaluate_text_to_sign(
        pipe.model, pipe.tokenizer, pipe.feature_extractor, encoder, test, train, [judge], seam_frames=SEAM_FRAMES, shared_encoder=shared
    )
    (folder / "scores.json").write_text(json.dumps(without_nan(report), indent=2, allow_nan=False) + "\n")
    cer = {name: scores["cer"] for name, scores in report["rows"].items()}
    known_clips = Clips([KNOWN], "test", pipe.feature_extractor, data.cache_dir)
    spelled = sign(pipe.model, pipe.tokenizer, known_clips.texts, seam_frames=SEAM_FRAMES)
    readings = translate_inputs(*judge, spelled)
    of_real = translate_inputs(*judge, [known_clips.keypoints(index)[0] for index in range(len(known_clips))])
    known_cer, known_ceiling = (text_scores(texts, known_clips.texts, families=["error_rates"])["cer"] for texts in (readings, of_real))
    error_rates = cer | {f"{len(known_clips)} words that people know": known_cer, "ceiling: real keypoints of these": known_ceiling}
    print("\nCharacter error rate of what is read back, in per cent; lower is better:")
    print("\n".join(f"  {name}: {value:.1f}" for name, value in error_rates.items()))
    print(*verdict_of_rows(report["rows"], metric="cer"))
    write_page(output_dir / "index.html", known_clips, spelled, readings[:SHOWN], pipe.model, error_rates, report)
    say(
        task="text-to-sign",
        cer=cer["system, length=predicted"],
        known_words_cer=known_cer,
        known_words_cer_ceiling=known_ceiling,
        cer_ceiling=cer["ceiling: real keypoints"],
        cer_oracle_latents=cer["ceiling: oracle latents"],
        cer_floor=min(value for name, value in cer.items() if name.startswith("floor")),
        cer_shared_encoder=next(value for name, value in cer.items() if "shared_encoder" in name),
        length_error=report["lengths"]["error_median"],
        motion={name: value for name, value in report["motion"]["predicted"].items() if isinstance(value, float)},
        num_words=len(test),
    )


def write_page(path, clips, generated, readings, model, cer, report):
    """Writes the demo's page: players, what was read back, and the scores."""
    presence = model.sign_mae.keypoint_presence.bool().numpy()
    players = []
    for index, (keypoints, reading) in enumerate(zip(generated, readings)):
        pair = [clips.keypoints(index), (keypoints, np.tile(presence, (len(keypoints), 1)))]
        captions = ["the joined letter clips", f"made from the text alone; a reader reads it as: {reading}"]
        players.append(f"<h2>{clips.texts[index]}</h2>" + player_html(pair, titles=["real keypoints", "generated"], text=captions))
    rows = "".join(f"<tr><td>{name}</td><td>{value:.1f} %</td></tr>" for name, value in cer.items())
    motion = "".join(f"<tr><td>{name}</td><td>{value:.2f}</td></tr>" for name, value in report["motion"]["predicted"].items())
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>UniGloR: the demo</title>
<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:80rem;margin:1rem auto;padding:0 8px}}
h1{{font-size:1.5rem;margin:0}}h2{{margin:.5rem 0}}
td{{padding:.1rem 1rem .1rem 0}}</style></head><body>
<h1>Words that no model saw, spelled</h1>
<p>A small model learnt on two CPU cores, in minutes, from recorded letters of the American manual alphabet, joined to words that are
random strings of letters; the words shown here are none of them. It spells; it does not sign sentences, and what it makes replaces no
interpreter.</p>
{"".join(players)}
<h2>Character error rate of what a frame-level reader reads</h2><table>{rows}</table>
<p>{report["num_scored"]} random strings, and words that people know. The reader was trained on real keypoints only and shares no
weights with what it reads.</p>
<h2>Motion, generated / real</h2><table>{motion}</table>
</body></html>
""",
        encoding="utf-8",
    )


def say(**facts):
    print(json.dumps(rounded(without_nan(facts))), flush=True)


if __name__ == "__main__":
    run_script(main)
