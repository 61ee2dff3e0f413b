"""Trainings that are killed, that find no room, and whose checkpoints are damaged: does resuming end as if nothing had happened?

Every case runs one of the four training scripts, tiny, in a process of its own, which is forked from a server that has imported all
there is to import, and then resumes it there. What counts is the result: `model.safetensors`, byte for byte, of a run that nothing
disturbed.
"""

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import Row

KINDS = ("pretrain", "sign-to-text", "text-to-sign", "recognition")
FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
DAMAGES = ("missing", "empty", "halved", "one bit flipped")
TIMEOUT = 300.0  # seconds of a process, on a busy machine
TINY = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
)  # fmt: skip
TINY_MAE = TINY | dict(decoder_num_hidden_layers=1, graph_channels=4, relation_channels=2, temporal_branch_channels=2)
TINY_TEXT = dict(
    d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
    decoder_ffn_dim=32, max_position_embeddings=128,
)  # fmt: skip
TINY_TEXT_ENCODER = TINY | {"num_hidden_layers": 1, "max_position_embeddings": 32}
USUAL = {
    "max_steps": 5, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 2,
    "save_total_limit": 2, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "seed": 3,
}  # fmt: skip
SELECTING = {"eval_strategy": "steps", "eval_steps": 2, "early_stopping_patience": None}


def soak(scale, folder, seed):
    with Bench(folder, seed, KINDS if scale >= 0.1 else KINDS[:1]) as bench:
        rows = [
            killed_while_saving(bench, max(2, round(40 * scale))),
            no_room(bench, max(1, round(10 * scale))),
            damaged(bench, max(2, round(60 * scale))),
        ]
        if scale >= 0.5:
            rows += [stopped_by_signals(bench, 8), one_of_two(bench, 3), one_of_two(bench, 2, sharded=True), launcher_of_two(bench)]
    return rows


# --- Cases ------------------------------------------------------------------------------------------------------------------------


def killed_while_saving(bench, count):
    """kill -9 at a random one of all moments at which a run writes: in the middle of a file, before a rename, between two deletions."""
    outcomes, bad, examples, torn, starts = {}, 0, [], 0, []
    for case in range(count):
        kind = bench.kinds[case % len(bench.kinds)]
        out = bench.folder / f"killed-{case}"
        moment, first = bench.stop_at_random(kind, out, signal.SIGKILL)
        torn += bool(list(out.glob(".*-unfinished-*")))
        again = bench.train(kind, out, resume=True)
        starts.append(again.start)
        name = bench.outcome(kind, out, again)
        if first.code != -signal.SIGKILL:
            name = f"not killed (exit {first.code})"
        outcomes[name] = outcomes.get(name, 0) + 1
        if name != "bit-equal":
            bad += 1
            examples.append(f"{kind}, moment {moment}: {name}: {again.last}")
        shutil.rmtree(out)
    note = f"{torn} of them left an unfinished folder, which resuming removed; resumed from step {counted(starts)}"
    return Row("kill -9 while saving, then resumed", count, outcomes, bad, "0 fail", note, examples)


def no_room(bench, count):
    """A disk of 0.3 to 2.4 checkpoints; then room is made, and the run is resumed."""
    outcomes, bad, examples, disks = {}, 0, [], 0
    for case in range(count):
        kind = bench.kinds[case % len(bench.kinds)]
        size = int(bench.checkpoint_bytes[kind] * (0.3 + 2.1 * (case + 0.5) / count))
        place = bench.folder / f"full-{case}"
        place.mkdir()
        mounted = mount(place, size)
        disks += mounted
        limit = None if mounted else int(bench.largest_file[kind] * (0.2 + 0.7 * (case + 0.5) / count))
        try:
            first = bench.train(kind, place / "out", file_limit=limit)
            told = first.code == 1 and first.last.startswith("Could not save") and "Traceback" not in first.said
            left = [path.name for path in (place / "out").glob(".*")]
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
            again = bench.train(kind, place / "out", resume=True)
            name = bench.outcome(kind, place / "out", again)
            if not told or left:
                name = f"not said in one line (exit {first.code})" if not told else f"left {left}"
        finally:
            if mounted:
                subprocess.run(["umount", str(place)], check=True)
        outcomes[name] = outcomes.get(name, 0) + 1
        if name != "bit-equal":
            bad += 1
            examples.append(f"{kind}, {size} bytes: {name}: {first.last} / {again.last}")
        shutil.rmtree(place)
    note = f"{disks} on a small disk, {count - disks} under a limit of the size of files"
    return Row("disk full while saving, room made, then resumed", count, outcomes, bad, "0 fail", note, examples)


