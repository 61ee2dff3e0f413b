"""What the paper reports: the values of its tables, which row it puts above which, and on which data sets each can be run here.

Values are the paper's: Hwang et al., "A Spatio-Temporal Representation Learning as an Alternative to Traditional Glosses in Sign Language
Translation and Production", Tables 1 to 5; its figures and Tables 6 and 8 have no numbers but the peak of Fig 3.
"""

TEXT_METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")
SIGN_METRICS = (*TEXT_METRICS, "mpjpe")
LOWER_IS_BETTER = ("mpjpe",)
PHOENIX, HOW2SIGN, KSL = "PHOENIX14T", "How2Sign", "KSL-Guide-Word"


def _text(*values: float) -> dict[str, float]:
    return dict(zip(TEXT_METRICS, values))


def _signs(*values: float) -> dict[str, float]:
    return dict(zip(SIGN_METRICS, values))


def _both(bleu4: float, rouge_l: float) -> dict[str, float]:
    return {"bleu4": bleu4, "rouge_l": rouge_l}


_OURS = _text(30.24, 20.96, 15.99, 12.86, 29.65)
_JOINT_SLT = _text(21.31, 14.17, 10.05, 8.12, 22.56)
_CONSLT = _text(21.09, 13.93, 10.48, 8.49, 21.81)
_PT = _text(12.07, 5.94, 4.04, 3.08, 11.06)
_NSLPG = _text(19.10, 12.10, 8.87, 6.97, 18.62)
_SIGNING = _text(29.60, 21.25, 16.48, 13.44, 31.38)
_CHOSEN = _both(12.86, 29.65)  # ours in all parts of Tab 4

VALUES: dict[str, dict[str, dict[str, dict[str, float]]]] = {  # table: corpus of the paper: row: metric: value
    "tab1": {
        PHOENIX: {
            "joint_slt": _JOINT_SLT,
            "conslt": _CONSLT,
            "joint_slt_glosses": _text(24.12, 16.77, 12.80, 10.58, 27.70),  # as reproduced by NAT-EA
            "ours": _OURS,
        },
        HOW2SIGN: {
            "joint_slt": _text(11.11, 4.41, 1.98, 0.78, 10.61),
            "glofe": _text(14.94, 7.27, 3.93, 2.24, 12.61),
            "ours": _text(18.52, 7.88, 3.83, 2.22, 12.98),
        },
    },
    "tab2": {
        PHOENIX: {
            "progressive_transformer": _PT | {"mpjpe": 0.602},
            "nslpg": _NSLPG | {"mpjpe": 0.335},
            "progressive_transformer_gloss": _signs(14.84, 8.00, 5.49, 4.19, 12.83, 0.590),
            "nslpg_gloss": _signs(18.25, 11.06, 7.86, 6.14, 17.71, 0.332),
            "ours": _SIGNING | {"mpjpe": 0.183},
        },
        HOW2SIGN: {
            "progressive_transformer": _signs(11.88, 4.50, 1.75, 0.42, 9.76, 0.466),
            "nslpg": _signs(9.73, 3.67, 1.53, 0.48, 10.18, 0.427),
            "ours": _signs(12.69, 5.12, 2.36, 1.06, 10.93, 0.169),
        },
    },
    "tab3": {KSL: {"gru": {"top1": 90.46}, "transformer": {"top1": 91.01}, "ours": {"top1": 95.03, "top5": 97.82, "top10": 98.00}}},
    "tab4a": {PHOENIX: {"autoregressive": _both(12.02, 28.99), "parallel": _CHOSEN}},
    "tab4b": {PHOENIX: {"sinusoidal": _both(11.32, 28.09), "learned": _CHOSEN}},
    "tab4c": {PHOENIX: {"window_32": _both(10.59, 26.87), "window_15": _CHOSEN}},
    "tab4d": {
        PHOENIX: {"one_corpus": _both(10.23, 26.31), "two_corpora_equal_steps": _CHOSEN, "two_corpora_equal_epochs": _CHOSEN},
    },
    "tab5a": {
        PHOENIX: {
            "joint_slt_none": _JOINT_SLT,
            "joint_slt_fixed": _text(23.45, 15.16, 10.95, 8.52, 22.78),
            "joint_slt_adaptive": _text(24.22, 15.92, 11.61, 9.11, 23.47),
            "conslt_none": _CONSLT,
            "conslt_fixed": _text(21.16, 14.09, 10.53, 8.50, 21.50),
            "conslt_adaptive": _text(22.16, 14.91, 11.15, 9.00, 22.18),
            "ours_none": _text(28.73, 19.51, 14.25, 11.80, 27.75),
            "ours_fixed": _text(29.16, 20.04, 15.07, 12.04, 28.93),
            "ours_adaptive": _OURS,
        },
    },
    "tab5b": {
        PHOENIX: {
            "progressive_transformer_none": _PT,
            "progressive_transformer_fixed": _text(13.45, 6.88, 4.65, 3.47, 12.03),
            "progressive_transformer_adaptive": _text(13.52, 7.12, 5.03, 3.99, 12.14),
            "nslpg_none": _NSLPG,
            "nslpg_fixed": _text(18.98, 12.15, 8.87, 6.96, 18.47),
            "nslpg_adaptive": _text(19.80, 12.56, 9.06, 7.11, 19.37),
            "ours_none": _text(25.03, 17.59, 13.71, 11.23, 26.95),
            "ours_fixed": _text(27.62, 19.64, 15.12, 12.34, 29.64),
            "ours_adaptive": _SIGNING,
        },
    },
    "fig3": {PHOENIX: {"stride_7": {"bleu4": 12.86}}},
}

