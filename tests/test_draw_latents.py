"""The plane of latents, and the number that needs no plane."""

import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from matplotlib.colors import to_hex

from datasets_scripts.build import build
from datasets_scripts.schema import FEATURES
from tests.conftest import REAL_DATA, random_signing
from train.figures import latents as draw_latents
from train.figures.latents import COLORS, MARKERS, draw, most_frequent, neighbours_share, sign_names

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    """Five clips of two signs, and one of a third."""
    folder = tmp_path_factory.mktemp("signs")
    rows = []
    for index, gloss in enumerate(("REGEN", "SONNE", "REGEN", "SONNE", "REGEN", "SCHNEE")):
        keypoints = random_signing(36, seed=index) * 100 + 300
        rows.append(
            dict(
                id=f"clip-{index}", keypoints=keypoints, confidence=np.ones(keypoints.shape[:2], np.float32), layout="uniglor73", fps=25.0,
                width=600, height=600, text=None, gloss=gloss, label=None, signer=None, language="gsg",
            )
        )  # fmt: skip
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "test-00000-of-00001.parquet")
    return str(folder)


def test_the_command_draws_every_segment_of_the_most_frequent_glosses(sign_mae_dir, signs, tmp_path, capsys):
    pytest.importorskip("sklearn")
    argv = ["--checkpoint", sign_mae_dir, "--datasets", signs, "--num_glosses", "2", "--output", str(tmp_path / "a.svg")]
    report = draw_latents.main(argv)
    assert report["glosses"] == ["REGEN", "SONNE"] and report["clips"] == 5 and report["segments"] == 5 * 4  # stride 7 over 36 frames
    page = ET.fromstring((tmp_path / "a.svg").read_text())
    marks = [len(list(group.iter(f"{SVG}use"))) for group in page.iter(f"{SVG}g") if group.get("id", "").startswith("PathCollection")]
    assert marks[:2] == [12, 8]  # then one of each in the legend
    assert {"REGEN, 12", "SONNE, 8"} <= {text.text for text in page.iter(f"{SVG}text")}
    assert f"{100 * report['share']:.0f} %, by chance {100 * report['chance']:.0f} %" in capsys.readouterr().out


def test_clips_are_named_by_label_or_by_a_gloss_of_one_word():
    clips = SimpleNamespace(
        glosses=["REGEN", "REGEN SONNE", "see you later", None, None, None],
        texts=[None, "regen und sonne", None, "again", "ein satz", None],
        labels=[None, None, 3, 4, None, 5],
    )
    assert sign_names(clips) == ["REGEN", None, "see you later", "again", None, "LABEL_5"]


def test_of_equally_frequent_glosses_the_first_in_the_alphabet_are_drawn():
    assert most_frequent(["b", "c", "a", None, "c", "b", "a", "d"], 2) == (["a", "b"], [(0, 1), (2, 0), (5, 1), (6, 0)])


def test_sentences_are_refused():
    with pytest.raises(ValueError, match="Found 0 glosses of isolated signs in 2 clips, expected at least 2"):
        most_frequent([None, None], 10)


def test_a_neighbour_of_the_same_clip_does_not_count(rng):
    latents, gloss, clip = rng.normal(size=(60, 5)), rng.integers(3, size=60), np.repeat(np.arange(12), 5)
    same, random = [], []
    for one in range(60):
        others = np.flatnonzero(clip != clip[one])
        nearest = min(others, key=lambda other: np.linalg.norm(latents[one] - latents[other]))
        same.append(gloss[nearest] == gloss[one])
        random.append(np.mean(gloss[others] == gloss[one]))
    assert neighbours_share(latents, gloss, clip, batch_size=7) == pytest.approx((np.mean(same), np.mean(random)))


def test_every_gloss_has_its_own_mark():
    count = len(COLORS) * len(MARKERS)
    points, glosses = np.random.default_rng(0).normal(size=(count, 2)), [f"<{number}>" for number in range(count)]
    (axes,) = draw(points, np.arange(count), glosses, "said").axes
    looks = {(COLORS.index(to_hex(mark.get_facecolor()[0])), mark.get_paths()[0].vertices.tobytes()) for mark in axes.collections}
    assert len(axes.collections) == len(looks) == count


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        draw_latents.plane(np.zeros((5, 2)))


def test_a_checkpoint_of_another_type_is_refused(tiny_sign_recognition, signs, tmp_path):
    tiny_sign_recognition().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="type 'sign_recognition', expected 'sign_mae'"):
        draw_latents.main(["--checkpoint", str(tmp_path / "model"), "--datasets", signs, "--output", str(tmp_path / "a.svg")])


def test_real_signs_are_nearer_to_their_own_even_for_an_encoder_that_never_trained(sign_mae_dir, tmp_path):
    """Why the number stands in the picture, and why an untrained SignMAE belongs beside it."""
    pytest.importorskip("sklearn")
    folder = REAL_DATA / "include43" / "data_np"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    for word in ("Gun", "Hour", "Book"):
        (tmp_path / "clips").mkdir(exist_ok=True)
        (tmp_path / "clips" / word).symlink_to(folder / word)
    build("include", tmp_path / "clips", tmp_path / "rows", width=1920, height=1080, fps=25.0)
    argv = ["--checkpoint", sign_mae_dir, "--datasets", str(tmp_path / "rows"), "--split", "train", "--cache_dir", str(tmp_path)]
    report = draw_latents.main([*argv, "--output", str(tmp_path / "a.svg")])
    assert report["glosses"] == ["Book", "Gun", "Hour"] and report["clips"] > 20 and report["share"] > report["chance"] + 0.2