def damaged(bench, count):
    """The newest of two checkpoints, one file missing, empty, halved or with one bit flipped."""
    outcomes, bad, examples = {}, 0, []
    cases = [(kind, name, how) for name in FILES for how in DAMAGES for kind in bench.kinds]
    bench.random.shuffle(cases)
    for case, (kind, name, how) in enumerate(cases[i % len(cases)] for i in range(count)):
        out = Path(shutil.copytree(bench.stopped[kind], bench.folder / f"damaged-{case}"))
        damage_file(out / "checkpoint-4" / name, how, bench.random)
        if case % 4 == 3:  # named by its path
            again = bench.train(kind, out, resume=out / "checkpoint-4")
            refused = again.code == 2 and "Traceback" not in again.said and name in again.last
            found = "refused, the file named" if refused else bench.outcome(kind, out, again)
        else:
            again = bench.train(kind, out, resume=True)
            found = bench.outcome(kind, out, again)
            if found == "bit-equal":
                found += ", the file named" if any("Passed over" in line and name in line for line in again.lines) else ", silently"
        outcomes[found] = outcomes.get(found, 0) + 1
        if not found.endswith("the file named"):
            bad += 1
            examples.append(f"{kind}, {name} {how}: {found}: {again.last}")
        shutil.rmtree(out)
    return Row("damaged checkpoint, then resumed", count, outcomes, bad, "0 silently with other weights", "", examples)


def stopped_by_signals(bench, count):
    """Ctrl-C and SIGTERM at a random moment of writing: one line, 130 or 143, and resuming ends bit-equal."""
    outcomes, bad, examples = {}, 0, []
    for case in range(count):
        kind, number = bench.kinds[case % len(bench.kinds)], (signal.SIGINT, signal.SIGTERM)[case // len(bench.kinds) % 2]
        out = bench.folder / f"signal-{case}"
        moment, first = bench.stop_at_random(kind, out, number)
        told = first.code == 128 + number and first.last.startswith("Stopped by") and "Traceback" not in first.said
        again = bench.train(kind, out, resume=True)
        name = bench.outcome(kind, out, again) if told else f"not said in one line (exit {first.code})"
        outcomes[name] = outcomes.get(name, 0) + 1
        if name != "bit-equal":
            bad += 1
            examples.append(f"{kind}, signal {number}, moment {moment}: {name}: {first.last} / {again.last}")
        shutil.rmtree(out)
    return Row("Ctrl-C and SIGTERM while saving, then resumed", count, outcomes, bad, "0 fail", "", examples)


def one_of_two(bench, count, sharded=False):
    """One process of two (gloo) is killed while saving; both are resumed. Sharded: FSDP, made to shard on a CPU as it does on a GPU."""
    outcomes, bad, examples, starts = {}, 0, [], []
    reference = bench.folder / f"two-{sharded}"
    ranks = bench.train_two(reference, sharded=sharded)
    what = "one of two processes killed while saving, then both resumed" + (", sharded (FSDP on CPU)" if sharded else "")
    if any(rank.code for rank in ranks):
        return Row(what, count, {"no run at all": count}, count, "0 fail", "", [rank.last for rank in ranks])
    for case in range(count):
        out = bench.folder / f"two-{sharded}-{case}"
        first = bench.train_two(out, sharded=sharded, kill_rank=case % 2, kill_at=bench.random.randrange(*((110, 250), (3, 9))[case % 2]))
        again = bench.train_two(out, sharded=sharded, resume=True)
        starts.append(again[0].start)
        if all(rank.code == 0 for rank in first):
            name = "not killed"
        elif any(rank.code is None for rank in first):
            name = "the other one hung"
        elif any(rank.code for rank in again):
            name = "resume failed"
        else:
            name = "bit-equal" if weights(out) == weights(reference) else "other weights"
        outcomes[name] = outcomes.get(name, 0) + 1
        if name != "bit-equal":
            bad += 1
            examples.append(f"case {case}: {name}: {[rank.last for rank in first]} / {[rank.last for rank in again]}")
        shutil.rmtree(out)
    return Row(what, count, outcomes, bad, "0 fail", f"resumed from step {counted(starts)}", examples)


def launcher_of_two(bench):
    """The launcher of two processes ends when one is killed."""
    out = bench.folder / "launched"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()), "-m"]
    command += ["tests.soak.checkpoints", json.dumps(bench.argv("pretrain", out)), "4"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["."] + sys.path), "HF_DATASETS_CACHE": str(bench.folder / "cache")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment, cwd=Path(__file__).parents[2])
        name = "ended" if done.returncode != 0 and "ChildFailedError" in done.stderr else f"exit {done.returncode}"
    except subprocess.TimeoutExpired:
        name = "hung"
    bad = int(name != "ended")
    return Row("torchrun, one process of two killed while saving", 1, {name: 1}, bad, "it ends", "", [name] * bad)


