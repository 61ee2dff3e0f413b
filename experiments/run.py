"""Runs an experiment, from raw files to its JSON and table.

    python -m experiments.run include --scale tiny            # minutes; nothing may be concluded from it
    python -m experiments.run all --scale small               # hours on two cores; what docs/results.md shows
    python -m experiments.run include --expect                # fails where it does not agree with the kept result
    python -m experiments.run tab1 --dataset spliced_signs    # a table or figure of the paper: tab1 .. tab8, fig3 .. fig10

Real keypoints and annotations are read from --data_dir, by default what UNIGLOR_DATA names; docs/results.md says what lies there. Pieces
of work that are done are kept, so a run that was killed goes on.
"""

import os
from pathlib import Path

from experiments.paper import command, values
from experiments.workplace import Workplace
from train.engine.commands import CommandParser

NAMES = (
    "include", "real_mix", "dgs", "bsl", "gloss_probe", "inputs", "phoenix_rendered", "phoenix_rendered_varied", "spliced_signs",
    "signing", "signing_varied", "signing_spliced",
)  # fmt: skip
ENTRIES = {  # where an experiment is not `run` of the module of its name
    "phoenix_rendered": ("sentences", "phoenix_rendered"),
    "phoenix_rendered_varied": ("sentences", "phoenix_rendered_varied"),
    "spliced_signs": ("spliced_translation", "run"),
    "signing": ("signing", "signing"),
    "signing_varied": ("signing", "signing_varied"),
    "signing_spliced": ("signing", "signing_spliced"),
}


def parse(argv=None):
    parser = CommandParser(__doc__)
    parser.add_argument("name", choices=[*NAMES, "all", *values.TABLES])
    parser.add_argument("--dataset", help="of a table or figure of the paper: " + ", ".join((*values.SENTENCES, "include")))
    parser.add_argument("--scale", choices=values.SCALES, default="small", help="paper: of its tables alone, with its own sizes")
    parser.add_argument("--seeds", type=int, help="how many seeds a row has; by default the scale's")
    parser.add_argument("--data_dir", type=Path, default=os.environ.get("UNIGLOR_DATA"))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/experiments"), help="what is trained, and kept to go on from")
    parser.add_argument("--results_dir", type=Path, help="where the JSON goes; by default output_dir/results")
    parser.add_argument("--expect", action="store_true", help="compare with the kept result instead, and fail where they differ")
    arguments = parser.parse_args(argv)
    if arguments.name not in values.TABLES and (arguments.dataset is not None or arguments.scale == "paper"):
        parser.error(f"--dataset and --scale paper are of the paper's tables, and {arguments.name} is none.")
    return arguments


def main(argv=None):
    arguments = parse(argv)
    import datasets

    from experiments import results, table

    place = Workplace(arguments.data_dir, arguments.output_dir.absolute())
    datasets.config.HF_DATASETS_CACHE = place.output_dir / "cache" / "datasets"
    folder = arguments.results_dir or place.output_dir / "results"
    if arguments.name in values.TABLES:
        paper_table(arguments, place, folder)
        return folder
    differing = []
    for name in NAMES if arguments.name == "all" else [arguments.name]:
        run, sizes = experiment(name, arguments.scale, arguments.seeds)
        print(f"{name}, scale {arguments.scale}", flush=True)
        written = results.write(name, run(place, sizes), folder, arguments.scale, results.command_line())
        print(f"\n{table.format_result(written)}\n", flush=True)
        if arguments.expect:
            differing += [f"{name}: {difference}" for difference in results.differences(written, results.read(name))]
    if differing:
        raise SystemExit("Not as the kept results:\n" + "\n".join(differing))
    return folder


def paper_table(arguments, place, folder):
    """Runs a table or figure of the paper, once it is known that it can be finished."""
    from experiments import results
    from experiments.paper import reproduction
    from experiments.readers import code_version

    name, scale, kept = arguments.name, arguments.scale, None
    dataset = command.dataset_for(name, arguments.dataset)
    command.check(name, dataset, scale, place, arguments.expect)
    if arguments.expect:
        kept = command.read_kept(name, dataset)
        same = kept["code"] == code_version()
        print(f"The kept result is of commit {kept['commit']}, with {'the same' if same else 'other'} code of the models.", flush=True)
    print(f"{name} on {dataset}, scale {scale}", flush=True)
    written = command.run(name, dataset, scale, arguments.seeds, place, folder)
    print(f"\n{reproduction.section(written)}\n", flush=True)
    if kept is not None and (different := results.differences(written, kept)):
        raise SystemExit("Not as the kept result:\n" + "\n".join(different))


def experiment(name, scale, seeds=None):
    """-> function of a `Workplace` and sizes, and its sizes at a scale."""
    from importlib import import_module

    module, function = ENTRIES.get(name, (name, "run"))
    module = import_module(f"experiments.{module}")
    sizes = dict(module.SIZES[scale])
    return getattr(module, function), sizes | ({"seeds": seeds} if seeds else {})


if __name__ == "__main__":
    main()
