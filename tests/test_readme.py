"""The README is short and its Python runs as it stands, on tiny checkpoints in the demo's place; maps and links name what is there."""

import dataclasses
import importlib
import re
from pathlib import Path

import torch

from modeling_unigloR import KeypointProcessor, limits_uniglor
from train.engine.arguments import declared_fields
from train.publishing.model_cards import CardFields, citation

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(tiny_sign_mae, tiny_sign_to_text, tiny_text_to_sign, tmp_path, monkeypatch):
    folder = tmp_path / "outputs" / "demo"
    tiny_sign_mae().save_pretrained(folder / "sign-mae")
    KeypointProcessor().save_pretrained(folder / "sign-mae")
    tiny_sign_to_text().save_pretrained(folder / "sign-to-text")
    tiny_text_to_sign().save_pretrained(folder / "text-to-sign")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert set(names["answer"]) == {"translation_text", "score"}
    assert names["keypoints"].shape == (1, 13, 15, 73, 2) and isinstance(names["latents"], torch.Tensor)


def test_a_newcomer_reads_at_most_1200_words():
    assert len(README.split()) <= 1200


def test_security_names_every_limit_with_its_value():
    told = {name: value for value, name in re.findall(r"\| ([\d,]+(?: [GM]iB)?) \| `(M\w+)` \|", (ROOT / "SECURITY.md").read_text("utf-8"))}
    limits = {name: value for name, value in vars(limits_uniglor).items() if name.startswith(("MIN_", "MAX_"))}
    units = {"GiB": 1 << 30, "MiB": 1 << 20}
    numbers = {name: float(value.split()[0].replace(",", "")) * units.get(value.split()[-1], 1) for name, value in told.items()}
    assert numbers == limits


def test_the_readme_cites_what_the_citation_file_names():
    assert citation() in README


def test_links_lead_to_files_that_are_there():
    for path in (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_file_of_the_map_is_there():
    folder, named = None, []
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for line in re.search(r"## Map\n\n```\n(.*?)```", architecture, re.DOTALL).group(1).splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
            assert (ROOT / folder).exists(), folder
        else:
            named += [folder + name for name in re.findall(r"[\w/]+\.(?:py|yaml)\b|configs/", line)]
    assert len(named) > 15
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "train/configs" / Path(name).name).exists()]
    assert missing == []
    modules = {path.name for path in (ROOT / "modeling_unigloR").glob("*.py")} - {"__init__.py"}
    assert modules <= {Path(name).name for name in named}


def test_every_command_of_the_guides_names_a_script_and_options_that_it_knows():
    commands = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            lines = [line.split(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
            commands += [
                line for line in lines if re.match(r"(python -m (train|datasets_scripts|bench|exper)|python app|accelerate)", line)
            ]
    assert len(commands) > 15
    for command in commands:
        script = re.search(r"(?:python -m ([\w.]+)|([\w/]+\.py))", command)
        path = ROOT / (script[1].replace(".", "/") + ".py" if script[1] else script[2])
        assert path.exists(), command
        source = path.read_text(encoding="utf-8")
        known = set(re.findall(r"""["']--(\w+)["']""", source)) | {"help"}
        if "train_" in path.name or path.name == "pretrain.py":
            owners = importlib.import_module(f"train.{path.stem}").OWNERS
            known |= {name for kind in owners.values() for name in declared_fields(kind)}
        if path.name == "build.py":
            known |= set(re.findall(r'"(\w+)": (?:{|None|")', (ROOT / "datasets_scripts" / "options.py").read_text(encoding="utf-8")))
        if path.name == "publish.py":
            known |= {field.name for field in dataclasses.fields(CardFields)}
        given = {word.split("=")[0] for word in re.findall(r"--([\w=]+)", command.split(script[0], 1)[1])}
        assert given <= known, f"{command}: {given - known}"