# --- The bench --------------------------------------------------------------------------------------------------------------------


class Ended:
    """How a process ended: exit code, or None where it hung, what it said on standard error, and the step that it resumed from."""

    def __init__(self, code, log):
        self.code, self.said = code, log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        self.lines = self.said.strip().splitlines()
        self.last = self.lines[-1] if self.lines else ""
        resumed = re.search(r"from step (\d+) of", self.said)
        self.start = int(resumed[1]) if resumed else 0


class Bench:
    """Data sets, a SignMAE, and for each script a run that nothing disturbed and one that was stopped before its end."""

    def __init__(self, folder, seed, kinds=KINDS):
        self.folder, self.random, self.kinds = Path(folder), random.Random(seed), kinds
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.soak.checkpoints_imports"])
        self.count = 0

    def __enter__(self):
        self._call(make_data, self.folder)
        self.whole, self.stopped, self.moments, self.first_save = {}, {}, {}, {}
        self.checkpoint_bytes, self.largest_file = {}, {}
        for kind in self.kinds:
            whole, stopped = self.folder / f"whole-{kind}", self.folder / f"stopped-{kind}"
            ended = self.train(kind, whole, count_to=self.folder / "moments.json")
            if ended.code != 0:
                raise RuntimeError(f"{kind} does not even run: {ended.said[-3000:]}")
            self.whole[kind] = weights(whole)
            self.first_save[kind], self.moments[kind] = json.loads((self.folder / "moments.json").read_text())
            sizes = [path.stat().st_size for path in (whole / "checkpoint-5").rglob("*")]
            self.checkpoint_bytes[kind], self.largest_file[kind] = sum(sizes), max(sizes)
            shutil.rmtree(whole)
            self.train(kind, stopped, stop_after=4)
            self.stopped[kind] = stopped
        return self

    def __exit__(self, *error):
        return None

    def argv(self, kind, out, resume=None, **fields):
        fields = USUAL | FIELDS[kind] | {"output_dir": out} | fields
        for name, place in (("datasets", "data"), ("validation", "data"), ("sign_mae", "sign-mae")):
            if fields.get(name) is True:
                fields[name] = self.folder / place
        if resume is not None:
            fields["resume_from_checkpoint"] = resume
        words = [json.dumps(value) if isinstance(value, dict) else "null" if value is None else str(value) for value in fields.values()]
        return ["paper_text_to_sign.yaml" if kind == "text-to-sign" else f"paper{CONFIGS[kind]}.yaml"] + [
            word for name, value in zip(fields, words) for word in (f"--{name}", value)
        ]

    def stop_at_random(self, kind, out, number):
        """A run that sends itself a signal at one of the moments at which it writes: -> the moment, and how the run ended."""
        last = self.moments[kind]
        while True:  # the run that counted the moments also filled the caches: a later one may end before the last of them
            moment = self.random.randrange(self.first_save[kind], last)
            run = self.train(kind, out, kill_at=moment, number=number)
            if sent_marker(out).exists():
                sent_marker(out).unlink()
                return moment, run
            shutil.rmtree(out)
            last = moment

    def train(self, kind, out, resume=None, **options):
        return self._call(train, kind, self.argv(kind, out, resume), out, options)

    def train_two(self, out, resume=None, kill_rank=None, kill_at=None, sharded=False):
        port, processes = free_port(), []
        for rank in (0, 1):
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
            options = {"environment": environment, "sharded": sharded, "kill_at": kill_at if rank == kill_rank else None}
            argv = self.argv("pretrain", out, resume, per_device_train_batch_size=2)
            processes.append(self._start(train, "pretrain", argv, out, options))
        while any(process.is_alive() for process, _ in processes) and all(process.exitcode in (None, 0) for process, _ in processes):
            time.sleep(0.05)
        for process, _ in processes:  # as launchers do: when one fails, the others are asked to end
            if process.is_alive():
                process.terminate()
        return [self._end(process, log, 60.0) for process, log in processes]

    def outcome(self, kind, out, ended):
        if ended.code != 0:
            return "hung" if ended.code is None else f"resume failed (exit {ended.code})"
        return "bit-equal" if weights(out) == self.whole[kind] else "other weights"

    def _call(self, function, *arguments):
        return self._end(*self._start(function, *arguments), TIMEOUT)

    def _start(self, function, *arguments):
        self.count += 1
        log = self.folder / f"log-{self.count}"
        process = self.context.Process(target=in_child, args=(str(log), str(self.folder), function, *arguments))
        process.start()
        return process, log

    def _end(self, process, log, timeout):
        process.join(timeout)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        ended = Ended(code, log)
        log.unlink(missing_ok=True)
        return ended


