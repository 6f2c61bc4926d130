import numpy as np
import pytest

from embedllm.eval.encoder import EncodingError, make_encoder


class Fixed:
    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts):
        return self.vectors


def test_all_batches_reach_the_encoder_as_one_call_in_order(hash_encoder):
    encoder = hash_encoder()
    adapter = make_encoder(encoder, "a/b", "1")
    vectors = adapter.encode([{"text": ["x", "yy"]}, {"text": ["zzz"]}], task_metadata=None, hf_split="", hf_subset="")
    assert encoder.calls == [["x", "yy", "zzz"]]
    assert adapter.texts_encoded == 3
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, encoder.encode(["x", "yy", "zzz"]))


def test_name_and_revision_are_what_mteb_sees(hash_encoder):
    meta = make_encoder(hash_encoder(), "a/b", "step-3").mteb_model_meta
    assert (meta.name, meta.revision) == ("a/b", "step-3")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(bad):
    adapter = make_encoder(Fixed(np.array([[1.0, 2.0], [bad, 1.0]])), "a/b", "1")
    with pytest.raises(EncodingError, match=r"1 of 2 vectors hold NaN or infinity \(the first is that of text 1\)"):
        adapter.encode([{"text": ["x", "y"]}])


@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (2,), (2, 2, 2)])
def test_an_array_that_is_not_one_vector_a_text_is_refused(shape):
    with pytest.raises(EncodingError, match=r"shape .* for 2 texts"):
        make_encoder(Fixed(np.ones(shape)), "a/b", "1").encode([{"text": ["x", "y"]}])


@pytest.mark.slow
def test_it_passes_the_conformance_run_of_mteb(hash_encoder):
    import mteb

    result = mteb.mock_run(make_encoder(hash_encoder(), "a/b", "1"))
    assert result.all_passed
