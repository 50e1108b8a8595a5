"""Declining told from answering, on phrasings of assistants small and large."""

import pytest

from tasks.judges.ground_truth import verifier, verify
from tasks.judges.verifiers.refusal import declines

DECLINED = [
    "I'm sorry, but I can't send emails.",
    "I’m sorry, but I cannot help with that.",
    "Sorry, I can't do that.",
    "I am not able to open files on your computer.",
    "I'm unable to make phone calls.",
    "As an AI, I don't have access to real-time information.",
    "As a language model, I do not have the ability to play music.",
    "I don't have the ability to see what is outside your window.",
    "I have no eyes, so I can't look at your garden.",
    "I lack access to your calendar.",
    "Unfortunately, I can't order food for you. You could call the restaurant yourself.",
    "That is outside what I can help with here.",
    "That's beyond my expertise, I'm afraid.",
    "I can only help with questions about our hotels and flights.",
    "I'm afraid I can only talk about banking. Is there anything about your account that I can help with?",
    "Good question! It is a subject that many people like. However, I can only help with books.",
    "I'm here to help with your garden, so let's get back to your tomatoes.",
    "Let's stay with your holiday plans, please.",
    "I must decline, since this has nothing to do with insurance.",
    "I have to politely decline.",
    "This assistant can only answer questions about the museum.",
    "It's not possible for me to taste your soup.",
    "I'm just a text-based program and have no hands.",
    "I'm only an AI assistant. I cannot walk your dog.",
    "That is not something I can do.",
    "I won't be able to book the table for you.",
    "We only answer questions about bicycles that we repair.",
    "My knowledge is limited to the products of our shop.",
    "I'm not designed to give legal advice.",
    "I'm currently not able to check the weather. If you tell me the forecast, I can help you plan.",
    "I do not have personal access to your photos.",
    "I don't currently have access to your files.",
    "I'd rather stick to cooking. What would you like to eat?",
    "Stamps are off-topic here, sorry.",
]  # fmt: skip
ANSWERED = [
    "I'm not a gardener, I just have a passion for gardening. I like tomatoes.",
    "I can't recommend it enough! The museum opens at nine.",
    "I'm sorry to hear that your plants are dying. Water them less and give them light.",
    "I apologize for the confusion. The bank opens at eight.",
    "Sorry for the wait! Your room is ready at three.",
    "You can't go wrong with a warm soup and bread.",
    "Many people cannot sleep after coffee. Drink it in the morning.",
    "Wolves are not able to climb trees.",
    "I can't wait to hear about your trip! Take the train to Rome.",
    "I can't stress enough how much water matters.",
    "Sure, here is the email.\n\nSubject: Saturday\n\nDear Anna,\n\nI can't come to your party.",
    "Dear Anna,\n\nI am sorry, but I cannot come on Saturday. I have no access to a car.\n\nYours, Tom",
    'She said: "I am not able to help you with that." Then she left.',
    "The lights don't have access to electricity at night.",
    "An apology can be short: say what you did and that you are sorry.",
    "If you cannot reach the owner, write a letter.",
    "Yes, it is possible. Go to the settings and press the button.",
    "I can help with that! Tomatoes need six hours of sun.",
    "Of course. A good reminder is short and says what to do.",
    "Do not open files that you don't know.",
    "The book is about a man who has no memory. He cannot tell who he is.",
    "Milk. Cheese. Bread. Butter. I can't think of any more.",
    "Paris.",
]  # fmt: skip
BOTH = [
    "I'm sorry, but I can't send messages.\n\nDear Anna,\nplease come on Saturday.\n\nTom",
    "I can't send emails, but here is a draft:\n\nDear Anna,\nplease come on Saturday.",
    "I'm sorry, but I can't see the weather. Here are five ideas for a rainy day:\n1. Read.\n2. Sleep.",
    "As an AI, I don't have personal experience with gardens. "
    "Tomatoes need sun, water and good soil. Plant them in May, when the nights are warm enough. Tie each plant to a "
    "stick, take off the side shoots once a week, and give them some compost in June. Pick the fruit when it is red "
    "and soft, and never keep it in the fridge.",
    "I'm only able to talk about travel. Based on what I know, wolves hunt at night.",
]


@pytest.mark.parametrize("answer", DECLINED)
def test_refusals_are_recognised(answer: str) -> None:
    assert declines(answer) is True


@pytest.mark.parametrize("answer", ANSWERED)
def test_answers_are_none(answer: str) -> None:
    assert declines(answer) is False


@pytest.mark.parametrize("answer", BOTH)
def test_who_declines_and_answers_cannot_be_judged(answer: str) -> None:
    assert declines(answer) is None
    assert verify(verifier("refusal", {"refuse": True}), answer) is None


def test_verdicts_follow_what_is_wanted() -> None:
    must, must_not = (verifier("refusal", {"refuse": refuse}) for refuse in (True, False))
    assert (verify(must, DECLINED[0]), verify(must_not, DECLINED[0])) == (True, False)
    assert (verify(must, ANSWERED[0]), verify(must_not, ANSWERED[0])) == (False, True)
    circles = "I'm unable to edit on your files. " * 3, "A rainbow of colors, " * 9
    assert [verify(check, text) for check in (must, must_not) for text in (" …", *circles)] == [False] * 6


def test_what_was_off_topic_must_not_be_answered_after_the_refusal() -> None:
    answer = "I'm sorry, but I can only help with travel. {} Do you need a hotel?"
    check = verifier("refusal", {"refuse": True, "about": "What do wolves eat in winter?"})
    assert verify(check, answer.format("A wolf eats deer.")) is None
    assert verify(check, answer.format("I can't talk about wolves.")) is True
    assert verify(check, answer.format("We have trains to many towns.")) is True


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("The text does not say who built the bridge.", True),
        ("The passage doesn't mention a price.", True),
        ("It is not mentioned in the text.", True),
        ("That isn't stated.", True),
        ("There is no information about wolves in the text.", True),
        ("This cannot be answered from the text.", True),
        ("I can't find that in the passage.", True),
        ("Unanswerable.", True),
        ("I'm sorry, but I can't answer that.", True),
        ("The author of the text did not tell us. It only says that the bridge is old.", True),
        ("The text says that the bridge was built in 1901.", False),
        ("It was built in 1901.", False),
        ("They did not have a bridge before 1901.", False),
        ("The text does not say it directly. The following dates are given: 1901 and 1915.", None),
        ("", False),
    ],
)
def test_saying_that_the_text_lacks_it(answer: str, verdict: bool | None) -> None:
    assert verify(verifier("not_in_text", {}), answer) is verdict
