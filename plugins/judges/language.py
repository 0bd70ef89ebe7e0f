"""A judge of the reply's language."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...core.errors import ConfigError, near_miss
from ..judge import Abstain, BaseJudge, Score, Turn, Verdict

USER = "user"
"""Stands for the language of the user's last message."""


class LanguageJudge(BaseJudge):
    """The probability that the reply is in a language, in [0, 1], by lingua among the languages that are considered.

    A reply without letters abstains, and so does one to a message without letters where the user's language is wanted.

    Args:
        language: ISO 639-1 code, such as ``en``; or ``user`` for the language of the user's last message.
        among: The languages considered, by code: the fewer they are, the surer it is of short texts, and the less memory
            it takes.

    Raises:
        ConfigError: If lingua is not installed.
    """

    name = "language"
    summary = "the reply in the wanted language, by lingua"

    def __init__(
        self,
        language: str = "en",
        among: Sequence[str] = ("ar", "de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh"),
    ) -> None:
        try:
            from lingua import Language, LanguageDetectorBuilder
        except ImportError as error:
            raise ConfigError("the judge `language` needs lingua: run `pip install 'duologue[judges]'`") from error
        codes = {code.name.lower(): code for code in (entry.iso_code_639_1 for entry in Language.all())}
        wanted = {code.lower() for code in (*among, *([] if language == USER else [language]))}
        if unknown := sorted(wanted - set(codes)):
            raise ValueError(f"`{unknown[0]}` is no language code: {near_miss(unknown[0], codes)}")
        if len(wanted) < 2:
            raise ValueError("`among` must name at least one other language")
        chosen = [codes[code] for code in sorted(wanted)]
        builder = LanguageDetectorBuilder.from_iso_codes_639_1(*chosen)
        self._detector = builder.with_preloaded_language_models().build()  # loading them later would hold up everybody
        self._language = None if language == USER else Language.from_iso_code_639_1(codes[language.lower()])

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn."""
        return await asyncio.to_thread(lambda: [self._one(turn) for turn in batch])

    def _one(self, turn: Turn) -> Verdict:
        language = self._language
        if language is None:
            asked = next((m["content"] for m in reversed(turn.messages) if m["role"] == "user"), "")
            language = self._detector.detect_language_of(asked)
            if language is None:
                return Abstain("the user's language is not known")
        if not any(character.isalpha() for character in turn.reply):
            return Abstain("the reply has no letters")
        return Score(float(self._detector.compute_language_confidence(turn.reply, language)))
