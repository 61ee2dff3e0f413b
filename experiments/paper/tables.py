"""The paper's tables of numbers: one function for each, (place, sizes, dataset) -> `Result`.

A row of ours is `SignToText`, or `TextToSign`, on the latents of a SignMAE; every other row is a baseline of `experiments.baselines`, a
floor or a ceiling. All are trained on the same clips for equally many steps with nothing selected, each at the best of the same learning
rates; at scale `paper`, ours by train/configs/paper*.yaml.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from transformers import AutoFeatureExtractor

from experiments import corpora as real_corpora
from experiments import encoders, isolated, signing, translation
from experiments.include import STRIDE, rows_of
from experiments.intervals import over_units, t_interval
from experiments.paper import corpora, decoding, full, gru, orderings
from experiments.paper.sizes import ablated
from experiments.paper.values import STRIDES, TEXT_METRICS, ours_in
from experiments.pretraining import pretrained
from experiments.readers import rate_that_is_best
from experiments.results import Result
from experiments.workplace import Workplace

SIGNS = (*TEXT_METRICS, "mpjpe", *(metric for metric in signing.METRICS if metric not in TEXT_METRICS))
WITHOUT_GLOSSES = ("how2sign",)
TABLE_4 = {  # table: {row: fields of SignMAE}; those of the paper's choice are left to their defaults, so that it is trained once for all
    "tab4a": {"autoregressive": {"decoding": "autoregressive"}, "parallel": {}},
    "tab4b": {"sinusoidal": {"query_type": "sinusoidal"}, "learned": {}},
    "tab4c": {"window_32": {"window_size": 32}, "window_15": {}},
}
Translate = Callable[[dict[str, Path]], tuple[list[list[str]], float, dict]]

# --- Systems that translate: files of a part -> texts of each seed, learning rate, facts -----------------------------------------------


def own_sign_mae(place: Workplace, sizes: dict, corpus: corpora.Corpus, fields: dict | None = None) -> Path:
    """The folder of a SignMAE; with `fields`, one of the ablations, and else the project's own, which other experiments read too."""
    held_out = corpus.held_out if fields is None else []  # windows of 32 are longer than all clips of some sets
    fields = sizes["sign_mae"] if fields is None else fields
    if sizes["scale"] == "paper":
        fields = fields | {"use_cpu": sizes["use_cpu"]}
    return pretrained(place, corpus.pretraining, held_out, fields, sizes["pretrain_steps"])


def weighted_sign_maes(place: Workplace, sizes: dict, corpus: corpora.Corpus) -> dict[str, Path]:
    """{weights: folder} of Table 5; "adaptive", the default, is the SignMAE of Table 4 too."""
    fields = {weights: {} if weights == "adaptive" else {"keypoint_weighting": weights} for weights in sizes["weights"]}
    return {weights: own_sign_mae(place, sizes, corpus, ablated(sizes) | changed) for weights, changed in fields.items()}


def ours(place: Workplace, sizes: dict, sign_mae: Path, stride: int = STRIDE, tuned: bool = False) -> Translate:
    """`SignToText` on the latents of a SignMAE. With `tuned`, its decoding is chosen as that of the baselines beside it."""
    if sizes["scale"] == "paper":
        return lambda files: full.translations(place, files, sign_mae, sizes, stride, tuned)
    processor, encode = AutoFeatureExtractor.from_pretrained(sign_mae), encoders.latents(sign_mae, stride)
    row = ["pretrained", sign_mae.name, *([stride] if stride != STRIDE else [])]  # named as elsewhere: trained once for all tables

    def translate(files):
        if tuned:
            return decoding.translations(place, files, row, encode, sizes, processor)
        texts, rate = translation.translations(place, files, row, encode, sizes, processor)
        return texts, rate, {"steps": sizes["steps"]}

    return translate


