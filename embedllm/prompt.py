"""Compile a prompt template into a tokenizer, so that ``tokenizer(text)`` returns the ids of the whole prompt.

The pieces before and after ``{text}`` are tokenized once, apart from the text, and become the tokenizer's
post-processor. So truncation can only shorten the text, ``return_special_tokens_mask`` tells the prompt from the
text, and the template is saved in ``tokenizer.json``: every program that loads the folder applies it.

Tokenizing the pieces apart is not the tokenization of the rendered string wherever a quotation mark touches
punctuation (``."`` is one token in most vocabularies). It is our definition, the same in training, scoring and export.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from embedllm.errors import InputError

SLOT = "{text}"
MIN_TEXT_TOKENS = 8
"""Tokens that ``model.max_length`` must leave for the text."""


@dataclass(frozen=True)
class Prompt:
    """A template compiled into a tokenizer."""

    tokenizer: PreTrainedTokenizerFast
    """Returns the ids of the whole prompt, truncated to its ``model_max_length``."""
    template: str
    prefix_tokens: int
    """Tokens before the text in every encoding, BOS included."""
    suffix_tokens: int
    """Tokens after the text in every encoding, EOS included."""


def split_template(template: str) -> tuple[str, str]:
    """Return what stands before and after the ``{text}`` slot of ``template``.

    Raises:
        InputError: if the slot is missing or stands more than once.
    """
    if template.count(SLOT) != 1:
        found = "no" if SLOT not in template else "more than one"
        raise InputError(
            f"prompt.template: {template!r} has {found} {SLOT} slot; write {SLOT} once, where the text goes"
        )
    prefix, suffix = template.split(SLOT)
    return prefix, suffix


def compile_prompt(
    tokenizer: PreTrainedTokenizerBase,
    template: str = SLOT,
    *,
    bos: bool | str = "auto",
    append_eos: bool = False,
    max_length: int = 512,
) -> Prompt:
    """Return a copy of ``tokenizer`` that carries ``template``; the argument is left as it is.

    Args:
        tokenizer: any tokenizer with a ``tokenizers`` backend.
        template: text with one ``{text}`` slot.
        bos: whether the prompt starts with BOS; ``"auto"`` does what ``tokenizer`` does by itself.
        append_eos: end every prompt with EOS, for heads that pool it.
        max_length: tokens of the whole prompt; longer texts are cut, the template never is.

    Raises:
        InputError: if the template has no slot, if a token that is asked for does not exist, or if ``max_length``
            leaves fewer than :data:`MIN_TEXT_TOKENS` tokens for the text.
    """
    prefix, suffix = split_template(template)
    leading, trailing = _special_ids(tokenizer, bos, append_eos)
    left = leading + _ids(tokenizer, prefix.removesuffix(" "))
    right = _ids(tokenizer, suffix) + trailing
    room = max_length - len(left) - len(right)
    if room < MIN_TEXT_TOKENS:
        raise InputError(
            f"model.max_length: {max_length} leaves {max(room, 0)} tokens for the text, because the prompt "
            f"{template!r} takes {len(left) + len(right)}; at least {MIN_TEXT_TOKENS} are needed"
        )
    # A copy: the caller's tokenizer may be compiled again with another template.
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.normalizer = _normalizer(tokenizer, backend.normalizer, prefix)
    backend.post_processor = _post_processor(tokenizer, left, right)
    return Prompt(_wrap(tokenizer, backend, max_length), template, len(left), len(right))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids) if text else []


def _special_ids(tokenizer: PreTrainedTokenizerBase, bos: bool | str, append_eos: bool) -> tuple[list[int], list[int]]:
    """Special ids before and after the text: the tokenizer's own, corrected by ``bos`` and ``append_eos``."""
    text = _ids(tokenizer, "x")
    whole = list(tokenizer("x").input_ids)
    start = next(i for i in range(len(whole)) if whole[i : i + len(text)] == text)
    leading, trailing = whole[:start], whole[start + len(text) :]
    if bos not in (True, False, "auto"):
        raise InputError(f"prompt.bos: {bos!r} is not one of auto, true, false")
    if bos is True and tokenizer.bos_token_id is None:
        raise InputError("prompt.bos: true, but the tokenizer of this model has no BOS token; use auto or false")
    if bos != "auto":
        leading = [tokenizer.bos_token_id] * bool(bos) + [i for i in leading if i != tokenizer.bos_token_id]
    if append_eos:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "pooling: this head needs an EOS token, and the tokenizer of this model has none; use last"
            )
        trailing = [tokenizer.eos_token_id]
    return leading, trailing


def _normalizer(
    tokenizer: PreTrainedTokenizerBase, own: normalizers.Normalizer | None, prefix: str
) -> normalizers.Normalizer:
    """Strip the text; give it the space that the prefix ends in, unless the tokenizer adds one by itself.

    White space around a text carries no meaning, and older sentence-transformers strip it before they tokenize.
    """
    steps: list[normalizers.Normalizer] = [normalizers.Strip()]
    if prefix.endswith(" "):
        spaced = _ids(tokenizer, " x")
        if _ids(tokenizer, prefix + "x")[-len(spaced) :] == spaced:
            steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence([*steps, own] if own is not None else steps)


def _post_processor(tokenizer: PreTrainedTokenizerBase, left: list[int], right: list[int]) -> TemplateProcessing:
    pieces = {"<prefix>": left, "<suffix>": right}
    template = " ".join((["<prefix>"] if left else []) + ["$A"] + (["<suffix>"] if right else []))
    special = [
        {"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for name, ids in pieces.items() if ids
    ]
    return TemplateProcessing(single=template, special_tokens=special)


def _wrap(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    """Wrap ``backend`` as the plain class: classes of model families rebuild their normalizer when they are loaded."""
    names = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    names.setdefault("pad_token", names.get("eos_token") or tokenizer.convert_ids_to_tokens(0))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side="right",
        truncation_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )
