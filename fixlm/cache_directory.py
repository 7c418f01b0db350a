"""Where computed things are kept between runs: tokenised corpora and output matrices."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """``$FIXLM_CACHE``, or the user's cache directory where the variable is not set."""
    chosen = os.environ.get("FIXLM_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))
    from platformdirs import user_cache_path

    return user_cache_path("fixlm")
