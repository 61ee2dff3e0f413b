"""The README's Python runs as it stands, on a tiny checkpoint in the demo's place; its map names files that are there."""

import re
from pathlib import Path

import torch

from modeling_unigloR import KeypointProcessor

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


def test_every_file_of_the_map_is_there():
    folder, named = None, []
    for line in re.search(r"## Map\n\n```\n(.*?)```", README, re.DOTALL).group(1).splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
            assert (ROOT / folder).is_dir()
        else:
            named += [folder + name for name in re.findall(r"[\w/]+\.(?:py|yaml)\b|configs/", line)]
    assert len(named) > 15
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "train/configs" / Path(name).name).exists()]
    assert missing == []
    modules = {path.name for path in (ROOT / "modeling_unigloR").glob("*.py")} - {"__init__.py"}
    assert modules <= {Path(name).name for name in named}
