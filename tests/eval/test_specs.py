import subprocess
import sys

import pytest

from embedllm.errors import InputError
from embedllm.eval.specs import TaskSpec, parse_specs


def test_importing_the_package_loads_neither_torch_nor_mteb():
    modules = "checks encoder hub_access hub_tasks kinds local_files local_tasks rng sampling score specs tasks threads"
    code = f"import sys; {'; '.join(f'import embedllm.eval.{name}' for name in modules.split())}"
    code += "; print({'torch', 'mteb', 'datasets', 'sklearn', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_names_and_files_are_told_apart(topics, monkeypatch):
    monkeypatch.chdir(topics.parent)
    topics.with_name("TwentyNewsgroupsClustering.v2").write_text("a folder's file is taken only with ./")
    specs = parse_specs(["TwentyNewsgroupsClustering.v2", "topics.csv", "embedded:wordnet_definitions"])
    assert specs[0] == TaskSpec("TwentyNewsgroupsClustering.v2", "TwentyNewsgroupsClustering.v2")
    assert specs[1].path is not None
    assert (specs[1].name, specs[1].kind) == ("topics", None)
    assert specs[2].path is not None
    assert (specs[2].path.suffix, specs[2].name) == (".csv", "wordnet_definitions")


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("", "topics"), ("clustering:", "topics"), ("classification:", "topicsClassification"), ("sts:", "topics")],
)
def test_a_prefix_names_the_kind_and_only_a_kind_that_columns_do_not_choose_is_named(topics, prefix, name):
    (spec,) = parse_specs([f"{prefix}{topics}"])
    assert (spec.name, spec.kind, spec.path) == (name, prefix[:-1] or None, topics)


def test_a_prefix_goes_before_embedded():
    (spec,) = parse_specs(["classification:embedded:wordnet_definitions"])
    assert (spec.name, spec.kind) == ("wordnet_definitionsClassification", "classification")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".CSV", ".jsonl.GZ"])
def test_a_name_has_no_suffixes(tmp_path, ending):
    path = tmp_path / f"my.set{ending}"
    path.write_text("x")
    assert parse_specs([str(path)])[0].name == "my.set"


def test_order_is_kept_and_nothing_is_allowed(topics):
    assert parse_specs([]) == []
    assert [spec.name for spec in parse_specs(["B", str(topics), "A"])] == ["B", "topics", "A"]


def test_a_file_may_be_clustered_and_classified(topics):
    names = [spec.name for spec in parse_specs([str(topics), f"classification:{topics}"])]
    assert names == ["topics", "topicsClassification"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ("STS12", r"eval\.tasks: 'STS12' is not a list; write \[STS12\]"),
        (None, r"eval\.tasks: None is not a list"),
        ([3], r"eval\.tasks: 3 is not a task"),
        ([" "], r"eval\.tasks: ' ' is not a task"),
        (["STS12", "STS12"], r"eval\.tasks: 'STS12' and 'STS12' would both be called 'STS12'"),
        (["no/such.csv"], r"eval\.tasks: 'no/such.csv': no file at"),
        (["nowhere.csv"], r"eval\.tasks: 'nowhere.csv': no file at"),
        (["sts:nowhere.csv"], r"eval\.tasks: 'sts:nowhere.csv': no file at 'nowhere.csv'"),
        (["clasification:a.csv"], r"unknown prefix 'clasification' \(did you mean 'classification'\?\)"),
        (["embedded:wordnet"], r"eval\.tasks: no embedded data set 'wordnet'"),
        (["quick"], r"eval\.tasks: 'quick' is a suite, not a task; choose it with suite=quick"),
    ],
)
def test_what_cannot_be_meant_is_refused(specs, message):
    with pytest.raises(InputError, match=message):
        parse_specs(specs)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "notes.txt").write_text("text")
    for name, message in (("empty.csv", "is empty"), ("notes.txt", "unknown format"), ("", "is a folder")):
        with pytest.raises(InputError, match=message):
            parse_specs([f"{tmp_path}/{name}"])


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "set.csv").write_text("x")
    with pytest.raises(InputError, match="would both be called 'set'"):
        parse_specs([str(tmp_path / "a/set.csv"), str(tmp_path / "b/set.csv")])


@pytest.mark.parametrize(
    ("setting", "instead"),
    [
        ("--tasks", "choose it with --suite quick"),
        ("eval.dev", "write its tasks: 'eval.dev=[embedded:wordnet_definitions]' eval.dev_documents=256"),
    ],
)
def test_a_suite_among_tasks_is_told_how_it_is_written(setting, instead):
    with pytest.raises(InputError) as error:
        parse_specs(["quick"], setting)
    assert str(error.value) == f"{setting}: 'quick' is a suite, not a task; {instead}"
