"""What is in an exported folder, and that its vectors are those of the model whatever the model is made of."""

import itertools
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_decoders import qwen2_tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer

from embedllm import Embedder, ModelSpec
from embedllm.adapter import AdapterSpec
from embedllm.export import VerificationError, export, verify, writer
from embedllm.export.reference import read_reference
from embedllm.pooling import LastTokenPooling, MeanPooling

TEXTS = ["a man is driving a car", "", "!", "It ends here.", "word " * 300, " 北京 🚗 "]


def trained(model: Embedder, size: float = 0.1) -> Embedder:
    """Change every weight that is trained, as a training would."""
    torch.manual_seed(1)
    for parameter in model.backbone.parameters():
        if parameter.requires_grad:
            parameter.data.add_(size * torch.randn_like(parameter))
    return model


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.sum(found * expected, axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)


def test_a_fresh_load_gives_the_vectors_of_encode(saved: Path, exported: Path, load: Callable[[Path], Any]) -> None:
    """Independent of the report: the vectors are compared here."""
    vectors = load(exported).encode(TEXTS)
    np.testing.assert_allclose(vectors, Embedder.load(saved).encode(TEXTS), atol=1e-5)


def test_a_text_is_given_as_it_is_and_truncation_keeps_the_suffix(
    saved: Path, exported: Path, load: Callable[[Path], Any]
) -> None:
    ids = load(exported)[0].preprocess(["word " * 20_000])["input_ids"][0].tolist()
    expected = Embedder.load(saved)
    assert ids == expected.tokenize(["word " * 20_000])[0]
    assert len(ids) == 64
    assert ids[-expected.prompt.suffix_tokens :] == expected.tokenize(["x"])[0][-expected.prompt.suffix_tokens :]


