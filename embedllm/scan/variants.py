"""The variants of a scan: embedders that differ in pooling and depth, and share model, prompt and a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedllm.adapter import AdapterSpec
from embedllm.backbone import check_backbone, load_config
from embedllm.blueprint import Blueprint, Head, draw_up
from embedllm.errors import InputError
from embedllm.model_spec import ModelSpec
from embedllm.prompt import SLOT
from embedllm.scan.layer_states import check_depth
from embedllm.scan.vector_key import depth_of, prompt_facts
from embedllm.storage import describe_head


@dataclass(frozen=True)
class Variant:
    """What may differ within a scan."""

    head: Head
    """With ``pool_over``, as the keyword of a :func:`functools.partial`."""
    layers: int | None = None
    final_norm: bool = True


def draw_up_variants(
    spec: ModelSpec,
    variants: Sequence[Variant],
    *,
    template: str = SLOT,
    bos: bool | str = "auto",
    adapter: AdapterSpec | None = None,
) -> list[Blueprint]:
    """Return the parts of the embedder of each variant, in order; no weights are loaded.

    Args:
        spec: the model; its layers and final norm are replaced by those of the variants.
        variants: what is scanned.
        template: see :meth:`embedllm.embedder.Embedder.from_pretrained`, here and below.
        bos: whether the prompt starts with BOS.
        adapter: which trained weights there are.

    Raises:
        InputError: a variant is impossible, such as pooling over the suffix of a prompt that has none.
    """
    config = load_config(spec.name)
    for layers in sorted({variant.layers for variant in variants if variant.layers is not None}):
        check_backbone(config, layers=layers, attention=spec.attention)
    drawn: dict[bool, Blueprint] = {}
    plans = []
    for variant in variants:
        head = variant.head(config.get_text_config(decoder=True).hidden_size)
        if head.appends_eos not in drawn:
            drawn[head.appends_eos] = draw_up(spec, template=template, bos=bos, head=variant.head, adapter=adapter)
        plan = drawn[head.appends_eos]
        if head.pool_over == "suffix" and plan.prompt.suffix_tokens == 0:
            raise InputError(f"pooling.pool_over: 'suffix', but nothing follows the text in the prompt {template!r}")
        cut = replace(spec, layers=variant.layers, final_norm=variant.final_norm)
        plans.append(replace(plan, spec=cut, head=head, head_config=describe_head(variant.head)))
    return plans


def check_plans(plans: Sequence[Blueprint], loaded: ModelSpec | None = None) -> None:
    """Make sure that embedders can share a pass.

    Args:
        plans: one or more.
        loaded: the model that the pass is to be through; None: one as deep as the deepest of ``plans``.

    Raises:
        ValueError: they are not of one model, adapter, template and BOS.
        InputError: a layer of the model depends on how many follow.
    """
    first = plans[0]
    prompts = {plan.head.appends_eos: prompt_facts(plan.prompt) for plan in plans}
    for plan in plans:
        if _shared(plan) != _shared(first) or prompt_facts(plan.prompt) != prompts[plan.head.appends_eos]:
            raise ValueError("the embedders of a scan must share model, adapter and prompt")
    specs = [plan.spec for plan in plans] + ([] if loaded is None else [loaded])
    depths = {depth_of(spec) for spec in specs}
    if len(depths) > 1:
        config = load_config(first.spec.name)
        for layers in sorted(depths):
            check_depth(config, layers, first.spec.attention)


def _shared(plan: Blueprint) -> tuple[Any, ...]:
    """Return what embedders of one scan have in common."""
    return replace(plan.spec, layers=None, final_norm=True), plan.adapter, plan.prompt.template
