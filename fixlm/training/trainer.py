"""The loop of a training run: steps, validations and checkpoints, from wherever the newest of them left it."""

from __future__ import annotations

import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from embeddings.files import write_json
from embeddings.registry import Progress
from fixlm.config.train_config import TrainConfig
from fixlm.corpus.corpus import Corpus
from fixlm.errors import InputError, Interrupted
from fixlm.evaluation.perplexity import Score, evaluate, in_digits, perplexity_of
from fixlm.model.language_model import LanguageModel
from fixlm.runs import checkpoint
from fixlm.runs.directory import RunDirectory, writing
from fixlm.runs.folds import Folds, new_folds, read_folds, remove_folds, write_folds
from fixlm.runs.load_model import load_model
from fixlm.runs.new_model import new_model
from fixlm.training.averaging import WeightAverage, has_no_patience_left, has_stalled
from fixlm.training.fine_tuning import require_same_model, take_weights
from fixlm.training.finite import diverged, require_finite
from fixlm.training.folds import TrainingFolds
from fixlm.training.optimizer import learning_rate, make_optimizer, optimizer_tensors, restore_optimizer, take_gradients
from fixlm.training.ranks import Ranks
from fixlm.training.result import final_result
from fixlm.training.resuming import newest_checkpoint, point_links
from fixlm.training.signals import StopRequest
from fixlm.training.state import TrainingState
from fixlm.training.windows import Windows, in_streams

if TYPE_CHECKING:
    from fixlm.model.core import State

logger = logging.getLogger(__name__)

METRICS_EVERY = 10
"""Steps averaged into one line of metrics.jsonl and of the progress bar."""


