"""The contrastive step: however the pool is cut, the gradient is that of one batch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from embedllm.adapter import AdapterSpec
from embedllm.embedder import Embedder, ModelSpec
from embedllm.engine import ContrastiveStep, Pool
from embedllm.errors import InputError
from embedllm.losses import InfoNCE
from embedllm.pooling import AttentionPooling, EosPooling, LastTokenPooling, MeanPooling

ANCHORS = ["a man is driving a car", "rain", "the bank raised its rate " * 6, "a dog", "who knows", "rivers and hills"]
POSITIVES = [
    "someone drives",
    "it rained all day long in town",
    "rates go up",
    "an animal",
    "nobody",
    "the country " * 9,
]
TEMPERATURE = 0.1


def make(
    path: Path, head: type = MeanPooling, dropout: float = 0.0, attention: str = "causal", kind: str = "lora"
) -> Embedder:
    spec = ModelSpec(str(path), dtype="float32", attention=attention, max_length=64)
    adapter = AdapterSpec(kind=kind, r=4, dropout=dropout)
    embedder = Embedder.from_pretrained(spec, template='This "{text}" is:', head=head, adapter=adapter)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name or "query" in name:  # they start at zero, where half of the gradients vanish
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return embedder.train()


def pool(embedder: Embedder, **extra: Sequence[str]) -> Pool:
    rows = {name: embedder.tokenize(texts) for name, texts in extra.items()}
    return Pool(embedder.tokenize(ANCHORS), embedder.tokenize(POSITIVES), **rows)


def gradients(embedder: Embedder) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in embedder.named_parameters() if p.requires_grad and p.grad is not None}
    embedder.zero_grad()
    return found


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    assert ours
    for name, gradient in expected.items():
        error = float((ours[name] - gradient).norm() / gradient.norm().clamp(min=1e-6))
        assert error < 5e-5, f"{name} differs by {error:.1e} of its norm"


def by_hand(embedder: Embedder, batch: Pool) -> tuple[float, dict[str, Tensor]]:
    """One batch, one graph, the loss written out."""
    rows = [*batch.anchors, *batch.positives]
    vectors = normalize(embedder(*embedder.collate(rows)), dim=-1)
    anchors, positives = vectors.chunk(2)
    logits = anchors @ positives.T / TEMPERATURE
    own = torch.arange(len(anchors))
    loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    loss.backward()
    return float(loss.detach()), gradients(embedder)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("head", [MeanPooling, LastTokenPooling, EosPooling, AttentionPooling])
@pytest.mark.parametrize("grad_cache", [False, True])
@pytest.mark.parametrize("tokens", [1, 40, 10_000])
def test_micro_batches_give_the_gradient_of_one_batch(
    tiny_path: Path, head: type, attention: str, grad_cache: bool, tokens: int
) -> None:
    embedder = make(tiny_path, head, attention=attention)
    batch = pool(embedder)
    loss, expected = by_hand(embedder, batch)
    step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=tokens, grad_cache=grad_cache)
    report = step(batch, key=(0, 0))
    assert report.loss == pytest.approx(loss, abs=1e-5)
    assert_close(gradients(embedder), expected)


def test_grad_cache_replays_dropout(tiny_path: Path) -> None:
    embedder = make(tiny_path, dropout=0.5)
    found = []
    for grad_cache in (False, True):
        step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=40, grad_cache=grad_cache)
        step(pool(embedder), key=(0, 7))
        found.append(gradients(embedder))
    assert_close(*found)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("grad_cache", [False, True])
@pytest.mark.parametrize("tokens", [1, 40])
def test_dropout_is_on_and_the_same_however_the_pool_is_cut(
    tiny_path: Path, kind: str, grad_cache: bool, tokens: int
) -> None:
    embedder = make(tiny_path, dropout=0.5, kind=kind)
    batch = pool(embedder)
    whole = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=10_000)
    cut = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=tokens, grad_cache=grad_cache)
    whole_loss = whole(batch, key=(3, 5)).loss
    expected = gradients(embedder)
    assert cut(batch, key=(3, 5)).loss == pytest.approx(whole_loss, abs=1e-6)
    assert_close(gradients(embedder), expected)
    cut(batch, key=(3, 6))
    other = gradients(embedder)
    assert any(not torch.allclose(other[name], expected[name], atol=1e-4) for name in other)
    embedder.eval()
    cut(batch, key=(3, 5))
    without = gradients(embedder)
    assert any(not torch.allclose(without[name], expected[name], atol=1e-4) for name in without)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("grad_cache", [False, True])
def test_checkpointed_blocks_give_the_same_gradients_with_dropout_on(
    make_decoder: Callable[[str], Path], architecture: str, grad_cache: bool
) -> None:
    embedder = make(make_decoder(architecture), dropout=0.5)
    embedder._takes_whole_texts = True  # as checkpointed blocks do; the dropout of GPT-2's attention goes by the batch
    step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=100, grad_cache=grad_cache)
    passes: list[int] = []
    embeddings: list[bool] = []
    lora = next(module for module in embedder.modules() if hasattr(module, "lora_A"))
    lora.register_forward_hook(lambda *_: passes.append(1))
    found, counts = [], []
    for checkpointed in (False, True):
        if checkpointed:
            embedder.checkpoint_gradients()
            table = embedder.backbone.get_input_embeddings()
            table.register_forward_hook(lambda *values: embeddings.append(values[2].requires_grad))
        passes.clear()
        step(pool(embedder), key=(0, 7))
        counts.append(len(passes))
        found.append(gradients(embedder))
    assert_close(*found)
    assert all(gradient.abs().sum() > 0 for gradient in found[1].values())
    micro_batches = counts[0] // (1 + grad_cache)
    assert counts[1] == counts[0] + micro_batches  # each block was computed once more
    assert not any(embeddings)  # the backward pass ends above what is frozen


@pytest.mark.slow
def test_compiled_blocks_give_the_gradients_of_eager_ones_at_any_length(tiny_path: Path) -> None:
    """With the backend that compiles nothing to machine code, so that no compiler is needed."""
    from torch._dynamo.utils import counters

    embedder = make(tiny_path)
    names = list(embedder.state_dict())
    step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=60)
    batch, found = pool(embedder), []
    for compiled in (False, True):
        if compiled:
            counters.clear()
            embedder.compile_blocks("aot_eager")
        step(batch, key=(0, 0))
        found.append(gradients(embedder))
    assert_close(*found)
    assert 1 <= counters["stats"]["unique_graphs"] <= 5  # not one for each length, nor for each block
    assert not counters["graph_break"]
    assert list(embedder.state_dict()) == names


def test_a_machine_that_cannot_compile_is_one_sentence(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(torch, "compile", fail)
    sentence = (
        r"^trainer.compile: torch cannot compile on this machine \(Failed to find C compiler.\); leave the setting"
    )
    with pytest.raises(InputError, match=sentence):
        make(tiny_path).compile_blocks()


def test_equal_texts_are_dropped_apart(tiny_path: Path) -> None:
    """Or the two views of SimCSE would be one."""
    embedder = make(tiny_path, dropout=0.5)
    rows = embedder.tokenize(["the red car", "the red car"])
    step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=1000)
    one, other = step._embed(rows, [0, 1], (0, 0), None)
    assert not torch.allclose(one, other, atol=1e-3)


def test_the_global_random_state_is_given_back(tiny_path: Path) -> None:
    embedder = make(tiny_path, dropout=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ContrastiveStep(embedder, InfoNCE(), micro_batch_tokens=40)(pool(embedder), key=(0, 0))
    assert torch.equal(torch.rand(3), expected)


def test_hard_negatives_and_labels_reach_the_loss(tiny_path: Path) -> None:
    embedder = make(tiny_path)
    negatives = ["a stone", "the red car of the man"]
    labels = torch.tensor([0, 1, 0, 2, 3, 4])
    plain = pool(embedder, negatives=negatives)
    step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=50)
    report = step(Pool(plain.anchors, plain.positives, plain.negatives, labels), key=(0, 0))
    ours = gradients(embedder)
    vectors = embedder(*embedder.collate([*plain.anchors, *plain.positives, *plain.negatives]))
    loss = InfoNCE(TEMPERATURE)(vectors[:6], vectors[6:12], labels=labels, negatives=vectors[12:])
    loss.backward()
    assert report.loss == pytest.approx(float(loss.detach()), abs=1e-6)
    assert_close(ours, gradients(embedder))


def test_accumulated_pools_average_their_gradients(tiny_path: Path) -> None:
    embedder = make(tiny_path)
    batch = pool(embedder)
    halves = [Pool(batch.anchors[part], batch.positives[part]) for part in (slice(0, 3), slice(3, 6))]
    step = ContrastiveStep(embedder, InfoNCE(TEMPERATURE), micro_batch_tokens=40)
    for half in halves:
        step(half, key=(0, 0), scale=0.5)
    accumulated = gradients(embedder)
    parts = [by_hand(embedder, half)[1] for half in halves]
    assert_close(accumulated, {name: (parts[0][name] + parts[1][name]) / 2 for name in parts[0]})


def test_report_counts_real_and_padded_tokens(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedllm.batches.PADDING", 10_000)
    embedder = make(tiny_path)
    batch = pool(embedder)
    lengths = [len(row) for row in (*batch.anchors, *batch.positives)]
    whole = ContrastiveStep(embedder, InfoNCE(), micro_batch_tokens=100_000)(batch, key=(0, 0))
    alone = ContrastiveStep(embedder, InfoNCE(), micro_batch_tokens=1)(batch, key=(0, 0))
    assert (whole.tokens, whole.padded_tokens) == (sum(lengths), sum(lengths))  # texts of one row need no padding
    monkeypatch.setattr(Embedder, "packs_texts", lambda _: False)
    whole = ContrastiveStep(embedder, InfoNCE(), micro_batch_tokens=100_000)(batch, key=(0, 0))
    assert (whole.tokens, whole.padded_tokens) == (sum(lengths), max(lengths) * len(lengths))
    assert (alone.tokens, alone.padded_tokens) == (sum(lengths), sum(lengths))


def test_after_one_step_every_trainable_tensor_has_a_gradient(make_decoder: Callable[[str], Path]) -> None:
    for architecture in ("llama", "qwen3", "gemma3", "gpt2"):
        embedder = make(make_decoder(architecture))
        ContrastiveStep(embedder, InfoNCE(), micro_batch_tokens=64)(pool(embedder), key=(0, 0))
        trainable = {name for name, parameter in embedder.named_parameters() if parameter.requires_grad}
        found = gradients(embedder)
        assert found.keys() == trainable
        assert all(gradient.abs().sum() > 0 for gradient in found.values())
