"""What a language model reads: a chat, or for a base decoder a text to go on with; always prefix, text, suffix."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from embedllm.errors import InputError
from embedllm.synth.styles import STYLES

_SLOT = "\u241f"  # stands for the text while the template is rendered
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_DAY = (
    "{% macro strftime_now(format) %}{{ format | replace('%Y', '2025') | replace('%m', '01') | replace('%d', '01')"
    " | replace('%B', 'January') | replace('%b', 'Jan') | replace('%A', 'Wednesday') }}{% endmacro %}{{ '' }}"
)
"""Stands before a template: the date of today, which Llama 3 and others are told, would decide what they write."""
_CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
EXAMPLE = "The bridge was closed for two years while the city repaired it."
"""What a model is shown first, with one of :data:`ANSWERS`."""
ANSWERS = {
    "paraphrase": "For two years nobody could use the bridge, because the city was mending it.",
    "simplify": "You could not cross the bridge for two years. The city was fixing it.",
    "expand": "The old bridge over the river was closed to all traffic for two years, until the city had repaired it.",
    "title": "Bridge Closed for Two Years",
    "summary": "Repairs closed the bridge for two years.",
    "keywords": "bridge, closure, repair, city",
    "topic": "Ferries carried the workers across the river every morning.",
    "paper_detail": "The bridge was closed to all traffic for two long years while the city repaired its arches.",
    "paper_simple": "The bridge was shut for two years so that it could be fixed.",
    "paper_teacher": "The city had to fix the bridge, so nobody could cross it for two years.",
    "paper_metaphor": "A stitched wound must rest before it bears weight.",
    "paper_question": "How did people cross the river in those two years?",
}


class Frame(NamedTuple):
    """Token ids around a text."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    lead: str = ""
    """What the text begins with, so that it is tokenized as in a running text."""


def chat_template(tokenizer: Any) -> str | None:
    """Return the template of a chat model: its own, ChatML where the vocabulary has its marks, else None."""
    if tokenizer.chat_template:
        try:
            return _DAY + str(tokenizer.get_chat_template())  # of several, the default one
        except ValueError as error:
            raise InputError("generator.chat: the model has several chat templates and no default one") from error
    return _CHATML if all(mark in tokenizer.get_vocab() for mark in _CHATML_MARKS) else None


def chat_frame(tokenizer: Any, style: str, template: str, system: str | None, example: bool) -> Frame:
    """Return the frame of a chat in which the user asks for a style.

    Args:
        tokenizer: of the model.
        style: a key of :data:`STYLES`.
        template: as :func:`chat_template` returns it.
        system: the first message; None: whatever the template says by itself.
        example: whether the chat begins with an example that has been answered.
    """
    messages = chat_messages(style, _SLOT, system, example)
    try:
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # whatever a template raises, as some do for a system message
        raise InputError(f"generator.system: the model's chat template refuses the chat ({error})") from error
    prefix, found, suffix = rendered.partition(_SLOT)
    if not found:
        raise InputError("generator.chat: the model's chat template leaves the text out; chat=false does without it")
    return Frame(_ids(tokenizer, prefix), _ids(tokenizer, suffix))


def chat_messages(style: str, text: str, system: str | None, example: bool) -> list[dict[str, str]]:
    """Return the messages that ask for a style."""
    ask = f"{STYLES[style].instruction}\n\nText: "
    messages = [] if system is None else [{"role": "system", "content": system}]
    if example:
        messages.append({"role": "user", "content": ask + EXAMPLE})
        messages.append({"role": "assistant", "content": ANSWERS[style]})
    return [*messages, {"role": "user", "content": ask + text}]


def base_frame(tokenizer: Any, style: str) -> Frame:
    """Return the frame of an example and the text, for a decoder that goes on likewise to the end of the line."""
    cue = STYLES[style].cue
    start = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    prefix = f"Text: {EXAMPLE}\n{cue}: {ANSWERS[style]}\n\nText:"
    return Frame(start + _ids(tokenizer, prefix), _ids(tokenizer, f"\n{cue}:"), " ")


def line_ends(tokenizer: Any) -> list[int]:
    """Return all tokens that hold the end of a line."""
    vocabulary = sorted(tokenizer.get_vocab().values())
    texts = tokenizer.batch_decode([[token] for token in vocabulary])
    return [token for token, text in zip(vocabulary, texts, strict=True) if "\n" in text]


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    found: Sequence[int] = tokenizer(text, add_special_tokens=False).input_ids
    return tuple(found)