CONFIGS = {"pretrain": "", "sign-to-text": "_sign_to_text", "recognition": "_recognition"}
FIELDS = {
    "pretrain": TINY_MAE | {"datasets": True, "validation": "[]", "eval_strategy": "no", "bank_clips": 4, "dataloader_num_workers": 0},
    "sign-to-text": SELECTING
    | {"datasets": True, "validation": True, "sign_mae": True, "text_config": TINY_TEXT, "generation_num_beams": 1, "max_new_tokens": 6}
    | {"metric_for_best_model": "loss"},
    "text-to-sign": SELECTING
    | {"datasets": True, "validation": True, "sign_mae": True, "text_model": None, "text_config": TINY_TEXT_ENCODER, "max_segments": 8}
    | TINY,
    "recognition": SELECTING | {"datasets": True, "validation": True, "sign_mae": True} | TINY,
}


def weights(out):
    path = Path(out) / "model.safetensors"
    return path.read_bytes() if path.exists() else None


def counted(steps):
    """How often each step, in words."""
    return ", ".join(f"{step} ({steps.count(step)})" for step in sorted(set(steps)))


def damage_file(path, how, chance):
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "halved":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)


def mount(place, size):
    """Whether a disk of so many bytes could be put there; only root may."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True).returncode == 0


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


# --- In the processes -------------------------------------------------------------------------------------------------------------


def in_child(log, folder, function, *arguments):
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(descriptor, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
    function(*arguments)


def train(kind, argv, out, options):
    """One of the scripts, as its command line runs it; killed at a moment where the options say so."""
    from train import pretrain, train_recognition, train_sign_to_text, train_text_to_sign
    from train.engine.runs import run_script

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has turned off
    os.environ |= {name: str(value) for name, value in options.get("environment", {}).items()}
    if options.get("sharded"):
        shard_on_cpu()
    if (limit := options.get("file_limit")) is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if (step := options.get("stop_after")) is not None:
        kill_after(step)
    moments = Moments(out, options.get("kill_at"), options.get("number", signal.SIGKILL))
    script = dict(zip(KINDS, (pretrain, train_sign_to_text, train_text_to_sign, train_recognition)))[kind]
    run_script(lambda: script.main(argv))
    if (path := options.get("count_to")) is not None:
        Path(path).write_text(json.dumps([moments.first_save, moments.count]))


def kill_after(step):
    from transformers import Trainer

    taken = Trainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        return taken(self, *args, **kwargs)

    Trainer.training_step = training_step


def sent_marker(folder):
    """A file beside a run's folder that is there when its signal was sent."""
    return Path(folder).parent / f"sent-{Path(folder).name}"


