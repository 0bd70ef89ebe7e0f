"""The judges that look at a reply's language with a library of their own."""

import asyncio
import subprocess
import sys

import pytest

from duologue.inference import ConfigError
from duologue.plugins import Abstain, Plugins, Turn
from duologue.plugins.testing import check_judge, turn

EASY = "The cat sat on the mat. It was a big cat. The sun was hot."
HARD = (
    "Notwithstanding considerable methodological heterogeneity, contemporary epidemiological investigations "
    "substantiate statistically significant associations between socioeconomic deprivation and cardiovascular mortality."
)


def judge(name, *turns, **settings):
    made = Plugins(discover=False).build({"name": name, **settings}, "judges.x", None)
    return asyncio.run(made.score(list(turns)))


@pytest.mark.parametrize("name", ["readability", "language", "toxicity"])
def test_they_keep_the_contract(name):
    check_judge(name)


@pytest.mark.parametrize("formula", ["coleman_liau_index", "automated_readability_index"])
def test_a_hard_text_has_a_higher_grade_than_an_easy_one(formula):
    easy, hard = judge("readability", turn(EASY), turn(HARD), formula=formula)
    assert easy.components["value"] < 4
    assert hard.components["value"] > 16
    assert hard.value == 0


def test_the_score_falls_beyond_the_band():
    (verdict,) = judge("readability", turn(EASY), low=4, high=10, width=6)
    value = verdict.components["value"]
    assert verdict.value == pytest.approx(max(0.0, 1 - (4 - value) / 6))
    assert judge("readability", turn(EASY), low=value - 1, high=value + 1)[0].value == 1


def test_short_texts_and_figures_abstain():
    assert all(isinstance(verdict, Abstain) for verdict in judge("readability", turn("Yes."), turn("1 2 3 4 5 6 7")))


def test_syllables_of_other_languages_need_no_dictionary():
    (verdict,) = judge(
        "readability", turn("Die Katze saß auf der Matte. Sie war groß."), formula="flesch_reading_ease", language="de"
    )
    assert verdict.components["value"] > 50


def test_nothing_is_downloaded():
    with pytest.raises(ConfigError, match=r"run `python -m nltk.downloader cmudict`, or choose a formula"):
        judge("readability", formula="flesch_reading_ease")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"formula": "fog"}, "did you mean|known"),
        ({"low": 5, "high": 4}, "`low` <= `high`"),
        ({"width": 0}, "`width` > 0"),
    ],
)
def test_a_readability_setting_that_means_nothing_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        judge("readability", **settings)


GERMAN = "Das ist die Hauptstadt von Frankreich."
FRENCH = "C'est la capitale de la France."


def test_the_wanted_language_scores_high_and_another_low():
    german, french = judge("language", turn(GERMAN), turn(FRENCH), language="de")
    assert german.value > 0.9
    assert french.value < 0.1


def test_the_users_language_may_be_the_wanted_one():
    asked = "Wie heißt die Hauptstadt von Frankreich?"
    same, other = judge("language", turn(GERMAN, asked), turn(FRENCH, asked), language="user")
    assert same.value > 0.9
    assert other.value < 0.1


def test_without_letters_there_is_no_language():
    reply, question = judge("language", turn("1 + 1 = 2"), turn("Zwei.", "1 + 1 = ?"), language="user")
    assert isinstance(reply, Abstain)
    assert isinstance(question, Abstain)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"language": "xx"}, "`xx` is no language code"),
        ({"among": ["en", "qq"]}, "`qq` is no language code"),
        ({"language": "en", "among": []}, "`among` must name at least one other language"),
    ],
)
def test_a_language_that_is_none_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        judge("language", **settings)


def test_abuse_scores_low_and_courtesy_high():
    rude, kind = judge("toxicity", turn("You are a stupid bitch."), turn("Thank you for asking; here it is."))
    assert rude.value < 0.2
    assert kind.value > 0.8


@pytest.mark.parametrize(
    ("name", "package"),
    [("readability", "textstat"), ("language", "lingua"), ("toxicity", "profanity_check")],
)
def test_without_its_library_a_judge_says_what_to_install(name, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from duologue.plugins import plugins\n"
        f"plugins().build({name!r}, 'judges.x', None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "run `pip install 'duologue[judges]'`" in done.stderr.splitlines()[-1]


def test_offering_them_imports_none_of_their_libraries():
    code = (
        "import sys\nfrom duologue.plugins import plugins\nplugins().judges\n"
        "print([m for m in ('textstat', 'nltk', 'lingua', 'profanity_check', 'torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_turn_is_what_they_see():
    assert isinstance(turn("x"), Turn)
