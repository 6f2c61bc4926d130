"""A tiny model does what every run relies on: it encodes the same twice, and it learns."""

import time

import numpy as np
import torch

from embedllm.adapter import AdapterSpec, trainable_parameters
from embedllm.doctor.verdict import FAIL, OK, Verdict
from embedllm.embedder import Embedder
from embedllm.engine import ContrastiveStep, Pool
from embedllm.losses import InfoNCE
from embedllm.model_spec import ModelSpec
from embedllm.pooling import LastTokenPooling

ANCHORS = ["a man is driving a car", "the bank raised its interest rate again", "soup", "nobody paints these rivers"]
POSITIVES = ["somebody drives", "interest rates went up", "a hot broth with bread and salt", "rivers without painters"]
TOLERANCE = 1e-5
"""Largest difference of an entry of a vector of unit length."""

PROMPT = 'This sentence : "{text}" belongs to the following cluster:'


class SelfTest:
    """The steps of the test, on the accelerator if there is one; each returns its verdict."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        spec = ModelSpec("embedded:tiny", dtype="float32", max_length=64)
        adapter = AdapterSpec("lora", r=4, alpha=8, dropout=0.0)
        embedder = Embedder.from_pretrained(spec, template=PROMPT, head=LastTokenPooling, adapter=adapter)
        self.embedder = embedder.to_accelerator()
        self.vectors = self.embedder.encode(ANCHORS)

    def repeats(self) -> Verdict:
        """Whether the same texts give the same bits."""
        same = np.array_equal(self.vectors, self.embedder.encode(ANCHORS))
        sentence = "the same texts give the same vectors" if same else "the same texts give other vectors"
        return Verdict("encoding", OK if same else FAIL, f"{sentence}, on {self.embedder.device.type}")

    def does_not_mix(self) -> Verdict:
        """Whether a text has the vector that it has alone."""
        alone = np.concatenate([self.embedder.encode([text]) for text in ANCHORS])
        apart = float(np.abs(alone - self.vectors).max())
        fine = apart <= TOLERANCE and bool(np.isfinite(alone).all())
        sentence = "texts in one batch have the vectors that they have alone"
        return Verdict("batching", OK if fine else FAIL, f"{sentence if fine else f'not so: {sentence}'} ({apart:.0e})")

    def learns(self) -> Verdict:
        """Whether a step of training lowers the loss of its own pairs."""
        step = ContrastiveStep(self.embedder.train(), InfoNCE(), micro_batch_tokens=512)
        pool = Pool(self.embedder.tokenize(ANCHORS), self.embedder.tokenize(POSITIVES))
        parameters = [parameter for _, parameter in trainable_parameters(self.embedder.backbone)]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        before = step(pool, key=(0, 0)).loss
        optimizer.step()
        optimizer.zero_grad()
        after = step(pool, key=(0, 1)).loss
        seconds = time.monotonic() - self.start
        return Verdict(
            "training",
            OK if after < before else FAIL,
            f"a step: loss {before:.3f} to {after:.3f} ({seconds:.1f} s in all)",
        )
