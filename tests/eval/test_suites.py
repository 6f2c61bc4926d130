"""Frozen lists of tasks."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from embedllm.config import config_dir
from embedllm.errors import InputError
from embedllm.eval.specs import parse_specs
from embedllm.eval.suites import Suite, describe, load_suite, suite_names, suite_of


def benchmark(name: str, kind: str) -> set[str]:
    import mteb

    return {task.metadata.name for task in mteb.get_benchmark(name).tasks if task.metadata.type == kind}


@pytest.mark.parametrize(
    ("suite", "name", "kind", "size"),
    [
        ("mteb_eng_v2_clustering", "MTEB(eng, v2)", "Clustering", 8),
        ("mteb_eng_v1_clustering", "MTEB(eng, v1)", "Clustering", 11),
        ("sts", "MTEB(eng, v2)", "STS", 9),
    ],
)
def test_a_suite_named_after_a_benchmark_is_that_benchmark(suite: str, name: str, kind: str, size: int) -> None:
    tasks = load_suite(suite).tasks
    assert len(tasks) == size
    assert set(tasks) == benchmark(name, kind)


@pytest.mark.parametrize("name", suite_names())
def test_every_task_of_a_suite_is_mtebs_by_its_exact_name_or_embedded(name: str) -> None:
    import mteb

    for spec in parse_specs(load_suite(name).tasks):
        if spec.path is None:
            assert mteb.get_task(spec.name).metadata.name == spec.name
        else:
            assert spec.spec.startswith("embedded:")


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_sets_both_settings_so_that_none_of_another_evaluation_is_left(name: str) -> None:
    text = (config_dir() / "suite" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package eval\n# ")
    assert set(yaml.safe_load(text)) == {"tasks", "max_documents"}


def test_the_papers_list_is_its_21_tasks() -> None:
    assert len(load_suite("paper").tasks) == 21
    assert {"BigPatentClustering.v2", "ClusTREC-Covid", "SIB200ClusteringS2S"} < set(load_suite("paper").tasks)
    assert "reconstructed" in (config_dir() / "suite" / "paper.yaml").read_text(encoding="utf-8").splitlines()[1]
    assert len(load_suite("paper_classification").tasks) == 3


def test_the_embedded_suite_is_the_embedded_evaluation_and_the_quick_one_a_part_of_it() -> None:
    embedded = load_suite("embedded")
    evaluation = yaml.safe_load((config_dir() / "eval" / "embedded.yaml").read_text(encoding="utf-8"))
    assert (list(embedded.tasks), embedded.max_documents) == (evaluation["tasks"], evaluation["max_documents"])
    quick = load_suite("quick")
    assert set(quick.tasks) <= set(embedded.tasks)
    assert quick.max_documents is not None
    assert embedded.max_documents is not None
    assert quick.max_documents < embedded.max_documents


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_is_known_by_its_tasks_and_documents(name: str) -> None:
    suite = load_suite(name)
    assert isinstance(suite, Suite)
    assert suite_of(suite.tasks, suite.max_documents) == name
    assert suite_of(list(reversed(suite.tasks)), suite.max_documents) == name
    assert suite_of(suite.tasks, 17) is None
    assert suite_of([*suite.tasks, "STS16"], suite.max_documents) is None
    assert suite_of(suite.tasks[1:], suite.max_documents) is None


@pytest.mark.parametrize("name", ["papers", "nothing like it", "", "../eval/embedded"])
def test_an_unknown_suite_comes_with_all_others(name: str) -> None:
    with pytest.raises(InputError, match="^suite: there is no ") as error:
        load_suite(name)
    assert sorted(str(error.value).split("allowed: ")[1].split(", ")) == suite_names()


def test_the_nearest_suite_is_named_first() -> None:
    with pytest.raises(InputError, match=r"^suite: there is no 'papers'; allowed: paper, "):
        load_suite("papers")
    with pytest.raises(InputError, match=r"allowed: mteb_eng_v1_clustering, mteb_eng_v2_clustering, "):
        load_suite("mteb_eng_v1_clusterings")


def test_a_description_says_what_a_mean_is_taken_over(tmp_path: Path) -> None:
    installed = version("mteb")
    assert describe(load_suite("paper").tasks, None) == f"paper (21 tasks, mteb {installed})"
    assert describe(["STS12"], None, mteb_version="1.0") == "custom (1 task, mteb 1.0)"
    assert describe(["a.csv", "STS12"], 64, mirror=tmp_path, mteb_version="1.0") == (
        "custom (2 tasks, at most 64 documents each, data of eval.mirror, mteb 1.0)"
    )


def test_suites_are_read_without_mteb_and_torch() -> None:
    code = (
        "import sys; from embedllm.eval.suites import describe, load_suite; from embedllm.eval import mirror_files; "
        "describe(load_suite('paper').tasks, None); print({'torch', 'mteb', 'datasets', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
