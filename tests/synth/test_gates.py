"""Quality gates: each refuses what it names, and lets the good pair beside it through."""

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from embedllm.config import config_dir
from embedllm.data.embedded_files import embedded_data_path
from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Gate
from embedllm.synth.gates.contamination import Contamination
from embedllm.synth.gates.duplicates import Duplicates, SeenPairs
from embedllm.synth.gates.echo import Echo
from embedllm.synth.gates.form import Empty, LengthRatio, Script, Truncated
from embedllm.synth.gates.normal import NearTexts, jaccard, normalised, shingles
from embedllm.synth.gates.similarity import Similarity
from embedllm.synth.gates.writing import Copy, Preamble, Question, Refusal, bare
from embedllm.synth.styles import STYLES

ANCHOR = "The river floods the valley in spring, when the snow melts."
GOOD = Draft(0, 0, ANCHOR, "Melting snow makes the valley flood every spring.", style="paraphrase", written=True)

BAD: list[tuple[Gate, str]] = [
    (Empty(), " ?! "),
    (Refusal(), "I'm sorry, but I cannot rewrite this text."),
    (Refusal(), "As an AI language model I have no opinion."),
    (Refusal(), "Please provide the text that you want me to rewrite."),
    (Copy(), "The river floods the valley in spring when the snow melts!"),
    (Copy(), "The river floods the valley in spring, when snow melts."),
    (Script(), "Река затапливает долину весной, когда тает снег."),
    (Script(), "Melting snow floods the valley, 洪水 春天 雪."),
    (LengthRatio(), "Flood."),
    (LengthRatio(), ANCHOR * 4),
    (Echo(), "You could not cross the bridge for two years, says the river."),
    (Echo(), "Rewrite the text in plain, short words that a child understands."),
    (Question(), "Does the river flood the valley?"),
    (Question(), 'Why does "the valley" flood?"'),
]


@pytest.mark.parametrize(("gate", "positive"), BAD, ids=[f"{gate.name}-{text[:20]}" for gate, text in BAD])
def test_a_gate_refuses_what_it_names(gate: Gate, positive: str) -> None:
    good, bad, gone = gate([GOOD, replace(GOOD, positive=positive), GOOD.refused("earlier")])
    assert (good.reason, bad.reason, gone.reason) == ("", gate.name, "earlier")


@pytest.mark.parametrize(
    ("gate", "anchor", "positive", "reason"),
    [
        (Copy(), "今天天气很好，我们一起去公园散步吧。", "今天天气很好，我们一起去公园散步了。", "copy"),
        (Copy(), "今天天气很好，我们一起去公园散步吧。", "趁着天晴，大家到公园走走。", ""),
        (Script(), "彼は新しい計算機を買った。", "彼は新しいコンピューターを購入した。", ""),
        (Script(), "他买了新电脑。", "彼は新しいコンピューターを購入した。", "script"),
        (Question(), "يفيض النهر في الربيع.", "هل يفيض النهر في الربيع؟", "question"),
    ],
    ids=["near-copy", "other-words", "katakana", "japanese", "arabic"],
)
def test_other_scripts_are_judged_too(gate: Gate, anchor: str, positive: str, reason: str) -> None:
    assert gate([replace(GOOD, anchor=anchor, positive=positive)])[0].reason == reason


@pytest.mark.parametrize("gate", [gate for gate, _ in BAD if gate.name != "empty"], ids=lambda gate: gate.name)
def test_only_what_a_model_wrote_is_judged_for_its_writing(gate: Gate) -> None:
    bad = [replace(GOOD, positive=positive, written=False) for other, positive in BAD if other is gate]
    assert gate(bad) == bad


def test_a_cut_text_is_refused() -> None:
    assert [draft.reason for draft in Truncated()([GOOD, replace(GOOD, truncated=True)])] == ["", "truncated"]


def test_styles_bring_their_own_length_and_may_ask() -> None:
    title = replace(GOOD, positive="Floods", style="title")
    asked = replace(GOOD, positive="Does the river flood the valley?", style="paper_question")
    assert LengthRatio()([title])[0].reason == ""
    assert LengthRatio()([replace(title, style="paraphrase")])[0].reason == "length_ratio"
    assert Question()([asked])[0].reason == ""


def test_what_an_anchor_shares_with_the_example_is_no_echo() -> None:
    bridge = replace(
        GOOD,
        anchor="They could not cross the bridge for two years.",
        positive="Nobody could cross the bridge for two years.",
    )
    assert Echo()([bridge])[0].reason == ""


