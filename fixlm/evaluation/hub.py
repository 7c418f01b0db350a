"""A run by the names that the Hugging Face hub has for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import HfApi, ModelHubMixin, get_token, snapshot_download

from fixlm.cache_directory import cache_directory
from fixlm.errors import InputError
from fixlm.evaluation.run import Run, load
from fixlm.runs.export import VECTORS
from fixlm.runs.run_files import RunFiles


class HubRun(Run, ModelHubMixin, library_name="fixlm", tags=["language-model"]):
    """A `Run` with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` (`huggingface_hub.ModelHubMixin`).

    ``push_to_hub(repository, private=…, branch=…, …)`` is the mixin's own.

    >>> import fixlm
    >>> run = fixlm.fit(output_embed="hadamard", data="sample", hidden_size=64, embed_size=64, max_steps=2, run="runs/hub")
    >>> _ = run.export("shared")
    >>> HubRun.from_pretrained("shared").perplexity("valid") == run.perplexity("valid")
    True
    """  # noqa: E501

    _hub_mixin_config: Any = {}  # noqa: RUF012 # not None: else the mixin would set it, on an object that is frozen

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        checkpoint: str = "best",
        data: str | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Reads a run from a folder, or from a repository of the hub by its client.

        Args:
            pretrained_model_name_or_path: a folder that `Run.export` wrote, a run directory, or ``owner/name``.
            force_download, token, cache_dir, local_files_only, revision: as of `huggingface_hub.snapshot_download`.
            checkpoint, data: as of `fixlm.load`.
            model_kwargs: none is known.

        Raises:
            InputError: it cannot be had, or is no run.
        """
        if model_kwargs:
            raise InputError(next(iter(model_kwargs)), "unknown argument", expected="checkpoint or data")
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            name = str(pretrained_model_name_or_path)
            # Into a folder, since the hub's own cache is made of links, which a run may not be.
            place = Path(cache_dir or cache_directory() / "hub") / name / (revision or "main")
            try:
                folder = Path(
                    snapshot_download(
                        name,
                        revision=revision,
                        local_dir=place,
                        force_download=force_download,
                        token=token,
                        local_files_only=local_files_only,
                        ignore_patterns=[VECTORS],
                    )
                )
            except Exception as error:  # a network library's: of any class
                what = "no such folder, and not to be had from the hub"
                raise InputError(name, what, found=_first_line(error)) from error
        return cls(**vars(load(folder, checkpoint, data)))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """`Run.export` by the hub's name; with ``push_to_hub=True`` and ``repo_id=`` it is uploaded as well.

        The mixin's own would remove a ``config.json`` that is there, whatever run it is of.
        """
        self.export(save_directory)
        push, name = options.pop("push_to_hub", False), options.pop("repo_id", None)
        return self.push_to_hub(name or Path(save_directory).name, **options) if push else None


def require_login(where: str) -> None:
    """Raises InputError where the hub's client has no token."""
    if get_token() is None:
        raise InputError(where, "you are not logged in to the Hugging Face hub", fix="hf auth login")


def push(folder: str | Path, repository: str, where: str, *, private: bool = False) -> str:
    """Uploads a folder to a repository of the hub, which is made where there is none; returns its address.

    Raises:
        InputError: the hub refuses, or cannot be reached.
    """
    api = HfApi()
    try:
        name = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
        # An older export may have had files that this one lacks, such as a tokenizer.
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Export of a fixlm run",
            delete_patterns=[*(path.name for path in RunFiles(folder).files), VECTORS],
        )
    except Exception as error:  # a network library's: of any class
        fix = "the folder is written; try again"
        raise InputError(where, "could not be uploaded", found=_first_line(error), fix=fix) from error
    return f"{api.endpoint}/{name}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
