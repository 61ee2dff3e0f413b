"""Each corpus' own shape, on a tiny tree of exactly that shape, and on real files where they are (UNIGLOR_DATA)."""

import json

import numpy as np
import pytest

from benchmarks.readers import write_openpose
from datasets_scripts.build import build
from datasets_scripts.corpus import find_clips, list_corpus, read_table, row_of
from datasets_scripts.folder import CORPUS as FOLDER
from datasets_scripts.how2sign import CORPUS as HOW2SIGN
from datasets_scripts.isolated import INCLUDE, ISOLATED, WLASL
from datasets_scripts.ksl_guide import CORPUS as KSL_GUIDE
from datasets_scripts.phoenix14t import CORPUS as PHOENIX14T
from modeling_unigloR import KeypointProcessor

from .conftest import REAL_DATA, random_signing
from .test_build import load, write_clips, write_table
from .test_real_data import check_body

real = pytest.mark.skipif(not REAL_DATA.exists(), reason="real keypoints are not here: set UNIGLOR_DATA to their folder")


def openpose_folder(folder, num_frames=4, seed=0):
    folder.mkdir(parents=True)
    write_openpose(folder, num_frames, seed)


def reasons(listing):
    return {entry["id"]: entry["reason"] for entry in listing.left_out}


# --- phoenix14t -----------------------------------------------------------------------------------------------------------------------

HEADER = "name|video|start|end|speaker|orth|translation"
SENTENCES = {
    "train": [
        ("11August_2010-1", "Signer08", "JETZT WETTER", 'und "nun" die wettervorhersage'),
        ("11August_2010-4", "Signer01", "REGEN", "regen ."),
    ],
    "dev": [("25October_2010-22", "Signer08", "WOLKE", "größere wolken")],
    "test": [("05May_2011-25", "Signer04", "SONNE", "sonne")],
}