def test_an_anchor_that_is_like_that_excuses_the_positive() -> None:
    sorry = replace(GOOD, anchor="I'm sorry that I missed the train.", positive="Sorry, I was late for the train.")
    asked = replace(GOOD, anchor="Where is the valley?", positive="In which place is the valley?")
    russian = replace(GOOD, anchor="The Волга is long", positive="Волга: a long river, long")
    assert not Refusal()([sorry])[0].reason
    assert not Question()([asked])[0].reason
    assert not Script(share=0)([russian])[0].reason


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('Sure, here is the rewritten text:\n\n"Melting snow floods it."', "Melting snow floods it."),
        ("Certainly! Here's a paraphrased version: Melting snow floods it.", "Melting snow floods it."),
        ("Here are the keywords: snow, valley", "snow, valley"),
        ("Rewritten sentence: Melting snow floods it.", "Melting snow floods it."),
        ("**Title:** Floods", "**Title:** Floods"),
        ("Title: “Floods in Spring”", "Floods in Spring"),
        ("The text can be rewritten as: Melting snow floods it.", "Melting snow floods it."),
        ("Melting snow floods it.\n\nNote: I kept the meaning.", "Melting snow floods it."),
        ("Melting snow\nfloods it.\n\nI hope this helps!", "Melting snow floods it."),
        ("Melting snow floods it.", "Melting snow floods it."),
        ("Okay is a city in Oklahoma.", "Okay is a city in Oklahoma."),
        ("Certain rivers flood: the Nile, for one.", "Certain rivers flood: the Nile, for one."),
        ('"Yes" and "no" are words', '"Yes" and "no" are words'),
        ("Sure:", "Sure:"),
        ("<think>\nSnow? Sure.\n</think>\n\nMelting snow floods it.", "Melting snow floods it."),
        ("It is about snow.</think>Title: Floods", "Floods"),
        ("<think>\n\n</think>\n\n", ""),
        ("<think> is a tag of models", "<think> is a tag of models"),
    ],
)
def test_what_stands_around_the_answer_is_stripped_and_nothing_else(answer: str, text: str) -> None:
    assert bare(answer) == text


def test_a_line_that_the_anchor_has_too_is_no_afterthought() -> None:
    assert bare("I live alone.\nI own two dogs.\nI have no cat.", "I am alone.\nI have dogs.") == (
        "I live alone. I own two dogs. I have no cat."
    )


def test_a_stripped_answer_is_marked_and_kept() -> None:
    kept, mended = Preamble()([GOOD, replace(GOOD, positive=f"Sure, here it is: {GOOD.positive}")])
    assert kept is GOOD
    assert mended == replace(GOOD, mended=True)


def random_text(rng: random.Random, words: int = 20) -> list[str]:
    return ["".join(rng.choice("abcdefghijklmnop") for _ in range(rng.randrange(2, 9))) for _ in range(words)]


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("threshold", "changes"), [(0.8, 7), (0.5, 12)])
def test_near_texts_finds_exactly_what_jaccard_says(threshold: float, changes: int) -> None:
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(80)]
    near = NearTexts(threshold)
    near.add_all(" ".join(text) for text in texts)
    found = missed = 0
    for text in texts:
        for changed in range(changes):
            other = list(text)
            for _ in range(changed):
                other[rng.randrange(len(other))] = random_text(rng, 1)[0]
            query = shingles(" ".join(other))
            true = {i for i, known in enumerate(texts) if jaccard(query, shingles(" ".join(known))) >= threshold}
            answer = list(near.near(query))
            assert set(answer) <= true
            found += len(answer)
            missed += len(true) - len(answer)
    assert found > 80
    assert missed == 0


def test_pairs_that_were_seen_take_little_memory() -> None:
    rng = random.Random(0)
    pairs = [(" ".join(random_text(rng)), " ".join(random_text(rng))) for _ in range(200)]
    seen = SeenPairs(0.8)
    tracemalloc.start()
    assert all(seen.add(anchor, positive) for anchor, positive in pairs)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 8_000 * len(pairs)


def test_normal_form_drops_case_and_punctuation() -> None:
    assert normalised("  Hello,   WORLD_wide!\n") == "hello world wide"
    assert shingles("Hello, world") == shingles("hello   WORLD!")


def test_of_near_pairs_the_first_stays() -> None:
    drafts = [
        GOOD,
        replace(GOOD, row=1, positive="Snow that melts floods the valley."),
        replace(GOOD, row=2, anchor=ANCHOR.upper()),
        replace(GOOD, row=3, positive="Melting snow makes the valleys flood every spring."),
        replace(GOOD, row=4, anchor=GOOD.positive, positive=GOOD.anchor),
        replace(GOOD, row=5, positive="Floods"),
        replace(GOOD, row=6, anchor="Another text altogether stands here."),
        GOOD.refused("earlier"),
    ]
    reasons = ["", "", "duplicate", "duplicate", "duplicate", "", "", "earlier"]
    assert [draft.reason for draft in Duplicates()(drafts)] == reasons


