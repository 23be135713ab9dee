"""What is quoted in a prompt comes back letter for letter, whatever the model does to it, or the prompt stays."""

import pytest
from enhance_prompts import LANGUAGES, PROMPTS

from mova.enhance import Task, enhance
from mova.enhance.quotes import missing, quoted, repaired
from mova.enhance.tidy import tidy

QUOTING = [(prompt, contents) for prompt, contents in PROMPTS if contents]
ids = [prompt[:24] for prompt, _ in QUOTING]


def script(*answers):
    """A model that gives these answers in turn, and the requests it was given."""
    requests = []

    def model(request):
        requests.append(request)
        return answers[len(requests) - 1]

    return model, requests


def about(lines):
    """An answer in English that holds these lines as a model may write them."""
    told = " ".join(f"Then follows {line} in the room." for line in lines)
    return f"A figure walks through a bright room and turns. {told}\n\nThe audio holds soft steps in a small room."


def test_the_table_is_of_sixty_prompts_in_five_languages():
    assert len(LANGUAGES) == 5 and len({prompt for prompt, _ in PROMPTS}) == 60


@pytest.mark.parametrize(("prompt", "contents"), PROMPTS, ids=[prompt[:24] for prompt, _ in PROMPTS])
def test_what_is_quoted_is_found_and_apostrophes_are_not(prompt, contents):
    assert [quote.content for quote in quoted(prompt)] == contents


def survives(prompt, contents, answer):
    model, requests = script(answer)
    made = enhance(Task(prompt), model)
    assert len(requests) == 1 and not made.notices
    assert missing(prompt, made.prompt) == []
    for content in contents:
        assert made.prompt.count(content) >= contents.count(content)
        if '"' not in content:
            assert f'"{content}"' in made.prompt
    return made.prompt


@pytest.mark.parametrize(("prompt", "contents"), QUOTING, ids=ids)
def test_words_that_came_back_as_they_were_stay_so(prompt, contents):
    survives(prompt, contents, about(f'"{content}"' for content in contents))


@pytest.mark.parametrize("marks", ["“{}”", "«{}»", "「{}」", "„{}“", "“{}.”", "“{},”"])
@pytest.mark.parametrize(("prompt", "contents"), QUOTING, ids=ids)
def test_other_marks_and_punctuation_are_put_right(prompt, contents, marks):
    survives(prompt, contents, about(marks.format(content) for content in contents))


@pytest.mark.parametrize(("prompt", "contents"), QUOTING, ids=ids)
def test_another_case_is_put_right(prompt, contents):
    survives(prompt, contents, about(f'"{content.title()}"' for content in contents))


@pytest.mark.parametrize(("prompt", "contents"), QUOTING, ids=ids)
def test_a_lost_word_is_asked_for_once_and_then_the_prompt_stays(prompt, contents):
    answer = about(f'"{content}"' for content in contents[:-1])
    model, requests = script(answer, answer)
    made = enhance(Task(prompt), model)
    assert made.prompt == prompt
    assert len(requests) == 2 and contents[-1] in requests[1].user.split("could not be used")[1]
    assert "unchanged" in made.notices[0] and contents[-1] in made.notices[0]


def test_a_word_that_comes_back_at_the_second_asking_is_taken():
    model, requests = script(about(['"Good day"']), about(['"Guten Tag"']))
    made = enhance(Task("Sie sagt „Guten Tag“"), model)
    assert '"Guten Tag"' in made.prompt and not made.notices
    assert [request.attempt for request in requests] == [0, 1]


def test_words_that_lost_their_marks_get_them_back():
    answer = about(["as she says the bus leaves at noon today"])
    assert '"the bus leaves at noon today"' in repaired('She says "the bus leaves at noon today"', answer)


def test_words_that_differ_in_case_alone_keep_their_order():
    prompt = 'He shouts "RUN!" then "run?" then "RUN!"'
    answer = 'He shouts "Run!" and then "Run?" and then "Run!" again.'
    assert repaired(prompt, answer) == 'He shouts "RUN!" and then "run?" and then "RUN!" again.'


def test_the_same_words_twice_must_stand_twice():
    assert missing("« oui » et « oui »", 'He says "oui" once.') == ["oui"]


def test_words_that_hold_straight_quotes_keep_the_marks_they_came_in():
    prompt = '他说「她喊"快跑"就走了」'
    assert repaired(prompt, "He says “她喊「快跑」就走了” loudly.") == 'He says 「她喊"快跑"就走了」 loudly.'


def test_what_is_quoted_is_left_alone_when_the_answer_is_tidied():
    text = 'He reads "# 1. *Sure*, `x`\n- two" and nods.\n\nThe audio holds his voice.'
    assert "# 1. *Sure*, `x`" in tidy(text) and "- two" in tidy(text)