def test_the_folder_holds_stock_modules_and_no_chat_template(exported: Path) -> None:
    modules = json.loads((exported / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert not list(exported.rglob("*chat_template*"))
    assert "chat_template" not in (exported / "tokenizer_config.json").read_text()
    assert json.loads((exported / "sentence_bert_config.json").read_text())["max_seq_length"] == 64
    assert not list(exported.rglob("*.py"))


def test_a_chat_template_of_the_base_is_left_behind(
    tiny_path: Path, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    base = shutil.copytree(tiny_path, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(base)
    assert export(base, tmp_path / "out").ok
    assert load(tmp_path / "out")[0].preprocess(["x"])["modality"] == "text"


def test_a_head_that_does_not_normalize_keeps_the_length_of_vectors(
    build: Any, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    model = build("llama", head=partial(MeanPooling, normalize=False))
    model.save(tmp_path / "saved")
    export(tmp_path / "saved", tmp_path / "out")
    vectors = load(tmp_path / "out").encode(TEXTS)
    np.testing.assert_allclose(vectors, model.encode(TEXTS), rtol=1e-4, atol=1e-4)
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.1)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_what_was_trained_is_merged(build: Any, tmp_path: Path, kind: str) -> None:
    base = build("llama")
    model = trained(build("llama", adapter=AdapterSpec(kind, r=4)))
    assert cosines(model.encode(TEXTS), base.encode(TEXTS)).min() < 0.99
    model.save(tmp_path / "saved")
    assert export(tmp_path / "saved", tmp_path / "out").ok
    np.testing.assert_allclose(read_reference(tmp_path / "out").vectors[4], model.encode(TEXTS)[0], atol=1e-5)
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_merge_that_loses_the_adapter_leaves_nothing(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(build("llama", adapter=AdapterSpec("lora", r=4))).save(tmp_path / "saved")
    monkeypatch.setattr(writer, "merged", lambda model: model.unload())
    with pytest.raises(VerificationError, match="the merged weights are not the model"):
        export(tmp_path / "saved", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("dtype", "architecture"), [("bfloat16", "llama"), ("float16", "llama"), ("bfloat16", "gemma3")]
)
def test_half_the_bytes_give_nearly_the_same_vectors(build: Any, tmp_path: Path, dtype: str, architecture: str) -> None:
    build(architecture).save(tmp_path / "saved")
    assert export(tmp_path / "saved", tmp_path / "out", dtype=dtype).ok
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == dtype
    with torch.no_grad():
        assert AutoModel.from_pretrained(tmp_path / "out").dtype == getattr(torch, dtype)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_cut_decoder_stays_cut(build: Any, tmp_path: Path, architecture: str) -> None:
    build(architecture, layers=3).save(tmp_path / "saved")
    assert export(tmp_path / "saved", tmp_path / "out").ok
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 3


@pytest.mark.thinned(3)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_two_sided_attention_is_exported_with_a_note(build: Any, tmp_path: Path, architecture: str) -> None:
    build(architecture, attention="bidirectional").save(tmp_path / "saved")
    report = export(tmp_path / "saved", tmp_path / "out")
    assert report.ok
    assert any("transformers before 5.2" in note for note in report.notes)


def test_a_family_whose_tokenizer_makes_its_own_normalizer_keeps_ours(tmp_path: Path) -> None:
    """By its model type, Qwen 2 gets a tokenizer that drops the space that a prompt ends in."""
    base = tmp_path / "base"
    tokenizer = qwen2_tokenizer()
    tokenizer.save_pretrained(base)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=256, **sizes, **heads)
    AutoModel.from_config(config).save_pretrained(base)
    spec = ModelSpec(str(base), dtype="float32", max_length=64)
    Embedder.from_pretrained(spec, template="Cluster the text: {text}").save(tmp_path / "saved")
    report = export(tmp_path / "saved", tmp_path / "out")
    assert report.ok, report.failures
    assert any("tokenizer_type" in note for note in report.notes)
    plain = AutoTokenizer.from_pretrained(tmp_path / "out")  # what would happen without our arguments
    assert plain("car").input_ids != read_reference(tmp_path / "out").ids[2]


def test_an_empty_text_without_tokens_is_left_out_and_noted(build: Any, tmp_path: Path) -> None:
    build("qwen3", "{text}", LastTokenPooling).save(tmp_path / "saved")
    report = export(tmp_path / "saved", tmp_path / "out")
    assert "An empty text has no token" in report.notes[0]
    assert "An empty text has no token" in (tmp_path / "out" / "README.md").read_text()
    assert "" not in read_reference(tmp_path / "out").texts


def test_an_empty_text_is_checked_where_it_has_tokens(exported: Path) -> None:
    assert "" in read_reference(exported).texts
    assert verify(exported).notes == ()


def test_a_bare_decoder_is_exported_with_mean_pooling(
    tiny_path: Path, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    export(tiny_path, tmp_path / "out")
    vectors = load(tmp_path / "out").encode(["a man is driving a car"])
    np.testing.assert_allclose(vectors, Embedder.load(tiny_path).encode(["a man is driving a car"]), atol=1e-5)


def test_adapter_only_holds_the_adapter_and_names_its_base(build: Any, tmp_path: Path) -> None:
    model = trained(build("llama", adapter=AdapterSpec("lora", r=4)))
    model.save(tmp_path / "saved")
    report = export(tmp_path / "saved", tmp_path / "out", adapter_only=True)
    assert report.ok
    assert not list((tmp_path / "out").glob("model*.safetensors"))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model.spec.name
    assert any(model.spec.name in note for note in report.notes)


@pytest.mark.slow
def test_files_have_the_mode_that_the_umask_gives(build: Any, tmp_path: Path) -> None:
    model = build("llama", adapter=AdapterSpec("lora", r=4))
    model.centre()
    model.save(tmp_path / "saved")
    (tmp_path / "plain").write_text("")
    export(tmp_path / "saved", tmp_path / "out")
    export(tmp_path / "saved", tmp_path / "adapter", adapter_only=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"model.safetensors", "adapter_model.safetensors", "centring.safetensors"}
    assert {path.stat().st_mode for path in files} == {(tmp_path / "plain").stat().st_mode}


def test_exporting_twice_gives_the_same_files(saved: Path, exported: Path, tmp_path: Path) -> None:
    export(saved, tmp_path / "again")
    names = sorted(str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file())
    assert names == sorted(
        str(path.relative_to(tmp_path / "again")) for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    different = [n for n in names if (exported / n).read_bytes() != (tmp_path / "again" / n).read_bytes()]
    assert different == []


def test_every_sample_is_another_text(exported: Path) -> None:
    reference = read_reference(exported)
    assert all(a != b for a, b in itertools.combinations(reference.texts, 2))
    assert max(map(len, reference.ids)) == 64
    assert (exported / "embedllm_reference.json").stat().st_size < 100_000
