"""A judge of readability."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import ConfigError, near_miss
from ..judge import Abstain, BaseJudge, Score, Turn, Verdict

BY_LETTERS = ("coleman_liau_index", "automated_readability_index")
"""Formulas that count letters, words and sentences."""
BY_SYLLABLES = ("flesch_reading_ease", "flesch_kincaid_grade", "gunning_fog", "smog_index")
"""Formulas that count syllables, in English by a dictionary that NLTK downloads."""


class ReadabilityJudge(BaseJudge):
    """1 where the formula's value lies in a band, falling to 0 at ``width`` beyond either end; ``components["value"]`` is it.

    The formulas are textstat's. Most give a US school grade: 8 is read easily by fourteen-year-olds. A reply of fewer than
    ``least_words`` words abstains: no formula says anything of so short a text.

    Args:
        formula: Of `BY_LETTERS` and `BY_SYLLABLES`.
        low: Lower end of the band.
        high: Upper end.
        width: Distance from the band at which the score reaches 0.
        language: Language of formulas that count syllables: ``en``, ``de``, ``es``, ``fr``, ``it``, ``nl``, ``pl``, ``ru``.
        least_words: See above.

    Raises:
        ConfigError: If textstat, or the dictionary that a formula needs, is not installed: nothing is downloaded.
    """

    name = "readability"
    summary = "a readability formula inside a band, by textstat"

    def __init__(
        self,
        formula: str = "coleman_liau_index",
        low: float = 4.0,
        high: float = 10.0,
        width: float = 6.0,
        language: str = "en",
        least_words: int = 5,
    ) -> None:
        if formula not in BY_LETTERS + BY_SYLLABLES:
            raise ValueError(f"`formula` {formula!r} is unknown: {near_miss(formula, BY_LETTERS + BY_SYLLABLES)}")
        if not low <= high or not width > 0:
            raise ValueError(f"`low` <= `high` and `width` > 0 must hold, not {low}, {high} and {width}")
        try:
            import nltk
            import textstat
        except ImportError as error:
            raise ConfigError("the judge `readability` needs textstat: run `pip install 'duologue[judges]'`") from error
        if language.startswith("en") and formula in BY_SYLLABLES:
            try:
                nltk.data.find("corpora/cmudict")
            except LookupError as error:
                raise ConfigError(
                    f"`{formula}` counts English syllables by NLTK's dictionary, which is not here: run "
                    "`python -m nltk.downloader cmudict`, or choose a formula that counts letters: "
                    + ", ".join(BY_LETTERS)
                ) from error
        self._textstat, self._formula, self._language = textstat.textstat, formula, language
        self._low, self._high, self._width, self._least = low, high, width, least_words

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn."""
        self._textstat.set_lang(self._language)  # textstat keeps one language for the process
        return [self._one(turn.reply) for turn in batch]

    def _one(self, reply: str) -> Verdict:
        if len(reply.split()) < self._least or not any(character.isalpha() for character in reply):
            return Abstain(f"fewer than {self._least} words")
        value = float(getattr(self._textstat, self._formula)(reply))
        beyond = max(self._low - value, value - self._high, 0.0)
        return Score(max(0.0, 1 - beyond / self._width), {"value": value})