def translator(place: Workplace, sizes: dict, name: str, sign_mae: Path, weights: str = "none") -> Translate:
    """A baseline, on the keypoints that the SignMAE's processor makes."""
    processor = AutoFeatureExtractor.from_pretrained(sign_mae)

    def translate(files):
        from experiments.baselines import translators

        fields = translation.READER if sizes["scale"] != "paper" else full.UNSELECTED | {"use_cpu": sizes["use_cpu"]}
        return translators.translations(place, files, name, of_baselines(sizes, files, full.READING), processor, weights, fields)

    return translate


def of_baselines(sizes: dict, files: dict[str, Path], config: str) -> dict:
    """What a baseline is trained by: at scale `paper` the paper's epochs and batch as steps, and its learning rate alone."""
    if sizes["scale"] != "paper":
        return sizes
    settings = full.values_in(config)
    clips = len(corpora.glosses_of(files["train"]))
    batches = math.ceil(clips / settings["per_device_train_batch_size"])
    model = {name: settings[name] for name in full.OF_A_SIGNER if name in settings} | {"use_cpu": sizes["use_cpu"]}
    return sizes | {"rates": [settings["learning_rate"]], "steps": settings["num_train_epochs"] * batches, "model": model}


def true_glosses(place: Workplace, sizes: dict, sign_mae: Path, size: int) -> Translate:
    """The ceiling that reads the corpus' glosses instead of signing, with one seed."""
    processor = AutoFeatureExtractor.from_pretrained(sign_mae)

    def translate(files):
        return decoding.translations(place, files, [CEILING, size], translation.true_glosses(size), sizes | {"seeds": 1}, processor)

    return translate


CEILING = "ceiling_true_glosses"


def translated(
    place: Workplace, sizes: dict, corpus: corpora.Corpus, table: str, systems: dict[str, Translate], sign_mae: Path, metrics=TEXT_METRICS
) -> Result:
    """The `Result` of systems that translate, with floors; the test sentences of all parts are scored together."""
    processor = AutoFeatureExtractor.from_pretrained(sign_mae)
    nearest = isolated.mean_vectors(encoders.latents(sign_mae, STRIDE))
    all_texts, rates, facts, ids, truth = {}, {}, {}, [], []
    for files in corpus.parts:
        train, test = (translation.clips_of(files[part], processor) for part in ("train", "test"))
        ids, truth, texts = ids + test.ids, truth + test.texts, {}
        for row, translate in systems.items():
            texts[row], rate, facts[row] = translate(files)
            rates.setdefault(row, []).append(rate)
        texts |= translation.floors(train, test, nearest)
        for row, of_seeds in texts.items():
            all_texts[row] = [before + of_seed for before, of_seed in zip(all_texts.get(row, [[]] * len(of_seeds)), of_seeds)]
    pairs = orderings.compared(table, list(all_texts))
    rows, contrasts = translation.score(all_texts, truth, corpus.times_of(ids), metrics, pairs)
    return Result(
        what=corpus.what,
        rows=rows,
        contrasts=contrasts,
        unit=corpus.unit,
        scored="once in this run; nothing was chosen by them",
        config=sizes | {"reader": translation.READER, "learning_rates_chosen": rates},
        predictions={"ids": ids, "references": truth, "texts": all_texts},
        more={"systems": facts, "train_sentences": len(train), "test_sentences": len(truth)},
    )


# --- Translation ------------------------------------------------------------------------------------------------------------------


def tab1(place: Workplace, sizes: dict, dataset: str) -> Result:
    corpus = corpora.corpus_of(place, dataset, sizes)
    sign_mae = own_sign_mae(place, sizes, corpus)
    glosses = dataset not in WITHOUT_GLOSSES
    names = ["joint_slt", *(["joint_slt_glosses"] if glosses else []), "conslt", "glofe"]
    systems = {name: translator(place, sizes, name, sign_mae) for name in names}
    systems["ours"] = ours(place, sizes, sign_mae, tuned=True)
    if glosses and sizes["scale"] != "paper":
        systems[CEILING] = true_glosses(place, sizes, sign_mae, sizes["sign_mae"]["hidden_size"])
    return translated(place, sizes, corpus, "tab1", systems, sign_mae)


