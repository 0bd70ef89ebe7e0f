"""A judge model that grades a reply with one number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...inference.completion import Completion
from ..judge import Failure, JudgeContext, Score, Turn, TurnJudge, Verdict
from .asking import Asker, Use, check_prompt, dialogue, unread
from .criteria import check_scale, instruction, load_rubric
from .reading import expected_grade, read_grade

PROMPT = """\
Grade the assistant's last reply. {rubric}

[Question]
{question}

[Reply]
{reply}

{how}"""

GENERAL = "Judge whether it is correct, helpful and well put; ignore its length."
REASONED = """\
Give one sentence of reasons, then on a line of its own: `Score: N`, where N is a number from {low} (useless) to {high} \
(perfect)."""
AT_ONCE = "Answer with nothing but a whole number from {low} (useless) to {high} (perfect)."

PLACEHOLDERS = ("question", "reply", "reference", "rubric")


class LLMJudge(TurnJudge):
    """A judge model's grade, in [0, 1]: (grade - worst) / (best - worst).

    Where the API gives the alternatives' probabilities, the grade is its expectation, see `expected_grade`; otherwise the
    number that the text gives. ``components["expected"]`` is 1 or 0 accordingly, ``components["grade"]`` the grade. An
    answer that cannot be read is asked for once more, at a higher temperature; then it is a failure.

    Args:
        context: Context with the client and the endpoint of role ``judge``.
        prompt: The instruction; empty for the built-in one. May hold ``{question}``, ``{reply}``, ``{reference}`` and
            ``{rubric}``, and must make the judge say `Score: N`, or the number alone.
        rubric: Name or path of a rubric that is put into the built-in prompt, or at ``{rubric}``; its scale holds then.
        scale: The worst and the best grade, whole numbers.
        reasoning: Whether the judge gives reasons before it grades; for the built-in prompt.
        logprobs: ``auto`` uses probabilities where the API gives them, ``always`` fails without them, ``never`` reads texts.
        max_tokens: Tokens that the judge may use; None for the endpoint's own.
    """

    name = "llm"
    summary = "one grade by a judge model"
    cost = "requests"
    concurrent = True  # a call a turn
    requests_per_turn = 1

    def __init__(
        self,
        context: JudgeContext,
        prompt: str = "",
        rubric: str = "",
        scale: Sequence[int] = (0, 10),
        reasoning: bool = True,
        logprobs: Use = "auto",
        max_tokens: int | None = 256,
    ) -> None:
        loaded = load_rubric(rubric) if rubric else None
        self.low, self.high = loaded.scale if loaded else check_scale(scale)
        check_prompt(prompt, PLACEHOLDERS)
        how = (REASONED if reasoning else AT_ONCE).format(low=self.low, high=self.high)
        self._prompt = prompt or PROMPT.replace("{how}", how)
        self._rubric = instruction(loaded, prompt, GENERAL)
        self._logprobs: Use = logprobs
        self._asker = Asker(context, max_tokens, logprobs=logprobs)

    async def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        prompt = self._prompt.format(
            question=dialogue(turn), reply=turn.reply, reference=turn.reference or "", rubric=self._rubric
        )
        read = partial(_read, self.low, self.high, self._logprobs)
        return await self._asker.ask(prompt, read, attempt=turn.attempt)


def _read(low: int, high: int, logprobs: Use, answer: Completion) -> Score | Failure:
    """The verdict that an answer holds."""
    found = read_grade(answer.text, low, high)
    if found is None:
        return unread(answer, f"score from {low} to {high}")
    expected = expected_grade(answer.logprobs or (), low, high)
    if expected is None and logprobs == "always":
        return Failure(f"the grade's probability is not known ({answer.text[-80:]!r}): set `logprobs=auto`")
    grade = found.value if expected is None else expected
    components = {"grade": grade, "expected": float(expected is not None)}
    return Score((grade - low) / (high - low), components, answer.text, answer.cost_usd, answer.latency_s)
