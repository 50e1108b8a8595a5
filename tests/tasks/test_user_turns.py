"""Real phrasings of small models: what of a draft is a user's turn, and why others are refused."""

import pytest

from tasks.user_turns import refusal, strip_politeness, user_turn


@pytest.mark.parametrize(
    ("said", "left"),
    [("Thank you for the explanation! How does that compare with tea?", "How does that compare with tea?"),
     ("Thanks! What about the cost?", "What about the cost?"),
     ("Thank you so much. Can you give me an example?", "Can you give me an example?"),
     ("Many thanks for your help, but why is it blue?", "But why is it blue?"),
     ("Thanks a lot for that. Is it true for tea, too?", "Is it true for tea, too?"),
     ("That's a great explanation! What limits it?", "What limits it?"),
     ("This is very helpful. How long does it take?", "How long does it take?"),
     ("What a wonderful story! Who wrote it?", "Who wrote it?"),
     ("I really appreciate your answer. Which one is cheaper?", "Which one is cheaper?"),
     ("I'd be happy to help! What do you need?", "What do you need?"),
     ("Sure, I'd be happy to help you. What is the budget?", "What is the budget?"),
     ("Okay, I can help with that: which city do you mean?", "Which city do you mean?"),
     ("Great, how do I start?", "How do I start?"),
     ("Got it. What comes next?", "What comes next?"),
     ("Hello there! Where can I see one?", "Where can I see one?"),
     ("Could you explain it again? Thank you!", "Could you explain it again?"),
     ("How do I get there? Thanks in advance.", "How do I get there?"),
     ("Great! Thank you. That's really interesting! Why is that?", "Why is that?"),
     ("User: Why is that?", "Why is that?"),
     ('"Why is that?"', "Why is that?"),
     ("“What happens if it rains?”", "What happens if it rains?"),
     ("Thank you for your help.", ""),
     ("Great, thanks!", ""),
     ("   ", "")],
)  # fmt: skip
def test_politeness_goes_and_the_question_stays(said: str, left: str) -> None:
    assert strip_politeness(said) == left
    assert strip_politeness(left) == left


@pytest.mark.parametrize(
    "said",
    ["What is the difference between thanks and thank you?",
     "Which of these is a great choice for a beginner?",
     "Is it good for children? I have two.",
     "Surely there is more to it?",
     "Okayama is far from here, is it not?",
     "That great fire of London, when was it?",
     "I see the sea. Why is it salty?",
     "Write a thank-you note to my teacher.",
     "High mountains are cold. Why?"],
)  # fmt: skip
def test_what_only_looks_polite_stays(said: str) -> None:
    assert strip_politeness(said) == said


@pytest.mark.parametrize(
    ("said", "finished", "turn"),
    [("Why is it blue?", True, "Why is it blue?"),
     ("Why is it blue? And when does it", False, "Why is it blue?"),
     ("Why is it blue? And when does it", True, "Why is it blue? And when does it"),
     ("Why is it", False, ""),
     ("Thanks! Why is it blue?\n\nThe sky is blue because", False, "Why is it blue?"),
     ("How does that compare with tea.", True, "How does that compare with tea?"),
     ("Tell me about tea.", True, "Tell me about tea."),
     ('He said "Why?" and left', False, 'He said "Why?"')],
)  # fmt: skip
def test_a_turn_is_one_paragraph_of_whole_sentences(said: str, finished: bool, turn: str) -> None:
    assert user_turn(said, finished) == turn


HISTORY = [
    {"role": "user", "content": "How is coffee brewed?"},
    {"role": "assistant", "content": "Hot water runs through ground beans, and the filter keeps the grounds back."},
]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [("How hot should the water be?", ""),
     ("What would it cost?", ""),  # points back
     ("Are you sure that a filter is needed?", ""),
     ("Explain that in simple words.", ""),
     ("", "empty"),
     ("Why so?", "empty"),
     ("How does coffee and coffee compare?", "nonsense"),
     ("How is coffee brewed, then?", "repeats"),
     ("Here are five ways to brew it.", "assistant_like"),
     ("The beans are ground before the water comes.", "assistant_like"),
     ("As an AI I cannot brew it, can I?", "assistant_like"),
     ("How can I help you with coffee?", "assistant_like"),
     ("How can I assist you with coffee today?", "assistant_like"),
     ("Why does the user like coffee?", "assistant_like"),
     ("Is it so that hot water runs through ground beans, and the filter keeps the grounds?", "assistant_like"),
     ("What is the capital of France?", "off_topic")],
)  # fmt: skip
def test_refusals_name_their_reason(turn: str, reason: str) -> None:
    assert refusal(turn, HISTORY) == reason
