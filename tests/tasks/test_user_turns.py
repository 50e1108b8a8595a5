"""Real phrasings of small models: what of a draft is a user's turn, and why others are refused."""

import pytest

from tasks.user_turns import assistant_like, refusal, user_turn

HISTORY = [
    {"role": "user", "content": "How is coffee brewed?"},
    {"role": "assistant", "content": "Hot water runs through ground beans, and the filter keeps the grounds back."},
]
ASSISTANT = [
    "Here are five ways to brew it.",
    "Here's a short list of filters:",
    "The beans are ground before the water comes.",
    "As an AI I cannot brew it, can I?",
    "How can I help you with coffee?",
    "How may I assist you with coffee today?",
    "Why does the user like coffee?",
    "I am an AI language model without taste for coffee.",
    "Let me know if you want more about filters!",
    "Feel free to ask me about other beans.",
    "I hope this helps you brew better coffee!",
    "Is there anything else about coffee that you want to know?",
    "Do you have any other questions about coffee?",
    "Would you like me to explain how filters work?",
    "Please provide more details about your coffee.",
    "I cannot provide advice on coffee for patients.",
    "I'm unable to taste the coffee myself.",
    "It's important to note that hot water burns.",
    "Yes, hot water works best.",
    "No, the filter is not needed.",
    "Sure, the grounds stay in the filter.",
    "I'm sorry, but I can't taste coffee.",
    "I apologize for the confusion about the filter.",
    "You're welcome, enjoy the coffee!",
    "The answer is that water should be hot.",
    "To answer your question, the water must be hot.",
    "Step 1: Grind the beans.",
    "First, grind the beans and heat the water.",
    "1. Grind the beans. 2. Heat the water.",
    "**Grind** the beans and heat the water.",
    "- Grind the beans.",
    "You can use a paper filter or a metal one.",
    "You should grind the beans just before.",
    "You'll need a filter, beans and hot water.",
    "I would recommend a paper filter for that.",
    "I suggest using fresh beans for coffee.",
    "There are many kinds of filters for coffee.",
    "Use hot water and fresh beans.",
    "Try to drink less coffee in the evening.",
    "Add a pinch of salt to the grounds.",
    "Let's look at the filter first.",
    "Why is the water hot? Because hot water dissolves more.",
    "What is a filter? It is a piece of paper that keeps the grounds back.",
    "Does it need a filter? Yes, it does.",
    "How hot should the water be? The answer is 95 degrees.",
    "I can explain the filter to you.",
    "I'll give you an example of a filter.",
    "Great question, the water is hot because of the stove.",
    "Assistant: Hot water is best for coffee.",
    "What would you like to know about coffee?",
    "In conclusion, coffee is brewed with hot water.",
    "Coffee contains caffeine, which keeps people awake.",
    "Coffee beans are the seeds of a fruit.",
]
USER = [
    "How hot should the water be?",
    "What would it cost?",
    "Are you sure that a filter is needed?",
    "Explain that in simple words.",
    "At what age can children drink coffee?",
    "In which season are the beans picked?",
    "Under which conditions does the filter break.",
    "Your answer lacks the cost of a filter.",
    "Your wording is vague about the filter.",
    "You did not mention the kind of beans.",
    "You forgot the price of the beans.",
    "You should have mentioned the kind of beans.",
    "You could explain the filter better.",
    "You should be more precise about the water.",
    "Use easier words for the part about filters.",
    "Add a sentence about the beans.",
    "Make it shorter and name the beans.",
    "Keep to the facts about coffee, and shorten your answer.",
    "Try again without the word filter.",
    "List three kinds of beans.",
    "Name one mistake with filters.",
    "Tell me only the first step of the brewing, with beans.",
    "Be more precise about the water.",
    "I have no filter at home, so what can I use instead?",
    "I don't like bitter coffee. What can I change?",
    "My coffee is always bitter. Why?",
    "I think the filter is too much work.",
    "I want to know how beans are ground.",
    "But the filter of my machine is made of metal.",
    "And what about tea?",
    "So the filter is not needed?",
    "Can you give me an example of a filter?",
    "Is it because the water is hot?",
    "Do I need a machine for it?",
    "Can I help the filter last longer?",
    "Say it so that a child understands the filter.",
    "Which filter do you mean? I have two.",
    "What is a filter? I never saw one.",
    "Why hot water? My mother uses cold water.",
    "Let me guess: the filter is made of paper?",
    "Summarize that in one line.",
    "Also tell me about the beans.",
    "Imagine that there is no filter. What then?",
    "Leave out everything about filters, and write more about beans.",
    "Give me a number for the water.",
    "How do people here drink coffee when it is cold?",
    "State the exception to that.",
    "Instead of coffee, describe how tea is brewed.",
]


@pytest.mark.parametrize(
    ("said", "finished", "turn"),
    [("Why is it blue?", True, "Why is it blue?"),
     ("Why is it blue? And when does it", False, "Why is it blue?"),
     ("Why is it blue? And when does it", True, "Why is it blue? And when does it"),
     ("Why is it", False, ""),
     ("Thanks! Why is it blue?\n\nThe sky is blue because", False, "Why is it blue?"),
     ("How does that compare with tea.", True, "How does that compare with tea?"),
     ("Tell me about tea.", True, "Tell me about tea."),
     ("How does that compare with tea", True, "How does that compare with tea?"),
     ("In which city is it drunk.", True, "In which city is it drunk?"),
     ("What is tea? I never had it.", True, "What is tea? I never had it."),
     ('He said "Why?" and left', False, 'He said "Why?"')],
)  # fmt: skip
def test_a_turn_is_one_paragraph_of_whole_sentences(said: str, finished: bool, turn: str) -> None:
    assert user_turn(said, finished) == turn


@pytest.mark.parametrize("said", ASSISTANT)
def test_an_assistants_turn_is_told_from_a_users(said: str) -> None:
    assert refusal(user_turn(said, True), HISTORY) == "assistant_like"


@pytest.mark.parametrize("said", USER)
def test_a_users_turn_is_not_taken_for_an_assistants(said: str) -> None:
    assert refusal(user_turn(said, True), HISTORY) == ""


@pytest.mark.parametrize(
    ("turn", "reason"),
    [("How hot should the water be?", ""),
     ("Are you sure that a filter is needed?", ""),
     ("", "empty"),
     ("Why so?", "empty"),
     ("How does coffee and coffee compare?", "nonsense"),
     ("How is coffee brewed, then?", "repeats"),
     ("Is it so that hot water runs through ground beans, and the filter keeps the grounds?", "assistant_like"),
     ("What is the capital of France?", "off_topic")],
)  # fmt: skip
def test_refusals_name_their_reason(turn: str, reason: str) -> None:
    assert refusal(turn, HISTORY) == reason


def test_the_answer_itself_is_an_assistants_turn() -> None:
    assert assistant_like(HISTORY[1]["content"]) and not assistant_like(HISTORY[0]["content"])
