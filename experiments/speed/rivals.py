"""What the benchmark of training compares with: sentence-transformers, and the way of the paper's scripts.

Each class makes one optimizer step of texts it is given, and says what it cost. All have the same weights, adapters on
the same layers, the same prompt and optimizer; texts are tokenized in the step.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from embedllm import Embedder

Texts = Sequence[str]
Optimizer = Callable[[Any], torch.optim.Optimizer]


class SentenceTransformers:
    """sentence-transformers' loss on an export of the model, in autocast as its trainer has it.

    Args:
        folder: of the export.
        lora: of the adapter.
        optimizer: of the trainable parameters.
        temperature: of the loss.
        dtype: of the weights, and of autocast if it is not float32.
        tokens: of a micro-batch of the cached loss; None: the plain loss.
    """

    def __init__(
        self,
        folder: Path,
        lora: LoraConfig,
        optimizer: Optimizer,
        temperature: float,
        dtype: torch.dtype,
        tokens: int | None,
    ) -> None:
        self.model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})
        if torch.cuda.is_available():
            self.model = self.model.cuda()
        self.model.add_adapter(lora)
        self.model.train()
        kind: Any = MultipleNegativesRankingLoss if tokens is None else CachedMultipleNegativesRankingLoss
        options = {} if tokens is None else {"mini_batch_num_tokens": tokens}
        self.loss = kind(self.model, scale=1 / temperature, **options)
        self.dtype = dtype
        self.optimizer = optimizer(p for p in self.model.parameters() if p.requires_grad)

    def __call__(self, anchors: Texts, positives: Texts) -> tuple[float, int]:
        """Make a step; return its loss and the tokens of its texts, padding not counted."""
        device = self.model.device
        features = [
            {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in side.items()}
            for side in (self.model.preprocess(list(anchors)), self.model.preprocess(list(positives)))
        ]
        assert all(side.get("modality", "text") == "text" for side in features)  # no chat template
        self.optimizer.zero_grad()
        with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            loss = self.loss(features, torch.arange(len(anchors), device=device))
        loss.backward()
        self.optimizer.step()
        return float(loss.detach()), sum(int(side["attention_mask"].sum()) for side in features)


class PapersWay:
    """A causal model with its head, both views padded to the longest text, micro-batches whose gradients are added.

    A micro-batch competes with itself only, so the loss is that of pools of ``micro_batch`` pairs.

    Args:
        embedder: whose tokens are used, in its prompt; its weights are read again, with the head.
        lora: of the adapter.
        optimizer: of the trainable parameters.
        temperature: of the loss.
        dtype: of the weights, and of autocast if it is not float32.
        micro_batch: pairs.
    """

    def __init__(
        self,
        embedder: Embedder,
        folder: Path,
        lora: LoraConfig,
        optimizer: Optimizer,
        temperature: float,
        dtype: torch.dtype,
        micro_batch: int = 12,
    ) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(embedder.device)
        self.model: Any = get_peft_model(model, lora).train()
        self.embedder, self.temperature, self.dtype, self.micro_batch = embedder, temperature, dtype, micro_batch
        self.optimizer = optimizer(p for p in self.model.parameters() if p.requires_grad)

    def __call__(self, anchors: Texts, positives: Texts) -> tuple[float, int]:
        """Make a step; return the mean loss of its micro-batches and the tokens of its texts."""
        self.optimizer.zero_grad()
        total, tokens = 0.0, 0
        for start in range(0, len(anchors), self.micro_batch):
            cut = slice(start, start + self.micro_batch)
            batch = self.embedder.collate(self.embedder.tokenize([*anchors[cut], *positives[cut]]))
            tokens += int(batch.lengths.sum())
            vectors = self._vectors(batch.input_ids, batch.lengths)
            first, second = vectors.chunk(2)
            logits = F.cosine_similarity(first.unsqueeze(1), second.unsqueeze(0), dim=-1) / self.temperature
            share = len(first) / len(anchors)
            loss = F.cross_entropy(logits, torch.arange(len(first), device=logits.device)) * share
            loss.backward()
            total += float(loss.detach())
        self.optimizer.step()
        return total, tokens

    def _vectors(self, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mask = (torch.arange(input_ids.size(1), device=lengths.device) < lengths.unsqueeze(1)).long()
        with torch.autocast(input_ids.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            output = self.model(input_ids=input_ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return output.hidden_states[-1][range(len(lengths)), lengths - 1].float()
