import math

import pytest
import torch
from torch import Tensor

from embedllm.errors import InputError
from embedllm.losses import AllPairsInfoNCE, InfoNCE, Matryoshka


def vectors(rows: int, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def picked(logits: list[float], own: int) -> float:
    """Cross-entropy of one row, by hand."""
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[own]


def test_two_pairs_by_hand():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    positives = torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    # cosines: anchor 0 (0.6, 0), anchor 1 (0.8, 1); temperature 0.5 doubles them once
    rows = (picked([1.2, 0.0], 0) + picked([1.6, 2.0], 1)) / 2
    columns = (picked([1.2, 1.6], 0) + picked([0.0, 2.0], 1)) / 2
    assert InfoNCE(0.5, symmetric=False)(anchors, positives).item() == pytest.approx(rows, abs=1e-14)
    assert InfoNCE(0.5)(anchors, positives).item() == pytest.approx((rows + columns) / 2, abs=1e-14)


@pytest.mark.parametrize("symmetric", [False, True])
def test_high_temperature_gives_log_of_the_pool(symmetric):
    loss = InfoNCE(1e9, symmetric)(vectors(7), vectors(7, seed=1))
    assert loss.item() == pytest.approx(math.log(7), abs=1e-8)


def test_negatives_enlarge_the_pool_of_the_anchors_only():
    batch = vectors(4), vectors(4, seed=1)
    negatives = vectors(4 * 3, seed=2).view(4, 3, 5)
    assert InfoNCE(1e9, False)(*batch, negatives=negatives).item() == pytest.approx(math.log(16), abs=1e-8)
    expected = (math.log(16) + math.log(4)) / 2
    assert InfoNCE(1e9, True)(*batch, negatives=negatives).item() == pytest.approx(expected, abs=1e-8)


def test_rows_of_a_bigger_pool_average_to_the_whole():
    anchors, positives, labels = vectors(6), vectors(6, seed=1), torch.tensor([0, 1, 0, 2, 1, 3])
    loss = InfoNCE(0.1, symmetric=False)
    shards = [loss(anchors[start : start + 2], positives, start, labels) for start in (0, 2, 4)]
    torch.testing.assert_close(sum(shards) / 3, loss(anchors, positives, labels=labels))


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("symmetric", [False, True])
def test_equals_sentence_transformers(symmetric, columns):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    theirs = MultipleNegativesRankingLoss(None, scale=1 / 0.07, directions=directions, partition_mode="per_direction")
    embeddings = [vectors(8, 16, seed) for seed in range(columns)]
    expected = theirs.compute_loss_from_embeddings(embeddings, None)
    negatives = embeddings[2] if columns == 3 else None
    torch.testing.assert_close(InfoNCE(0.07, symmetric)(*embeddings[:2], negatives=negatives), expected)


def test_labels_drop_the_columns_of_the_same_class():
    anchors, positives, labels = vectors(5), vectors(5, seed=1), torch.tensor([4, 7, 4, 4, 9])
    loss = InfoNCE(0.2, symmetric=False)
    by_hand = []
    for row in range(5):
        kept = [column for column in range(5) if column == row or labels[column] != labels[row]]
        by_hand.append(loss(anchors[row : row + 1], positives[kept], kept.index(row)))
    torch.testing.assert_close(loss(anchors, positives, labels=labels), torch.stack(by_hand).mean())


def test_labels_work_in_both_directions():
    anchors, positives, labels = vectors(5), vectors(5, seed=1), torch.tensor([4, 7, 4, 4, 9])
    one_way = InfoNCE(0.2, symmetric=False)
    expected = (one_way(anchors, positives, labels=labels) + one_way(positives, anchors, labels=labels)) / 2
    torch.testing.assert_close(InfoNCE(0.2)(anchors, positives, labels=labels), expected)


def test_labels_that_all_differ_change_nothing():
    batch = vectors(5), vectors(5, seed=1)
    torch.testing.assert_close(InfoNCE()(*batch, labels=torch.arange(5)), InfoNCE()(*batch))


def test_a_row_without_negatives_costs_nothing():
    anchors, positives = vectors(3).requires_grad_(), vectors(3, seed=1)
    loss = InfoNCE()(anchors, positives, labels=torch.zeros(3, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(anchors.grad, torch.zeros_like(anchors))


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 0, 2])])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients(symmetric, labels):
    tensors = [vectors(4).requires_grad_(), vectors(4, seed=1).requires_grad_(), vectors(3, seed=2).requires_grad_()]
    loss = InfoNCE(0.3, symmetric)
    assert torch.autograd.gradcheck(lambda a, p, n: loss(a, p, labels=labels, negatives=n), tensors)