@pytest.fixture
def phoenix(tmp_path):
    """The annotations as the archive unpacks them, without keypoints."""
    folder = tmp_path / "PHOENIX-2014-T-release-v3" / "PHOENIX-2014-T" / "annotations" / "manual"
    folder.mkdir(parents=True)
    for split, sentences in SENTENCES.items():
        lines = [f"{name}|{name}/1/*.png|-1|-1|{signer}|{gloss}|{text}" for name, signer, gloss, text in sentences]
        (folder / f"PHOENIX-2014-T.{split}.corpus.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return tmp_path


def skels(folder, name, ids, seed=0):
    """`.skels` and `.files` in an order of their own."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    motions = {clip: rng.normal(size=(3 + number, 151)).round(4) for number, clip in enumerate(ids)}
    (folder / f"{name}.skels").write_text("".join(" ".join(map(str, motion.ravel())) + " \n" for motion in motions.values()))
    (folder / f"{name}.files").write_text("".join(f"{name}/{clip}\n" for clip in ids))
    return motions


def test_phoenix14t_from_openpose_folders_and_pose_like_files(phoenix, tmp_path):
    folder = phoenix / "keypoints"
    openpose_folder(folder / "train" / "11August_2010-1", 5)
    openpose_folder(folder / "train" / "unknown-3")
    (folder / "dev").mkdir()
    np.savez(folder / "dev" / "25October_2010-22.npz", keypoints=random_signing(4) * 30 + 100)
    listing = list_corpus(PHOENIX14T, phoenix)
    train, dev = listing.sources
    assert (train.id, train.split, train.signer, train.gloss, train.text) == (
        "11August_2010-1", "train", "Signer08", "JETZT WETTER", 'und "nun" die wettervorhersage',
    )  # fmt: skip
    assert dev.split == "validation" and dev.text == "größere wolken" and (dev.width, dev.height, dev.fps) == (210, 260, 25.0)
    assert reasons(listing) == {
        "unknown-3": "keypoints, but no line in PHOENIX-2014-T.train.corpus.csv",
        "11August_2010-4": "annotated, but there are no keypoints of it",
        "05May_2011-25": "annotated, but there are no keypoints of it",
    }
    row = row_of(PHOENIX14T, train)
    assert row["keypoints"].shape == (5, 137, 2) and row["layout"] == "openpose137" and row["language"] == "gsg"


def test_phoenix14t_from_skels_goes_by_the_names_of_its_files(phoenix, tmp_path):
    motions = skels(phoenix / "keypoints", "train", ["11August_2010-4", "11August_2010-1"])
    audit = build("phoenix14t", phoenix, tmp_path / "out")
    rows = load(tmp_path / "out", tmp_path)["train"].with_format("numpy")
    assert rows["id"] == ["11August_2010-1", "11August_2010-4"]
    for row in rows:
        np.testing.assert_allclose(row["keypoints"], motions[row["id"]][:, :150].reshape(-1, 50, 3), rtol=1e-6)
        assert row["fps"] == 25
    assert audit["splits"]["train"]["published"] == 7096 and audit["splits"]["validation"]["clips"] == 0


def test_skels_of_another_length_than_their_files_are_refused(phoenix):
    skels(phoenix / "keypoints", "train", ["11August_2010-4", "11August_2010-1"])
    (phoenix / "keypoints" / "train.files").write_text("train/11August_2010-4\n")
    with pytest.raises(ValueError, match="found 2 lines for 1 names"):
        list_corpus(PHOENIX14T, phoenix)


def test_phoenix14t_without_annotations_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match="Looked for: .*annotations/manual/PHOENIX-2014-T.test.corpus.csv"):
        list_corpus(PHOENIX14T, tmp_path)


# --- how2sign -------------------------------------------------------------------------------------------------------------------------

COLUMNS = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE"


def how2sign_csv(path, sentences):
    """Lines of (sentence number, start, end, text) of one video."""
    lines = [
        f"10om04b2LIw\t10om04b2LIw-8-rgb_front\t10om04b2LIw_{n}\t10om04b2LIw_{n}-8-rgb_front\t{a}\t{b}\t{text}"
        for n, a, b, text in sentences
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([COLUMNS, *lines]) + "\n", encoding="utf-8")


def test_how2sign_clips_and_texts_find_each_other_by_name(tmp_path):
    sentences = [(1, 0.5, 0.7, 'He said "go" and went.'), (2, 3.0, 2.0, '"Quoted ""as"" a whole."'), (3, 5, 6, "no clip")]
    how2sign_csv(tmp_path / "how2sign_realigned_val.csv", sentences)
    for number in (1, 2, 9):
        openpose_folder(tmp_path / "val_2D_keypoints/openpose_output/json" / f"10om04b2LIw_{number}-8-rgb_front", seed=number)
    listing = list_corpus(HOW2SIGN, tmp_path)
    first, second = listing.sources
    assert (first.split, first.signer, first.language, first.text) == ("validation", "8", "ase", 'He said "go" and went.')
    assert second.text == 'Quoted "as" a whole.' and first.fps is None
    assert reasons(listing) == {
        "10om04b2LIw_3-8-rgb_front": "a text, but no clip of that name",
        "10om04b2LIw_9-8-rgb_front": "a clip, but no text in how2sign_realigned_val.csv",
    }
    assert [entry["id"] for entry in listing.doubtful] == ["10om04b2LIw_2-8-rgb_front"]
    assert row_of(HOW2SIGN, first)["keypoints"].shape == (4, 137, 2)


def test_how2sign_in_the_tree_of_the_download_script(tmp_path):
    root = tmp_path / "How2Sign" / "sentence_level" / "train"
    how2sign_csv(root / "text/en/raw_text/re_aligned/how2sign_realigned_train.csv", [(1, 0, 1, "a")])
    openpose_folder(root / "rgb_front/features/openpose_output/json/10om04b2LIw_1-8-rgb_front")
    assert [source.split for source in list_corpus(HOW2SIGN, tmp_path).sources] == ["train"]


def test_how2sign_whole_videos_are_cut_and_times_beyond_them_left_out(tmp_path):
    sentences = [(1, 0.4, 0.8, "a"), (2, 1.6, 2.6, "a little late"), (3, 137.95, 141.01, "beyond"), (4, 1.0, 9.0, "far too late")]
    how2sign_csv(tmp_path / "how2sign_realigned_train.csv", sentences)
    openpose_folder(tmp_path / "train/openpose_output/json/10om04b2LIw-8-rgb_front", 50)
    audit = build("how2sign", tmp_path, tmp_path / "out", fps=25.0)
    rows = load(tmp_path / "out", tmp_path)["train"].with_format("numpy")
    whole = row_of(FOLDER, list_corpus(FOLDER, tmp_path / "train").sources[0])["keypoints"]
    assert rows["id"] == [f"10om04b2LIw_{number}-8-rgb_front" for number in (1, 2)]
    np.testing.assert_array_equal(rows[0]["keypoints"], whole[10:20])
    np.testing.assert_array_equal(rows[1]["keypoints"], whole[40:])
    assert all("lie beyond the 2.00 s of" in entry["reason"] for entry in audit["left_out"]) and len(audit["left_out"]) == 2


# --- ksl_guide ------------------------------------------------------------------------------------------------------------------------


def ksl_clip(root, name, num_frames=3, as_list=False, seed=0):
    rng = np.random.default_rng(seed)
    (root / name).mkdir(parents=True)
    for number in range(num_frames):
        person = {"person_id": -1}
        for part, size in {"face": 70, "pose": 25, "hand_left": 21, "hand_right": 21}.items():
            person[f"{part}_keypoints_2d"] = np.c_[rng.uniform(200, 1800, (size, 2)), rng.uniform(0.2, 1, size)].ravel().tolist()
        content = {"version": 1.3, "people": [person] if as_list else person, "camparam": {"Intrinsics": "..."}}
        (root / name / f"{name}_{number:012d}_keypoints.json").write_text(json.dumps(content))


def morpheme(root, name, word):
    root.mkdir(parents=True, exist_ok=True)
    content = {"metaData": {"name": f"{name}.mp4", "duration": 3.2}, "data": [{"start": 1.1, "end": 2.3, "attributes": [{"name": word}]}]}
    (root / f"{name}_morpheme.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def ksl(tmp_path):
    root = tmp_path / "ksl" / "1.Training" / "라벨링데이터" / "REAL" / "WORD"
    ksl_clip(root / "01_real_word_keypoint" / "01", "NIA_SL_WORD0001_REAL01_F")
    ksl_clip(root / "01_real_word_keypoint" / "01", "NIA_SL_WORD0001_REAL01_L")
    ksl_clip(root / "01_real_word_keypoint" / "02", "NIA_SL_WORD0001_REAL02_F", as_list=True, seed=1)
    ksl_clip(tmp_path / "ksl" / "2.Validation" / "keypoint", "NIA_SL_WORD0002_REAL17_F", seed=2)
    ksl_clip(tmp_path / "ksl" / "2.Validation" / "keypoint", "NIA_SL_WORD0007_REAL17_F", seed=3)
    morpheme(root / "morpheme" / "01", "NIA_SL_WORD0001_REAL01_F", "고민")
    morpheme(root / "morpheme" / "01", "NIA_SL_WORD0002_REAL01_D", "감기")
    return tmp_path / "ksl"


def test_ksl_guide_reads_words_from_morphemes_of_any_signer(ksl):
    listing = list_corpus(KSL_GUIDE, ksl)
    found = {source.id: (source.split, source.gloss, source.label, source.signer) for source in listing.sources}
    assert found == {
        "NIA_SL_WORD0001_REAL01_F": ("train", "고민", 1, "REAL01"),
        "NIA_SL_WORD0001_REAL02_F": ("train", "고민", 1, "REAL02"),
        "NIA_SL_WORD0002_REAL17_F": ("validation", "감기", 0, "REAL17"),
    }
    assert listing.labels == ["감기", "고민"] and list(reasons(listing)) == ["NIA_SL_WORD0007_REAL17_F"]


def test_ksl_guide_reads_one_person_as_an_object_or_in_a_list(ksl):
    for source in list_corpus(KSL_GUIDE, ksl).sources:
        row = row_of(KSL_GUIDE, source)
        assert row["keypoints"].shape == (3, 137, 2) and row["fps"] == 30 and (row["confidence"] > 0).all() and row["language"] == "kvk"
    path = sorted((ksl / "2.Validation").rglob("NIA_SL_WORD0002*.json"))[0]
    person = json.loads(path.read_text())["people"]
    np.testing.assert_allclose(row["keypoints"][0, 0], person["pose_keypoints_2d"][:2], rtol=1e-6)
    np.testing.assert_allclose(row["keypoints"][0, 25], person["face_keypoints_2d"][:2], rtol=1e-6)
    np.testing.assert_allclose(row["keypoints"][0, 116], person["hand_right_keypoints_2d"][:2], rtol=1e-6)


def test_ksl_guide_splits_by_signer_and_reads_more_views(ksl):
    listing = list_corpus(KSL_GUIDE, ksl, test_signers=["REAL02"], views=["F", "L"])
    splits = {source.id.removeprefix("NIA_SL_WORD"): source.split for source in listing.sources}
    assert splits == {"0001_REAL01_F": "train", "0001_REAL01_L": "train", "0001_REAL02_F": "test", "0002_REAL17_F": "train"}
    with pytest.raises(ValueError, match="Unknown view X. .*F, U, D, L, R"):
        list_corpus(KSL_GUIDE, ksl, views=["X"])


def test_ksl_guide_takes_a_table_instead_of_morphemes(ksl, tmp_path):
    table = write_table(tmp_path / "words.csv", [{"id": "WORD0001", "label": "worry"}, {"id": "NIA_SL_WORD0007_REAL17_F", "label": "sun"}])
    listing = list_corpus(KSL_GUIDE, ksl, annotations=table)
    assert {source.id.removeprefix("NIA_SL_WORD"): source.gloss for source in listing.sources} == {
        "0001_REAL01_F": "worry", "0001_REAL02_F": "worry", "0007_REAL17_F": "sun",
    }  # fmt: skip


def test_a_broken_frame_of_ksl_guide_is_named(ksl, tmp_path):
    path = sorted(ksl.rglob("NIA_SL_WORD0001_REAL02_F*.json"))[1]
    path.write_text('{"people": {"pose_keypoints_2d": [1, 2]}}')
    audit = build("ksl_guide", ksl, tmp_path / "out")
    broken = {entry["id"]: entry["reason"] for entry in audit["left_out"]}["NIA_SL_WORD0001_REAL02_F"]
    assert path.name in broken and "Expected an object with people: pose_keypoints_2d (75)" in broken


# --- isolated -------------------------------------------------------------------------------------------------------------------------


def test_isolated_words_are_their_folders(tmp_path):
    write_clips(tmp_path / "Adjectives" / "1. loud", 2, texts=False)
    write_clips(tmp_path / "Days" / "Monday", 1, texts=False)
    write_clips(tmp_path / "val" / "Monday", 1, texts=False)
    np.savez(tmp_path / "stray.npz", keypoints=np.ones((3, 73, 2)))
    listing = list_corpus(INCLUDE, tmp_path)
    found = [(source.id, source.split, source.gloss, source.label) for source in listing.sources]
    assert found == [
        ("Adjectives/1. loud/clip_000", "train", "loud", 1), ("Adjectives/1. loud/clip_001", "train", "loud", 1),
        ("Days/Monday/clip_000", "train", "Monday", 0), ("val/Monday/clip_000", "validation", "Monday", 0),
    ]  # fmt: skip
    assert reasons(listing) == {"stray": "not in a folder of its word"} and {source.language for source in listing.sources} == {"ins"}


def test_wlasls_own_list_gives_words_splits_and_signers(tmp_path):
    content = [
        {"gloss": "drink", "instances": [{"video_id": "00002", "split": "val", "signer_id": 9}, {"video_id": "00003", "split": "test"}]},
        {"gloss": "book", "instances": [{"video_id": "00001", "split": "train", "signer_id": 118}]},
    ]
    (tmp_path / "WLASL_v0.3.json").write_text(json.dumps(content))
    for video in ("00001", "00002", "99999"):
        (tmp_path / "poses").mkdir(exist_ok=True)
        np.savez(tmp_path / "poses" / f"{video}.npz", keypoints=random_signing(4) * 100 + 300)
    listing = list_corpus(WLASL, tmp_path)
    found = {source.id: (source.split, source.gloss, source.label, source.signer) for source in listing.sources}
    assert found == {"00001": ("train", "book", 1, "118"), "00002": ("validation", "drink", 0, "9")}
    assert set(reasons(listing)) == {"poses/99999", "00003"} and listing.labels == ["drink", "book"]


# --- folder ---------------------------------------------------------------------------------------------------------------------------


def test_a_folder_without_a_table_gives_all_clips_with_splits_by_folder(tmp_path):
    write_clips(tmp_path / "train" / "a", 1, texts=False)
    write_clips(tmp_path / "dev", 1, texts=False)
    openpose_folder(tmp_path / "test" / "sentence_1")
    listing = list_corpus(FOLDER, tmp_path)
    assert {source.id: source.split for source in listing.sources} == {
        "train/a/clip_000": "train", "dev/clip_000": "validation", "test/sentence_1": "test",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_of_any_kind_gives_the_same_rows(tmp_path, suffix):
    write_clips(tmp_path / "clips", 2, texts=False)
    rows = [{"name": f"clip_00{number}", "deutsch": 'er sagt: "ja, gut"', "rate": 50.0} for number in range(2)]
    path = tmp_path / f"texts{suffix}"
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        separator = "\t" if suffix == ".tsv" else ","
        lines = [separator.join([row["name"], '"er sagt: ""ja, gut"""', "50.0"]) for row in rows]
        path.write_text("\n".join([separator.join(rows[0]), *lines]), encoding="utf-8")
    listing = list_corpus(FOLDER, tmp_path / "clips", annotations=path, id_column="name", text_column="deutsch", fps_column="rate")
    assert [(source.id, source.text, source.fps) for source in listing.sources] == [(row["name"], row["deutsch"], 50.0) for row in rows]


def test_tables_of_single_splits_are_named_by_them(tmp_path):
    write_clips(tmp_path / "clips", 3, texts=False)
    tables = [
        f"{split}={write_table(tmp_path / f'{split}.csv', [{'id': clip, 'text': 'a'}])}"
        for split, clip in (("train", "clip_000"), ("dev", "clip_001"))
    ]
    listing = list_corpus(FOLDER, tmp_path / "clips", annotations=tables)
    assert {source.id: source.split for source in listing.sources} == {"clip_000": "train", "clip_001": "validation"}
    assert reasons(listing) == {"clip_002": "no row of a table names this clip"}


def test_words_become_labels_and_numbers_stay(tmp_path):
    write_clips(tmp_path / "clips", 3, texts=False)
    for values, expected in ((["sun", "rain", "sun"], [1, 0, 1]), (["7", "3", "7"], [7, 3, 7])):
        table = write_table(tmp_path / "labels.csv", [{"id": f"clip_00{number}", "word": value} for number, value in enumerate(values)])
        listing = list_corpus(FOLDER, tmp_path / "clips", annotations=table, label_column="word")
        assert [source.label for source in listing.sources] == expected
        assert listing.labels == (["rain", "sun"] if values[0] == "sun" else None)


def test_sentences_of_a_long_file_are_cut_by_their_times(tmp_path):
    write_clips(tmp_path / "clips", 1, num_frames=100, texts=False)
    rows = [{"id": f"s{n}", "file": "clip_000.npz", "text": "a", "from": n, "to": n + 0.4} for n in range(3)]
    table = write_table(tmp_path / "texts.csv", rows)
    columns = dict(path_column="file", start_column="from", end_column="to")
    sources = list_corpus(FOLDER, tmp_path / "clips", annotations=table, **columns).sources
    whole = random_signing(100) * 100 + 300
    for number, source in enumerate(sources):
        np.testing.assert_array_equal(row_of(FOLDER, source)["keypoints"], whole[25 * number : 25 * number + 10])


@pytest.mark.parametrize(
    "content, columns, message",
    [
        (b"id,satz\nclip_000,a\n", {}, "no column 'text', 'gloss' or 'label'. It has id, satz. .* --text_column"),
        (b"id,satz\nclip_000,a\n", {"text_column": "deutsch"}, "no column 'deutsch' .--text_column.. It has id, satz"),
        (b"name,text\nclip_000,a\n", {}, "no column 'id'. It has name, text. .* --id_column"),
        ("id,text\nclip_000,grün\n".encode("latin1"), {}, "not UTF-8: byte 0xfc at 19. Convert it"),
        (b"id,text\nclip_000,a,b\n", {}, "line 2: found 3 cells, expected 2: id, text"),
        (b"id,text\n", {}, "no rows, expected one for each clip"),
        (b"", {}, "no rows"),
        (b"id,text,split\nclip_000,a,my split\n", {}, "split 'my split', expected train, validation, test, or another name"),
        (b"id,text,fps\nclip_000,a,fast\n", {}, "clip_000 has fps 'fast', expected a number"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_the_way_out(tmp_path, content, columns, message):
    write_clips(tmp_path / "clips", 1, texts=False)
    (tmp_path / "texts.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list_corpus(FOLDER, tmp_path / "clips", annotations=tmp_path / "texts.csv", **columns)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "texts.csv").write_bytes("id,text\na,ü\n".encode("utf-8-sig"))
    assert read_table(tmp_path / "texts.csv") == [{"id": "a", "text": "ü"}]


def test_names_that_are_there_twice_ask_for_the_way(tmp_path):
    write_clips(tmp_path / "clips" / "a", 1, texts=False)
    write_clips(tmp_path / "clips" / "b", 1, texts=False)
    (tmp_path / "texts.csv").write_text("id,text\nclip_000,x\nb/clip_000,y\n")
    listing = list_corpus(FOLDER, tmp_path / "clips", annotations=tmp_path / "texts.csv")
    assert [source.id for source in listing.sources] == ["b/clip_000"]
    assert reasons(listing)["clip_000"] == "2 clips have this name: write the path of one"


def test_an_empty_folder_and_one_of_videos_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match="no clip in this folder or below. Expected files that end in .pose"):
        find_clips(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="It holds 1 videos: run python -m datasets_scripts.extract on them first"):
        find_clips(tmp_path)


def test_json_beside_clips_is_about_them(tmp_path):
    write_clips(tmp_path, 1, texts=False)
    (tmp_path / "clip_000.meta.json").write_text("{}")
    (tmp_path / "clip_000.npy").write_bytes(b"")
    clips, shadowed = find_clips(tmp_path)
    assert list(clips) == ["clip_000"] and shadowed == [("clip_000", "clip_000.npy stands beside clip_000.npz, which was taken")]


def test_isolated_sets_of_any_language_need_no_code(tmp_path):
    write_clips(tmp_path / "hello", 1, texts=False)
    assert list_corpus(ISOLATED, tmp_path, language="bfi").sources[0].language == "bfi"


# --- Real files -----------------------------------------------------------------------------------------------------------------------


def check_rows(rows, every=1):
    """Ranges, and hands at the right wrists."""
    for row in rows.with_format("numpy").select(range(0, len(rows), every)):
        seen = row["confidence"] > 0
        assert np.isfinite(row["keypoints"][seen]).all() and 0.3 < seen.mean() <= 1
        check_body(KeypointProcessor().process_row(row))


@real
def test_real_dgs_sentences_through_folder(tmp_path):
    folder = REAL_DATA / "dgs_sentences"
    audit = build(
        "folder", folder / "motion", tmp_path / "out", "uniglor73", annotations=folder / "sentences.csv", text_column="german", width=16,
        height=9, language="gsg", signer_column="document",
    )  # fmt: skip
    rows = load(tmp_path / "out", tmp_path)["train"]
    counts = audit["splits"]["train"]
    assert len(rows) == 272 and counts["frames"] == 42_779 and counts["left_out"] == 0 and not counts["without_fps"]
    assert len(set(rows["signer"])) == 3 and rows[0]["text"] == "Wie mein Leben aussieht?" and rows[0]["fps"] == 50
    points, seen = rows.with_format("numpy")[0]["keypoints"], rows.with_format("numpy")[0]["confidence"] > 0
    assert points[seen].min() >= 0 and (points[seen].max(0) <= (16, 9)).all()
    check_rows(rows, every=4)


@real
def test_real_include_words_through_their_folders(tmp_path):
    folder = REAL_DATA / "include43"
    audit = build("include", folder / "data_np", tmp_path / "out", width=1920, height=1080)
    rows = load(tmp_path / "out", tmp_path)["train"]
    labels = {row["path"].removeprefix("data_np/").removesuffix(".npy"): row["label"] for row in read_table(folder / "labels.csv")}
    assert dict(zip(rows["id"], rows["gloss"])) == labels and len(audit["labels"]) == 43 and audit["left_out"] == []
    assert [audit["labels"][label] for label in rows["label"]] == rows["gloss"] and audit["splits"]["train"]["frames"] == 26_221
    check_rows(rows, every=8)


@real
def test_real_how2sign_openpose_through_its_tree(tmp_path):
    name, root = "_2FBDaOPYig_4-3-rgb_front", tmp_path / "How2Sign" / "val_2D_keypoints" / "openpose_output"
    root.mkdir(parents=True)
    (root / "json").symlink_to(REAL_DATA / "how2sign_openpose" / "json")
    texts = [row for row in read_table(REAL_DATA / "how2sign_openpose" / "sentences.csv")]
    lines = [f"_2FBDaOPYig\t_2FBDaOPYig-3-rgb_front\t{row['name'][:-12]}\t{row['name']}\t0\t2.5\t{row['text']}" for row in texts]
    (tmp_path / "How2Sign" / "how2sign_realigned_val.csv").write_text("\n".join([COLUMNS, *lines]), encoding="utf-8")
    audit = build("how2sign", tmp_path / "How2Sign", tmp_path / "out", "uniglor73", fps=24.0)
    rows = load(tmp_path / "out", tmp_path)["validation"]
    assert rows["id"] == [name] and len(rows[0]["keypoints"]) == 62 and rows[0]["signer"] == "3" and rows[0]["text"]
    assert audit["splits"]["validation"]["left_out"] == len(texts) - 1 and audit["splits"]["validation"]["published"] == 1741
    points = rows.with_format("numpy")[0]["keypoints"]
    assert points.min() > 0 and (points.max((0, 1)) < (1280, 720)).all()
    check_rows(rows)


@real
def test_real_skels_through_phoenix14ts_annotations(tmp_path):
    folder, root = REAL_DATA / "phoenix14t_skels", tmp_path / "PHOENIX-2014-T"
    (root / "annotations" / "manual").mkdir(parents=True)
    (root / "keypoints").symlink_to(folder)
    for split in ("train", "dev", "test"):
        columns = [(folder / f"{split}.{kind}").read_text(encoding="utf-8").splitlines() for kind in ("files", "gloss", "text")]
        lines = [f"{name.partition('/')[2]}|x|-1|-1|Signer01|{gloss}|{text}" for name, gloss, text in zip(*columns)]
        path = root / "annotations" / "manual" / f"PHOENIX-2014-T.{split}.corpus.csv"
        path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    audit = build("phoenix14t", tmp_path, tmp_path / "out")
    rows = load(tmp_path / "out", tmp_path)
    assert {split: len(rows[split]) for split in rows} == {"train": 5, "validation": 5, "test": 5} and audit["left_out"] == []
    assert rows["validation"][0]["text"] == "tiefer luftdruck bestimmt in den nächsten tagen unser wetter ."
    for split in rows:
        check_rows(rows[split])
