"""Small random decoders of several architectures, each with a tokenizer as its family has it."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, GemmaTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

LAYERS = 4
WIDTH = 32
VOCABULARY = 600
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SENTENCES = [
    f"{subject} {verb} {thing} {when}."
    for subject, verb, thing, when in itertools.product(
        ("The man", "A child", "Our bank", "Nobody", "This sentence"),
        ("drives", "belongs to", "didn't see", "paints", "means"),
        ("the red car", "a cluster", "42 rivers", "the café's window"),
        ("today", "in one word", "at 9:30"),
    )
]
BYTE_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def build_decoder(architecture: str, folder: Path) -> None:
    """Write a random decoder (float32 safetensors) and its tokenizer into ``folder``.

    Args:
        architecture: ``llama``, ``qwen3``, ``gemma3`` (sliding windows), ``gpt2`` (learned absolute positions) or
            ``olmo2`` (norms after attention and MLP).
        folder: an empty folder.
    """
    make_tokenizer, model_type, settings = ARCHITECTURES[architecture]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **_sizes(tokenizer), **settings))
        for parameter in model.parameters():  # wide weights and uneven norms: a layer or norm left out is seen
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)


def llama3_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE behind a split regex, BOS from a post-processor, no pad token, as Llama 3 has it."""
    bos, eos = "<|begin_of_text|>", "<|end_of_text|>"
    backend = _byte_level(LLAMA3_SPLIT, [bos, eos])
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, backend.token_to_id(bos))]
            ),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, model_max_length=256)


def qwen2_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that normalizes to NFC, no BOS, as Qwen 2 and 3 have it."""
    pad, eos = "<|endoftext|>", "<|im_end|>"
    backend = _byte_level(PRETOKENIZE_REGEX, [pad, eos], normalizers.NFC())
    return Qwen2Tokenizer(**_vocabulary(backend), pad_token=pad, eos_token=eos, model_max_length=256)


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """BPE over characters with ``▁`` for spaces and bytes for the unknown, BOS added, as Gemma has it."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # for the training: words, not sentences
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    backend.train_from_iterator(SENTENCES, trainer)
    tokenizer = GemmaTokenizer(**_vocabulary(backend), model_max_length=256, add_bos_token=True)
    bos = ("<bos>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B:1", special_tokens=[bos]
    )
    return tokenizer


def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with one special token that is BOS and EOS, no pad token, as GPT-2 has it."""
    token = "<|endoftext|>"
    vocabulary = _vocabulary(_byte_level(None, [token]))
    return GPT2Tokenizer(**vocabulary, bos_token=token, eos_token=token, unk_token=token, model_max_length=128)


def _byte_level(split: str | None, special: list[str], normalizer: Any = None) -> Tokenizer:
    """Train a byte-level BPE tokenizer; ``split`` replaces GPT-2's regex."""
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = normalizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    words = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*words, byte_level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=BYTE_ALPHABET, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


def _vocabulary(backend: Tokenizer) -> dict[str, Any]:
    """Return the vocabulary and merges of a trained tokenizer, as the constructors of its class want them."""
    model = json.loads(backend.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def _sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


_GATED = {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 256}
_WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)}

ARCHITECTURES: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], str, dict[str, Any]]] = {
    "llama": (llama3_tokenizer, "llama", _GATED),
    "qwen3": (qwen2_tokenizer, "qwen3", {**_GATED, "head_dim": 8}),
    "gemma3": (gemma_tokenizer, "gemma3_text", {**_GATED, **_WINDOWS, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "gpt2": (gpt2_tokenizer, "gpt2", {"max_position_embeddings": 128}),
    "olmo2": (llama3_tokenizer, "olmo2", _GATED),
}
