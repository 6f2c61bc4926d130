import random

import numpy as np
import pytest
import torch

from embedllm.errors import InputError
from embedllm.eval.specs import parse_specs
from embedllm.eval.tasks import check_max_documents, prepare_tasks


def prepare(*specs, max_documents=None):
    return [task.load() for task in prepare_tasks(parse_specs(list(specs)), max_documents)]


def test_all_documents_of_a_file_are_clustered(topics):
    (task,) = prepare(str(topics))
    assert len(task.dataset["test"]) == 91
    assert task.max_fraction_of_documents_to_embed is None


def test_everything_else_is_as_mteb_has_it(topics, pairs):
    from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskSTS

    clustering, classification, sts = prepare(str(topics), f"classification:{topics}", str(pairs))
    own = {"metadata", "max_fraction_of_documents_to_embed", "min_score", "max_score"}
    for task, base in ((clustering, AbsTaskClustering), (classification, AbsTaskClassification), (sts, AbsTaskSTS)):
        assert type(task).__bases__ == (base,)
        assert {name for name in vars(type(task)) if not name.startswith("_")} <= own
        assert task.seed == 42


def test_halves_of_a_file_are_trained_and_tested_on(topics):
    (task,) = prepare(f"classification:{topics}")
    train, test = task.dataset["train"]["text"][:], task.dataset["test"]["text"][:]
    assert abs(len(train) - len(test)) <= 3
    assert len(set(train) | set(test)) == 91


def test_one_number_stands_for_one_label(topics):
    (task,) = prepare(f"classification:{topics}")
    labels = dict(line.split(",") for line in topics.read_text().splitlines()[1:])
    seen = {
        (labels[text], number)
        for split in task.dataset.values()
        for text, number in zip(split["text"], split["label"], strict=True)
    }
    assert seen == {("fish", 0), ("star", 1), ("tree", 2)}


def test_the_range_of_the_scores_is_that_of_the_file(pairs):
    (task,) = prepare(str(pairs))
    assert task.min_score == min(task.dataset["test"]["score"])
    assert task.max_score == max(task.dataset["test"]["score"])


def test_a_limit_bounds_every_local_task_in_the_same_way_each_time(topics, pairs):
    first, second = (prepare(str(topics), f"classification:{topics}", str(pairs), max_documents=10) for _ in range(2))
    for task, again in zip(first, second, strict=True):
        assert all(len(split) == 10 for split in task.dataset.values())
        assert {name: split.to_dict() for name, split in task.dataset.items()} == {
            name: split.to_dict() for name, split in again.dataset.items()
        }


def test_the_revision_follows_the_content_of_the_file(topics):
    (before,) = prepare(str(topics))
    topics.write_text(topics.read_text() + "one more,fish\n")
    (after,) = prepare(str(topics))
    assert before.metadata.revision != after.metadata.revision


@pytest.mark.parametrize("value", [0, 1, -5, 2.5, "100", True])
def test_a_limit_that_leaves_nothing_to_compare_is_refused(value):
    with pytest.raises(InputError, match=r"eval\.max_documents: .* at least 2"):
        check_max_documents(value)


def test_a_limit_that_leaves_one_label_is_refused(write_csv):
    path = write_csv([("text", "label"), *((f"text {n}", "rare" if n == 50 else "common") for n in range(100))])
    with pytest.raises(InputError, match=r"eval\.max_documents: 3 leaves one label only of eval\.tasks"):
        prepare(str(path), max_documents=3)


def test_preparing_leaves_the_random_states_alone(topics):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    prepare(str(topics))
    prepare_tasks(parse_specs(["STSBenchmark"]))
    assert (random.random(), np.random.rand(), torch.rand(())) == expected  # noqa: NPY002