class Moments:
    """Counts the moments at which a process writes below a folder, and sends itself a signal at one of them.

    A moment is each file that is opened for writing, renamed or deleted, each folder, each fsync; and the middle of each file that
    torch or safetensors write: there it is cut to half its size first, which is what a kill leaves.
    """

    EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.chmod"}

    def __init__(self, folder, kill_at=None, number=signal.SIGKILL):
        self.folder, self.kill_at, self.number = str(folder), kill_at, number
        self.marker = sent_marker(folder)
        self.count, self.first_save = 0, None
        sys.addaudithook(self.audit)
        self.wrap_writers()

    def audit(self, event, arguments):
        if event not in self.EVENTS or not isinstance(arguments[0], (str, os.PathLike)) or self.folder not in str(arguments[0]):
            return
        if event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            self.moment(str(arguments[0]))

    def moment(self, path, half=None):
        if self.first_save is None and "checkpoint-" in path:
            self.first_save = self.count
        self.count += 1
        if self.count - 1 == self.kill_at:
            if half is not None:
                os.truncate(half, os.path.getsize(half) // 2)
            self.marker.touch()
            os.kill(os.getpid(), self.number)

    def wrap_writers(self):
        import safetensors.torch
        import torch
        import transformers.modeling_utils

        fsync = os.fsync

        def noted_fsync(descriptor):
            self.moment(self.folder)
            fsync(descriptor)

        os.fsync = noted_fsync

        def wrapped(write, place):
            def wrapper(*args, **kwargs):
                path = str(args[place])
                self.moment(path)
                write(*args, **kwargs)
                self.moment(path, half=path)

            return wrapper

        torch.save = wrapped(torch.save, 1)
        for module in (safetensors.torch, transformers.modeling_utils):
            for name in ("save_file", "safe_save_file"):
                if hasattr(module, name):
                    setattr(module, name, wrapped(getattr(module, name), 1))


def shard_on_cpu():
    """accelerate shards on accelerators only; this makes it do on a CPU what it does on a GPU."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    os.environ |= {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "TransformerLayer", "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_MIXED_PRECISION": "bf16",
    }  # fmt: skip
    init = AcceleratorState.__init__

    def sharding(self, *args, fsdp_plugin=None, **kwargs):
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = sharding


def make_data(folder):
    """A folder of canonical rows with texts and labels, and a SignMAE."""
    import datasets
    import numpy as np
    import torch

    from datasets_scripts.schema import FEATURES
    from modeling_unigloR import KeypointProcessor, SignMAE, SignMAEConfig
    from tests.conftest import TEXTS, random_signing

    (folder / "data").mkdir()
    for split, count, seed in (("train", 12, 0), ("validation", 4, 100)):
        rows = []
        for index in range(count):
            keypoints = (random_signing(20 + 5 * (index % 4), seed + index) * 100 + 300).astype(np.float32)
            rows.append(
                dict(
                    id=f"{split}-{index}", keypoints=keypoints, confidence=np.ones(keypoints.shape[:2], np.float32), layout="uniglor73",
                    fps=25.0, width=600, height=600, text=TEXTS[index % 3], gloss=("SCHNEE", "REGEN", "SONNE")[index % 3],
                    label=index % 3, signer=None, language="gsg",
                )
            )  # fmt: skip
        datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    torch.manual_seed(0)
    SignMAE(SignMAEConfig(**TINY_MAE)).save_pretrained(folder / "sign-mae")
    KeypointProcessor().save_pretrained(folder / "sign-mae")


if __name__ == "__main__":  # a process of `launcher_of_two`
    from transformers.utils import logging

    logging.disable_progress_bar()
    train(
        "pretrain", json.loads(sys.argv[1]), json.loads(sys.argv[1])[json.loads(sys.argv[1]).index("--output_dir") + 1],
        {"kill_at": int(sys.argv[2]) if os.environ["RANK"] == "1" else None},
    )  # fmt: skip
