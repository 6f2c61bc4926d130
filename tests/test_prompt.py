"""Prompts inside tokenizers, for each family of tokenizers that decoders use."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from embedllm.backbone import load_tokenizer
from embedllm.config import config_dir
from embedllm.errors import InputError
from embedllm.prompt import compile_prompt, split_template

FAMILIES = ["llama", "qwen3", "gemma3", "gpt2"]
TEMPLATES = {
    path.stem: yaml.safe_load(path.read_text())["template"] for path in sorted((config_dir() / "prompt").glob("*.yaml"))
}
SLOTS = ["{text}", 'This sentence : "{text}" means in one word:', "Cluster the text: {text}", "{text}."]
TEXTS = [
    "a man is driving a car",
    "",
    " ",
    "x",
    "naïve 北京 🚗🚙",
    "It ends here!",
    "tabs\tand\nlines",
    "word " * 400,
    "</s><eos><|eos|> is text",
]


@pytest.fixture(params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, make_decoder: Callable[[str], Path]) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(make_decoder(request.param)))


@pytest.mark.parametrize("append_eos", [False, True])
@pytest.mark.parametrize("template", SLOTS)
def test_reloaded_tokenizer_equals_the_compiled_one(
    tokenizer: PreTrainedTokenizerBase, template: str, append_eos: bool, tmp_path: Path
) -> None:
    prompt = compile_prompt(tokenizer, template, append_eos=append_eos, max_length=64)
    prompt.tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        compiled = prompt.tokenizer(text, truncation=True).input_ids
        assert reloaded(text, truncation=True).input_ids == compiled
    assert reloaded.model_max_length == 64
    assert reloaded.chat_template is None


@pytest.mark.parametrize("append_eos", [False, True])
@pytest.mark.parametrize("template", SLOTS)
def test_truncation_cuts_the_text_and_keeps_the_template(
    tokenizer: PreTrainedTokenizerBase, template: str, append_eos: bool
) -> None:
    prompt = compile_prompt(tokenizer, template, append_eos=append_eos, max_length=64)
    short = prompt.tokenizer("car", truncation=True).input_ids
    long = prompt.tokenizer("car " * 10_000, truncation=True).input_ids
    assert len(long) == 64
    assert long[: prompt.prefix_tokens] == short[: prompt.prefix_tokens]
    assert long[64 - prompt.suffix_tokens :] == short[len(short) - prompt.suffix_tokens :]
    if append_eos:
        assert long[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("template", SLOTS)
def test_special_tokens_mask_tells_the_prompt_from_the_text(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    prompt = compile_prompt(tokenizer, template, append_eos=True, max_length=64)
    for text in TEXTS:
        row = prompt.tokenizer(text, truncation=True, return_special_tokens_mask=True)
        inside = len(row.input_ids) - prompt.prefix_tokens - prompt.suffix_tokens
        assert row.special_tokens_mask == [1] * prompt.prefix_tokens + [0] * inside + [1] * prompt.suffix_tokens


@pytest.mark.parametrize("name", TEMPLATES)
def test_shipped_prompts_equal_the_rendered_text_where_no_quote_touches_punctuation(
    tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    prompt = compile_prompt(tokenizer, TEMPLATES[name], max_length=256)
    rendered = TEMPLATES[name].format(text="a man is driving a car")
    ours = prompt.tokenizer("a man is driving a car").input_ids
    assert prompt.tokenizer.decode(ours) == tokenizer.decode(tokenizer(rendered).input_ids)


def test_a_prompt_that_ends_in_a_space_gives_the_words_their_usual_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = compile_prompt(tokenizer, "Cluster the text: {text}", max_length=64)
    assert prompt.tokenizer("car sharing").input_ids == tokenizer("Cluster the text: car sharing").input_ids


def test_white_space_around_a_text_is_no_part_of_it(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = compile_prompt(tokenizer, "Cluster the text: {text}", max_length=64)
    assert prompt.tokenizer(" car\r\n").input_ids == prompt.tokenizer("car").input_ids


def test_bos_is_what_was_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    bos = tokenizer.bos_token_id
    has_bos = tokenizer("x").input_ids[0] == bos
    assert (compile_prompt(tokenizer).tokenizer("x").input_ids[0] == bos) == has_bos
    if bos is None:
        with pytest.raises(InputError, match="prompt.bos: true, but the tokenizer of this model has no BOS"):
            compile_prompt(tokenizer, bos=True)
    else:
        assert compile_prompt(tokenizer, bos=True).tokenizer("x").input_ids.count(bos) == 1
    assert bos not in compile_prompt(tokenizer, bos=False).tokenizer("x").input_ids


def test_compiling_leaves_the_given_tokenizer_as_it_was(tokenizer: PreTrainedTokenizerBase) -> None:
    before = tokenizer("a man is driving a car").input_ids
    compile_prompt(tokenizer, 'This "{text}" is', append_eos=True)
    assert tokenizer("a man is driving a car").input_ids == before


def test_max_length_must_leave_room_for_the_text(tokenizer: PreTrainedTokenizerBase) -> None:
    used = compile_prompt(tokenizer, TEMPLATES["knowledge"], max_length=512)
    length = used.prefix_tokens + used.suffix_tokens + 7
    with pytest.raises(InputError, match=rf"model.max_length: {length} leaves 7 tokens .* takes {length - 7}"):
        compile_prompt(tokenizer, TEMPLATES["knowledge"], max_length=length)
    assert compile_prompt(tokenizer, TEMPLATES["knowledge"], max_length=length + 1)


@pytest.mark.parametrize(("template", "found"), [("no slot", "no"), ("", "no"), ("{text} and {text}", "more than one")])
def test_a_template_has_one_slot(template: str, found: str) -> None:
    with pytest.raises(InputError, match=f"prompt.template: .* has {found} "):
        split_template(template)


def test_braces_besides_the_slot_are_text() -> None:
    assert split_template("{x} {{text}} {") == ("{x} {", "} {")


def test_unknown_bos_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match="prompt.bos: 'maybe' is not one of auto, true, false"):
        compile_prompt(tokenizer, bos="maybe")
