"""Back-translation with two small random MarianMT models."""

from pathlib import Path

import pytest
import torch

from embedllm.errors import InputError
from embedllm.synth.back_translation import BackTranslation
from embedllm.synth.draft import Item
from embedllm.synth.rows import SourceRows

ITEMS = [Item(i, "The valley " * (1 + i % 3)) for i in range(4)]


@pytest.fixture(scope="module")
def translators(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from transformers import AutoTokenizer, MarianConfig, MarianMTModel

    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(tiny_path)
        config = MarianConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=256,
            init_std=0.5,
            pad_token_id=1,
            eos_token_id=1,
            decoder_start_token_id=0,
            forced_eos_token_id=None,
        )
        folder = tmp_path_factory.mktemp(f"marian{seed}")
        MarianMTModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders.append(str(folder))
    return folders


def test_a_text_goes_through_both_models_whatever_stands_beside_it(translators: list[str]) -> None:
    generator = BackTranslation(*translators, beams=2, max_new_tokens=12, dtype="float32", batch_tokens=64)
    generator.prepare(SourceRows(ITEMS, ""))
    drafts = generator.generate(ITEMS)
    assert [generator.generate([item])[0] for item in ITEMS] == drafts
    (tokenizer, forward), (_, backward) = generator._models
    text = ITEMS[0].text
    for model in (forward, backward):
        ids = tokenizer([text], return_tensors="pt")
        written = model.generate(**ids, num_beams=2, do_sample=False, max_new_tokens=12)
        text = tokenizer.batch_decode(written, skip_special_tokens=True)[0]
    assert drafts[0].positive == text


def test_a_text_too_long_is_not_cut(translators: list[str]) -> None:
    generator = BackTranslation(*translators, beams=1, max_tokens=20, max_new_tokens=5)
    generator.prepare(SourceRows(ITEMS, ""))
    drafts = generator.generate(ITEMS)
    assert {draft.reason for draft in drafts} == {"", "text_too_long"}


def test_a_model_that_is_nowhere_is_said_in_one_sentence(translators: list[str]) -> None:
    with pytest.raises(InputError, match=r"^generator.backward: no MarianMT model .*put one on disk") as caught:
        BackTranslation(translators[0], "nobody/opus-mt-xx-en").prepare(SourceRows(ITEMS, ""))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(translators: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"generator.forward: .* cannot be loaded as a translation model"):
        BackTranslation(str(tmp_path), translators[1]).prepare(SourceRows(ITEMS, ""))


def test_a_block_of_texts_that_are_all_too_long_is_no_trouble(translators: list[str]) -> None:
    generator = BackTranslation(*translators, beams=1, max_tokens=2, max_new_tokens=5)
    generator.prepare(SourceRows(ITEMS, ""))
    assert [draft.reason for draft in generator.generate(ITEMS)] == ["text_too_long"] * len(ITEMS)