def test_length_of_vectors_does_not_matter():
    anchors, positives = vectors(4), vectors(4, seed=1)
    torch.testing.assert_close(InfoNCE()(anchors * 50, positives * 0.01), InfoNCE()(anchors, positives))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    anchors, positives = vectors(6, 64).to(dtype), vectors(6, 64, seed=1).to(dtype)
    loss = InfoNCE(0.02)(anchors, positives)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), InfoNCE(0.02)(anchors.double(), positives.double()), rtol=1e-5, atol=1e-5)


def test_autocast_does_not_lower_the_precision():
    anchors, positives = vectors(6, 64).float(), vectors(6, 64, seed=1).float()
    expected = InfoNCE(0.02)(anchors, positives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(InfoNCE(0.02)(anchors, positives), expected)


def test_zero_vectors_stay_finite():
    anchors = torch.zeros(3, 4, requires_grad=True)
    loss = InfoNCE()(anchors, vectors(3, 4).float())
    loss.backward()
    assert loss.isfinite()
    assert anchors.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0, -0.1, 1e-30, math.nan, math.inf])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match=r"^loss\.temperature: "):
        InfoNCE(temperature)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 anchors at offset 3 do not fit 4 positives"):
        InfoNCE(symmetric=False)(vectors(2), vectors(4), offset=3)
    with pytest.raises(ValueError, match="needs an anchor for each positive"):
        InfoNCE()(vectors(2), vectors(4))
    with pytest.raises(ValueError, match="one entry for each of 4 positives"):
        InfoNCE(symmetric=False)(vectors(2), vectors(4), labels=torch.arange(2))


