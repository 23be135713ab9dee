"""The rules of a good prompt, with a model that answers what a test says."""

import time

import pytest
from test_enhance_quotes import script

from mova import MovaError
from mova.enhance import GOALS, LANGUAGES, STYLES, Task, enhance
from mova.enhance.length import WORDS, tokens, words
from mova.enhance.quotes import masked
from mova.enhance.tidy import tidy
from mova.enhance.words import NEVER, build, instructions

SCENE = "A woman in a red coat crosses a wet street and lifts an umbrella as cars roll past."
SOUND = "The audio holds rain on asphalt and passing tyres in the open air."
GOOD = f"{SCENE}\n\n{SOUND}"
PROMPT = "a woman crosses the street in the rain"


def made_of(answer, prompt=PROMPT, **task):
    model, requests = script(answer, answer)
    made = enhance(Task(prompt, **task), model)
    return made, requests


def test_a_good_answer_is_taken_as_it_is_and_its_sound_told_apart():
    made, requests = made_of(GOOD)
    assert (made.prompt, made.sound, made.notices) == (GOOD, SOUND, []) and len(requests) == 1


# What models put around an answer.
AROUND = {
    "think block": f'<think>She said "no". Let me\n\nplan.</think>\n\n{GOOD}',
    "thoughts whose opening is unseen": f"I should plan.\n</think>\n{GOOD}",
    "a channel of thoughts": f"<|channel|>analysis<|message|>plan it<|end|>{GOOD}",
    "fences": f"```text\n{GOOD}\n```",
    "fences inside a greeting": f"Sure! Here is the enhanced prompt:\n\n```\n{GOOD}\n```\n\nLet me know!",
    "greeting": f"Certainly! Here's the rewritten description:\n\n{GOOD}",
    "greeting on the same line": f"Sure, here is your prompt: {GOOD}",
    "Chinese greeting": f"好的，以下是增强后的提示词：\n\n{GOOD}",
    "farewell": f"{GOOD}\n\nI hope this helps! Would you like another one?",
    "farewell on the same line": f"{GOOD} Let me know if you want changes.",
    "word count": f"{GOOD}\n\n(31 words)",
    "note": f"{GOOD}\n\nNote: I kept the rain.",
    "label": f"**Prompt:** {GOOD}",
    "heading": f"## Enhanced Prompt\n\n{GOOD}",
    "headings of parts": f"**Opening**\n{SCENE}\n\n**Audio:**\n{SOUND}",
    "labels of parts": f"Opening: {SCENE}\n\nSound: {SOUND}",
    "marks around": f'"{GOOD}"',
    "list": "- A woman in a red coat crosses a wet street and lifts an umbrella\n- as cars roll past\n\n" + SOUND,
    "numbers": f"1. {SCENE}\n\n2. {SOUND}",
    "bold": GOOD.replace("red coat", "**red coat**"),
    "JSON": '{"prompt": "' + GOOD.replace("\n", "\\n") + '"}',
    "turn tokens": f"{GOOD}<|im_end|>",
    "other turn tokens": f"{GOOD}<end_of_turn>\n",
    "carriage returns": GOOD.replace("\n", "\r\n"),
    "rulers": f"---\n\n{GOOD}\n\n---",
}


@pytest.mark.parametrize("answer", AROUND.values(), ids=AROUND)
def test_what_models_put_around_an_answer_is_taken_away(answer):
    expected = GOOD
    if answer.startswith("- "):
        expected = f"{SCENE[: -len('as cars roll past.')].strip()}. as cars roll past.\n\n{SOUND}"
    assert tidy(answer) == expected


@pytest.mark.parametrize(
    "opening", ["Great blue herons wade.", "Sure-footed goats climb.", "Here a man runs.", "Note paper burns.", "OK"]
)
def test_a_description_that_begins_like_a_greeting_is_none(opening):
    assert tidy(f"{opening}\n\n{SOUND}") == f"{opening}\n\n{SOUND}"


UNASKED = {
    "dialogue": 'The woman says "Hello, you."',
    "music": "Soft piano music plays over the scene.",
    "a soundtrack": "An orchestral soundtrack swells.",
    "a camera move": "The camera slowly pans left.",
    "a zoom": "The shot zooms in on her face.",
    "a dolly": "A dolly shot brings her nearer.",
    "stillness": "The cars remain motionless.",
    "standing still": "She stands perfectly still.",
    "a static shot": "It is a static shot of the street.",
    "a frozen pose": "She is frozen in place.",
}


@pytest.mark.parametrize("sentence", UNASKED.values(), ids=UNASKED)
def test_what_nobody_asked_for_is_taken_out(sentence):
    made, _ = made_of(f"{SCENE} {sentence} She smiles.\n\n{SOUND}")
    assert made.prompt == f"{SCENE} She smiles.\n\n{SOUND}"