def table_4(table: str, place: Workplace, sizes: dict, dataset: str) -> Result:
    corpus = corpora.corpus_of(place, dataset, sizes)
    folders = {row: own_sign_mae(place, sizes, corpus, ablated(sizes) | fields) for row, fields in TABLE_4[table].items()}
    systems = {row: ours(place, sizes, folder) for row, folder in folders.items()}
    return translated(place, sizes, corpus, table, systems, list(folders.values())[-1])


tab4a, tab4b, tab4c = (partial(table_4, table) for table in TABLE_4)


def tab4d(place: Workplace, sizes: dict, dataset: str) -> Result:
    """The paper does not say whether its two rows have equally many steps or epochs: so there are both."""
    corpus = corpora.corpus_of(place, dataset, sizes)
    first, second, held_out = corpora.of_two(place, corpus, sizes)
    steps, fields = sizes["pretrain_steps"], ablated(sizes) | ({"use_cpu": sizes["use_cpu"]} if sizes["scale"] == "paper" else {})
    share = sum(len(corpora.glosses_of(path)) for path in first + second) / sum(len(corpora.glosses_of(path)) for path in first)
    if steps < 0:  # the config's epochs are the second row's; the third has as many steps as the first
        settings = full.values_in("paper.yaml")
        one_epoch = sum(len(corpora.glosses_of(path)) for path in first) // settings["per_device_train_batch_size"]
        steps = settings["num_train_epochs"] * max(1, one_epoch)
    amounts = {
        "one_corpus": (first, steps), "two_corpora_equal_steps": (first + second, steps),
        "two_corpora_equal_epochs": (first + second, round(steps * share)),
    }  # fmt: skip
    folders = {row: pretrained(place, files, held_out, fields, count) for row, (files, count) in amounts.items()}
    systems = {row: ours(place, sizes, folder) for row, folder in folders.items()}
    made = translated(place, sizes, corpus, "tab4d", systems, folders["two_corpora_equal_epochs"])
    made.more["pretraining_steps"] = {row: count for row, (_, count) in amounts.items()}
    return made


def tab5a(place: Workplace, sizes: dict, dataset: str) -> Result:
    corpus, systems = corpora.corpus_of(place, dataset, sizes), {}
    folders = weighted_sign_maes(place, sizes, corpus)
    for name in ("joint_slt", "conslt"):
        systems |= {f"{name}_{weights}": translator(place, sizes, name, folder, weights) for weights, folder in folders.items()}
    systems |= {f"ours_{weights}": ours(place, sizes, folder, tuned=True) for weights, folder in folders.items()}
    return translated(place, sizes, corpus, "tab5a", systems, folders["adaptive"])


def strides(place: Workplace, sizes: dict, dataset: str) -> Result:
    corpus = corpora.corpus_of(place, dataset, sizes)
    sign_mae = own_sign_mae(place, sizes, corpus)
    return translated(
        place, sizes, corpus, "fig3", {f"stride_{stride}": ours(place, sizes, sign_mae, stride) for stride in STRIDES}, sign_mae
    )


# --- Production -------------------------------------------------------------------------------------------------------------------

Sign = Callable[[dict[str, Path], list[Path]], tuple[list[dict], float, dict]]  # files, judges -> reports of each seed, rate, facts


def signer(place: Workplace, sizes: dict, sign_mae: Path, decoder: str = "regression") -> Sign:
    """`TextToSign` on a SignMAE."""

    def sign(files, judges):
        if sizes["scale"] == "paper":
            return full.signing(place, files, sign_mae, sizes, judges, decoder), full.values_in(full.SIGNING)["learning_rate"], {}
        system = signing.System(place, sizes, files, sign_mae, decoder)
        rate = rate_that_is_best(sizes["rates"], system.score_of_rate)
        return [system.report(judges, rate, seed) for seed in range(sizes["seeds"])], rate, {"steps": sizes["steps"]}

    return sign


def producer(place: Workplace, sizes: dict, name: str, sign_mae: Path, weights: str = "none") -> Sign:
    """A baseline that signs."""

    def sign(files, judges):
        from experiments.baselines import producers

        return producers.reports(place, files, name, of_baselines(sizes, files, full.SIGNING), sign_mae, judges, weights)

    return sign


