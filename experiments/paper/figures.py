"""The paper's figures: frames of generated signing, latents on a plane, attention maps; each with numbers, which a picture alone lacks."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer

from experiments import corpora as real_corpora
from experiments import signing, translation
from experiments.include import rows_of
from experiments.intervals import draws_of_ratio, over_draws
from experiments.paper import corpora, full, orderings
from experiments.paper.tables import evenly, of_baselines, own_sign_mae, strides
from experiments.pretraining import names
from experiments.readers import code_version, rate_that_is_best
from experiments.results import Result
from experiments.workplace import Workplace, words
from train import train_sign_to_text
from train.engine.loading import load_pipeline
from train.evaluation.text_to_sign import keypoints_of, sign
from train.figures import attention, latents, strips
from train.figures.plots import new_figure, save_figure
from train.metrics.production import pose_errors

FRAMES = {"fig4": (2, 0), "fig9": (3, 3), "fig10": (3, 6)}  # how many sentences, and where between two evenly spaced places they stand
SHOWN, SIZE = 12, 90  # frames of a row, and pixels of their sides
FARTHEST = 4.0  # shoulder lengths from the neck that are drawn
NUM_GLOSSES = 10
NEAR = 0.5  # seconds
MOST_CLIPS = 60  # whose attention is measured


def as_svg(figure) -> str:
    with tempfile.TemporaryDirectory() as folder:
        save_figure(figure, Path(folder) / "figure.svg")
        return (Path(folder) / "figure.svg").read_text(encoding="utf-8")


# --- Fig 3 ------------------------------------------------------------------------------------------------------------------------


def fig3(place: Workplace, sizes: dict, dataset: str) -> Result:
    """The rows of `tables.strides`, drawn."""
    made = strides(place, sizes, dataset)
    scores = {int(row.split("_")[1]): scores["bleu4"] for row, scores in made.rows.items() if row.startswith("stride_")}
    figure = new_figure(5, 3.2)
    axes = figure.add_subplot()
    means, bounds = np.array([score["mean"] for score in scores.values()]), np.array([score["interval"] for score in scores.values()])
    axes.errorbar(list(scores), means, yerr=np.maximum(np.abs(bounds.T - means), 0), marker="o", capsize=3, color="#4477aa")
    axes.set_xticks(list(scores))
    axes.set_xlabel("stride, frames")
    axes.set_ylabel("BLEU-4, with 95 % intervals")
    made.picture = as_svg(figure)
    return made


# --- Figs 4, 9, 10 ------------------------------------------------------------------------------------------------------------------


def frames(figure: str, place: Workplace, sizes: dict, dataset: str) -> Result:
    """Sentences at even distances in the test set; of each clip frames at even distances. The errors are of the drawn clips alone."""
    corpus = corpora.corpus_of(place, dataset, sizes)
    files, sign_mae = corpus.parts[0], own_sign_mae(place, sizes, corpus)
    pipe, rate = signer(place, sizes, files, sign_mae)
    test = translation.clips_of(files["test"], pipe.feature_extractor)
    real, masks = keypoints_of(test)
    chosen = evenly(len(test), *FRAMES[figure])
    texts = [test.texts[index] for index in chosen]
    systems = {"ours": sign(pipe.model, pipe.tokenizer, texts)}
    for name in ("nslpg", "progressive_transformer"):
        systems[name] = signed_by_baseline(place, files, name, sizes, sign_mae, texts)
    drawn, window = [], pipe.model.config.sign_mae_config.window_size
    presence = pipe.model.sign_mae.keypoint_presence.bool().cpu().numpy()
    for place_of, index in enumerate(chosen):
        strip = strips.Strip(texts[place_of])
        shown = min(SHOWN, len(real[index]), *(len(made[place_of]) for made in systems.values()))
        near_body = (np.abs(real[index]) < FARTHEST).all(-1)  # one misplaced point would make all frames small
        strips.add_row(strip, "true", real[index], masks[index] & near_body, shown)
        for name, made in systems.items():
            shape = np.tile(presence, (len(made[place_of]), 1))
            strips.add_row(strip, name, made[place_of], shape, shown, window if name == "ours" else None)
        drawn.append(strip)
    truth, seen = [real[index] for index in chosen], [masks[index] for index in chosen]
    errors = {name: pose_errors(made, truth, seen, pipe.model.config.layout, presence)["mpjpe_resampled"] for name, made in systems.items()}
    return Result(
        what=corpus.what,
        rows={name: {"mpjpe": {"mean": error, "interval": None, "seeds": 1}} for name, error in errors.items()},
        contrasts={},
        unit="none: a few sentences, of which nothing may be concluded",
        scored="not at all: these are examples",
        config=sizes | {"learning_rate_of_ours": rate},
        predictions={"ids": [test.ids[index] for index in chosen], "texts": texts},
        picture=strips.draw(drawn, SIZE),
    )


def signer(place, sizes, files, sign_mae):
    """-> the pipeline of ours with its first seed, and its learning rate."""
    if sizes["scale"] == "paper":
        judges = full.judges_of(place, sizes, files, sign_mae)
        return full.signer(place, files, sign_mae, sizes, judges, "regression", 0), full.values_in(full.SIGNING)["learning_rate"]
    system = signing.System(place, sizes, files, sign_mae, "regression")
    rate = rate_that_is_best(sizes["rates"], system.score_of_rate)
    return system.trained(rate, 0), rate


def signed_by_baseline(place, files, name, sizes, sign_mae, texts):
    """[(T, K, C)] of a baseline with its first seed."""
    from experiments.baselines import producers

    producer = producers.Producer(place, files, name, of_baselines(sizes, files, full.SIGNING), sign_mae, "none")
    rate = rate_that_is_best(producer.sizes["rates"], producer.score_of_rate)
    model, tokenizer, _ = producers.load(producer.trained(rate, 0))
    return sign(model, tokenizer, texts)


fig4, fig9, fig10 = (partial(frames, figure) for figure in FRAMES)


# --- Fig 5 ------------------------------------------------------------------------------------------------------------------------


def fig5(place: Workplace, sizes: dict, dataset: str) -> Result:
    """Latents of the ten words of INCLUDE with most clips, beside principal components and an untrained SignMAE.

    t-SNE keeps neighbours, not distances: so each plane says how often the nearest latent of another clip has the same gloss.
    """
    data, _, _, labels = real_corpora.include_folds(place, sizes["folds"], sizes["limit"])
    encoders_of_rows, processor = rows_of(place, sizes | {"seeds": 1})
    clips = latents.Clips([str(path) for path in sorted(data.glob("*.parquet"))], "train", processor, needs="label")
    glosses, chosen = latents.most_frequent([labels[label] for label in clips.labels], NUM_GLOSSES)
    figure, drawn, planes = new_figure(15, 5), {}, {}
    for column, (row, name) in enumerate({"ours": "pretrained", "untrained": "untrained", "pca": "pca"}.items()):
        vectors = encoders_of_rows[name][0][1](clips)
        arrays = [np.asarray(vectors[index], np.float32) for index, _ in chosen]
        clip, gloss = (np.repeat(values, [len(array) for array in arrays]) for values in zip(*chosen))
        same, random = latents.neighbours(np.concatenate(arrays), gloss, clip)
        parts, counts = (
            np.array([values[clip == index].sum() for index, _ in chosen], float) for values in (100 * same, np.ones(len(same)))
        )
        drawn[row] = {"same_gloss": (np.array([parts.sum() / counts.sum()]), draws_of_ratio(parts, counts)[None])}
        planes[row] = latents.plane(np.concatenate(arrays)).tolist()
        axes = figure.add_subplot(1, 3, 1 + column)
        points = np.array(planes[row])
        for number, color in zip(range(len(glosses)), latents.COLORS):
            axes.scatter(*points[gloss == number].T, s=8, color=color, linewidths=0, label=latents.plain(glosses[number]))
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(
            f"{row}: nearest of another clip has the same gloss\n{100 * same.mean():.0f} %, by chance {100 * random.mean():.0f} %"
        )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    chance = float(100 * random.mean())
    rows, contrasts = over_draws(drawn, orderings.compared("fig5", list(drawn)))
    rows["floor_chance"] = {"same_gloss": {"mean": chance, "interval": None, "seeds": 1}}
    return Result(
        what=f"windows of the {len(glosses)} words of INCLUDE with most clips, none of which the SignMAE has seen",
        rows=rows,
        contrasts=contrasts,
        unit="clips drawn with replacement; the seed of the SignMAE is one",
        scored="once in this run",
        config=sizes,
        predictions={"glosses": glosses, "ids": [clips.ids[index] for index, _ in chosen], "planes": planes},
        more={"clips": len(chosen)},
        picture=as_svg(figure),
    )


# --- Fig 8 ------------------------------------------------------------------------------------------------------------------------


def fig8(place: Workplace, sizes: dict, dataset: str) -> Result:
    """Self-attention of the first encoder layer; `near` is its share within half a second, divided by that of even attention.

    Joint-SLT with and without glosses, and ours, with one seed at one learning rate.
    """
    corpus = corpora.corpus_of(place, dataset, sizes)
    files, sign_mae = corpus.parts[0], own_sign_mae(place, sizes, corpus)
    readers = {name: reader(place, sizes, files, sign_mae, name) for name in ("joint_slt_glosses", "joint_slt", "ours")}
    processor = AutoFeatureExtractor.from_pretrained(sign_mae)
    test = translation.clips_of(files["test"], processor)
    chosen = evenly(len(test), min(MOST_CLIPS, len(test)))
    shown, drawn, measured = {}, {}, {}
    for row, (model, tokenizer) in readers.items():
        answers = [attention_of(model, tokenizer, test.keypoints(index)[0], processor.fps or 25) for index in chosen]
        shown[row] = {"attentions": answers[len(answers) // 2]}
        measured[row] = [near(answer["encoder"][0].mean(0), answer["seconds"]) for answer in answers]
        parts, counts = np.array(measured[row]).T
        drawn[row] = {"near": (np.array([parts.sum() / counts.sum()]), draws_of_ratio(parts, counts)[None])}
    ids = [test.ids[index] for index in chosen]
    rows, contrasts = over_draws(drawn, orderings.compared("fig8", list(drawn)))
    return Result(
        what=corpus.what,
        rows=rows,
        contrasts=contrasts,
        unit="clips drawn with replacement; one seed",
        scored="once in this run",
        config=sizes | {"reader": translation.READER},
        predictions={"ids": ids, "near_and_even": measured},
        more={"test_sentences": len(ids), "drawn": ids[len(ids) // 2]},
        picture=as_svg(attention.draw(shown)),
    )


def reader(place, sizes, files, sign_mae, name):
    """-> model and tokenizer of a baseline, or of ours, with its first seed at the middle one of the learning rates."""
    rate = sorted(sizes["rates"])[len(sizes["rates"]) // 2]
    if name != "ours":
        from experiments.baselines import translators

        processor, sizes = AutoFeatureExtractor.from_pretrained(sign_mae), of_baselines(sizes, files, full.READING)
        fields = translation.READER if sizes["scale"] != "paper" else full.UNSELECTED | {"use_cpu": sizes["use_cpu"]}
        folder = translators.train(place, files, name, rate, 0, sizes["steps"], processor, fields=fields)
        return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    if sizes["scale"] == "paper":
        folder, _ = full.reader(place, files, sign_mae, sizes, full.values_in(full.READING)["stride"], 0)
        return load_reader(folder)
    folder = place.path("attention", code_version(), names(files.values()), sign_mae.name, rate, sizes["steps"], translation.READER)
    if not (folder / "report.json").exists():
        options = translation.READER | {"learning_rate": rate, "max_steps": sizes["steps"], "seed": 0, "output_dir": folder}
        options |= {"save_strategy": "steps", "save_steps": max(1, min(250, sizes["steps"])), "save_total_limit": 1, "use_cpu": True}
        options |= {"resume_from_checkpoint": True, "sign_mae": sign_mae, "datasets": files["train"]}
        train_sign_to_text.main([full.READING, *words(options), "--validation", "[]"])
    return load_reader(folder)


def load_reader(folder):
    pipe = load_pipeline("sign-to-text", str(folder), "cpu")
    return pipe.model.eval(), pipe.tokenizer


@torch.no_grad()
def attention_of(model, tokenizer, keypoints: np.ndarray, fps: float) -> dict:
    """What `attention.draw` takes, of a clip (T, K, C) and its translation: see `attentions` of `SignToTextPipeline`.

    That pipeline takes no baselines.
    """
    inputs = {"keypoints": torch.from_numpy(keypoints)[None], "attention_mask": torch.ones(1, len(keypoints), dtype=torch.long)}
    ids = model.generate(**inputs)  # (1, 1 + L)
    made = model.attentions(ids[:, :-1], **inputs)
    frames = model.input_frames(int(made.input_mask[0].sum())).numpy()
    return {
        "tokens": tokenizer.convert_ids_to_tokens(ids[0, 1:].tolist()),
        "cross": torch.stack(made.cross_attentions, 1)[0].numpy(),  # (layers, heads, L, S)
        "encoder": torch.stack(made.encoder_attentions, 1)[0].numpy(),  # (layers, heads, S, S)
        "seconds": frames / fps,
    }


def near(weights: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Of attention (S, S) over spans (S, 2): the share within `NEAR` seconds of what attends, and that of even attention."""
    middle = seconds.mean(1)
    close = np.abs(middle[:, None] - middle) <= NEAR
    return float((weights * close).sum(1).mean()), float(close.mean())
