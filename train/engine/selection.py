"""Which weights of a training are kept, when it stops, and the sentences that say so. All depend on the evaluations alone, so that
resuming changes nothing.

An untrained model has 0 in most scores, and so have the first epochs of training. So chrF decides between equal scores, then the loss.
Patience begins with the first score above 0, and begins again whenever the loss is lower than ever.
"""

import math

from transformers import TrainerCallback

TIE_BREAKERS = ("chrf", "loss")  # of those that an evaluation has
HIGHER_IS_BETTER = {"chrf": True, "loss": False}


class Selection:
    """Which of the evaluations of a training is the best, and how many came since.

    Args:
        history: `TrainerState.log_history`.
        metric: name of the score that selects, without eval_; None selects nothing, and the last weights are kept.
        greater_is_better: of that score.

    Attributes:
        evaluations: dicts with `step`, `epoch` and eval_ scores, the earliest first.
        best: the one whose weights are to be kept, the earliest of equals; None without evaluations.
        num_without_better: evaluations since the score or the loss got better; 0 before the first score that is not 0.
    """

    def __init__(self, history, metric, greater_is_better):
        self.metric, self.greater_is_better = metric, greater_is_better
        self.num_evaluations = sum(any(name.startswith("eval_") for name in entry) for entry in history)
        self.evaluations = [entry for entry in history if f"eval_{metric}" in entry and entry["step"] > 0]  # step 0 has no checkpoint
        self.best, self.num_without_better, lowest = None, 0, math.inf
        for entry in self.evaluations:
            loss = entry.get("eval_loss", math.inf)
            if self.best is None or self._rank(entry) > self._rank(self.best):
                self.best, self.num_without_better = entry, 0
            elif loss < lowest:
                self.num_without_better = 0
            elif self.has_scored:
                self.num_without_better += 1
            lowest = loss if loss < lowest else lowest

    @property
    def has_scored(self):
        """Whether the best score is a number other than 0; where lower is better, any number is."""
        score = self.best[f"eval_{self.metric}"]
        return math.isfinite(score) and (score != 0 or not self.greater_is_better)

    def _rank(self, entry):
        """The values that are compared, the larger the better; a score that is not a number is worst."""
        signs = {self.metric: self.greater_is_better} | {name: HIGHER_IS_BETTER[name] for name in self._tie_breakers(entry)}
        values = [entry[f"eval_{name}"] if higher else -entry[f"eval_{name}"] for name, higher in signs.items()]
        return [-math.inf if math.isnan(value) else value for value in values]

    def _tie_breakers(self, entry):
        return [name for name in TIE_BREAKERS if name != self.metric and f"eval_{name}" in entry]

    def report(self, state, restored):
        """What report.json says of the selection.

        Args:
            state: the `TrainerState` at the end of training.
            restored: whether the weights of the best evaluation are those of the model now.

        Returns:
            dict: `metric`, `tie_breakers`, `evaluations` (how many), `stopped_early`, `kept_step`, `kept_epoch`, `scores` of the kept
            weights (None where they were not evaluated), `best_step`, and `why`, sentences.
        """
        stopped = state.global_step < state.max_steps
        end = f"step {state.global_step} of {state.max_steps} (epoch {_number(state.epoch)} of {state.num_train_epochs})"
        best = self.best
        if best is None:
            reason = "No score selects (metric_for_best_model)" if self.num_evaluations else "Nothing was evaluated"
            why = f"Trained to {end}. {reason}, so the last weights are kept."
            facts = {
                "evaluations": self.num_evaluations,
                "stopped_early": stopped,
                "kept_step": state.global_step,
                "kept_epoch": state.epoch,
                "scores": None,
            }
            return {"metric": None, "tie_breakers": [], **facts, "best_step": None, "why": why}
        names = [self.metric, *self._tie_breakers(best)]
        scores = {name: best[f"eval_{name}"] for name in names}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        bound = f"{self.metric} was not {'above' if self.greater_is_better else 'below'} {scores[self.metric]:.4g} since {_place(best)}"
        why = f"Stopped at {end}: {bound}" if stopped else f"Trained to {end}"
        if stopped and "eval_loss" in best and self.metric != "loss":
            why += f", and the loss was no lower either for {self.num_without_better} evaluations"
        if restored:
            why += f". The weights of {_place(best)} are kept: {shown}."
        else:
            why += f". The last weights are kept; the best of {len(self.evaluations)} evaluations was at {_place(best)}: {shown}."
        if not self.has_scored:
            others = ", then the ".join(names[1:]) or "order"
            why += f" No evaluation had a {self.metric} above 0, so the {others} chose: train longer, or on more clips, before you use it."
        kept = best if restored else next((entry for entry in self.evaluations if entry["step"] == state.global_step), None)
        return {
            "metric": self.metric,
            "tie_breakers": names[1:],
            "evaluations": len(self.evaluations),
            "stopped_early": stopped,
            "kept_step": best["step"] if restored else state.global_step,
            "kept_epoch": best.get("epoch") if restored else state.epoch,
            "scores": kept and {name: _without_nan(kept.get(f"eval_{name}")) for name in names},
            "best_step": best["step"],
            "why": why,
        }


class SelectsTheBest:
    """For a Trainer: `Selection` says which weights are kept, and with `early_stopping_patience` when training stops."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if getattr(self.args, "early_stopping_patience", None) and self.args.eval_strategy != "no":
            self.add_callback(_StopsWithoutBetter(self))

    def selection(self):
        metric = self.args.metric_for_best_model
        return Selection(self.state.log_history, metric and metric.removeprefix("eval_"), bool(self.args.greater_is_better))

    def selection_report(self):
        """See `Selection.report`; asked for after training, before anything else is evaluated."""
        selection, state = self.selection(), self.state
        kept = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        restored = selection.best is not None and str(kept).endswith(f"-{selection.best['step']}")
        return selection.report(state, restored)

    def _determine_best_metric(self, metrics, trial):
        """As the base class, which Trainer calls after each evaluation, but ties are decided by `TIE_BREAKERS`."""
        if self.args.metric_for_best_model is None:
            return False
        selection = self.selection()
        if f"eval_{selection.metric}" not in metrics:
            measured = ", ".join(sorted(name.removeprefix("eval_") for name in metrics if name.startswith("eval_")))
            raise ValueError(f"metric_for_best_model {selection.metric!r} is not measured here. Expected one of {measured}.")
        if selection.best is None or selection.best["step"] != self.state.global_step:
            return False
        self.state.best_metric = selection.best[f"eval_{selection.metric}"]
        if self.args.save_strategy != "no":
            self.state.best_global_step = self.state.global_step
        return True


class _StopsWithoutBetter(TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer

    def on_evaluate(self, args, state, control, **kwargs):
        if self.trainer.selection().num_without_better >= args.early_stopping_patience:
            control.should_training_stop = True


def _place(entry):
    return f"step {entry['step']}" + (f" (epoch {_number(entry['epoch'])})" if "epoch" in entry else "")


def _number(value):
    return f"{value or 0:.4g}"


def _without_nan(value):
    return value if value is None or math.isfinite(value) else None