def signed(place: Workplace, sizes: dict, corpus: corpora.Corpus, table: str, systems: dict[str, Sign], sign_mae: Path) -> Result:
    """The `Result` of systems that sign, under judges of real keypoints; of a corpus in folds, the first fold."""
    files = corpus.parts[0]
    if sizes["scale"] == "paper":
        judges = full.judges_of(place, sizes, files, sign_mae)
    else:
        judges = signing.judges_of(place, sizes, files["train"].parent, sign_mae)
    reports, rates, facts = {}, {}, {}
    for row, sign in systems.items():
        reports[row], rates[row], facts[row] = sign(files, judges)
    rows, of_seeds = {}, {}
    for row, of_row in reports.items():
        for name, suffix in signing.SYSTEM_ROWS.items():
            of_seeds[f"{row}{suffix}"] = [scores_in(report, name) for report in of_row]
    shared = reports[ours_in(table)][:1]
    of_seeds |= {row: [scores_in(report, name) for report in shared] for name, row in signing.ROWS.items()}
    for row, made in of_seeds.items():
        values = {metric: [scores[metric] for scores in made] for metric in SIGNS if all(scores.get(metric) is not None for scores in made)}
        rows[row] = {
            metric: {"mean": float(np.mean(some)), "interval": t_interval(some), "seeds": len(some)} for metric, some in values.items()
        }
    rows = {row: metrics for row, metrics in rows.items() if metrics}
    contrasts = {
        f"{one} - {other}": seed_differences(of_seeds[one], of_seeds[other]) for one, other in orderings.compared(table, list(rows))
    }
    part = "; the first of its two folds alone" if len(corpus.parts) > 1 else ""
    return Result(
        what=corpus.what + part,
        rows=rows,
        contrasts=contrasts,
        unit=f"t interval over the seeds of the systems, paired by seed where there are as many; the mean of {len(judges)} judges",
        scored="once in this run; nothing was chosen by them",
        config=sizes | {"judge": signing.JUDGE, "learning_rates_chosen": rates},
        predictions={"reports": reports},
        more={"systems": facts, "test_sentences": shared[0]["num_scored"], "reader": shared[0].get("reader")},
    )


def scores_in(report: dict, name: str) -> dict[str, float]:
    """All scores of one row of a report of `evaluate_text_to_sign`; its pose error where it is a system's own."""
    lengths = {"system, length=predicted": "predicted", "system, length=reference": "reference", "ceiling: oracle latents": "oracle"}
    pose = report.get("pose", {}).get(lengths.get(name), {})
    scores = {**report["rows"].get(name, {}), **report.get("panel", {}).get(name, {})}
    return scores | ({"mpjpe": pose["mpjpe_resampled"]} if "mpjpe_resampled" in pose else {})


def seed_differences(one: list[dict], other: list[dict]) -> dict:
    """{metric: mean and interval of the difference of two rows}: paired by seed; a row of one report stands beside every seed."""
    pairs = list(zip(one, other)) if len(one) == len(other) else [(a, b) for a in one for b in other[:1]]
    shared = [metric for metric in SIGNS if all(a.get(metric) is not None and b.get(metric) is not None for a, b in pairs)]
    differences = {metric: [a[metric] - b[metric] for a, b in pairs] for metric in shared}
    return {metric: {"mean": float(np.mean(values)), "interval": t_interval(values)} for metric, values in differences.items()}


def tab2(place: Workplace, sizes: dict, dataset: str) -> Result:
    corpus = corpora.corpus_of(place, dataset, sizes)
    sign_mae = own_sign_mae(place, sizes, corpus)
    sources = ("",) if dataset in WITHOUT_GLOSSES else ("", "_gloss")
    names = [f"{name}{source}" for source in sources for name in ("progressive_transformer", "nslpg")]
    systems = {name: producer(place, sizes, name, sign_mae) for name in names}
    systems |= {"ours": signer(place, sizes, sign_mae), "codes_flow": signer(place, sizes, sign_mae, "codes_flow")}
    return signed(place, sizes, corpus, "tab2", systems, sign_mae)


