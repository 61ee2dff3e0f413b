"""The page as a Space, from the blocks of docs/publishing.md: a folder that starts by itself and answers."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8").split("## The page as a Space", 1)[1].split("\n## ", 1)[0]
FILES = dict(re.findall(r"`space/([\w.]+)`:\n\n```\w+\n(.*?)```", GUIDE, re.DOTALL))

# Starts a file of the current folder where no other copy of the package can be imported: an editable install would hide what is missing.
ALONE = """
import os, runpy, sys
here = os.getcwd()
sys.path[:] = [here] + [place for place in sys.path if place and not os.path.isdir(os.path.join(place, "modeling_unigloR"))]
runpy.run_path("space.py", run_name="__main__")
"""


def test_a_space_asks_for_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {need for needs in (project["dependencies"], *project["optional-dependencies"].values()) for need in needs}
    assert set(FILES) == {"README.md", "requirements.txt", "space.py"}
    assert set(FILES["requirements.txt"].splitlines()) <= known
    front = yaml.safe_load(FILES["README.md"].strip().strip("-"))
    assert front["app_file"] == "space.py" and len(front["short_description"]) <= 60
    assert f"gradio=={front['sdk_version']}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow  # ten CPU seconds until a page has started
def test_the_folder_of_the_guide_starts_and_answers_under_its_name(tiny_sign_to_text, tiny_text_to_sign, tmp_path):
    pytest.importorskip("gradio", reason="the page needs gradio: pip install -e '.[demo]'")
    space = tmp_path / "space"
    copied = re.search(r"git archive HEAD (.*?) \| tar -x -C space", GUIDE)[1].split()
    for name in copied:
        copy = shutil.copy if (ROOT / name).is_file() else shutil.copytree
        space.mkdir(exist_ok=True)
        copy(ROOT / name, space / name)
    tiny_sign_to_text().save_pretrained(tmp_path / "reader")
    tiny_text_to_sign().save_pretrained(tmp_path / "signer")
    for name, content in FILES.items():
        content = content.replace("me/reads-weather", str(tmp_path / "reader")).replace("me/signs-weather", str(tmp_path / "signer"))
        (space / name).write_text(content, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "SPACE_HOST": "me-weather.hf.space", "TMPDIR": str(tmp_path), "PYTHONPATH": ""}
    with open(tmp_path / "log.txt", "w") as log:
        process = subprocess.Popen([sys.executable, "-c", ALONE], cwd=space, env=os.environ | settings, stdout=log, stderr=log)
    try:
        page = answer_of(process, f"http://127.0.0.1:{port}/config", "me-weather.hf.space", tmp_path / "log.txt")
        assert b"Sign to text" in page and b"Text to sign" in page
    finally:
        process.terminate()
        process.wait(60)


def answer_of(process, url, host, log):
    for _ in range(1200):  # ten minutes: it starts slowly on a busy machine, and a process that ended is noticed at once
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=5).read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(log.read_text()[-3000:])