ASKED = {
    "Eine Frau sagt etwas": UNASKED["dialogue"],
    "two friends talk on a bench": UNASKED["dialogue"],
    "一个女人在说话": UNASKED["dialogue"],
    "une femme parle": UNASKED["dialogue"],
    "a woman dances to jazz": UNASKED["music"],
    "女人在弹钢琴，音乐": UNASKED["music"],
    "the camera follows a woman": UNASKED["a camera move"],
    "镜头推近": UNASKED["a camera move"],
    "Kamerafahrt auf eine Frau": UNASKED["a camera move"],
    "a woman stands still in the rain": UNASKED["standing still"],
}


@pytest.mark.parametrize(("prompt", "sentence"), ASKED.items(), ids=ASKED)
def test_what_was_asked_for_stays_in_whatever_language(prompt, sentence):
    made, _ = made_of(f"{SCENE} {sentence}\n\n{SOUND}", prompt)
    assert sentence in made.prompt


@pytest.mark.parametrize(
    "sentence", ["She still holds the umbrella.", "There is no music.", "A radio crackles static."]
)
def test_words_that_only_look_unasked_stay(sentence):
    made, _ = made_of(f"{SCENE} {sentence}\n\n{SOUND}")
    assert sentence in made.prompt


def test_words_beside_the_user_s_own_are_taken_out_and_the_user_s_stay():
    made, _ = made_of(f'{SCENE} She says "Rain again." A man answers "Yes, dear."\n\n{SOUND}', 'She says "Rain again."')
    assert '"Rain again."' in made.prompt and "Yes, dear" not in made.prompt


def test_what_is_read_in_a_given_picture_may_stand_in_quotes():
    sentence = 'A sign behind her reads "BAKERY".'
    answer = f"{SCENE} {sentence}\n\n{SOUND}"
    assert sentence in made_of(answer, first=True)[0].prompt
    assert "BAKERY" not in made_of(answer)[0].prompt


def test_the_sound_is_put_last():
    made, _ = made_of(f"{SOUND}\n\n{SCENE}")
    assert made.prompt == GOOD


def test_a_long_answer_loses_sentences_of_the_action_and_keeps_quotations_and_sound():
    walks = " ".join(f"She passes lamp number {number} and walks on along the street." for number in range(40))
    made, requests = made_of(f'{SCENE} {walks} She says "Rain again."\n\n{SOUND}', 'She says "Rain again."')
    assert words(made.prompt) <= WORDS and len(requests) == 1
    assert made.prompt.startswith(SCENE) and '"Rain again."' in made.prompt and made.prompt.endswith(SOUND)


def test_tokens_are_counted_by_what_counts_them():
    walks = " ".join(f"She passes lamp {number}." for number in range(30))
    model, _ = script(f"{SCENE} {walks}\n\n{SOUND}")
    made = enhance(Task(PROMPT), model, count=lambda text: 10 * words(text))
    assert words(made.prompt) <= 51 and made.prompt.endswith(SOUND)


