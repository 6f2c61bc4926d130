"""Memory: what is expected, what is said of it at the start, and what happens when it runs out."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_training import make_pool

from embedllm.adapter import AdapterSpec
from embedllm.data.tables import Pair
from embedllm.datamodule import StepBatch
from embedllm.embedder import Embedder, ModelSpec
from embedllm.engine import ContrastiveStep, Pool
from embedllm.errors import InputError
from embedllm.losses import AllPairsInfoNCE, InfoNCE
from embedllm.memory import bytes_per_token, fitting_tokens
from embedllm.module import EmbedderModule, warmup_schedule
from embedllm.processes import Processes
from embedllm.start_line import start_line


def make(path: Path, tokens: int = 1_000, layers: int = 2, **options: Any) -> tuple[EmbedderModule, StepBatch]:
    spec = ModelSpec(str(path), dtype="float32", layers=layers, max_length=64)
    adapter = AdapterSpec(kind="lora", r=4, dropout=0.5)
    embedder = Embedder.from_pretrained(spec, template='This "{text}" is:', adapter=adapter)
    step = ContrastiveStep(embedder, InfoNCE(0.1), micro_batch_tokens=tokens, **options)
    module = EmbedderModule(step, torch.optim.AdamW, warmup_schedule("constant", 0, 10), None, 0)
    return module, StepBatch([make_pool(embedder, number, 7, 5) for number in range(2)], [[], []])


def gradients(module: EmbedderModule, batch: StepBatch) -> dict[str, torch.Tensor]:
    module.zero_grad()
    module._gradients(batch, 3)
    return {name: p.grad.clone() for name, p in module.trainable().items() if p.grad is not None}


def limit(module: EmbedderModule, tokens: int) -> list[int]:
    """Let the memory hold a forward pass of so many tokens, padding included; return the sizes that are asked for."""
    asked: list[int] = []

    def check(backbone: torch.nn.Module, positional: Any, named: dict[str, Any]) -> None:
        asked.append(named["input_ids"].numel())
        if asked[-1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    module.embedder.backbone.register_forward_pre_hook(check, with_kwargs=True)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("grad_cache", [False, True])
def test_a_step_out_of_memory_is_made_again_with_the_same_gradients(
    tiny_path: Path, caplog: pytest.LogCaptureFixture, grad_cache: bool
) -> None:
    module, batch = make(tiny_path, grad_cache=grad_cache)
    expected = gradients(module, batch)
    asked = limit(module, 130)
    found = gradients(module, batch)
    assert 60 < module.step.micro_batch_tokens <= 130
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    start = "step 3 ran out of memory and is made again with trainer."
    if not grad_cache:
        assert said.pop(0) == f"{start}grad_cache=true, which changes no gradient"
    assert said
    assert all(text.startswith(f"{start}micro_batch_tokens=") for text in said)
    asked.clear()
    gradients(module, batch)
    assert max(asked) <= 130  # the next step is cut finer at once


@pytest.mark.slow
def test_a_text_that_does_not_fit_alone_is_one_sentence(tiny_path: Path) -> None:
    module, batch = make(tiny_path)
    longest = max(len(row) for pool in batch.pools for row in (*pool.anchors, *pool.positives, *pool.negatives))
    limit(module, 1)
    sentence = (
        f"trainer.micro_batch_tokens: out of memory with a text of {longest} tokens alone in its micro-batch; set "
        "trainer.gradient_checkpointing=true, or lower trainer.batch_size or model.max_length"
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        gradients(module, batch)


def test_all_processes_learn_that_one_is_out_of_memory() -> None:
    class Other(Processes):
        def highest(self, value: int) -> int:
            return 1

    with pytest.raises(torch.OutOfMemoryError, match="another process ran out of memory"), Other(0, 2).together():
        pass


def test_the_size_of_micro_batches_is_resumed_where_it_was_not_typed(tiny_path: Path) -> None:
    module, _ = make(tiny_path)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.step.micro_batch_tokens = 77
    module.on_save_checkpoint(checkpoint)
    for resumes, expected in ((True, 77), (False, 1_000)):
        other, _ = make(tiny_path)
        other.resumes_cut = resumes
        other.on_load_checkpoint(checkpoint)
        assert other.step.micro_batch_tokens == expected


def test_bytes_of_a_token_count_the_layers_and_not_the_weights(tiny_path: Path) -> None:
    one, two = (bytes_per_token(make(tiny_path, layers=layers)[0].step) for layers in (1, 2))
    hidden, inner, heads = 32, 64, 4
    assert two - one > 4 * (2 * hidden + 2 * inner)  # what no implementation can do without
    assert two - one < 4 * (40 * hidden + 20 * inner + 64 * heads)
    step = make(tiny_path)[0].step
    assert fitting_tokens(step, 1e12, 16_384) == 16_384
    assert fitting_tokens(step, 2 * two * 1_000, 16_384) == 512
    assert fitting_tokens(step, 0, 16_384) == 1


def test_the_start_line_says_what_competes_and_what_it_takes(tiny_path: Path) -> None:
    module, batch = make(tiny_path, tokens=60)
    module.step.processes = Processes(0, 2)
    tokens = sum(len(row) for pool in batch.pools for row in (*pool.anchors, *pool.positives, *pool.negatives))
    trained = sum(parameter.numel() for parameter in module.trainable().values())
    line = start_line(module, batch)
    assert line.startswith("pool of 7 pairs, up to 11 negatives an anchor, 2 processes, ")
    assert f" of at most 39 tokens, {tokens:,} tokens a step, {trained:,} parameters trained (" in line
    assert re.search(r"about \d+\.\d GB for model and training$", line)


@pytest.mark.parametrize(
    ("loss", "count"), [(InfoNCE(), 6 + 5), (AllPairsInfoNCE(reverse=False), 18 + 5), (AllPairsInfoNCE(), 24 + 5)]
)
def test_negatives_are_counted_as_the_loss_ranks_them(loss: InfoNCE, count: int) -> None:
    vectors = torch.eye(32)[:19]  # all cosines are 0 but that of equal vectors: each term of the sum is 1
    anchors, positives, negatives = vectors[:7], vectors[7:14], vectors[14:]
    loss.symmetric = False
    terms = loss(anchors, positives, negatives=negatives).exp()
    assert loss.negatives_per_anchor(7, 5) == count == round(float(terms)) - 1


def test_a_pool_of_one_text_trains_nothing_and_says_so(tiny_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module, _ = make(tiny_path)
    rows = module.embedder.tokenize(["rain"] * 8)
    pool = Pool(rows[:4], rows[4:], texts=torch.zeros(8, dtype=torch.long))
    module.trainer = type("Trainer", (), {})  # type: ignore[assignment]
    optimizer = torch.optim.SGD(module.trainable().values(), lr=0.1)
    optimizer.param_groups[0]["base_lr"] = 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbedderModule, "global_step", 0)
        patch.setattr(EmbedderModule, "optimizers", lambda self: optimizer)
        before = {name: parameter.clone() for name, parameter in module.trainable().items()}
        module.training_step(StepBatch([pool], [[Pair("rain", "rain")] * 4]), 0)
    assert module.last["train/loss"] == 0
    assert "step 0 trains nothing, as its loss is 0: no pair has a negative" in caplog.text
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.trainable().items())
