"""A random two-layer Llama with a tokenizer of 300 tokens: made in a second, for tests and for trying commands out."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

SEED = 0
VOCABULARY = 300
MAX_POSITIONS = 4096
BOS, EOS = "<|bos|>", "<|eos|>"

SENTENCES = (
    "This sentence belongs to the following cluster.",
    "The meaning of the sentence in one word is here.",
    "A man is driving a car through the old town.",
    "The children are playing in the garden with their dog.",
    "She reads the paper in the morning and writes in the evening.",
    "There is no other answer to the question that was asked.",
    "Rivers and mountains are the borders of the country.",
    "The bank raised its interest rate for the third time this year.",
)


def build_tiny_model(folder: Path) -> None:
    """Write the model (float32 safetensors) and its tokenizer into ``folder``; the same weights every time."""
    tokenizer = _tokenizer()
    _model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that adds neither BOS nor EOS by itself."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=EOS, model_max_length=MAX_POSITIONS
    )


def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaModel:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,  # so that it can also be loaded with an LM head
        initializer_range=0.2,  # 1 / sqrt(hidden_size): wide enough that tokens change each other's states visibly
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # no pad_token_id: torch would make the state of that token, which is EOS as well, zero
    )
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(SEED)  # the CPU generator alone: torch.manual_seed would reach the GPUs too
    try:
        return LlamaModel(config)
    finally:
        torch.set_rng_state(state)
