"""How long the rest of a comparison takes, from the speed of what was trained so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from fixlm.config.train_config import TrainConfig
from fixlm.runs.directory import RunDirectory
from fixlm.training.windows import Windows


@dataclass(frozen=True)
class Work:
    """Training that is left, or that was done.

    Args:
        setting: name of the setting; runs of one differ in the seed only and are equally fast.
        layer: its output layer, by which settings are alike where nothing better is known.
        tokens: of the train split, each as often as it is passed.
        seconds: they took, with the validations in between; 0 for what is left.
    """

    setting: str
    layer: str
    tokens: int
    seconds: float = 0.0


def seconds_left(left: Sequence[Work], done: Sequence[Work], at_a_time: int = 1) -> float | None:
    """Estimated seconds for what is left; None if something is left and nothing was measured.

    Each part goes at the speed of what was done of its setting, or else of its output layer, or else of all.
    """
    done = [work for work in done if work.tokens > 0 and work.seconds > 0]
    if not any(work.tokens for work in left):
        return 0.0
    if not done:
        return None
    total = 0.0
    for work in left:
        alike = [each for each in done if each.setting == work.setting]
        alike = alike or [each for each in done if each.layer == work.layer] or done
        total += work.tokens * sum(each.seconds for each in alike) / sum(each.tokens for each in alike)
    return total / min(at_a_time, len(left))


def in_words(seconds: float | None) -> str:
    """``about 2 h 10 min left``."""
    if seconds is None:
        return "time left is not known before the first steps"
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min left" if hours else f"about {minutes} min left"


def total_tokens(config: TrainConfig, train_tokens: int) -> int:
    """Tokens that a run of this configuration trains on, with a train split of so many tokens."""
    settings = config.optimization
    windows = Windows(train_tokens // settings.batch_size, settings)
    return settings.batch_size * windows.steps(0, windows.total)


def measured(directory: RunDirectory, config: TrainConfig, setting: str) -> Work:
    """What a run has done so far, from its result or its metrics."""
    batch = config.optimization.batch_size * config.optimization.bptt  # about, where windows vary
    layer = config.model.output_embed
    result = directory.read_result()
    if result is not None:
        seconds = result["seconds"] + result.get("validation_seconds", 0.0)
        return Work(setting, layer, result["steps"] * batch, seconds)
    step, seconds = 0, 0.0
    for record in directory.read_metrics():
        if record.get("tokens_per_second"):
            seconds += (record["step"] - step) * batch / record["tokens_per_second"]
            step = record["step"]
    return Work(setting, layer, step * batch, seconds)
