"""The settings: every YAML composes and its targets bind; what is wrong is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from embedllm.config import Config, check_known, check_values, config_dir
from embedllm.errors import InputError
from embedllm.report.tables import flatten
from embedllm.targets import check_targets

ConfigStore.instance().store("schema", Config)


def check_all(plain: dict[str, Any]) -> None:
    check_known(plain)
    check_targets(plain)


OTHERS = ("hydra", "synth")
"""Folders that hold no group of this program's."""

OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in config_dir().glob("*/*.yaml") if path.parent.name not in OTHERS
)


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", list(overrides)), resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return plain


@pytest.mark.thinned(4)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_its_targets_bind(option: str) -> None:
    needs_path = option == "data=paper_csv" or option.startswith("experiment=paper")
    plain = composed(option, *(["data.path=pairs.csv"] if needs_path else []))
    check_known(plain)
    check_targets(plain)


@pytest.mark.parametrize(
    "path", sorted(config_dir().rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_yaml_begins_with_a_line_that_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package ") else lines[0]
    assert first.startswith("# ")
    assert len(first) > 12


def test_the_papers_two_settings_differ_in_what_it_got_wrong() -> None:
    names = ("as_published", "corrected")
    published, corrected = (composed(f"experiment=paper_{name}", "data.path=x") for name in names)
    flat = flatten(published)
    changed = {name: (flat[name], value) for name, value in flatten(corrected).items() if flat[name] != value}
    without_k = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert changed == {
        "adapter.target_modules": (without_k, None),
        "loss.symmetric": (False, True),
        "trainer.batch_size": (12, 120),
        "trainer.accumulate": (10, 1),
    }
    assert published["loss"]["temperature"] == 0.2
    assert [published["adapter"][name] for name in ("r", "alpha", "dropout")] == [64, 16, 0.05]


def test_prompts_are_spelled_as_in_the_paper() -> None:
    spelled = {
        "eol": 'This sentence : "{text}" means in one word:',
        "cot": 'After thinking step by step, this sentence : "{text}" means in one word:',
        "something": 'This sentence : "{text}" means something',
        "summary": 'This sentence : "{text}" can be summarized as',
        "cluster": 'This sentence : "{text}" belongs to the following cluster:',
        "cluster_the_text": "Cluster the text: {text}",
        "classify": 'This sentence : "{text}" can be classified as:',
        "question": 'Which cluster would you assign the sentence: "{text}" to?',
        "none": "{text}",
    }
    for name, template in spelled.items():
        assert yaml.safe_load((config_dir() / "prompt" / f"{name}.yaml").read_text())["template"] == template


@pytest.mark.parametrize("overrides", [["model.name=x"], ["model=qwen3_0_6b", "model.name=x"]])
def test_a_model_name_alone_suffices_whatever_model_was_chosen(overrides: list[str]) -> None:
    assert composed(*overrides)["model"] == composed("model=tiny", "model.name=x")["model"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["+typo=1"], "typo: no such setting"),
        (["+trainer.max_step=1"], "trainer.max_step: no such setting; did you mean 'trainer.max_steps'?"),
        (["+pooling.pol_over=text"], "pooling.pol_over: no such setting; did you mean 'pooling.pool_over'?"),
        (["+pooling.hidden_size=4"], "pooling.hidden_size: is set by the program; leave it out"),
        (["pooling.normalize=2"], "pooling.normalize: 2 is not of type bool"),
        (["pooling._target_=embedllm.pooling.Nope"], "pooling._target_: 'embedllm.pooling.Nope' cannot be imported"),
        (["pooling._target_=os.system"], "pooling._target_: 'os.system' is no class; name one"),
        (
            ["pooling._target_=collections.OrderedDict"],
            "pooling._target_: 'collections.OrderedDict' is not derived from embedllm.pooling.PoolingHead; ",
        ),
        (["loss._target_=embedllm.data.augment.Identity"], "loss._target_: 'embedllm.data.augment.Identity' is not"),
        (["optimizer._target_=torch.nn.Linear"], "optimizer._target_: 'torch.nn.Linear' is not derived from torch.o"),
        (["logger=wandb", "logger.wandb._target_=json.dumps"], "logger.wandb._target_: 'json.dumps' is no class"),
        (["logger=wandb", "logger.wandb._target_=io.StringIO"], "logger.wandb._target_: 'io.StringIO' is not derived"),
        (["logger=tensorboard", "logger.tensorboard.name=3"], "logger.tensorboard.name: 3 is not of type str or null"),
    ],
)
def test_what_no_schema_sees_is_refused(overrides: list[str], sentence: str) -> None:
    plain = composed(*overrides)
    with pytest.raises(InputError) as error:
        check_all(plain)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("study=a/b", "study: 'a/b' is not a plain folder name"),
        ("study=..", "study: '..' is not a plain folder name"),
        ("seed=-1", "seed: -1 is not allowed; the lowest value is 0"),
        ("trainer.devices=0", "trainer.devices: 0 is not allowed; the lowest value is 1"),
        ("eval.max_documents=1", "eval.max_documents: 1 is not allowed; the lowest value is 2"),
    ],
)
def test_values_out_of_range_are_refused(override: str, sentence: str) -> None:
    config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), composed(override)))
    with pytest.raises(InputError) as error:
        check_values(config)
    assert str(error.value) == sentence
