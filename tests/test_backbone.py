import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from small_decoders import ARCHITECTURES, LAYERS, WIDTH
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedModel,
)

from embedllm import backbone
from embedllm.backbone import (
    blocks,
    check_backbone,
    hidden_size,
    is_bidirectional,
    load_backbone,
    load_config,
    load_tokenizer,
    resolve_dtype,
    resolve_model,
)
from embedllm.errors import InputError

MakeDecoder = Callable[[str], Path]
EVERY = pytest.mark.parametrize("architecture", list(ARCHITECTURES))
IDS = torch.randint(3, 300, (2, 11), generator=torch.Generator().manual_seed(0))


def load(folder: Path, **settings: object) -> PreTrainedModel:
    return load_backbone(str(folder), **{"dtype": "float32", **settings})


def states(model: PreTrainedModel, ids: Tensor = IDS, mask: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state


def layer_states(folder: Path, layer: int) -> Tensor:
    """What the block before ``layer`` + 1 gives, from the whole model as transformers loads it."""
    seen = []
    model = AutoModel.from_pretrained(folder).eval()
    blocks(model)[layer - 1].register_forward_hook(lambda module, args, output: seen.append(output))
    states(model)
    return seen[0][0] if isinstance(seen[0], tuple) else seen[0]


def reached_by(model: PreTrainedModel, position: int, length: int = 24) -> list[int]:
    """Positions whose hidden state changes with the token at ``position``."""
    ids = torch.arange(300, 300 + length).repeat(2, 1)
    ids[1, position] += 40
    before, after = states(model, ids)
    return [i for i in range(length) if not torch.allclose(before[i], after[i], atol=1e-6)]


def copy(folder: Path, to: Path, **config: object) -> Path:
    shutil.copytree(folder, to)
    settings = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**settings, **config}))
    return to


class TestFixtures:
    @pytest.mark.parametrize(
        ("architecture", "kind", "first"),
        [
            ("llama", "TokenizersBackend", "<|begin_of_text|>"),
            ("qwen3", "Qwen2Tokenizer", "The"),
            ("gemma3", "GemmaTokenizer", "<bos>"),
            ("gpt2", "GPT2Tokenizer", "The"),
        ],
    )
    def test_tokenizers_reload_as_their_class(
        self, make_decoder: MakeDecoder, architecture: str, kind: str, first: str
    ):
        tokenizer = load_tokenizer(str(make_decoder(architecture)))
        assert type(tokenizer).__name__ == kind
        ids = tokenizer("The café's 日本 window").input_ids
        assert tokenizer.convert_ids_to_tokens(ids)[0] == first
        assert tokenizer.decode(ids, skip_special_tokens=True) == "The café's 日本 window"


class TestNames:
    def test_stand_for_a_folder_or_the_hub(self, tiny_path: Path):
        assert resolve_model("embedded:tiny") == tiny_path
        assert resolve_model(str(tiny_path)) == tiny_path
        assert resolve_model("org/model") == "org/model"

    @pytest.mark.parametrize("name", ["./nothing", "/no/such/model", "~/nothing-here", "a/b/c", "model.gguf", ""])
    def test_that_look_like_a_path_must_exist(self, name: str):
        with pytest.raises(InputError, match=r"^model.name: no file or folder"):
            resolve_model(name)

    def test_of_folders_without_config_are_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"^model.name: .* has no config.json"):
            resolve_model(str(tmp_path))

    def test_of_other_files_are_refused(self, tmp_path: Path):
        (tmp_path / "weights.gguf").write_text("no")
        with pytest.raises(InputError, match=r"^model.name: .* is not a GGUF file"):
            resolve_model(str(tmp_path / "weights.gguf"))

    @pytest.mark.parametrize("loads", [load_config, load_tokenizer, load_backbone])
    @pytest.mark.parametrize("name", ["no-such-org/no-such-model", "not an id"])
    def test_that_the_hub_cannot_give_are_refused(self, name: str, loads: Callable[[str], object]):
        with pytest.raises(InputError, match=f"^model.name: '{name}' is no local file or folder and cannot be had"):
            loads(name)