UNUSABLE = {
    "nothing": "",
    "only thoughts": "<think>I wonder",
    "a refusal": "I'm sorry, but I can't help with that.",
    "Chinese": "一个女人在雨中穿过街道，举起雨伞。\n\n声音是雨声。",
    "one endless sentence": "walking on " * 300,
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
def test_an_answer_that_cannot_be_used_is_asked_for_once_more_and_then_the_prompt_stays(answer):
    made, requests = made_of(answer)
    assert made.prompt == PROMPT and "unchanged" in made.notices[0]
    assert len(requests) == 2 and "could not be used" in requests[1].user
    model, _ = script(answer, GOOD)
    assert enhance(Task(PROMPT), model).prompt == GOOD


def test_chinese_is_taken_where_it_is_asked_for():
    answer = UNUSABLE["Chinese"]
    assert made_of(answer, language="Chinese")[0].prompt == answer
    assert made_of(answer, language="as the prompt")[0].prompt == answer
    assert made_of(GOOD, language="Chinese")[0].prompt == PROMPT


def test_a_prompt_that_is_long_and_ordered_is_left_alone():
    prompt = "\n\n".join([" ".join([SCENE] * 6), SOUND])

    def never(request):
        raise AssertionError("the model was asked")

    made = enhance(Task(prompt), never)
    assert (made.prompt, made.sound) == (prompt, SOUND) and "left alone" in made.notices[0]


def test_a_long_prompt_without_its_sound_is_not():
    made, _ = made_of(GOOD, " ".join([SCENE] * 6))
    assert made.prompt == GOOD


def test_without_a_prompt_there_must_be_a_picture():
    with pytest.raises(MovaError, match="The prompt is empty and there is no first frame; say what"):
        enhance(Task("  "), lambda request: GOOD)
    assert enhance(Task("", first=True), lambda request: GOOD).prompt == GOOD
    with pytest.raises(MovaError, match="wrote nothing usable of the picture"):
        enhance(Task("", first=True), lambda request: "")


@pytest.mark.parametrize(
    "task",
    [Task("x", style="baroque"), Task("x", language="Elvish"), Task("x", goal="film"), Task("x" * 30_000)],
    ids=["style", "language", "goal", "length"],
)
def test_a_task_that_is_none_is_refused_before_the_model_is_asked(task):
    with pytest.raises(MovaError, match=r"choose one of|at most 20000"):
        enhance(task, lambda request: pytest.fail("asked"))


def test_the_model_is_told_every_rule():
    told = instructions(Task("x"))
    for rule in (*NEVER, "eight seconds", "opening state", "order in which it happens", "who speaks", "The audio"):
        assert rule in told
    for phrase in (
        "letter for letter",
        "straight double quotes",
        "never translated",
        f"At most {WORDS} words",
        "English",
    ):
        assert phrase in told


def test_the_model_is_told_of_pictures_style_language_and_goal():
    told = {instructions(Task("x", first, last)) for first in (False, True) for last in (False, True)}
    told |= {instructions(Task("x", first=True), pictures_seen=False)}
    told |= {instructions(Task("x", style=style)) for style in STYLES}
    told |= {instructions(Task("x", language=language)) for language in LANGUAGES}
    told |= {instructions(Task("x", goal=goal)) for goal in GOALS}
    # The plain one is in all five sets.
    assert len(told) == 4 + 1 + len(STYLES) - 1 + len(LANGUAGES) - 1 + len(GOALS) - 1


def test_the_words_that_must_come_back_are_listed_for_the_model():
    assert '\n"Rain again."\n' in build(Task("She says “Rain again.”")).user + "\n"
    assert "<speech>Rain again.</speech>" in build(Task("She says “Rain again.”", goal="clip for Prism")).user


def test_for_prism_words_and_sounds_are_marked_by_tags_and_the_sound_is_apart():
    answer = (
        "A woman crosses a wet street under <sfx>heavy rain</sfx>. A sign reads “Open”. She says “Rain again.”\n\n"
        "Cars roll past."
    )
    made, _ = made_of(answer, 'She says "rain again." under a sign "OPEN"', goal="clip for Prism")
    assert "<speech>rain again.</speech>" in made.prompt and "<text>OPEN</text>" in made.prompt
    assert '"' not in made.prompt
    assert "heavy rain" in made.sound and "rain again." in made.sound and "Cars roll" not in made.sound


def test_a_first_picture_needs_no_words_that_are_spoken_and_no_sound():
    answer = "A woman in a red coat waits at the kerb of a wet street at dusk, an umbrella in her hand."
    made, requests = made_of(answer, 'She says "Rain again." and crosses', goal="first picture")
    assert (made.prompt, made.sound) == (answer, "") and len(requests) == 1
    assert "exactly so" not in requests[0].user


@pytest.mark.parametrize(
    ("text", "count"), [("a cat's bowl", 3), ("你好，世界", 4), ("well-known 12 words", 3), ("", 0), ("“!?”", 0)]
)
def test_words_are_counted(text, count):
    assert words(text) == count


def test_tokens_are_estimated_on_the_high_side():
    assert tokens(GOOD) > 1.2 * words(GOOD)
    assert tokens("你好，世界") == 6  # four letters, a mark and the end


ENDLESS = {
    "marks that open": "«" * 1_000_000,
    "clipped words": "'a " * 2_600,
    "quotations": '"a" ' * 2_000,
    "tags": "<speech>" * 1_000,
    "sentences": ". a" * 2_600,
    "thoughts": "<think>" * 100_000,
    "items": "- a\n" * 500_000,
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_answer_costs_seconds_and_leaves_the_prompt(kind):
    start = time.monotonic()
    made = enhance(Task('A fox says "Hello there, my old friend."'), lambda request: ENDLESS[kind])
    assert made.prompt == 'A fox says "Hello there, my old friend."' and made.notices
    assert time.monotonic() - start < 60  # a second or two; it took minutes, and longer by the square


def test_a_long_prompt_of_apostrophes_is_read_in_seconds():
    start = time.monotonic()
    enhance(Task("'a " * 6_000), lambda request: "A fox walks through the snow and looks about.")
    assert time.monotonic() - start < 60


def test_what_is_quoted_within_a_quotation_is_masked_in_as_many_letters():
    text = 'He says "<speech>hi</speech>" and «a "b" c».'
    assert len(masked(text)) == len(text) and set(masked(text)[9:27]) == {"x"}