@pytest.mark.parametrize("symmetric", [False, True])
def test_equal_texts_are_no_negatives(symmetric):
    """Against a loop over the texts themselves."""
    anchors, positives, negatives = vectors(5), vectors(5, seed=1), vectors(4, seed=2)
    texts = ["a", "b", "a", "d", "e"], ["p", "q", "r", "q", "a"], ["p", "z", "b", "q"]
    numbers = {text: number for number, text in enumerate(sorted({text for column in texts for text in column}))}
    ids = torch.tensor([numbers[text] for column in texts for text in column])
    loss = InfoNCE(0.3, symmetric)(anchors, positives, negatives=negatives, texts=ids)

    def unit(rows):
        return (rows / rows.norm(dim=1, keepdim=True)).tolist()

    def cosine(one, other):
        return sum(x * y for x, y in zip(one, other, strict=True)) / 0.3

    a, p, n = unit(anchors), unit(positives), unit(negatives)

    def differ(i, j):
        return i == j or not {texts[0][i], texts[1][i]} & {texts[0][j], texts[1][j]}

    forward, back = [], []
    for i in range(5):
        kept = [j for j in range(5) if differ(i, j)]
        hard = [k for k in range(4) if texts[2][k] not in (texts[0][i], texts[1][i])]
        logits = [cosine(a[i], p[j]) for j in kept] + [cosine(a[i], n[k]) for k in hard]
        forward.append(picked(logits, kept.index(i)))
        kept = [j for j in range(5) if differ(j, i)]
        back.append(picked([cosine(a[j], p[i]) for j in kept], kept.index(i)))
    expected = (sum(forward) + sum(back)) / 10 if symmetric else sum(forward) / 5
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_different_texts_change_nothing():
    batch = vectors(4), vectors(4, seed=1)
    negatives = vectors(6, seed=2)
    expected = InfoNCE(0.1)(*batch, negatives=negatives)
    assert torch.equal(InfoNCE(0.1)(*batch, negatives=negatives, texts=torch.arange(14)), expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("columns", [2, 3])
def test_all_pairs_in_one_sum_equal_sentence_transformers(reverse, columns):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    directions = ("query_to_doc", "query_to_query", "doc_to_doc", *(["doc_to_query"] if reverse else []))
    theirs = MultipleNegativesRankingLoss(None, scale=1 / 0.07, directions=directions, partition_mode="joint")
    embeddings = [vectors(8, 16, seed) for seed in range(columns)]
    negatives = embeddings[2] if columns == 3 else None
    ours = AllPairsInfoNCE(0.07, reverse)(*embeddings[:2], negatives=negatives)
    expected = by_hand_all_pairs(embeddings, reverse)
    assert ours.item() == pytest.approx(expected, abs=1e-12)
    if columns == 2 and not reverse:  # theirs has hard negatives and, in reverse, the positive a second time
        torch.testing.assert_close(ours, theirs.compute_loss_from_embeddings(embeddings, None))


def by_hand_all_pairs(embeddings, reverse):
    a, p, *n = ((rows / rows.norm(dim=1, keepdim=True)).tolist() for rows in embeddings)
    losses = []
    for i in range(len(a)):
        others = [j for j in range(len(a)) if j != i]
        logits = [dot(a[i], p[i]), *(dot(a[i], p[j]) for j in others)]
        logits += [dot(a[i], a[j]) for j in others] + [dot(p[i], p[j]) for j in others]
        logits += [dot(p[i], a[j]) for j in others if reverse] + [dot(a[i], row) for row in (n[0] if n else [])]
        losses.append(picked([value / 0.07 for value in logits], 0))
    return sum(losses) / len(losses)


def dot(one, other):
    return sum(x * y for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", [InfoNCE, AllPairsInfoNCE])
def test_likely_false_negatives_are_left_out(kind):
    batch = vectors(6, 3), vectors(6, 3, seed=1)
    hard = vectors(5, 3, seed=2)
    a, p, n = ((rows / rows.norm(dim=1, keepdim=True)).tolist() for rows in (*batch, hard))
    others = [[j for j in range(6) if j != i] for i in range(6)]

    def kept(values, own):
        return [value / 0.2 for value in values if value <= own + 0.1]

    losses, masked = [], 0
    for i in range(6):
        own = dot(a[i], p[i])
        candidates = [dot(a[i], p[j]) for j in others[i]] + [dot(a[i], row) for row in n]
        if kind is AllPairsInfoNCE:
            candidates += [dot(a[i], a[j]) for j in others[i]] + [dot(p[i], p[j]) for j in others[i]]
        masked += len(candidates) - len(kept(candidates, own))
        losses.append(picked([own / 0.2, *kept(candidates, own)], 0))
    loss = kind(0.2, False, false_negative_margin=0.1)(*batch, negatives=hard)
    assert masked > 0
    assert loss.item() == pytest.approx(sum(losses) / 6, abs=1e-12)


def test_a_margin_is_taken_off_the_positive():
    batch = vectors(4), vectors(4, seed=1)
    a, p = ((rows / rows.norm(dim=1, keepdim=True)).tolist() for rows in batch)
    rows = [[(dot(a[i], p[j]) - 0.3 * (i == j)) / 0.1 for j in range(4)] for i in range(4)]
    expected = sum(picked(row, i) for i, row in enumerate(rows)) / 4
    assert InfoNCE(0.1, False, margin=0.3)(*batch).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("loss", [InfoNCE(0.1), InfoNCE(0.1, false_negative_margin=0.0), AllPairsInfoNCE(0.1)])
def test_a_row_whose_every_negative_is_left_out_has_loss_zero(loss):
    anchors = vectors(4).requires_grad_()
    hard = vectors(2, seed=3)
    texts = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])  # all anchors equal, all positives equal
    value = loss(anchors, vectors(4, seed=1), negatives=hard, texts=texts)
    value.backward()
    assert value.item() == 0
    assert torch.equal(anchors.grad, torch.zeros_like(anchors))