class TestConfigAndTokenizer:
    def test_code_of_a_model_is_never_run(self, tiny_path: Path, tmp_path: Path):
        (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        folder = copy(tiny_path, tmp_path / "m", model_type="evil", auto_map={"AutoConfig": "evil.Config"})
        shutil.move(tmp_path / "evil.py", folder / "evil.py")
        load_tokenizer(str(folder))
        for loads in (load_config, load_backbone):
            with pytest.raises(InputError, match=r"^model.name: .* has no config that .*custom code"):
                loads(str(folder))
        assert not (tmp_path / "ran").exists()

    def test_tokenizer_without_backend_is_refused(self, tiny_path: Path, tmp_path: Path):
        folder = copy(tiny_path, tmp_path / "m")
        (folder / "tokenizer.json").unlink()
        ByT5Tokenizer().save_pretrained(folder)
        with pytest.raises(InputError, match=r"^model.name: the tokenizer of .*ByT5Tokenizer.* is not backed by"):
            load_tokenizer(str(folder))

    def test_missing_tokenizer_is_an_input_error(self, tiny_path: Path, tmp_path: Path):
        folder = copy(tiny_path, tmp_path / "m")
        for file in folder.glob("tokenizer*"):
            file.unlink()
        with pytest.raises(InputError, match=r"^model.name: .*tokenizer"):
            load_tokenizer(str(folder))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"layers": 999}, r"^model.layers: 999 .* the model has 2 layers; allowed 1 to 2$"),
            ({"layers": 0}, r"^model.layers: 0 "),
            ({"attention": "both"}, r"^model.attention: 'both' is not one of: causal, bidirectional$"),
            ({"max_length": 5000}, r"^model.max_length: 5000 .* 1 to 4096 tokens$"),
            ({"max_length": 0}, r"^model.max_length: 0 "),
        ],
    )
    def test_settings_are_checked_without_weights(self, tiny_path: Path, settings: dict[str, int], message: str):
        config = load_config(str(tiny_path))
        check_backbone(config, layers=2, attention="bidirectional", max_length=4096)
        with pytest.raises(InputError, match=message):
            check_backbone(config, **settings)

    def test_encoder_decoder_is_refused(self):
        with pytest.raises(InputError, match=r"^model.name: 't5' is an encoder-decoder"):
            check_backbone(AutoConfig.for_model("t5"))