WEIGHTS = ("none", "fixed", "adaptive")
STRIDES = (3, 5, 7, 9, 11, 15)


def _weighed(*models: str) -> list[tuple[str, str]]:
    """APW above fixed weights and above none for each model, and ours above the others with APW."""
    above = [(f"{model}_adaptive", f"{model}_{weights}") for model in (*models, "ours") for weights in ("none", "fixed")]
    return above + [("ours_adaptive", f"{model}_adaptive") for model in models]


CLAIMS: dict[str, list[tuple[str, str]]] = {  # table: rows that the paper compares; where it gives both values, they say which is above
    "tab1": [("ours", other) for other in ("joint_slt", "joint_slt_glosses", "conslt", "glofe")] + [("joint_slt_glosses", "joint_slt")],
    "tab2": [("ours", f"{other}{source}") for source in ("", "_gloss") for other in ("progressive_transformer", "nslpg")],
    "tab3": [("ours", "gru"), ("ours", "transformer")],
    "tab4a": [("parallel", "autoregressive")],
    "tab4b": [("learned", "sinusoidal")],
    "tab4c": [("window_15", "window_32")],
    "tab4d": [("two_corpora_equal_epochs", "one_corpus"), ("two_corpora_equal_steps", "one_corpus")],
    "tab5a": _weighed("joint_slt", "conslt"),
    "tab5b": _weighed("progressive_transformer", "nslpg"),
    "fig3": [("stride_7", f"stride_{stride}") for stride in STRIDES if stride != 7],
    "fig5": [("ours", "untrained"), ("ours", "pca")],
    "fig8": [("joint_slt_glosses", "joint_slt"), ("ours", "joint_slt")],
}
WITHOUT_VALUES = ("fig3", "fig5", "fig8")  # the paper says or shows which is above, and gives no numbers
CLAIMED_METRICS = {
    "tab2": ("bleu4", "rouge_l", "mpjpe"),
    "tab3": ("top1",),
    "fig3": ("bleu4",),
    "fig5": ("same_gloss",),
    "fig8": ("near",),
}  # else BLEU-4 and ROUGE-L
OURS = {
    "tab4a": "parallel", "tab4b": "learned", "tab4c": "window_15", "tab4d": "two_corpora_equal_epochs", "tab5a": "ours_adaptive",
    "tab5b": "ours_adaptive", "fig3": "stride_7",
}  # fmt: skip
BASELINES = (
    "joint_slt",
    "conslt",
    "glofe",
    "progressive_transformer",
    "nslpg",
    "gru",
    "transformer",
)  # how the names of rows of other people's systems begin; fmt: skip

SENTENCES = ("phoenix_rendered_varied", "spliced_signs", "phoenix14t", "how2sign")
DATASETS: dict[str, tuple[str, ...]] = {  # table: data sets that it can be run on
    **dict.fromkeys(
        ("tab1", "tab2", "tab4a", "tab4b", "tab4c", "tab4d", "tab5a", "tab5b", "tab6", "tab8", "fig3", "fig4", "fig8", "fig9", "fig10"),
        SENTENCES,
    ),
    "tab3": ("include",),
    "fig5": ("include",),
}
TABLES = (
    "tab1", "tab2", "tab3", "tab4a", "tab4b", "tab4c", "tab4d", "tab5a", "tab5b", "tab6", "tab8", "fig3", "fig4", "fig5", "fig8", "fig9",
    "fig10",
)  # fmt: skip
SCALES = ("paper", "small", "tiny")
CORPUS_OF = {"how2sign": HOW2SIGN, "include": KSL}  # whose column of values stands beside a data set; else PHOENIX14T's
TITLES = {
    "tab1": "Table 1: translation",
    "tab2": "Table 2: production",
    "tab3": "Table 3: recognition of words that the SignMAE has not seen",
    "tab4a": "Table 4a: decoding of SignMAE, autoregressive or not",
    "tab4b": "Table 4b: queries of SignMAE's decoder",
    "tab4c": "Table 4c: window size",
    "tab4d": "Table 4d: one corpus or two in pretraining",
    "tab5a": "Table 5a: pose weights in translation",
    "tab5b": "Table 5b: pose weights in production",
    "tab6": "Table 6: examples of translations",
    "tab8": "Table 8: more examples of translations",
    "fig3": "Figure 3: stride",
    "fig4": "Figure 4: frames of generated signing",
    "fig5": "Figure 5: latents of isolated words, by t-SNE",
    "fig8": "Figure 8: attention maps",
    "fig9": "Figure 9: more frames of generated signing",
    "fig10": "Figure 10: more frames of generated signing",
}


def values_for(table: str, dataset: str) -> dict[str, dict[str, float]]:
    """{row: {metric: value}} of the paper's corpus that stands beside a data set; empty where the table has no numbers of it."""
    return VALUES.get(table, {}).get(CORPUS_OF.get(dataset, PHOENIX), {})


def ours_in(table: str) -> str:
    """The row of a table that is the paper's own system."""
    return OURS.get(table, "ours")
