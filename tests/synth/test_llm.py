"""The language model generator: what it writes is what the model says, whatever stands beside it in the batch."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from embedllm.errors import InputError
from embedllm.synth.chat import ANSWERS, base_frame, chat_frame, chat_template, line_ends
from embedllm.synth.decoding import Answer, Decoding
from embedllm.synth.draft import Item
from embedllm.synth.kv_cache import has_plain_cache
from embedllm.synth.language_model import load_language_model, stop_tokens
from embedllm.synth.llm import Llm
from embedllm.synth.reading import Request
from embedllm.synth.rows import SourceRows
from embedllm.synth.sampling import Sampling
from embedllm.synth.styles import STYLES, drawn_style

GREEDY = Sampling(temperature=0)
Loaded = tuple[Any, Any]


@pytest.fixture(scope="module")
def tiny(tiny_path: Path) -> Loaded:
    return load_language_model(str(tiny_path), "float32")


@pytest.fixture
def requests() -> list[Request]:
    rng = random.Random(0)
    prefixes = [tuple(rng.randrange(2, 290) for _ in range(length)) for length in (11, 4)]
    return [
        Request(rng.choice(prefixes), tuple(rng.randrange(2, 290) for _ in range(rng.randrange(1, 12))), most, rng)
        for most in [3, 9, 14] * 5
    ]


def decoding(model: Any, sampling: Sampling = GREEDY, stop: Sequence[int] = (1,), rows: int = 6) -> Decoding:
    return Decoding(model, stop, sampling, batch_rows=rows, batch_tokens=10_000)


def generate_alone(model: Any, request: Request, stop: Sequence[int]) -> Answer:
    """What transformers writes for one request that is alone, token by token."""
    ids = torch.tensor([request.prefix + request.ids])
    for written in range(request.most):
        with torch.inference_mode():
            token = int(model(input_ids=ids).logits[0, -1].argmax())
        if token in stop:
            return Answer(ids[0, ids.size(1) - written :].tolist() if written else [], True)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return Answer(ids[0, -request.most :].tolist(), False)


@pytest.mark.parametrize("rows", [1, 6, 100])
def test_answers_are_those_of_each_request_alone(tiny: Loaded, requests: list[Request], rows: int) -> None:
    model, _ = tiny
    often = Counter(token for answer in decoding(model).write(requests) for token in answer.ids)
    stop = [token for token, _ in often.most_common(3)]  # so that some rows stop early
    expected = [generate_alone(model, request, stop) for request in requests]
    assert {answer.finished for answer in expected} == {True, False}
    assert decoding(model, stop=stop, rows=rows).write(requests) == expected


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "olmo2", "gpt2"])
def test_answers_of_other_architectures_are_too(
    make_decoder: Callable[[str], Path], architecture: str, requests: list[Request]
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(make_decoder(architecture))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    top = config.get_text_config().vocab_size - 1
    requests = [
        r._replace(prefix=tuple(min(i, top) for i in r.prefix), ids=tuple(min(i, top) for i in r.ids)) for r in requests
    ]
    assert decoding(model).write(requests) == [generate_alone(model, request, [1]) for request in requests]


def test_a_sampled_answer_depends_on_its_generator_alone(tiny: Loaded, requests: list[Request]) -> None:
    model, _ = tiny

    def write(chosen: Sequence[int], rows: int) -> list[Answer]:
        own = [requests[i]._replace(rng=random.Random(i)) for i in chosen]
        return decoding(model, Sampling(1.0, 50, 0.95), rows=rows).write(own)

    together = write(range(len(requests)), 6)
    assert write(range(len(requests)), 4) == together
    assert write([3, 7], 6) == [together[3], together[7]]
    assert len({tuple(answer.ids) for answer in together}) > 10


def test_draws_follow_the_shares_of_the_model() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -9.0]]).expand(4000, 4).log_softmax(dim=1)
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    drawn = Counter(Sampling(temperature=1.0, top_k=3, top_p=1.0)(logits, uniform).tolist())
    shares = torch.tensor([2.0, 1.0, 0.0]).softmax(dim=0)
    assert [drawn[i] / 4000 for i in range(3)] == pytest.approx(shares.tolist(), abs=0.03)
    assert drawn[3] == 0


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(100, 4)
    uniform = torch.linspace(0, 0.999, 100)
    assert set(Sampling(1.0, 4, 0.8)(logits, uniform).tolist()) == {0, 1}
    assert set(Sampling(1.0, 4, 0.81)(logits, uniform).tolist()) == {0, 1, 2}
    assert set(Sampling(1.0, 4, 0.1)(logits, uniform).tolist()) == {0}


def test_only_models_that_look_at_all_tokens_share_prefixes(make_decoder: Callable[[str], Path], tiny: Loaded) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    assert has_plain_cache(tiny[0])
    sliding = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(make_decoder("gemma3")))
    assert not has_plain_cache(sliding)


def test_chat_marks_without_a_template_make_a_chat(make_decoder: Callable[[str], Path], tiny: Loaded) -> None:
    _, tokenizer = tiny
    assert chat_template(tokenizer) is None
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|eos|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    template = chat_template(tokenizer)
    assert template is not None
    frame = chat_frame(tokenizer, "title", template, system="Be brief.", example=False)
    whole = tokenizer.decode([*frame.prefix, *frame.suffix])
    assert whole.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n" + STYLES["title"].instruction)
    assert whole.endswith("<|im_end|>\n<|im_start|>assistant\n")
    shown = tokenizer.decode(chat_frame(tokenizer, "title", template, system=None, example=True).prefix)
    assert f"<|im_start|>assistant\n{ANSWERS['title']}<|im_end|>\n<|im_start|>user\n" in shown


def test_a_prompt_is_the_same_on_every_day(tiny: Loaded) -> None:
    _, tokenizer = tiny
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|eos|>")
    tokenizer.chat_template = (
        "{%- if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d') }}{% endif %}"
        "{% for message in messages %}|{{ message['content'] }}{% endfor %}"
    )
    template = chat_template(tokenizer)
    assert template is not None
    prefix = tokenizer.decode(chat_frame(tokenizer, "title", template, None, False).prefix)
    assert prefix == f"01 Jan 2025|2025-01-01|{STYLES['title'].instruction}\n\nText: "


def test_of_several_templates_the_default_one_is_taken(tiny: Loaded) -> None:
    _, tokenizer = tiny
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|eos|>")
    tokenizer.chat_template = {"default": "Say: {{ messages[-1]['content'] }}", "tool_use": "no"}
    template = chat_template(tokenizer)
    assert template is not None
    assert tokenizer.decode(chat_frame(tokenizer, "title", template, None, False).prefix).startswith("Say: ")
    with pytest.raises(InputError, match=r"^generator.chat: the model's chat template leaves the text out"):
        chat_frame(tokenizer, "title", "Hello!", None, False)
    tokenizer.chat_template = {"tool_use": "no"}
    with pytest.raises(InputError, match=r"^generator.chat: the model has several chat templates and no default"):
        chat_template(tokenizer)


def test_every_style_has_an_example() -> None:
    assert ANSWERS.keys() == STYLES.keys()


def test_a_base_decoder_stops_at_the_end_of_a_line(tiny: Loaded) -> None:
    _, tokenizer = tiny
    assert tokenizer.decode(base_frame(tokenizer, "summary").suffix) == "\nIn one short sentence:"
    ends = line_ends(tokenizer)
    assert tokenizer.encode("\n")[0] in ends
    assert all("\n" in tokenizer.decode([token]) for token in ends)


def test_drafts_name_their_style_and_whether_they_were_cut(tiny_path: Path) -> None:
    items = [Item(i, f"Text number {i} is about rivers.") for i in range(8)]
    generator = Llm(model=str(tiny_path), max_new_tokens=4, dtype="float32")
    generator.prepare(SourceRows(items, ""))
    drafts = generator.generate(items)
    assert [draft.style for draft in drafts] == [drawn_style(item, generator.styles) for item in items]
    assert any(draft.truncated for draft in drafts)
    assert all(draft.written and draft.generator == "llm" for draft in drafts)
    assert generator.generate(items[3:5]) == drafts[3:5]


def test_a_text_that_does_not_fit_is_not_cut(tiny_path: Path) -> None:
    generator = Llm(model=str(tiny_path), max_new_tokens=2, max_text_tokens=20)
    items = [Item(0, "Rivers and " * 50), Item(1, "Rivers.")]
    generator.prepare(SourceRows(items, ""))
    assert [draft.reason for draft in generator.generate(items)] == ["text_too_long", ""]


def test_copies_of_a_row_have_different_styles() -> None:
    styles = ["title", "summary", "expand"]
    for row in range(5):
        assert {drawn_style(Item(row, "", copy=copy), styles) for copy in range(3)} == set(styles)
    assert len({drawn_style(Item(row, ""), styles) for row in range(20)}) == 3


def test_a_model_without_an_lm_head_is_refused(tiny_path: Path, tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(tiny_path, tmp_path / "headless")
    config = json.loads((tmp_path / "headless" / "config.json").read_text())
    (tmp_path / "headless" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(InputError, match=r"^generator.model: .* cannot write, as it lacks lm_head.weight"):
        load_language_model(str(tmp_path / "headless"))


def test_every_end_of_a_turn_stops(tiny: Loaded) -> None:
    model, tokenizer = tiny
    assert stop_tokens(model, tokenizer) == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"styles": ["titel"]}, r"generator.styles.titel: .*did you mean 'generator.styles.title'"),
        ({"styles": []}, r"generator.styles: \[\] is not a list of styles"),
        ({"temperature": -1}, r"generator.temperature: -1 is below 0"),
        ({"top_p": 0}, r"generator.top_p: 0 is not above 0"),
        ({"max_new_tokens": 0}, r"generator.max_new_tokens: 0"),
        ({"chat": "yes"}, r"generator.chat: 'yes'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Llm(**settings)
