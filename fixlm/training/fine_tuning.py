"""Training that starts from the best weights of another run."""

from embeddings.builder import Prepared
from fixlm.config.train_config import TrainConfig
from fixlm.corpus.corpus import Corpus
from fixlm.errors import InputError
from fixlm.model.language_model import LanguageModel
from fixlm.runs.directory import RunDirectory
from fixlm.runs.resume_check import check_corpus, differences, raise_for

MAY_DIFFER = frozenset(f"dropout{where}" for where in ("", "_input", "_between", "_output", "_embedding")) | {
    "weight_drop",
    "alpha_start",
    "bias_start",
    "cross_fit",
}
"""Of `ModelConfig`, what the weights of the other run have no part in."""


def require_same_model(source: RunDirectory, config: TrainConfig, text: Corpus) -> None:
    """Raises unless this run's model and text are those of the run that it starts from.

    Raises:
        InputError: there is no such run, or its text is another one.
        InputErrors: one for each setting of the model that differs.
    """
    stored = source.require().read_config()
    fix = f"--fine-tune {source.path} needs the model of that run"
    raise_for(
        [
            difference
            for difference in differences(config.to_json(), stored)
            if difference.group not in ("data", "optimization") and difference.name not in MAY_DIFFER
        ],
        f"differs from the run to start from: {source.path}",
        fix,
    )
    check_corpus(source, text)


def take_weights(model: LanguageModel, matrix: Prepared | None, source: RunDirectory, best: LanguageModel) -> None:
    """Gives a new model the best weights of the other run: the averaged ones, where it kept those.

    Raises:
        InputError: the output matrix is another one, or that run has no whole checkpoint.
    """
    recipe = source.read_config()["output_matrix"]
    expected, found = recipe and recipe["sha256"], matrix and matrix.sha256
    if found != expected:
        raise InputError(f"--fine-tune {source.path}", "has another output matrix", found=found, expected=expected)
    model.load_state_dict(best.state_dict())
