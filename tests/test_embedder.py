"""The embedder: what the vector of a text depends on, and that it survives saving."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from embedllm import Embedder, ModelSpec
from embedllm.batches import PADDING, length_sorted
from embedllm.config import config_dir
from embedllm.embedder import MANIFEST
from embedllm.errors import InputError
from embedllm.pooling import AttentionPooling, EosPooling, LastTokenPooling, MeanPooling, PoolingHead
from embedllm.targets import locate

HEADS = {
    path.stem: locate(yaml.safe_load(path.read_text())["_target_"])
    for path in sorted((config_dir() / "pooling").glob("*.yaml"))
}
CLUSTER = 'This sentence : "{text}" belongs to the following cluster:'
TEXTS = [
    "a man is driving a car",
    "",
    " \n",
    "x",
    "🚗🚙 北京 naïve",
    "word " * 20_000,
    "<|eos|> and <|bos|> inside, and <|im_end|>",
    "!",
    "It ends here.",
    "a man is driving a car",
]


def embedder(path: Path, head: Callable[[int], PoolingHead] = MeanPooling, template: str = CLUSTER) -> Embedder:
    spec = ModelSpec(str(path), dtype="float32", max_length=128)
    built = Embedder.from_pretrained(spec, template=template, head=head)
    torch.manual_seed(0)
    for parameter in built.head.parameters():
        torch.nn.init.normal_(parameter)
    return built


@pytest.mark.thinned(3)
@pytest.mark.parametrize("template", ["{text}", CLUSTER])
@pytest.mark.parametrize("head", HEADS)
def test_a_vector_does_not_depend_on_batch_or_order(tiny_path: Path, head: str, template: str) -> None:
    model = embedder(tiny_path, HEADS[head], template)
    together = model.encode(TEXTS)
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    backwards = model.encode(TEXTS[::-1], batch_tokens=1)[::-1]
    assert np.isfinite(together).all()
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_padding_changes_no_vector_of_any_architecture(
    make_decoder: Callable[[str], Path], architecture: str, attention: str
) -> None:
    spec = ModelSpec(str(make_decoder(architecture)), attention=attention, dtype="float32", max_length=64)
    model = Embedder.from_pretrained(spec, template=CLUSTER, head=LastTokenPooling)
    together = model.encode(TEXTS, batch_tokens=10_000)
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_transformers_own_forward_gives_the_same_vector(tiny_path: Path, head: str) -> None:
    """An independent reference: left padding, the mask given to the model, hidden states pooled by hand."""
    model = embedder(tiny_path, HEADS[head])
    texts = ["a man is driving a car", "the weather was cold that day and it rained"]
    tokenizer = model.prompt.tokenizer
    tokenizer.padding_side = "left"
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    tokenizer.padding_side = "right"
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        hidden = model.backbone(**batch, position_ids=positions).last_hidden_state
        expected = torch.nn.functional.normalize(model.head(hidden, batch["attention_mask"].bool()), dim=-1)
    np.testing.assert_allclose(model.encode(texts), expected.numpy(), atol=1e-5)


def test_pool_over_picks_text_or_suffix(tiny_path: Path) -> None:
    text = "a man is driving a car"
    model = embedder(tiny_path)
    row = torch.tensor(model.tokenize([text]))
    before, after = model.prompt.prefix_tokens, model.prompt.suffix_tokens
    with torch.inference_mode():
        hidden = model.backbone(input_ids=row).last_hidden_state[0]
    parts = {"all": hidden, "text": hidden[before : len(hidden) - after], "suffix": hidden[len(hidden) - after :]}
    for pool_over, states in parts.items():
        head = partial(MeanPooling, pool_over=pool_over, normalize=False)
        vectors = embedder(tiny_path, head).encode([text, "longer " * 30])
        np.testing.assert_allclose(vectors[0], states.mean(dim=0), atol=1e-5)


def test_pooling_over_an_empty_text_pools_the_whole_prompt(tiny_path: Path) -> None:
    over_text = embedder(tiny_path, partial(MeanPooling, pool_over="text")).encode([""])
    over_all = embedder(tiny_path, MeanPooling).encode([""])
    np.testing.assert_allclose(over_text, over_all, atol=1e-6)


@pytest.mark.parametrize("wrong", [lambda x: x.mean((0, 1)), lambda x: x, lambda x: x[:, 0, 0], lambda x: x[:, 0, 1:]])
def test_a_head_that_returns_another_shape_is_named(
    tiny_path: Path, wrong: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    class Wrong(PoolingHead):
        def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return wrong(hidden.float())

    with pytest.raises(InputError, match=r"pooling\._target_: Wrong returned vectors of shape .* here \(2, 32\)"):
        embedder(tiny_path, Wrong).encode(["a man is driving", "a car"])


def test_a_text_without_tokens_is_one_eos(tiny_path: Path) -> None:
    model = embedder(tiny_path, template="{text}")
    assert model.tokenize(["", "x"])[0] == [model.prompt.tokenizer.eos_token_id]


def test_pad_or_eos_inside_a_text_is_pooled(tiny_path: Path) -> None:
    model = embedder(tiny_path, template="{text}")
    inside = model.prompt.tokenizer.eos_token
    plain, with_eos = model.encode(["a car", f"a car{inside}"])
    assert not np.allclose(plain, with_eos, atol=1e-3)


def test_equal_texts_are_encoded_once_and_come_back_in_order(tiny_path: Path) -> None:
    model = embedder(tiny_path)
    seen = []
    embed = model.embed
    model.embed = lambda rows, *rest: seen.append(len(rows)) or embed(rows, *rest)  # type: ignore[method-assign]
    vectors = model.encode(["a", "b", "a", "a", "b"])
    assert sum(seen) == 2
    assert np.array_equal(vectors[[0, 1]], vectors[[2, 4]])


def test_encode_takes_no_bare_string_and_any_number_of_texts(tiny_path: Path) -> None:
    model = embedder(tiny_path)
    with pytest.raises(TypeError, match="list of texts"):
        model.encode("one text")
    assert model.encode([]).shape == (0, model.output_size)


def test_encode_leaves_the_mode_and_uses_no_dropout(tiny_path: Path) -> None:
    model = embedder(tiny_path)
    model.backbone.config.attention_dropout = 0.5
    for module in model.backbone.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    model.train()
    assert np.array_equal(model.encode(["a b c d e f"]), model.encode(["a b c d e f"]))
    assert model.training


def test_normalize_false_gives_raw_states(tiny_path: Path) -> None:
    raw = embedder(tiny_path, partial(MeanPooling, normalize=False)).encode(["a car"])
    unit = embedder(tiny_path, MeanPooling).encode(["a car"])
    assert not np.isclose(np.linalg.norm(raw), 1, atol=1e-2)
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("head", HEADS)
def test_a_saved_embedder_gives_the_same_vectors(
    make_decoder: Callable[[str], Path], tmp_path: Path, head: str, architecture: str
) -> None:
    model = embedder(make_decoder(architecture), partial(HEADS[head], normalize=False))
    model.save(tmp_path / "model")
    for path in (tmp_path, tmp_path / "model"):  # a run folder, and the model in it
        loaded = Embedder.load(path)
        assert loaded.tokenize(TEXTS) == model.tokenize(TEXTS)
        assert np.array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


def test_the_backbone_is_saved_by_reference(tiny_path: Path, tmp_path: Path) -> None:
    embedder(tiny_path, AttentionPooling).save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {MANIFEST, "head.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_a_relative_folder_is_found_from_elsewhere(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_path.parent)
    Embedder.from_pretrained(f"./{tiny_path.name}").save(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert Embedder.load(tmp_path).encode(["x"]).shape == (1, 32)


def test_a_bare_decoder_gets_no_prompt_and_mean_pooling(tiny_path: Path) -> None:
    model = Embedder.load(tiny_path)
    np.testing.assert_allclose(model.encode(["a car"]), embedder(tiny_path, template="{text}").encode(["a car"]))


def test_a_bare_decoder_of_few_positions_reads_as_many(make_decoder: Callable[[str], Path]) -> None:
    for architecture in ("llama", "gpt2"):
        model = Embedder.load(make_decoder(architecture))
        positions = model.backbone.config.max_position_embeddings
        assert max(map(len, model.tokenize(["word " * 2000]))) == min(512, positions)
        assert np.isfinite(model.encode(["word " * 2000])).all()


def test_eos_head_pools_the_eos_of_truncated_texts_too(tiny_path: Path) -> None:
    model = embedder(tiny_path, EosPooling)
    assert all(row[-1] == model.prompt.tokenizer.eos_token_id for row in model.tokenize(TEXTS))


@pytest.mark.parametrize("budget", [1, 7, 100])
def test_batches_hold_every_row_once_and_keep_the_budget(budget: int) -> None:
    rows = [[0] * length for length in (3, 1, 9, 2, 2, 5, 1)]
    batches = list(length_sorted(rows, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    assert all(len(batch) == 1 or len(batch) * max(len(rows[i]) for i in batch) <= budget for batch in batches)


@pytest.mark.slow
def test_the_real_model_tells_topics_apart(smollm2_path: Path) -> None:
    model = Embedder.from_pretrained(str(smollm2_path), template=CLUSTER, head=LastTokenPooling)
    car, truck, soup = model.encode(["a man is driving a car", "the truck stopped on the road", "boil the soup slowly"])
    assert car @ truck > car @ soup


@pytest.mark.parametrize("shared", [0, 4])
def test_batches_hold_each_row_once_within_the_budget_and_with_little_padding(shared: int) -> None:
    rng = np.random.default_rng(0)
    rows = [[0] * int(size) for size in np.exp(rng.uniform(np.log(10), np.log(500), 400))]
    batches = list(length_sorted(rows, 1_000, shared))
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    sizes = [[len(rows[i]) - shared for i in batch] for batch in batches]
    assert all(len(batch) == 1 or len(batch) * batch[0] <= 1_000 for batch in sizes)
    padded = sum(len(batch) * batch[0] for batch in sizes)
    assert all(len(batch) * batch[0] - sum(batch) <= max(PADDING, 0.1 * len(batch) * batch[0]) for batch in sizes)
    assert sum(map(sum, sizes)) / padded > 0.9
    assert len(batches) < 1.3 * padded / 1_000 + 20