def tab5b(place: Workplace, sizes: dict, dataset: str) -> Result:
    corpus, systems = corpora.corpus_of(place, dataset, sizes), {}
    folders = weighted_sign_maes(place, sizes, corpus)
    for name in ("progressive_transformer", "nslpg"):
        systems |= {f"{name}_{weights}": producer(place, sizes, name, folder, weights) for weights, folder in folders.items()}
    systems |= {f"ours_{weights}": signer(place, sizes, folder) for weights, folder in folders.items()}
    return signed(place, sizes, corpus, "tab5b", systems, folders["adaptive"])


# --- Recognition ------------------------------------------------------------------------------------------------------------------


def tab3(place: Workplace, sizes: dict, dataset: str) -> Result:
    """Words of INCLUDE in folds of recording sessions, in the place of KSL-Guide-Word."""
    data, _, fold_of, labels = real_corpora.include_folds(place, sizes["folds"], sizes["limit"])
    encoders_of_rows, processor = rows_of(place, sizes)
    names = {"transformer": "frames", "ours": "pretrained", "untrained": "untrained", "pca": "pca"}
    answers, rates = {}, {}
    answers["gru"], rates["gru"] = isolated.answers(
        place, data, "gru", encoders_of_rows["frames"], sizes["folds"], sizes, processor, gru.read
    )
    for row, name in names.items():
        answers[row], rates[row] = isolated.answers(place, data, name, encoders_of_rows[name], sizes["folds"], sizes, processor)
    answers["floor_most_frequent"] = isolated.most_frequent(data, sizes["folds"], processor)
    rows, contrasts = over_units(
        {row: isolated.scores(of_row, fold_of, (1, 5, 10)) for row, of_row in answers.items()}, orderings.compared("tab3", list(answers))
    )
    return Result(
        what=corpora.WHAT[dataset],
        rows=rows,
        contrasts=contrasts,
        unit=f"t interval over {sizes['folds']} folds of recording sessions, each the mean over seeds",
        scored="once in this run; the learning rate of each fold was chosen on another fold",
        config=sizes | {"reader": isolated.READER, "gru": gru.READER, "learning_rates_chosen": rates},
        predictions={"labels": labels, "fold_of": fold_of, "rank_and_labels": answers},
        more={"clips": len(fold_of)},
    )


# --- Examples ---------------------------------------------------------------------------------------------------------------------

EXAMPLES = {"tab6": (1, 4), "tab8": (6, 0)}  # how many, and where between two of the evenly spaced places they stand


def examples(table: str, place: Workplace, sizes: dict, dataset: str) -> Result:
    """Translations of sentences at even distances in the test set, whatever they are."""
    corpus = corpora.corpus_of(place, dataset, sizes)
    sign_mae = own_sign_mae(place, sizes, corpus)
    systems = {name: translator(place, sizes, name, sign_mae) for name in ("joint_slt", "conslt")}
    systems["ours"] = ours(place, sizes, sign_mae, tuned=True)
    made = translated(place, sizes | {"seeds": 1}, corpus, table, systems, sign_mae)
    count, place_between = EXAMPLES[table]
    truth = made.predictions["references"]
    chosen = evenly(len(truth), count, place_between)
    made.more["examples"] = [
        {"id": made.predictions["ids"][index], "reference": truth[index]}
        | {row: made.predictions["texts"][row][0][index] for row in systems}
        for index in chosen
    ]
    return made


def evenly(number: int, count: int, place_between: int = 0) -> list[int]:
    """`count` indices at even distances among `number`; `place_between`, in eighths, shifts them, so that tables show different ones."""
    step = number / count
    return [min(number - 1, int((index + place_between / 8) * step)) for index in range(count)]


def tab6(place: Workplace, sizes: dict, dataset: str) -> Result:
    return examples("tab6", place, sizes, dataset)


def tab8(place: Workplace, sizes: dict, dataset: str) -> Result:
    return examples("tab8", place, sizes, dataset)
