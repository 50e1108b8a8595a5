"""Templates, masks and prompts; the texts are written out, so that a reader sees what is trained."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.chat import CHATML_TEMPLATE, NEMOTRON_TEMPLATE, encode_dialogue, encode_prompt, render, stop_ids
from models.config import ModelConfig
from models.folders import load_config
from models.tokenizer import Tokenizer

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<extra_id_0>' + message['role'] + '<extra_id_1>\\n\\n' + message['content'] | trim + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<extra_id_0>assistant<extra_id_1>\\n\\n' }}{% endif %}"
)
LLAMA2_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] }}"
    "{{ ' [/INST]' }}{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def say(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


TWO_TURNS = say((USER, "hello"), (ASSISTANT, "well,\nyes"), (USER, "and?"), (ASSISTANT, "한국 🙂 no"))


def trained_texts(tokenizer: Tokenizer, token_ids: list[int], trained: list[bool]) -> list[str]:
    """The text of each unbroken run of trained tokens."""
    runs: list[list[int]] = []
    for index, token_id in enumerate(token_ids):
        if trained[index]:
            if index == 0 or not trained[index - 1]:
                runs.append([])
            runs[-1].append(token_id)
    return [tokenizer.decode(run, skip_special_tokens=False) for run in runs]


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (CHATML_TEMPLATE, ("", "<|im_end|>")),
        (NEMOTRON_TEMPLATE, ("", "\n<extra_id_1>")),
        (LLAMA3_TEMPLATE, ("", "<|im_end|>")),
        (LLAMA2_TEMPLATE, (" ", " <|im_end|>")),
    ],
    ids=("chatml", "nemotron", "llama3", "llama2"),
)
def test_exactly_the_assistants_words_and_the_end_of_turn_are_trained(make_tokenizer, template, ends):
    tokenizer = make_tokenizer(template, bos="<|endoftext|>")
    token_ids, trained = encode_dialogue(tokenizer, TWO_TURNS)
    said = [ends[0] + message["content"] + ends[1] for message in TWO_TURNS[1::2]]
    assert trained_texts(tokenizer, token_ids, trained) == said
    assert tokenizer.decode(token_ids, skip_special_tokens=False) == render(tokenizer, TWO_TURNS)
    token_ids, trained = encode_dialogue(tokenizer, TWO_TURNS, last_turn_only=True)
    assert trained_texts(tokenizer, token_ids, trained) == said[1:]


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, NEMOTRON_TEMPLATE, LLAMA2_TEMPLATE])
def test_ids_and_text_are_those_of_transformers(make_tokenizer, template):
    tokenizer = make_tokenizer(template, bos="<|endoftext|>")
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend, bos_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=template
    )
    assert render(tokenizer, TWO_TURNS) == theirs.apply_chat_template(TWO_TURNS, tokenize=False)
    assert encode_dialogue(tokenizer, TWO_TURNS)[0] == theirs.apply_chat_template(TWO_TURNS)["input_ids"]
    prompt = theirs.apply_chat_template(TWO_TURNS[:3], add_generation_prompt=True)["input_ids"]
    assert encode_prompt(tokenizer, TWO_TURNS[:3]) == prompt


def test_the_nemotron_format_is_the_model_cards(make_tokenizer):
    tokenizer = make_tokenizer(NEMOTRON_TEMPLATE, eos="<|endoftext|>")
    opened = "<extra_id_0>System\n\n<extra_id_1>User\n{prompt 1}\n<extra_id_1>Assistant\n"
    assert render(tokenizer, say((USER, "{prompt 1}")), add_generation_prompt=True) == opened
    more = say((USER, "{prompt 1}"), (ASSISTANT, "{response 1}"), (USER, "{prompt N}"))
    card = opened + "{response 1}\n<extra_id_1>User\n{prompt N}\n<extra_id_1>Assistant\n"
    assert render(tokenizer, more, add_generation_prompt=True) == card
    with_system = say((SYSTEM, "T"), (USER, "x"))
    assert render(tokenizer, with_system) == "<extra_id_0>System\nT\n<extra_id_1>User\nx\n"


@pytest.mark.parametrize(
    ("template", "answer"),
    [(t, a) for t in (CHATML_TEMPLATE, NEMOTRON_TEMPLATE) for a in ("\nstarts with a line", "  spaces", "", "so\n\n")]
    + [(t, "fine") for t in (CHATML_TEMPLATE, NEMOTRON_TEMPLATE, LLAMA3_TEMPLATE, LLAMA2_TEMPLATE)],
)
def test_a_prompt_is_how_its_dialogue_begins(make_tokenizer, template, answer):
    """Also where what stands before the answer and its first letters would be cut into other tokens together than
    alone (Llama 3's two line breaks in a GPT-2 tokenizer): training sees the tokens that generation starts from."""
    tokenizer = make_tokenizer(template)
    dialogue = say((USER, "hello"), (ASSISTANT, answer), (USER, "\nmore"), (ASSISTANT, answer))
    token_ids, trained = encode_dialogue(tokenizer, dialogue)
    for turns in (1, 3):
        prompt = encode_prompt(tokenizer, dialogue[:turns])
        assert token_ids[: len(prompt)] == prompt
        assert trained[len(prompt)] and not trained[len(prompt) - 1]
    opened = render(tokenizer, dialogue[:1], add_generation_prompt=True)
    assert encode_prompt(tokenizer, dialogue[:1]) == tokenizer.encode(opened)


def test_a_partial_answer_is_left_open(make_tokenizer):
    tokenizer = make_tokenizer()
    prompt = encode_prompt(tokenizer, say((USER, "hello"), (ASSISTANT, "well, I")))
    text = tokenizer.decode(prompt, skip_special_tokens=False)
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nwell, I"


def test_one_bos_at_most(make_tokenizer):
    tokenizer = make_tokenizer("{{ bos_token }}" + LLAMA3_TEMPLATE, bos="<|endoftext|>")
    token_ids, trained = encode_dialogue(tokenizer, TWO_TURNS)
    assert token_ids.count(0) == 1 and len(token_ids) == len(trained)
    assert encode_prompt(tokenizer, TWO_TURNS[:1]).count(0) == 1
    assert trained_texts(tokenizer, token_ids, trained)[0] == "well,\nyes<|im_end|>"


def test_special_tokens_in_an_answer_do_not_move_the_mask(make_tokenizer):
    tokenizer = make_tokenizer()
    told = say((USER, "how do you stop?"), (ASSISTANT, "with <|im_end|>, so"))
    assert trained_texts(tokenizer, *encode_dialogue(tokenizer, told)) == ["with <|im_end|>, so<|im_end|>"]


def test_a_dialogue_that_ends_with_the_user_trains_only_answers(make_tokenizer):
    tokenizer = make_tokenizer()
    assert trained_texts(tokenizer, *encode_dialogue(tokenizer, TWO_TURNS[:3])) == ["well,\nyes<|im_end|>"]
    assert not any(encode_dialogue(tokenizer, TWO_TURNS[:1])[1])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHATML_TEMPLATE.replace("message['content'] +", "(message['content'] if loop.last else 'gone') +"), "prefix"),
        (CHATML_TEMPLATE.replace("message['content']", "message['content'] | upper"), "rewrites what the assistant"),
        (CHATML_TEMPLATE.replace("<|im_end|>", "[end]"), "no special token"),
        ("{{ raise_exception('no thanks') }}", "no thanks"),
        ("{% for %}", "not valid Jinja"),
        ("{{ messages[0].missing.deeper }}", "cannot render"),
        ("", "no chat template"),
    ],
)
def test_templates_that_cannot_be_masked_say_why(make_tokenizer, template, message):
    with pytest.raises(ValueError, match=message):
        encode_dialogue(make_tokenizer(template), TWO_TURNS)


