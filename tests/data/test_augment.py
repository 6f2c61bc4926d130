import dataclasses
import random
import subprocess
import sys
from collections import Counter

import pytest

from embedllm.data.augment import CharacterNoise, Compose, Identity, WordDeletion, WordSwap, draw_index, keyed_rng
from embedllm.errors import InputError

NOISY = [WordDeletion(0.3), WordSwap(0.3), CharacterNoise(0.3)]
NOISY.append(Compose([WordDeletion(0.2), WordSwap(0.2), CharacterNoise(0.2)]))
EVERY = [*NOISY, Identity(), Compose([])]
SENTENCE = "The quick brown fox jumps over the lazy dog near a river"
TEXTS = [
    "a",
    "word",
    "two words",
    SENTENCE,
    "👩‍👩‍👧 🎉",
    "naïve café 🎉",
    "东京是日本的首都",
    "...",
    "3.14 15",
    "x\ty\nz",
]


@pytest.mark.parametrize("augment", EVERY, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_never_empty(augment, text):
    for index in range(200):
        assert augment(text, keyed_rng(0, 0, index)).strip()


@pytest.mark.parametrize("augment", NOISY, ids=str)
def test_depends_on_the_generator_alone(augment):
    first = [augment(SENTENCE, keyed_rng(0, 0, index)) for index in range(20)]
    random.seed(1)
    assert [augment(SENTENCE, keyed_rng(0, 0, index)) for index in range(20)] == first
    assert len(set(first)) > 1


@pytest.mark.parametrize("augment", NOISY[:2], ids=str)
def test_word_noise_changes_every_text_of_two_different_words(augment):
    assert all(augment("two words", keyed_rng(0, 0, index)) != "two words" for index in range(100))


@pytest.mark.parametrize("augment", NOISY, ids=str)
def test_empty_text_stays_empty(augment):
    assert augment("", keyed_rng(0, 0, 0)) == ""


@pytest.mark.parametrize("cls", [WordDeletion, WordSwap, CharacterNoise])
def test_zero_probability_changes_nothing(cls):
    assert all(cls(0)(text, keyed_rng(0, 0, 0)) == text for text in [*TEXTS, " two  spaces "])


@pytest.mark.parametrize("cls", [WordDeletion, WordSwap, CharacterNoise])
@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_probability_outside_its_range_is_refused(cls, p):
    with pytest.raises(InputError, match=r"^data\.augment\.p: "):
        cls(p)


@pytest.mark.parametrize("augment", [WordDeletion(), WordSwap(), CharacterNoise()], ids=str)
def test_is_frozen(augment):
    with pytest.raises(dataclasses.FrozenInstanceError):
        augment.p = 0.5


def test_deletion_keeps_order_and_deletes_a_share_of_p():
    words = [str(number) for number in range(2000)]
    kept = WordDeletion(0.25)(" ".join(words), keyed_rng(0, 0, 0)).split()
    assert kept == sorted(kept, key=int)
    assert len(kept) == pytest.approx(1500, abs=100)  # 5 standard deviations


def test_deletion_of_all_keeps_one_word():
    outcomes = {WordDeletion(0.999999)("one two three", keyed_rng(0, 0, index)) for index in range(100)}
    assert outcomes == {"one", "two", "three"}


def test_swap_keeps_the_words():
    swapped = WordSwap(0.5)(SENTENCE, keyed_rng(0, 0, 0))
    assert swapped != SENTENCE
    assert Counter(swapped.split()) == Counter(SENTENCE.split())


def test_one_swap_reaches_every_pair_of_words_equally_often():
    counts = Counter(WordSwap(0.01)("a b c", keyed_rng(0, 0, index)) for index in range(3000))
    assert set(counts) == {"b a c", "c b a", "a c b"}
    assert min(counts.values()) > 870  # 5 standard deviations below 1000


def test_character_noise_swaps_drops_and_doubles_inner_letters():
    outcomes = {CharacterNoise(0.5)("abc", keyed_rng(0, 0, index)) for index in range(100)}
    assert outcomes == {"abc", "acb", "ac", "abbc"}


def test_character_noise_leaves_first_letters_digits_emoji_and_spaces():
    text = "to 1234 a-b 👩‍👩‍👧 é\t$$$ ab"
    assert all(CharacterNoise(0.99)(text, keyed_rng(0, 0, index)) == text for index in range(50))
    noisy = CharacterNoise(0.9)(SENTENCE, keyed_rng(0, 0, 0))
    assert [word[0] for word in noisy.split(" ")] == [word[0] for word in SENTENCE.split(" ")]


def test_compose_applies_in_order_on_one_generator():
    first, second = WordDeletion(0.3), CharacterNoise(0.3)
    rng = keyed_rng(0, 0, 0)
    expected = second(first(SENTENCE, rng), rng)
    assert Compose([first, second])(SENTENCE, keyed_rng(0, 0, 0)) == expected


@pytest.mark.parametrize("augment", NOISY, ids=str)
@pytest.mark.parametrize("text", ["x" * 100_000, "word " * 20_000], ids=["one word", "many words"])
def test_draws_grow_linearly_with_the_text(augment, text):
    class Counting(random.Random):
        draws = 0

        def random(self):
            self.draws += 1
            return super().random()

    rng = Counting(0)
    assert augment(text, rng)
    assert rng.draws <= 3 * len(text)


def test_keyed_rng_is_the_same_in_another_process():
    code = "from embedllm.data.augment import keyed_rng; print(keyed_rng(3, 1, 7, 'x').random())"
    lines = {subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}) for seed in "12"}
    assert lines == {f"{keyed_rng(3, 1, 7, 'x').random()}\n".encode()}


def test_keyed_rng_golden_value():
    assert keyed_rng(0, 0, 0).random() == 0.990515304733595


def test_every_part_of_the_key_counts():
    keys = [(0, 0, 0, ""), (1, 0, 0, ""), (0, 1, 0, ""), (0, 0, 1, ""), (0, 0, 0, "x"), (11, 1, 0, ""), (1, 11, 0, "")]
    assert len({keyed_rng(*key).random() for key in keys}) == len(keys)


def test_draw_index_covers_its_range():
    rng = keyed_rng(0, 0, 0)
    assert {draw_index(3, rng) for _ in range(100)} == {0, 1, 2}
