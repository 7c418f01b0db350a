"""The data set ``auto``: WikiText-2 where it can be had, else the built-in sample."""

import logging

from embeddings.errors import InputError
from fixlm.corpus import builtin_text, wikitext
from fixlm.corpus.data_set import DataSet

logger = logging.getLogger(__name__)


def open_data_set() -> DataSet:
    """WikiText-2 or the sample; the log says why it is the sample."""
    try:
        return wikitext.open_data_set()
    except InputError as error:
        reason = error.args[0].removeprefix("--data wikitext-2: ")
        logger.info(f"--data auto: using the built-in sample. {reason}")
        return builtin_text.open_data_set()
