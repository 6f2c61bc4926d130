"""Every shipped head, found through its YAML: a new one is tested the day it is added."""

import pytest
import torch
import yaml

from embedllm.config import config_dir
from embedllm.embedder import build_head
from embedllm.errors import InputError
from embedllm.pooling import PoolingHead

HEADS = sorted(path.stem for path in (config_dir() / "pooling").glob("*.yaml"))
B, L, D = 4, 7, 6


def make_head(name: str, **changes: object) -> PoolingHead:
    config = yaml.safe_load((config_dir() / "pooling" / f"{name}.yaml").read_text())
    head = build_head({**config, **changes}, D)
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.eval()


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


def pad(states: torch.Tensor, width: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Put (n, D) states into a row of ``width`` whose padding holds NaN."""
    row = torch.full((1, width, D), float("nan"))
    at = slice(0, len(states)) if side == "right" else slice(width - len(states), width)
    row[0, at] = states
    mask = torch.zeros(1, width, dtype=torch.bool)
    mask[0, at] = True
    return row, mask


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", HEADS)
def test_padding_on_either_side_changes_nothing(name: str, side: str, hidden: torch.Tensor) -> None:
    head = make_head(name)
    alone = head(hidden[:1], torch.ones(1, L, dtype=torch.bool))
    padded = head(*pad(hidden[0], L + 5, side))
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", HEADS)
def test_a_vector_does_not_depend_on_its_batch(name: str, hidden: torch.Tensor) -> None:
    head = make_head(name)
    mask = torch.ones(B, L, dtype=torch.bool)
    together = head(hidden, mask)
    alone = torch.cat([head(hidden[i : i + 1], mask[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", HEADS)
def test_shape_dtype_and_untouched_mask(name: str, hidden: torch.Tensor) -> None:
    head = make_head(name)
    mask = torch.ones(B, L, dtype=torch.long)
    mask[1, 3:] = 0
    before = mask.clone()
    pooled = head(hidden.bfloat16(), mask.bool())
    assert pooled.shape == (B, head.output_size)
    assert pooled.dtype == torch.float32
    assert torch.equal(mask, before)


@pytest.mark.parametrize("name", HEADS)
def test_one_token_is_its_own_vector(name: str, hidden: torch.Tensor) -> None:
    head = make_head(name)
    pooled = head(hidden[:1, :1], torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(pooled[0, :D], hidden[0, 0], atol=1e-6, rtol=0)


def test_closed_forms() -> None:
    states = torch.tensor([[[1.0] * D, [4.0] * D, [-2.0] * D, [9.0] * D]])
    mask = torch.tensor([[True, True, True, False]])
    expected = {"mean": 1.0, "last": -2.0, "eos": -2.0, "max": 4.0, "weighted_mean": (1 + 8 - 6) / 6}
    for name, value in expected.items():
        torch.testing.assert_close(make_head(name)(states, mask), torch.full((1, D), value))
    concat = make_head("concat")(states, mask)
    torch.testing.assert_close(concat, torch.tensor([[1.0] * D + [-2.0] * D]))


def test_attention_weighs_by_the_softmax_of_the_scaled_product() -> None:
    head = make_head("attention")
    states = torch.randn(1, 3, D, dtype=torch.float64).float()
    weights = torch.softmax(states[0].double() @ head.query.double() / D**0.5, dim=0)
    expected = (weights.unsqueeze(1) * states[0].double()).sum(0)
    torch.testing.assert_close(
        head(states, torch.ones(1, 3, dtype=torch.bool))[0].double(), expected, atol=1e-6, rtol=0
    )


def test_untrained_attention_is_the_mean(hidden: torch.Tensor) -> None:
    mask = torch.ones(B, L, dtype=torch.bool)
    untrained = build_head({"_target_": "embedllm.pooling.AttentionPooling"}, D)
    torch.testing.assert_close(untrained(hidden, mask), make_head("mean")(hidden, mask))


def test_mean_of_half_precision_states_is_accumulated_in_float32() -> None:
    states = torch.full((1, 600, D), 120.0, dtype=torch.float16)  # their sum, 72,000, is inf in float16
    pooled = make_head("mean")(states, torch.ones(1, 600, dtype=torch.bool))
    torch.testing.assert_close(pooled, torch.full((1, D), 120.0))


def test_unknown_pool_over_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(InputError, match="'prompt' is not one of all, text, suffix"):
        make_head("mean", pool_over="prompt")


def test_a_head_that_pools_eos_refuses_to_leave_it_out() -> None:
    with pytest.raises(InputError, match="leaves out the EOS"):
        make_head("eos", pool_over="text")


def test_only_heads_are_built_from_a_saved_description() -> None:
    with pytest.raises(InputError, match="is not a PoolingHead"):
        build_head({"_target_": "os.system"}, D)


def test_a_saved_head_whose_module_is_not_on_the_path_says_what_to_do() -> None:
    with pytest.raises(InputError, match="'my_heads.Middle' cannot be imported .* PYTHONPATH"):
        build_head({"_target_": "my_heads.Middle"}, D)


@pytest.mark.parametrize("name", HEADS)
def test_sentence_transformers_pools_alike(name: str, hidden: torch.Tensor) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    head = make_head(name)
    if head.sentence_transformers_mode is None:
        pytest.skip("has no equal in sentence-transformers")
    theirs = Pooling(D, pooling_mode=head.sentence_transformers_mode)
    mask = torch.ones(B, L, dtype=torch.long)
    mask[0, 4:] = 0
    expected = theirs({"token_embeddings": hidden, "attention_mask": mask})["sentence_embedding"]
    torch.testing.assert_close(head(hidden, mask.bool()), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", HEADS)
def test_the_weights_of_tokens_make_the_vector(name: str, hidden: torch.Tensor) -> None:
    head = make_head(name)
    row, mask = pad(hidden[0, :5], L, "right")
    weights = head.token_weights(row, mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1))
    assert (weights[~mask] == 0).all()
    if not head.weighs_by_state:
        assert torch.equal(weights, head.token_weights(torch.zeros(1, L, D), mask))
    vector = head(row, mask)[0].detach()
    if name == "max":
        wins = hidden[0, :5].argmax(dim=0)
        torch.testing.assert_close(weights[0, :5], torch.bincount(wins, minlength=5) / D)
    elif type(head).__module__ == PoolingHead.__module__:  # one that somebody adds need not average states
        parts = vector.view(-1, D).mean(dim=0)  # of concat: half the weights are those of each
        torch.testing.assert_close(weights[0, :5].detach() @ hidden[0, :5], parts, atol=1e-6, rtol=1e-5)