def test_a_template_that_rewrites_history_can_still_prompt(make_tokenizer):
    template = CHATML_TEMPLATE.replace("message['content'] +", "(message['content'] if loop.last else 'gone') +")
    tokenizer = make_tokenizer(template)
    text = tokenizer.decode(encode_prompt(tokenizer, TWO_TURNS[:3]), skip_special_tokens=False)
    assert text == render(tokenizer, TWO_TURNS[:3], add_generation_prompt=True)


def test_templates_run_in_a_sandbox_and_know_no_date(make_tokenizer):
    with pytest.raises(ValueError, match="unsafe"):
        render(make_tokenizer("{{ messages.__class__.__mro__ }}"), TWO_TURNS)
    dated = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}no date{% endif %}"
    assert render(make_tokenizer(dated), TWO_TURNS) == "no date"


def test_generation_blocks_and_json_render_as_in_transformers(make_tokenizer):
    template = "{% for m in messages %}{% generation %}{{ m | tojson }}{% endgeneration %}{% break %}{% endfor %}"
    assert render(make_tokenizer(template), say((USER, "한 <b>"))) == '{"role": "user", "content": "한 <b>"}'


@pytest.mark.parametrize(
    ("template", "eos", "model_eos", "expected"),
    [
        (CHATML_TEMPLATE, "<|im_end|>", (2,), (2,)),
        (CHATML_TEMPLATE, "<|endoftext|>", (0,), (0, 2)),
        (NEMOTRON_TEMPLATE, "<|endoftext|>", (3,), (0, 3, 4)),
        ("", "<|endoftext|>", (), (0,)),
    ],
)
def test_stop_ids_are_the_models_and_the_templates(make_tokenizer, template, eos, model_eos, expected):
    config = ModelConfig("llama", 300, 8, 8, 1, 1, 1, 8, eos_ids=model_eos)
    assert stop_ids(make_tokenizer(template, eos=eos), config) == expected


def test_an_empty_prompt_is_refused(make_tokenizer):
    with pytest.raises(ValueError, match="0 messages"):
        encode_prompt(make_tokenizer(), [])


def test_smollm2_as_transformers_and_trained_on_its_own_words_only(smollm_folder: Path):
    tokenizer, theirs = Tokenizer.load(smollm_folder), AutoTokenizer.from_pretrained(smollm_folder)
    told = say((SYSTEM, "Be brief."), *((m["role"], m["content"]) for m in TWO_TURNS))
    for conversation in (told, TWO_TURNS):
        token_ids, trained = encode_dialogue(tokenizer, conversation)
        assert token_ids == theirs.apply_chat_template(conversation)["input_ids"]
        assert trained_texts(tokenizer, token_ids, trained) == ["well,\nyes<|im_end|>", "한국 🙂 no<|im_end|>"]
        prompt = theirs.apply_chat_template(conversation[:-1], add_generation_prompt=True)["input_ids"]
        assert encode_prompt(tokenizer, conversation[:-1]) == prompt == token_ids[: len(prompt)]
    assert stop_ids(tokenizer, load_config(smollm_folder)) == (2,)
