"""Models of sentence-transformers as encoders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedllm.errors import InputError
from embedllm.eval.st_encoder import SentenceTransformersEncoder

TEXTS = ["a cat", "x", "the sky is blue and wide", "a cat", "https://example.org/cat.png"]
CHAT = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def make_model(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Make the folder of a small model of sentence-transformers, whose tokenizer may have a chat template."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer

    def make(chat: bool) -> Path:
        decoder = tmp_path_factory.mktemp("decoder") / "decoder"
        shutil.copytree(tiny_path, decoder)
        tokenizer = AutoTokenizer.from_pretrained(decoder)
        tokenizer.chat_template = CHAT if chat else None
        tokenizer.save_pretrained(decoder)
        transformer = Transformer(str(decoder))
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
        folder = tmp_path_factory.mktemp("models") / ("chat" if chat else "plain")
        model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
        model.save_pretrained(str(folder), create_model_card=False)
        return folder

    return make


def test_vectors_are_those_of_the_package_in_order(make_model: Callable[[bool], Path]) -> None:
    from sentence_transformers import SentenceTransformer

    folder = make_model(False)
    vectors = SentenceTransformersEncoder(str(folder)).encode(TEXTS)
    alone = [SentenceTransformer(str(folder), device="cpu").encode(text) for text in TEXTS]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.stack(alone), atol=1e-5)
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1.0)  # the model has no module that normalizes


def test_a_text_does_not_go_through_a_chat_template(make_model: Callable[[bool], Path]) -> None:
    from sentence_transformers import SentenceTransformer

    chat, plain = make_model(True), make_model(False)
    by_itself = SentenceTransformer(str(chat), device="cpu")
    assert by_itself[0].preprocess(["x"])["modality"] == "message"
    expected = SentenceTransformer(str(plain), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(SentenceTransformersEncoder(str(chat)).encode(TEXTS), expected, atol=1e-5)
    assert abs(by_itself.encode(TEXTS) - expected).max() > 1e-3


def test_a_model_that_reads_messages_only_is_refused(make_model: Callable[[bool], Path]) -> None:
    folder = make_model(True)
    path = folder / "sentence_bert_config.json"
    config = json.loads(path.read_text())
    del config["modality_config"]["text"]
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="^MODEL: 'st:.*' cannot be loaded") as raised:
        SentenceTransformersEncoder(str(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("empty", "MODEL: 'st:empty' has no modules.json, so it is not a folder of sentence-transformers"),
        ("./nowhere", "MODEL: 'st:./nowhere' is no folder; give a folder or a Hub id"),
        ("", "MODEL: 'st:' is no folder; give a folder or a Hub id"),
        ("a-file", "MODEL: 'st:a-file' is no folder; give a folder or a Hub id"),
        ("no-such/model", "MODEL: 'st:no-such/model' cannot be had: 'no-such/model' is no local file or folder and"),
        ("broken", "MODEL: 'st:broken' cannot be loaded ("),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/modules.json").write_text("[{")
    Path("a-file").write_text("")
    with pytest.raises(InputError) as raised:
        SentenceTransformersEncoder(name)
    assert str(raised.value).startswith(sentence)
    assert "\n" not in str(raised.value)


def test_code_that_comes_with_a_model_is_not_run(make_model: Callable[[bool], Path]) -> None:
    folder = make_model(False)
    (folder / "mine.py").write_text("raise SystemExit('run')\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "mine.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="cannot be loaded"):
        SentenceTransformersEncoder(str(folder))