DEFINITION = (
    "a person who studies or practices the science of measuring very small things with care and patience in a lab"
)


@pytest.fixture
def tasks(tmp_path: Path) -> list[str]:
    file = tmp_path / "task.csv"
    file.write_text(f"text,label\n{DEFINITION},a\nsnow and ice,b\n", encoding="utf-8")
    return [str(file)]


@pytest.mark.parametrize(
    ("text", "contaminated"),
    [
        ("Snow, and ICE.", True),
        (DEFINITION.replace("very", "really"), True),
        (f"In this book we meet {' '.join(DEFINITION.split()[2:17])}, which is new.", True),
        ("snow and fire and ice", False),
        ("a person who measures", False),
    ],
)
@pytest.mark.parametrize("side", ["anchor", "positive", "negatives"])
def test_texts_of_evaluation_tasks_are_found_on_every_side(
    tasks: list[str], text: str, contaminated: bool, side: str
) -> None:
    gate = Contamination(tasks)
    gate.prepare(written=True)
    draft = replace(GOOD, **{side: (text,) if side == "negatives" else text})  # type: ignore[arg-type]
    assert gate([draft])[0].reason == ("contamination" if contaminated else "")


def test_contamination_can_be_marked_instead_of_dropped(tasks: list[str]) -> None:
    (draft,) = Contamination(tasks, drop=False)([replace(GOOD, positive="snow and ice")])
    assert (draft.reason, draft.scores) == ("", {"contaminated": 1.0})


def test_the_embedded_task_is_what_is_looked_for_by_default() -> None:
    definition = embedded_data_path("wordnet_definitions").read_text().splitlines()[1].rpartition(",")[0]
    assert Contamination()([replace(GOOD, positive=definition)])[0].reason == "contamination"


def test_a_task_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"^gates.contamination.tasks: 'nothing.csv'"):
        Contamination(["nothing.csv"]).prepare(written=True)


def test_a_task_that_the_hub_does_not_give_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr("embedllm.eval.tasks.load_hub_task", away)
    message = r"^gates.contamination.tasks: 'STSBenchmark' cannot be read \(Couldn't reach the Hub\); it may be a file"
    with pytest.raises(InputError, match=message):
        Contamination(["STSBenchmark"]).prepare(written=True)


def test_similarity_scores_pairs_and_keeps_the_band(tiny_path: Path) -> None:
    gate = Similarity(model=str(tiny_path), low=-0.5, high=0.99)
    gate.prepare(written=True)
    same, other, unwritten = gate([replace(GOOD, positive=ANCHOR), GOOD, replace(GOOD, written=False)])
    assert (same.reason, same.scores["similarity"]) == ("similarity", 1.0)
    cosine = other.scores["similarity"]
    assert round(cosine, 4) == cosine < 0.99
    assert not unwritten.scores
    gate = Similarity(model=str(tiny_path), low=cosine + 1e-4, high=1)
    assert gate([GOOD])[0].reason == "similarity"


def test_the_model_of_similarities_need_not_be_there_where_no_model_writes() -> None:
    Similarity(model="no-such-folder/of/models").prepare(written=False)
    with pytest.raises(InputError, match=r"^gates.similarity.model: no file or folder 'no-such-folder/of/models'"):
        Similarity(model="no-such-folder/of/models").prepare(written=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Similarity(low=0.9, high=0.5), "gates.similarity: low=0.9"),
        (lambda: Duplicates(near=0), "gates.duplicates.near: 0"),
        (lambda: Contamination(run=0), "gates.contamination.run: 0"),
        (lambda: LengthRatio(low=3), "gates.length_ratio: low=3"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Gate], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_every_style_has_an_instruction_that_forbids_a_preamble() -> None:
    for style in STYLES.values():
        assert style.instruction.endswith("only.")
        assert bare(style.cue) == style.cue


def test_the_default_gates_are_all_there() -> None:
    from embedllm.synth_settings import build, read_settings

    gates = [build(gate) for gate in read_settings([])["gates"].values()]
    assert len({gate.name for gate in gates}) == len(gates) == 12
    assert read_settings(["gates=none"])["gates"] == {}
    assert (config_dir() / "synth" / "gates" / "default.yaml").is_file()