class TestWeights:
    @EVERY
    def test_gives_the_hidden_states_of_transformers(self, make_decoder: MakeDecoder, architecture: str):
        folder = make_decoder(architecture)
        model = load(folder)
        assert torch.equal(states(model), states(AutoModel.from_pretrained(folder).eval()))
        assert not any(module.training for module in model.modules())
        assert (hidden_size(model), len(blocks(model))) == (WIDTH, LAYERS)

    def test_lm_head_is_dropped_without_a_word(
        self,
        make_decoder: MakeDecoder,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ):
        folder = copy(make_decoder("llama"), tmp_path / "m", tie_word_embeddings=False)
        AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)
        assert "lm_head.weight" in load_file(folder / "model.safetensors")
        capfd.readouterr()
        caplog.clear()
        model = load(folder)
        assert capfd.readouterr() == ("", "")
        assert caplog.messages == []
        assert not any("lm_head" in name for name, _ in model.named_parameters())
        assert torch.equal(states(model), states(load(make_decoder("llama"))))

    def test_missing_weights_are_named(self, tiny_path: Path, tmp_path: Path):
        folder = copy(tiny_path, tmp_path / "m")
        weights = load_file(folder / "model.safetensors")
        del weights["layers.1.self_attn.q_proj.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InputError, match=r"^model.name: .* lacks weights .*: layers.1.self_attn.q_proj.weight$"):
            load(folder)

    def test_weights_of_the_wrong_shape_are_named(self, tiny_path: Path, tmp_path: Path):
        folder = copy(tiny_path, tmp_path / "m", intermediate_size=96)
        with pytest.raises(InputError, match=r"^model.name: .* wrong shape for 2 layers: .* and 3 more$"):
            load(folder)

    def test_damaged_weights_are_an_input_error(self, tiny_path: Path, tmp_path: Path):
        folder = copy(tiny_path, tmp_path / "m")
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(InputError, match=r"^model.name: the weights of .* cannot be loaded"):
            load(folder)

    def test_pickles_are_refused(self, tiny_path: Path, tmp_path: Path):
        folder = copy(tiny_path, tmp_path / "m")
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        with pytest.raises(InputError, match=r"^model.name: .* has pytorch_model.bin, but only safetensors"):
            load(folder)

    def test_text_decoder_of_a_composite_model_is_used(self, make_decoder: MakeDecoder, tmp_path: Path):
        text = load(make_decoder("gemma3"))
        tower = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 256}
        config = AutoConfig.for_model(
            "gemma3",
            text_config=text.config.to_dict(),
            vision_config={**tower, "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
        )
        whole = AutoModel.from_config(config)
        whole.language_model.load_state_dict(text.state_dict())
        whole.save_pretrained(tmp_path)
        model = load(tmp_path)
        assert type(model) is type(text)
        assert torch.equal(states(model), states(text))
        assert len(blocks(load(tmp_path, layers=2, attention="bidirectional"))) == 2


class TestDepth:
    @EVERY
    @pytest.mark.parametrize("layers", [1, 3])
    def test_first_layers_end_in_the_final_norm(self, make_decoder: MakeDecoder, architecture: str, layers: int):
        folder = make_decoder(architecture)
        whole = AutoModel.from_pretrained(folder).eval()
        norm = next(child for name, child in whole.named_children() if name in ("norm", "ln_f"))
        with torch.no_grad():
            expected = norm(layer_states(folder, layers))
        torch.testing.assert_close(states(load(folder, layers=layers)), expected)

    @EVERY
    @pytest.mark.parametrize("layers", [1, 3, LAYERS, None])
    def test_without_final_norm_the_last_block_speaks(
        self, make_decoder: MakeDecoder, architecture: str, layers: int | None
    ):
        folder = make_decoder(architecture)
        found = states(load(folder, layers=layers, final_norm=False))
        torch.testing.assert_close(found, layer_states(folder, layers or LAYERS))

    @EVERY
    def test_shallow_model_can_be_saved_and_loaded(self, make_decoder: MakeDecoder, architecture: str, tmp_path: Path):
        model = load(make_decoder(architecture), layers=3)
        model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path)
        assert again.config.num_hidden_layers == len(blocks(again)) == 3
        assert torch.equal(states(again.eval()), states(model))

    def test_lists_with_a_value_for_each_layer_are_cut(self, make_decoder: MakeDecoder):
        config = load(make_decoder("gemma3"), layers=3).config
        assert config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]

    def test_lists_of_tokens_are_not_cut(self, make_decoder: MakeDecoder, tmp_path: Path):
        folder = copy(make_decoder("llama"), tmp_path / "m", eos_token_id=[1, 2, 3, 4])
        assert load(folder, layers=1).config.eos_token_id == [1, 2, 3, 4]

    def test_norm_that_is_not_there_cannot_be_removed(self, tiny_path: Path):
        model = load(tiny_path, final_norm=False)
        with pytest.raises(InputError, match=r"^model.final_norm: False, but LlamaModel has no norm after"):
            backbone.remove_final_norm(model)

    def test_projection_after_the_norm_is_not_taken_for_it(self, tmp_path: Path):
        sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = AutoConfig.for_model("opt", **sizes, vocab_size=50, word_embed_proj_dim=16)
        AutoModel.from_config(config).save_pretrained(tmp_path)
        with pytest.raises(InputError, match=r"^model.final_norm: False, but OPTModel has no norm after"):
            load(tmp_path, final_norm=False)