def test_a_learned_temperature_has_a_gradient_where_negatives_are_left_out():
    batch = vectors(4), vectors(4, seed=1)
    labels = torch.tensor([0, 0, 1, 2])
    loss = InfoNCE(0.1, learn_temperature=True).double()
    loss(*batch, labels=labels).backward()
    higher, lower = (InfoNCE(0.1 * math.exp(shift))(*batch, labels=labels) for shift in (1e-6, -1e-6))
    assert loss.temperature.log.grad.item() == pytest.approx((higher - lower).item() / 2e-6, rel=1e-6)


def test_a_learned_temperature_moves_and_stays_in_its_bounds():
    batch = vectors(8), vectors(8, seed=1)  # nothing matches: a flat softmax is best
    loss = InfoNCE(0.05, learn_temperature=True).double()
    assert [name for name, _ in loss.named_parameters()] == ["temperature.log"]
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    first = loss(*batch)
    numeric = (InfoNCE(0.05 * math.exp(1e-6))(*batch) - InfoNCE(0.05 * math.exp(-1e-6))(*batch)) / 2e-6
    first.backward()
    assert loss.temperature.log.grad.item() == pytest.approx(numeric.item(), rel=1e-6)
    for _ in range(200):
        optimizer.zero_grad()
        loss(*batch).backward()
        optimizer.step()
    assert 0.05 < loss.temperature().item() <= 1.0
    assert loss(*batch) < first


@pytest.mark.parametrize("reverse", [False, True])
def test_a_text_that_is_the_anchor_of_one_pair_and_the_positive_of_another_is_no_negative(reverse):
    anchors, positives = vectors(2), vectors(2, seed=1)
    anchors[1] = positives[0]
    texts = torch.tensor([0, 1, 1, 2])  # a b, b c
    assert float(AllPairsInfoNCE(0.3, reverse)(anchors, positives, texts=texts)) == pytest.approx(0.0, abs=1e-7)
    assert float(AllPairsInfoNCE(0.3, reverse)(anchors, positives)) > 0.1


def test_matryoshka_counts_the_negatives_of_its_loss():
    assert Matryoshka(AllPairsInfoNCE(), [2]).negatives_per_anchor(8, 3) == AllPairsInfoNCE().negatives_per_anchor(8, 3)


def test_matryoshka_is_the_mean_over_its_widths():
    batch = vectors(6, 16), vectors(6, 16, seed=1)
    hard, texts = vectors(3, 16, seed=2), torch.arange(15)
    inner = InfoNCE(0.1)
    loss = Matryoshka(inner, [4, 16], [1.0, 3.0])(*batch, negatives=hard, texts=texts)
    parts = [inner(*(rows[:, :w] for rows in batch), negatives=hard[:, :w], texts=texts) for w in (4, 16)]
    torch.testing.assert_close(loss, (parts[0] + 3 * parts[1]) / 4)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: InfoNCE(0.0), "loss.temperature: 0.0 is not a positive number"),
        (lambda: InfoNCE(2.0, learn_temperature=True), "loss.temperature: 2.0 cannot be learned; it must be from"),
        (lambda: InfoNCE(margin=-1), "loss.margin: -1 is no difference of cosines"),
        (lambda: AllPairsInfoNCE(false_negative_margin=2.0), "loss.false_negative_margin: 2.0 is no difference"),
        (lambda: Matryoshka(InfoNCE(), []), r"loss.widths: \[\] is not a list"),
        (lambda: Matryoshka(InfoNCE(), [4, 4]), r"loss.widths: \[4, 4\] is not a list"),
        (lambda: Matryoshka(InfoNCE(), [4, 8], [1.0]), r"loss.weights: \[1.0\] is not one positive number for each"),
        (
            lambda: Matryoshka(InfoNCE(), [4, 8])(vectors(2), vectors(2)),
            "loss.widths: 8 is more than the 5 of a vector",
        ),
    ],
)
def test_bad_arguments_are_named(build, sentence):
    with pytest.raises(InputError, match=sentence):
        build()