class Trainer:
    """One run, from wherever its newest checkpoint left it to its result; one rank's part of it, if there are more."""

    def __init__(
        self, config: TrainConfig, text: Corpus, directory: RunDirectory, windows: Windows, show: Progress, ranks: Ranks
    ) -> None:
        self.config, self.text, self.directory, self.show = config, text, directory, show
        self.ranks = ranks
        self.settings = config.optimization
        self.windows, self.total = windows, windows.total
        self.device = torch.device(config.run.device)
        self.streams = ranks.part(in_streams(text.splits["train"], self.settings.batch_size)).to(self.device)
        self.at = TrainingState()
        self.average: WeightAverage | None = None
        torch.manual_seed(self.settings.seed)
        with ranks.together():
            if ranks.writes:
                self._restore() if config.run.resume else self._begin()
        step, best = ranks.from_first(lambda: (self.at.step, self.at.best))
        with ranks.together():
            if not ranks.writes:
                self._load(checkpoint.verify(directory.checkpoints / f"step-{step}"))
                self.at.best = best
        self.loss = ranks.loss_of(self.model)
        counts = self.model.parameter_counts()
        tokens = f"{'about ' * self.settings.vary_bptt}{self.settings.batch_size * self.settings.bptt:,} tokens"
        logger.info(
            f"{directory.path}: {text.name}, V = {len(text.words):,}, {self.total:,} steps of {tokens}"
            f"{f', {ranks.count} processes' * (ranks.count > 1)}; {counts['trainable']:,} numbers are trained "
            f"({counts['output_trainable']:,} of them in the output layer), {counts['fixed']:,} are fixed."
        )

    def run(self) -> dict[str, Any]:
        with StopRequest(patient=self.ranks.count > 1) as stop:
            if self.settings.fine_tune is not None and not self.at.validations:
                self._score_as_best()  # the weights that it starts from
            while not self._is_over():
                self._step()
                signal_number = self.ranks.agreed(stop.signal_number)
                if self._validation_is_due():
                    self._validate()
                elif self._due(self.config.run.checkpoint_every) or signal_number:
                    self._save(best=False)
                else:
                    continue
                # Only here, right behind a save: a signal that came during it stops the run as well.
                if signal_number := self.ranks.agreed(stop.signal_number):
                    message = f"stopped after step {self.at.step:,} and saved; --resume goes on from here"
                    raise Interrupted(message, 128 + signal_number)
            if self.at.step < self.total:
                logger.info(f"the last {self.settings.patience} validations were no better: training ends here")
            return self._finish(stop)

    def _is_over(self) -> bool:
        return self.at.step == self.total or has_no_patience_left(self.at.validations, self.settings.patience)

    def _begin(self) -> None:
        """A new model, saved before its first step, so that there is one to go on from, and room for it."""
        source = None if self.settings.fine_tune is None else RunDirectory(self.settings.fine_tune)
        if source is not None:  # before minutes are spent on a matrix
            require_same_model(source, self.config, self.text)
        folds = new_folds(self.config, self.text, self.show)  # first, since they leave the matrix in the cache
        model, matrix = new_model(self.config, self.text, self.show)
        if source is not None:
            take_weights(model, matrix, source, load_model(source))
        self._take(model)
        if self.settings.average == "ema" or (self.settings.average == "nt-asgd" and source is not None):
            self.at.average_start = 0
        self._take_folds(folds)
        self._write(self.model.start_state(self.settings.batch_size), best=False)
        write_folds(self.directory, folds)
        self.directory.write_start(self.config, self.text, matrix, folds)

    def _take(self, model: LanguageModel) -> None:
        self.model = model.to(self.device).train()
        self.optimizer = make_optimizer(self.model, self.settings)

    def _take_folds(self, folds: Folds) -> None:
        tokens = len(self.text.splits["train"])
        self.folds = TrainingFolds(folds, self.config, tokens, self.model.output, self.ranks) if folds else None

    def _due(self, every: int | None) -> bool:
        return self.at.step == self.total or (every is not None and self.at.step % every == 0)

    def _validation_is_due(self) -> bool:
        every = self.config.run.validate_every
        return self._due(every) or (every is None and self.windows.ends_epoch(self.at.step))

    def _step(self) -> None:
        began = time.perf_counter()
        window = self.windows.at(self.at.step)
        if window.start == 0:
            self.state = self.model.start_state(self.settings.batch_size // self.ranks.count)
        rate = learning_rate(self.at.step, self.total, self.settings)
        for group in self.optimizer.param_groups:
            # The mean over fewer targets is no less of a gradient: shorter windows would weigh more.
            group["lr"] = rate * group["part"] * (len(window) / self.settings.bptt)
        ids = self.streams[window.start : window.stop + 1].long()  # (T + 1, B), of int32: half the memory
        clip, ar, tar = self.settings.clip, self.settings.ar, self.settings.tar
        folds = None if self.folds is None else self.folds.window(window)
        mean, gradient_norm, state = take_gradients(
            self.model, self.optimizer, ids, self.state, clip, ar=ar, tar=tar, folds=folds, loss=self.loss
        )
        loss, norm = self.ranks.mean(mean.item()), gradient_norm.item()
        if self.ranks.writes and not (math.isfinite(norm) and math.isfinite(loss)):
            raise diverged(self.at.step + 1, loss, norm, rate, self.model, self.directory.checkpoints)
        self.optimizer.step()
        if self.folds is not None:
            self.folds.spare_start(self.model.input_embedding.weight, self.optimizer)
        self.state = state
        self.at.step += 1
        self._take_average()
        seconds = time.perf_counter() - began
        self.at.seconds += seconds
        self.at.recent.append((loss, norm, seconds))
        if self.at.step % METRICS_EVERY == 0 or self.at.step == self.total:
            self._record(window.epoch + 1, rate)

    def _take_average(self) -> None:
        """Takes the weights of this step into their average, if that has begun."""
        if self.at.average_start is not None:
            self.average = self.average or WeightAverage(self.model, self._decay())
            self.average.update(self.at.step - self.at.average_start)

    def _decay(self) -> float | None:
        return self.settings.ema_decay if self.settings.average == "ema" else None

    def _averaged(self) -> AbstractContextManager[None]:
        """Within it the model has the weights that are scored and kept: the averaged ones, if there are any."""
        return nullcontext() if self.average is None else self.average.in_place()

    def _record(self, epoch: int, rate: float) -> None:
        """One line of metrics: means since the last one."""
        loss, norm, seconds, steps = self.at.take_means()
        if not self.ranks.writes:
            return
        tokens = self._tokens(max(0, self.at.step - steps)) / steps
        record = {"step": self.at.step, "epoch": epoch, "loss": loss, "lr": rate, "gradient_norm": norm}
        alpha = getattr(self.model.output, "alpha", None)
        shown = f"epoch {epoch} loss {loss:.2f} ppl {in_digits(perplexity_of(loss), 0)}"
        if alpha is not None:
            record["alpha"] = alpha.item()
            shown += f" α {alpha.item():.1f}"
        self.directory.write_metrics(record | {"tokens_per_second": round(tokens / seconds)})
        self.show(f"train | {shown} {tokens / seconds:,.0f} tok/s", self.at.step, self.total)

    def _validate(self) -> None:
        """Scores the valid split and saves: as the best checkpoint too, if it is."""
        best = self._score()
        waiting = self.settings.average == "nt-asgd" and self.at.average_start is None
        if waiting and has_stalled(self.at.validations, self.settings.nonmono):
            self.at.average_start = self.at.step
            logger.info(
                f"step {self.at.step:,}: validation has stopped improving; from here on the weights are averaged"
            )
        self._save(best=best)

    def _score_as_best(self) -> None:
        """Scores the weights of the last checkpoint, which are the best so far."""
        self._score()
        if self.ranks.writes:
            checkpoint.point(self.directory.checkpoints, "best", self.at.step)

    def _tokens(self, begin: int) -> int:
        """Targets of all streams since that step."""
        return self.settings.batch_size * self.windows.steps(begin, self.at.step)

    def _score(self) -> bool:
        """Scores the valid split and notes it; whether it is the best so far."""
        began = time.perf_counter()
        score = Score(**self.ranks.from_first(lambda: vars(self._evaluate())))
        self.at.validation_seconds += time.perf_counter() - began
        self.at.validations.append(score.total_nats)
        best = score.total_nats < self.at.best["total_nats"]
        if best:
            self.at.best = {"step": self.at.step, **vars(score)}
        logger.info(f"step {self.at.step:,}: validation perplexity {score}{', the best so far' if best else ''}")
        if self.ranks.writes:
            self.directory.write_metrics(
                {"step": self.at.step, "epoch": self.windows.epochs(self.at.step), "validation": score.to_json()}
            )
        return best

    def _evaluate(self) -> Score:
        with self._averaged():
            return evaluate(self.model, self.text, "valid")

    def _save(self, *, best: bool) -> None:
        state = tuple(self.ranks.whole(part) for part in self.state)
        if self.ranks.writes:
            self._write(state, best=best)

    def _write(self, state: State, *, best: bool) -> None:
        with self._averaged():
            model = self.model.state_dict()  # of tensors, which stay the averaged ones
        own = {} if self.average is None else self.average.own_weights()
        root = self.directory.checkpoints
        require_finite(self.at.step, model | own, root)
        training = {
            **optimizer_tensors(self.optimizer, self.model),
            **own,
            **self.model.state_tensors(state),
            "random_state": torch.get_rng_state(),
        }
        checkpoint.save(root, self.at.step, model, training, self.at.to_json(), best=best)

    def _restore(self) -> None:
        root = self.directory.checkpoints
        saved = newest_checkpoint(root)
        self._load(saved)
        self.at.best = point_links(root, self.at.step, self.at.best)
        self.directory.rewind_metrics(self.at.step or -1)  # what fine-tuning scored at step 0 it scores again
        logger.info(f"going on from {saved.path.name} of {self.total:,}")

    def _load(self, saved: checkpoint.Checkpoint) -> None:
        self._take(load_model(self.directory, saved))
        try:
            self._take_training(saved.training(), saved.state())
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(saved.path, "the checkpoint does not fit its run", found=repr(error)) from None
        self._take_folds({} if self._is_over() else read_folds(self.directory))

    def _take_training(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Optimizer, the model's state, random state, progress and, beside an average, the weights of training."""
        self.at = TrainingState.from_json(state, self.total)
        if self.at.step > 0:  # before its first step an optimizer keeps nothing
            restore_optimizer(self.optimizer, self.model, self.settings, tensors)
        self.state = tuple(map(self.ranks.part, self.model.state_from(tensors, self.settings.batch_size)))
        torch.set_rng_state(tensors["random_state"])
        if self.at.average_start not in (None, self.at.step):
            self.average = WeightAverage(self.model, self._decay())
            self.average.take_own_weights(tensors)

    def _finish(self, stop: StopRequest) -> dict[str, Any]:
        if self.at.best["step"] is None:  # its checkpoint was damaged; this last one is there already
            self._score_as_best()
        return {"run": str(self.directory.path), **self.ranks.from_first(lambda: self._write_result(stop))}

    def _write_result(self, stop: StopRequest) -> dict[str, Any]:
        """Scores the best checkpoint and writes ``result.json``."""

        def show(what: str, done: float, total: float) -> None:
            self.show(what, done, total)
            if stop.signal_number:
                raise Interrupted("stopped while scoring; --resume scores it again", 128 + stop.signal_number)

        model, order = load_model(self.directory).to(self.device), self.config.run.ngram_order
        result = final_result(model, self.text, self.at, self._tokens(0), order, show) | {"ranks": self.ranks.count}
        with writing(self.directory.result):
            write_json(self.directory.result, result)
        remove_folds(self.directory)
        return result
