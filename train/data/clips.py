"""Whole clips for the text tasks: processed once, encoded once, and batched by length.

Shapes: B clips, T frames, S segments, K keypoints, C channels, D size of a latent, L text tokens.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm
from transformers import PreTrainedConfig
from transformers.utils import logging

from modeling_unigloR.fingerprint_uniglor import code_hash
from modeling_unigloR.limits_uniglor import MAX_LABELS
from train.data.caches import INDEX, cache_folder, keep, open_or_build
from train.data.segments import FrameStore, describe, load_rows

logger = logging.get_logger(__name__)

MEGABATCH = 50  # batches whose clips are sorted by length together: enough for little padding, few enough for a random order


class Clips:
    """The usable clips of one or several data sets, with what their rows say of them.

    Args:
        specs: entries of `segments.load_rows`.
        split: used where an entry names none.
        processor: a `KeypointProcessor`.
        cache_dir: where processed frames are kept; by default in the cache of `datasets`.
        needs: the column that every clip must have, "text" or "label", or None.
        num_proc: processes that process the frames, see `shards.make_shards`.

    Attributes:
        stores: `FrameStore`s.
        ids, texts, glosses, labels, languages: lists with an entry for each clip; all but ids may be None where they are not needed.

    Raises:
        ValueError: a streamed data set, an id that stands twice, or a row without what is needed.
    """

    def __init__(self, specs, split, processor, cache_dir=None, needs="text", num_proc=None):
        self.specs, self.stores, self.ids = specs, [], []
        self.texts, self.glosses, self.labels, self.languages = [], [], [], []
        for spec in specs:
            rows = load_rows(spec, split)
            if not hasattr(rows, "__len__"):
                raise ValueError(f"Data set {describe(spec)!r} is streamed; a task reads a clip in every epoch. Leave streaming out.")
            columns = rows.select_columns([name for name in ("id", "text", "gloss", "label", "language") if name in rows.column_names])
            if needs is not None and needs not in columns.column_names:
                raise ValueError(f"Data set {describe(spec)!r} has no column {needs!r}, only {rows.column_names}.")
            facts = {str(row["id"]): row for row in columns}
            if len(facts) < len(rows):
                raise ValueError(f"Data set {describe(spec)!r}, split {split!r}: {len(rows) - len(facts)} ids stand there twice.")
            store = FrameStore.build(rows, processor, cache_dir, describe(spec), num_proc)
            self.stores.append(store)
            for name in map(str, store.ids):
                row = facts[name]
                if needs is not None and (row[needs] is None or not str(row[needs]).strip()):
                    raise ValueError(f"Data set {describe(spec)!r}: clip {name!r} has no {needs}. Remove it, or give it one.")
                self.ids.append(name)
                self.texts.append(row.get("text"))
                self.glosses.append(row.get("gloss"))
                self.labels.append(row.get("label"))
                self.languages.append(row.get("language"))
        self._bounds = np.cumsum([0] + [len(store.lengths) for store in self.stores])

    def __len__(self):
        return len(self.ids)

    @property
    def num_frames(self):
        """(clips,) frames of each clip."""
        return np.concatenate([store.lengths for store in self.stores])

    def keypoints(self, index):
        """(T, K, C) float32 of a clip, and its keypoint_mask (T, K) bool."""
        number = int(np.searchsorted(self._bounds, index, side="right")) - 1
        store, clip = self.stores[number], index - self._bounds[number]
        span = slice(store.offsets[clip], store.offsets[clip + 1])
        return np.array(store.keypoints[span]), np.array(store.keypoint_mask[span])


class LabelledClips(Clips):
    """`Clips` whose rows have a label.

    Attributes:
        labels: (clips,) int64.
        names: of each clip's label, its gloss or else its text; None where it has neither.
    """

    def __init__(self, specs, split, processor, cache_dir=None, num_proc=None):
        super().__init__(specs, split, processor, cache_dir, "label", num_proc)
        self.labels = np.array(self.labels, np.int64)
        self.names = [gloss or text or None for gloss, text in zip(self.glosses, self.texts)]

    def label_names(self):
        """{label: name} of 0 to the largest label; one without a name, or without a clip, is called LABEL_n.

        Raises:
            ValueError: a negative label, or a label with two names.
        """
        if self.labels.min() < 0:
            raise ValueError(
                f"{self._data_sets}: clip {self.ids[self.labels.argmin()]!r} has the label {self.labels.min()}, expected at least 0."
            )
        if self.labels.max() >= MAX_LABELS:
            raise ValueError(
                f"{self._data_sets}: clip {self.ids[self.labels.argmax()]!r} has the label {self.labels.max()}, expected one below "
                f"{MAX_LABELS:,}: a model has an output for every number up to the largest label."
            )
        names = {}
        for name, label, label_name in zip(self.ids, self.labels.tolist(), self.names):
            if label_name is not None and names.setdefault(label, label_name) != label_name:
                raise ValueError(
                    f"{self._data_sets}: label {label} is called {names[label]!r}, but clip {name!r} calls it {label_name!r}. Expected one "
                    "name (gloss, or text) for each label."
                )
        return {label: names.get(label, f"LABEL_{label}") for label in range(int(self.labels.max()) + 1)}

    def check_labels(self, id2label):
        """Raises `ValueError` where a clip's label is not in a model's label map, or is called otherwise there."""
        for name, label, label_name in zip(self.ids, self.labels.tolist(), self.names):
            if label not in id2label:
                raise ValueError(
                    f"{self._data_sets}: clip {name!r} has the label {label} ({label_name!r}), but the model's head has the labels 0 to "
                    f"{len(id2label) - 1}. Leave the clip out, or train on a data set that has its label."
                )
            if label_name is not None and id2label[label] not in (label_name, f"LABEL_{label}"):
                raise ValueError(
                    f"{self._data_sets}: clip {name!r} calls its label {label} {label_name!r}, but the model's head calls it "
                    f"{id2label[label]!r}: the numbers of the labels differ. Number them as in the data set that the model was trained on."
                )

    @property
    def _data_sets(self):
        return f"Data set {', '.join(repr(describe(spec)) for spec in self.specs)}"


class LatentStore:
    """Standardised latents of clips, end to end, memory-mapped from a folder: `store[index]` is (S, D) float32.

    Raises:
        FileNotFoundError, DamagedError: see `cache.keep`.
    """

    def __init__(self, folder):
        keep(self, folder)
        index = np.load(Path(folder) / INDEX)
        self.offsets = index["offsets"]
        self.lengths = np.diff(self.offsets)
        shape = (int(self.offsets[-1]), int(index["size"]))
        self.latents = np.memmap(Path(folder) / "latents.f4", np.float32, "r", shape=shape)

    def __len__(self):
        return len(self.offsets) - 1

    def __getitem__(self, index):
        return np.array(self.latents[self.offsets[index] : self.offsets[index + 1]])

    @classmethod
    def build(cls, clips, sign_mae, stride, cache_dir=None, description="latents", batch_size=16, hold_last=False):
        """Encodes every window of every clip into a folder, or opens the one that is there.

        The folder is named by the frames, the encoder's weights, config, type and code, and the stride.

        Args:
            clips: `Clips`.
            sign_mae: a `SignMAE` or `SignMAEEncoderModel`.
            stride: frames between window starts.
            cache_dir: where the folder goes; by default beside the data sets' own cache.
            batch_size: clips that are encoded together.
            hold_last: whether a clip is held at its last frame until windows fill it; else frames that fill no window are left out.
        """
        weights = weights_hash(sign_mae)
        facts = [weights, _config_of(sign_mae), str(sign_mae.dtype), code_hash(of=sign_mae)]
        facts += [f"{stride} held" if hold_last else str(stride), *(store.key for store in clips.stores)]
        key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]

        def write(folder):
            _write_latents(clips, sign_mae, stride, folder, description, batch_size, hold_last)

        entry_facts = dict(
            data=", ".join(describe(spec) for spec in clips.specs),
            sign_mae=f"{sign_mae.config.name_or_path} {weights[:8]}".strip(),
            segments=f"stride {stride}",
        )
        return open_or_build(cls, cache_folder("latents", key, cache_dir), write, description, **entry_facts)


def _config_of(model):
    """The fields of a model's config that are its own. Those of transformers say where it was loaded from, and by which version."""
    own = {field.name for field in dataclasses.fields(model.config)} - {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return json.dumps({name: getattr(model.config, name) for name in sorted(own)}, default=str)


def weights_hash(model):
    """A hash of the encoder's weights and of the statistics that standardise its latents."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name.startswith(("encoder.", "latent_")):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _write_latents(clips, sign_mae, stride, folder, description, batch_size, hold_last):
    was_training = sign_mae.training
    sign_mae.eval()
    order = np.argsort(clips.num_frames, kind="stable")  # clips of like length together
    held = -(clips.num_frames - sign_mae.config.window_size) % stride if hold_last else np.zeros_like(clips.num_frames)  # frames added
    offsets = np.cumsum([0] + [sign_mae.num_segments(int(length), stride) for length in clips.num_frames + held])
    size = sign_mae.config.hidden_size
    with open(folder / "latents.f4", "wb") as latents:  # not through a memory map: a full disk would kill the process
        for start in tqdm(range(0, len(order), batch_size), desc=f"Encoding {description}", unit=f" x {batch_size} clips"):
            chosen = order[start : start + batch_size]
            frames = [np.pad(clips.keypoints(index)[0], ((0, held[index]), (0, 0), (0, 0)), mode="edge") for index in chosen]
            keypoints, attention_mask = pad([torch.from_numpy(clip) for clip in frames])
            keypoints, attention_mask = keypoints.to(sign_mae.device, sign_mae.dtype), attention_mask.to(sign_mae.device)
            encoded, latent_mask = sign_mae.encode_sequence(keypoints, attention_mask, stride)
            for index, values, count in zip(chosen, encoded.float().cpu().numpy(), latent_mask.sum(1).tolist()):
                latents.seek(int(offsets[index]) * size * 4)
                latents.write(np.ascontiguousarray(values[:count]).data)
    np.savez(folder / INDEX, offsets=offsets, size=size)
    sign_mae.train(was_training)


def set_training_distances(model, latents: LatentStore, most: int = 30_000) -> None:
    """Lets a model say how far a clip lies from its training clips; about `most` of their latents are used, or all if they are fewer."""
    step = max(1, int(latents.lengths.sum()) // most)
    model.set_training_distances([torch.from_numpy(latents[index]) for index in range(0, len(latents), step)])


def set_latent_whitening(model, latents: LatentStore, most: int = 30_000) -> None:
    """Sets a model's whitening from about `most` latents of its training clips, or all if they are fewer."""
    step = max(1, int(latents.lengths.sum()) // most)
    model.set_latent_whitening(torch.from_numpy(np.concatenate([latents[index] for index in range(0, len(latents), step)])))


def pad(tensors, value=0.0, multiple=1):
    """List of (T, ...) tensors -> (B, L, ...), padded with `value`, and mask (B, L) int64. L is the longest T, rounded up to `multiple`."""
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
    if more := -padded.shape[1] % multiple:
        padded = torch.cat([padded, padded.new_full((len(padded), more, *padded.shape[2:]), value)], dim=1)
    lengths = torch.tensor([len(tensor) for tensor in tensors])
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()


class EncodedClips(Dataset):
    """Base class of the data sets whose model encodes a clip: each item holds its `latents` (S, D) or its `keypoints` (T, K, C).

    Args:
        clips: `Clips`.
        latents: a `LatentStore`, or None: the items hold keypoints.
    """

    def __init__(self, clips, latents=None):
        self.clips, self.latents = clips, latents

    def __len__(self):
        return len(self.clips)

    @property
    def lengths(self):
        """(clips,) how many inputs a clip gives, for batches of like length."""
        return self.clips.num_frames if self.latents is None else self.latents.lengths

    def __getitem__(self, index):
        if self.latents is None:
            return {"keypoints": torch.from_numpy(self.clips.keypoints(index)[0])}
        return {"latents": torch.from_numpy(self.latents[index])}


class TranslationDataset(EncodedClips):
    """A clip and its text in each item: `latents` (S, D) or `keypoints` (T, K, C), `labels` (L,) and, with glosses, `gloss_labels`.

    Args:
        clips: `Clips`.
        tokenizer: one that ends every text with its end-of-sentence token.
        latents: a `LatentStore`, or None: the items hold keypoints.
        glosses: list of the glosses that are labels, or None.
        max_target_length: longer texts are cut, and counted in one warning.
    """

    def __init__(self, clips, tokenizer, latents=None, glosses=None, max_target_length=None):
        super().__init__(clips, latents)
        encoded = tokenizer(text_target=clips.texts).input_ids
        too_long = sum(len(ids) > max_target_length for ids in encoded) if max_target_length else 0
        if too_long:
            logger.warning(f"{too_long} of {len(encoded)} texts have more than {max_target_length} tokens and are cut.")
            encoded = [ids if len(ids) <= max_target_length else ids[: max_target_length - 1] + ids[-1:] for ids in encoded]
        self.labels = [torch.tensor(ids) for ids in encoded]
        self.gloss_labels = None
        if glosses:
            index = {gloss: number for number, gloss in enumerate(glosses)}
            self.gloss_labels = [
                torch.tensor([index[gloss] for gloss in (line or "").split() if gloss in index], dtype=torch.long) for line in clips.glosses
            ]

    def __getitem__(self, index):
        item = super().__getitem__(index) | {"labels": self.labels[index]}
        if self.gloss_labels is not None:
            item["gloss_labels"] = self.gloss_labels[index]
        return item


class TranslationCollator:
    """Pads items of `TranslationDataset` into a batch of `SignToText.forward`; with an augmentation, keypoints are varied first.

    Args:
        pad_to_multiple_of: what each length of a batch is rounded up to, see `runs.padding_of`.
    """

    def __init__(self, augmentation=None, pad_to_multiple_of=1):
        self.augmentation, self.multiple = augmentation, pad_to_multiple_of

    def __call__(self, items):
        batch = {}
        if "keypoints" in items[0]:
            keypoints = [item["keypoints"] for item in items]
            if self.augmentation is not None:
                keypoints = [self.augmentation(clip) for clip in keypoints]
            batch["keypoints"], batch["attention_mask"] = pad(keypoints, multiple=self.multiple)
        else:
            batch["latents"], batch["latent_mask"] = pad([item["latents"] for item in items], multiple=self.multiple)
        for name in ("labels", "gloss_labels"):
            if name in items[0]:
                batch[name], _ = pad([item[name] for item in items], -100, self.multiple)
        return batch


class RecognitionDataset(EncodedClips):
    """A clip of `LabelledClips` and its label in each item: `latents` (S, D) or `keypoints` (T, K, C), `label` int."""

    def __getitem__(self, index):
        return super().__getitem__(index) | {"label": int(self.clips.labels[index])}


class RecognitionCollator(TranslationCollator):
    """Pads items of `RecognitionDataset` into a batch of `SignRecognition.forward`; with an augmentation, keypoints are varied first."""

    def __call__(self, items):
        return {**super().__call__(items), "labels": torch.tensor([item["label"] for item in items])}


class TextToSignDataset(Dataset):
    """A text and what is to be signed in each item: `input_ids` (L,) and the clip's `latents` (S, D).

    Args:
        clips: `Clips`.
        tokenizer: its special tokens are added.
        latents: a `LatentStore` of segments laid end to end.
        model: the `TextToSign` that is to read and to give them; its limits are checked here, before training.
    """

    def __init__(self, clips, tokenizer, latents, model):
        self.clips, self.latents = clips, latents
        self.input_ids = [torch.tensor(ids) for ids in tokenizer(clips.texts).input_ids]
        num_tokens = np.array([len(ids) for ids in self.input_ids])
        self._refuse(num_tokens, model.max_tokens, "tokens", "the text model reads {}. Cut its text")
        self._refuse(latents.lengths, model.config.max_segments, "segments", "the model has max_segments={}. Raise it, or cut the clip")

    def _refuse(self, counts, most, what, limit):
        longest = int(np.argmax(counts))
        if most is not None and counts[longest] > most:
            raise ValueError(
                f"{int((counts > most).sum())} of {len(counts)} clips are too long, the longest {self.clips.ids[longest]!r}: found "
                f"{counts[longest]} {what}, but {limit.format(most)}."
            )

    def __len__(self):
        return len(self.clips)

    @property
    def lengths(self):
        """(clips,) segments of each clip, for batches of like length."""
        return self.latents.lengths

    def __getitem__(self, index):
        return {"input_ids": self.input_ids[index], "latents": torch.from_numpy(self.latents[index])}


class TextToSignCollator:
    """Pads items of `TextToSignDataset` into a batch of `TextToSign.forward`, each length to a multiple (see `runs.padding_of`)."""

    def __init__(self, pad_token_id, pad_to_multiple_of=1):
        self.pad_token_id, self.multiple = pad_token_id, pad_to_multiple_of

    def __call__(self, items):
        input_ids, attention_mask = pad([item["input_ids"] for item in items], self.pad_token_id, self.multiple)
        latents, latent_mask = pad([item["latents"] for item in items], multiple=self.multiple)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "latents": latents, "latent_mask": latent_mask}


class ClipSampler(Sampler):
    """A shuffled epoch in which clips of like length stand together; a function of seed and epoch, so that resuming is exact."""

    def __init__(self, lengths, batch_size, seed=0):
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0

    def set_epoch(self, epoch):
        self.epoch = int(epoch)

    def __len__(self):
        return len(self.lengths)

    def __iter__(self):
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        groups = np.split(order, range(MEGABATCH * self.batch_size, len(order), MEGABATCH * self.batch_size))
        order = np.concatenate([group[np.argsort(-self.lengths[group], kind="stable")] for group in groups])
        whole = len(order) // self.batch_size * self.batch_size
        batches = order[:whole].reshape(-1, self.batch_size)
        yield from batches[rng.permutation(len(batches))].ravel().tolist()
        yield from order[whole:].tolist()
