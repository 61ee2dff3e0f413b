"""The SignMAEs of the experiments: pretrained ones, and untrained ones to compare them with."""

from experiments.readers import code_version
from experiments.workplace import words
from train import pretrain

PAPER = {  # what a SignMAE reads and predicts in the paper
    "input_whitening": 0, "linear_skip": False, "graph_channels": 16, "relation_channels": 4, "temporal_branch_channels": 4,
}  # fmt: skip
OURS = {"input_whitening": 110, "linear_skip": True, "graph_channels": 0}
SMALL = OURS | {  # a quarter of the paper's width, less depth; the same schedule in less time
    "hidden_size": 256, "num_hidden_layers": 2, "decoder_num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 512,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "segments_per_clip": 8, "per_device_train_batch_size": 64,
    "learning_rate": 1e-3, "lr_scheduler_kwargs": {"min_lr_rate": 0.02},
}  # fmt: skip
TINY = SMALL | {
    "hidden_size": 32, "num_hidden_layers": 1, "decoder_num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "per_device_train_batch_size": 16,
}  # fmt: skip


def pretrained(place, datasets, validation, fields, steps, seed=0):
    """The folder of a SignMAE; a run that was killed goes on from its last checkpoint. With steps=-1 the config file's epochs count."""
    folder = place.path("sign-mae", code_version(), names(datasets), fields, steps, seed)
    if not (folder / "report.json").exists():
        saved = {"save_strategy": "epoch" if steps < 0 else "steps", "save_steps": max(1, min(200, steps)), "save_total_limit": 1}
        saved |= {"eval_strategy": "no"}
        _pretrain(folder, datasets, validation, fields | saved | {"max_steps": steps, "seed": seed, "resume_from_checkpoint": True}, place)
    return folder


def untrained(place, datasets, fields, seed=0):
    """The folder of a SignMAE with random weights; only its norms and the statistics of its latents come from the data."""
    folder = place.path("sign-mae-untrained", code_version(), names(datasets), fields, seed)
    if not (folder / "report.json").exists():
        still = {
            "max_steps": 1,
            "learning_rate": 0,
            "save_strategy": "no",
            "eval_strategy": "no",
            "overwrite_output_dir": True,
            "seed": seed,
        }
        _pretrain(folder, datasets, [], fields | still, place)
    return folder


def names(paths):
    """Names of files that tell pieces of work apart: their folder and file name, without the path before them."""
    return [f"{path.parent.name}/{path.name}" for path in paths]


def _pretrain(folder, datasets, validation, fields, place):
    options = words({"use_cpu": True} | fields | {"output_dir": folder})
    options += ["--datasets", *map(str, datasets), "--validation", *(map(str, validation) if validation else ["[]"])]
    pretrain.main(["paper.yaml", *options])
