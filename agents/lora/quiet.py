"""Keeps the libraries from telling users what only their authors can mend, and what is counted and shown here anyway."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """While it is open: no deprecations between TRL, PEFT and transformers, no bars, no word of completions without a reward."""
    logger = logging.getLogger("trl")
    before, silence = logger.level, os.environ.get("TRL_EXPERIMENTAL_SILENCE")
    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    logger.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        logger.setLevel(before)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        os.environ.pop("TRL_EXPERIMENTAL_SILENCE")
        if silence is not None:
            os.environ["TRL_EXPERIMENTAL_SILENCE"] = silence