class TestAttention:
    @EVERY
    @pytest.mark.parametrize("attention", ["causal", "bidirectional"])
    def test_is_what_was_asked_for(self, make_decoder: MakeDecoder, architecture: str, attention: str):
        model = load(make_decoder(architecture), attention=attention)
        assert is_bidirectional(model) == (attention == "bidirectional")
        last = IDS.clone()
        last[:, -1] = (last[:, -1] + 7) % 300
        for mask in (None, torch.ones_like(IDS)):
            change = (states(model, IDS, mask) - states(model, last, mask))[:, 0].abs().max()
            assert (change > 1e-4) == (attention == "bidirectional")

    @EVERY
    def test_bidirectional_states_ignore_padding(self, make_decoder: MakeDecoder, architecture: str):
        model = load(make_decoder(architecture), attention="bidirectional")
        padded = torch.cat([IDS, IDS[:, :5]], dim=1)
        mask = torch.cat([torch.ones_like(IDS), torch.zeros_like(IDS[:, :5])], dim=1)
        torch.testing.assert_close(states(model, padded, mask)[:, :11], states(model))

    @EVERY
    def test_bidirectional_survives_saving(self, make_decoder: MakeDecoder, architecture: str, tmp_path: Path):
        model = load(make_decoder(architecture), attention="bidirectional")
        model.save_pretrained(tmp_path)
        assert torch.equal(states(load(tmp_path, attention="bidirectional")), states(model))
        with pytest.raises(InputError, match=r"^model.attention: 'causal' .* whose attention is bidirectional$"):
            load(tmp_path)

    def test_sliding_window_looks_back_or_both_ways(self, make_decoder: MakeDecoder, tmp_path: Path):
        folder = make_decoder("gemma3")  # its first layer has a window of 8 tokens
        assert reached_by(load(folder, layers=1), 12) == list(range(12, 20))
        both = load(folder, layers=1, attention="bidirectional")
        both.save_pretrained(tmp_path)
        for model in (both, load(tmp_path, attention="bidirectional")):
            assert reached_by(model, 12) == list(range(8, 17))

    def test_that_a_model_does_not_have_is_refused(self, tmp_path: Path):
        config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=2, vocab_size=50)
        AutoModel.from_config(config).save_pretrained(tmp_path)
        assert not is_bidirectional(load(tmp_path))
        with pytest.raises(InputError, match=r"^model.attention: 'bidirectional' is not possible"):
            load(tmp_path, attention="bidirectional")

    def test_probe_leaves_modes_and_random_state_alone(self, make_decoder: MakeDecoder):
        model = load(make_decoder("gpt2")).train()  # has dropout
        blocks(model)[1].eval()
        modes = [module.training for module in model.modules()]
        state = torch.get_rng_state()
        assert not is_bidirectional(model)
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("attention", ["causal", "bidirectional"])
    def test_probe_works_through_adapters(self, tiny_path: Path, attention: str):
        adapter = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, target_modules=["q_proj"], init_lora_weights=False)
        model = get_peft_model(load(tiny_path, attention=attention), adapter)
        assert is_bidirectional(model) == (attention == "bidirectional")
        assert len(blocks(model)) == 2
        assert hidden_size(model) == 32

    def test_probe_finds_tokens_with_unlike_embeddings(self, tiny_path: Path):
        model = load(tiny_path, attention="bidirectional")
        table = model.get_input_embeddings().weight.data
        table[:250] = 9 * table[0].clone()  # unused tokens: one vector, and a long one
        assert is_bidirectional(model)


class TestDtype:
    @pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
    def test_is_that_of_the_weights(self, tiny_path: Path, name: str):
        model = load(tiny_path, dtype=name)
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, name)}

    @pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
    def test_auto_follows_the_hardware(self, monkeypatch: pytest.MonkeyPatch, supported: bool, dtype: torch.dtype):
        monkeypatch.setattr(backbone, "has_fast_bfloat16", lambda: supported)
        assert resolve_dtype("auto") == dtype

    def test_slow_bfloat16_is_allowed_with_one_warning(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        monkeypatch.setattr(backbone, "trains_fast_in_bfloat16", lambda: False)
        with caplog.at_level(logging.WARNING):
            assert resolve_dtype("bfloat16") == torch.bfloat16
            assert resolve_dtype("float32") == torch.float32
        assert [record.message.split(":")[0] for record in caplog.records] == ["model.dtype"]

    def test_unknown_names_are_refused_with_the_known_ones(self):
        with pytest.raises(InputError, match=r"^model.dtype: 'bf16' is not one of: auto, float32, bfloat16, float16$"):
            resolve_dtype("bf16")


def test_same_weights_load_again_through_transformers_alone(tiny_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_path)
    ids = torch.tensor([tokenizer("one text").input_ids])
    assert torch.equal(states(load(tiny_path), ids), states(AutoModel.from_pretrained(tiny_path).eval(), ids))


@pytest.mark.parametrize(
    ("amx", "avx512", "amd", "expected"),
    [
        (True, False, False, (True, True)),
        (False, True, True, (False, True)),
        (False, True, False, (False, False)),
        (False, False, True, (False, False)),
    ],
)
def test_which_cpus_are_fast_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, amd: bool, expected: tuple[bool, bool]
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(backbone, "_is_amd", lambda: amd)
    assert (backbone.has_fast_bfloat16(), backbone.trains_fast_in_bfloat16()) == expected
