"""Which weights are kept, and when training stops: known answers on made-up evaluations, and the real scripts."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerState

from train import train_recognition, train_sign_to_text
from train.engine.selection import Selection
from train.engine.trainers import TranslationTrainer

from .test_train_sign_to_text import arguments


def history(*scores, metric="bleu4", losses=None, chrf=None):
    """Evaluations at steps 2, 4, ..., two steps an epoch, with training losses between them."""
    entries = []
    for index, score in enumerate(scores):
        place = {"step": 2 * index + 2, "epoch": float(index + 1)}
        entries.append({"loss": 1.0, **place})
        entry = {f"eval_{metric}": score, **place}
        if losses is not None:
            entry["eval_loss"] = losses[index]
        if chrf is not None:
            entry["eval_chrf"] = chrf[index]
        entries.append(entry)
    return entries


def state_of(entries, max_steps):
    return TrainerState(global_step=entries[-1]["step"], epoch=entries[-1]["epoch"], max_steps=max_steps, num_train_epochs=max_steps // 2)


def test_evaluations_that_all_score_0_keep_the_best_chrf_and_cost_no_patience():
    """90 sentences: BLEU-4 is 0.00 in every early epoch. Equal scores did not count as better, so patience ran out at epoch 11 and the
    weights of step 2 came back, without a word."""
    chrf = [1.0, 1.0, 5.0, 4.0, 6.5, *[6.0] * 15]
    selection = Selection(history(*[0.0] * 20, chrf=chrf, losses=[3.0] * 20), "bleu4", True)
    assert selection.best["step"] == 10 and selection.num_without_better == 0 and not selection.has_scored


def test_equal_scores_are_told_apart_by_the_loss_where_nothing_else_is_measured():
    selection = Selection(history(40.0, 60.0, 60.0, 60.0, metric="top1", losses=[3.0, 2.0, 1.5, 1.8]), "top1", True)
    assert selection.best["step"] == 6


def test_of_equal_evaluations_the_earliest_is_kept():
    assert Selection(history(1.0, 2.0, 2.0), "bleu4", True).best["step"] == 4


def test_a_better_score_wins_over_any_chrf_and_loss():
    selection = Selection(history(3.0, 2.0, chrf=[1.0, 90.0], losses=[9.0, 0.1]), "bleu4", True)
    assert selection.best["step"] == 2


def test_where_lower_is_better_the_lowest_is_kept_and_patience_begins_at_once():
    selection = Selection(history(90.0, 70.0, 80.0, 80.0, metric="cer"), "cer", False)
    assert selection.best["step"] == 4 and selection.num_without_better == 2


def test_patience_begins_with_the_first_score_above_0():
    scores = [0.0, 0.0, 0.0, 1.0, 0.5, 0.5]
    counts = [Selection(history(*scores[: n + 1]), "bleu4", True).num_without_better for n in range(len(scores))]
    assert counts == [0, 0, 0, 0, 1, 2]


def test_patience_begins_again_where_the_loss_is_lower_than_ever():
    """One 4-gram that a hardly trained model hits by chance must not end the training of a model that goes on learning."""
    falling = Selection(history(0.3, *[0.0] * 12, losses=[3.0 - 0.1 * n for n in range(13)]), "bleu4", True)
    rising = Selection(history(0.3, *[0.0] * 12, losses=[3.0 + 0.1 * n for n in range(13)]), "bleu4", True)
    assert (falling.num_without_better, rising.num_without_better) == (0, 12)


@pytest.mark.parametrize("worthless", [math.nan, -math.inf])
def test_a_score_that_is_no_number_is_never_kept(worthless):
    assert Selection(history(worthless, 1.0, worthless), "bleu4", True).best["step"] == 4
    assert Selection(history(worthless, 0.5, metric="cer") if math.isnan(worthless) else history(9.0, 0.5), "bleu4", True) is not None


def test_an_evaluation_before_the_first_step_is_not_chosen():
    """eval_on_start leaves no checkpoint."""
    start = {"eval_bleu4": 50.0, "step": 0, "epoch": 0}
    assert Selection([start, *history(1.0)], "bleu4", True).best["step"] == 2


def test_the_report_says_where_training_stopped_and_what_is_kept():
    entries = history(0.0, 4.0, 3.0, 3.0, chrf=[9.0, 20.0, 21.0, 21.0], losses=[3.0, 2.0, 2.5, 2.6])
    report = Selection(entries, "bleu4", True).report(state_of(entries, 150), restored=True)
    assert report["why"] == (
        "Stopped at step 8 of 150 (epoch 4 of 75): bleu4 was not above 4 since step 4 (epoch 2), and the loss was no lower either for "
        "2 evaluations. The weights of step 4 (epoch 2) are kept: bleu4 4, chrf 20, loss 2."
    )
    assert report["stopped_early"] and report["kept_step"] == 4 and report["scores"] == {"bleu4": 4.0, "chrf": 20.0, "loss": 2.0}
    assert report["tie_breakers"] == ["chrf", "loss"] and report["evaluations"] == 4


def test_the_report_says_that_no_evaluation_scored():
    entries = history(0.0, 0.0, chrf=[1.0, 2.0])
    report = Selection(entries, "bleu4", True).report(state_of(entries, 4), restored=True)
    assert report["why"].startswith("Trained to step 4 of 4 (epoch 2 of 2). The weights of step 4 (epoch 2) are kept: bleu4 0, chrf 2.")
    assert "No evaluation had a bleu4 above 0, so the chrf chose" in report["why"]


def test_the_report_says_that_the_last_weights_are_kept_though_others_were_better():
    entries = history(5.0, 1.0)
    report = Selection(entries, "bleu4", True).report(state_of(entries, 4), restored=False)
    assert "The last weights are kept; the best of 2 evaluations was at step 2 (epoch 1): bleu4 5." in report["why"]
    assert report["kept_step"] == 4 and report["best_step"] == 2 and report["scores"] == {"bleu4": 1.0}


def test_the_report_says_that_nothing_was_evaluated():
    state = TrainerState(global_step=4, epoch=2.0, max_steps=4, num_train_epochs=2)
    report = Selection([{"loss": 1.0, "step": 2, "epoch": 1.0}], "loss", False).report(state, restored=False)
    assert "Nothing was evaluated, so the last weights are kept." in report["why"] and report["scores"] is None
    report = Selection(history(0.5, 0.4, metric="mpjpe"), None, False).report(state, restored=False)
    assert "No score selects (metric_for_best_model), so the last weights are kept." in report["why"] and report["evaluations"] == 2


# --- The real scripts -------------------------------------------------------------------------------------------------------------


def scores_of_steps(monkeypatch, trainer_class, **scores):
    """Evaluations whose scores are these: {name: [first evaluation, second, ...]}."""
    real, calls = trainer_class.scores, []

    def given(self, evaluation):
        calls.append(1)
        return real(self, evaluation) | {name: values[min(len(calls), len(values)) - 1] for name, values in scores.items()}

    monkeypatch.setattr(trainer_class, "scores", given)


def test_a_model_that_was_hardly_trained_is_not_kept_because_all_scores_are_0(corpus, sign_mae_dir, tmp_path, monkeypatch, capsys):
    """Patience of one evaluation, and BLEU-4 of 0 throughout: training goes to its end, and the weights of the best chrF are kept."""
    scores_of_steps(monkeypatch, TranslationTrainer, bleu4=[0.0], chrf=[5.0, 8.0, 9.0, 7.0])
    more = ["--sign_mae", sign_mae_dir, "--early_stopping_patience", "1"]
    report = train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more, steps=8))
    assert report["steps"] == 8 and report["selection"]["kept_step"] == 6 and not report["selection"]["stopped_early"]
    kept, best = (load_file(tmp_path / "out" / place / "model.safetensors") for place in (".", "checkpoint-6"))
    assert all(torch.equal(kept[name], value) for name, value in best.items())
    assert f"kept:    {report['selection']['why']}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["selection"] == report["selection"]


def test_training_stops_early_after_a_real_score_and_says_so(corpus, sign_mae_dir, tmp_path, monkeypatch):
    scores_of_steps(monkeypatch, TranslationTrainer, bleu4=[0.0, 7.0, 3.0])
    # a rate of 0: the loss stays as it is
    more = ["--sign_mae", sign_mae_dir, "--early_stopping_patience", "2", "--learning_rate", "0"]
    report = train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more, steps=40))
    assert report["steps"] == 8 and report["selection"]["kept_step"] == 4
    assert report["selection"]["why"].startswith("Stopped at step 8 of 40 (epoch 2.667 of 14): bleu4 was not above 7 since step 4")


def test_resumed_it_keeps_what_it_would_have_kept(corpus, sign_mae_dir, tmp_path, monkeypatch):
    """Selection is a function of the evaluations, which the checkpoint holds."""
    more = ["--sign_mae", sign_mae_dir, "--early_stopping_patience", "2", "--learning_rate", "0"]
    scores_of_steps(monkeypatch, TranslationTrainer, bleu4=[0.0, 7.0, 3.0])
    train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more, steps=6))
    monkeypatch.undo()
    scores_of_steps(monkeypatch, TranslationTrainer, bleu4=[3.0])
    report = train_sign_to_text.main([*arguments(corpus, tmp_path / "out", *more, steps=40), "--resume_from_checkpoint", "true"])
    assert report["steps"] == 8 and report["selection"]["kept_step"] == 4 and report["selection"]["evaluations"] == 4


def test_a_score_that_nobody_measures_is_refused_with_those_that_are(corpus, sign_mae_dir, tmp_path):
    more = ["--sign_mae", sign_mae_dir, "--metric_for_best_model", "blue4"]
    with pytest.raises(ValueError, match="metric_for_best_model 'blue4' is not measured here. Expected one of .*bleu4.*chrf"):
        train_sign_to_text.main(arguments(corpus, tmp_path / "out", *more))


@pytest.mark.parametrize(
    "metric, greater", [("bleu4", True), ("cer", False), ("latent_mse", False), ("length_error", False), ("mpjpe_hands", False)]
)
def test_errors_are_better_when_lower(metric, greater, tmp_path):
    made = train_recognition.RecognitionTrainingArguments(output_dir=str(tmp_path), metric_for_best_model=metric, use_cpu=True)
    assert made.greater_is_better == greater
