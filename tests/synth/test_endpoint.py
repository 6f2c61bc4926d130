"""The endpoint generator, against a real server on loopback that is slow, busy, broken or wrong."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from embedllm.cli import main
from embedllm.errors import InputError
from embedllm.synth import completions
from embedllm.synth.draft import Draft, Item
from embedllm.synth.endpoint import Endpoint
from embedllm.synth.rows import SourceRows

Behaviour = Callable[[int, dict[str, Any]], tuple[int, bytes]]
"""Status and body for the n-th request about a text, from 0."""

ITEMS = [Item(i, f"text {i}", seed=1) for i in range(12)]


def whole(text: str, reason: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]}).encode()


class Server:
    """A chat server; ``behaviour`` says what it answers."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = lambda count, body: (
            200,
            whole(f"answer to {body['messages'][-1]['content'][-7:]}"),
        )
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.open = self.most_open = 0
        self.pause = 0.0  # after each byte of an answer
        lock, counts, server = threading.Lock(), Counter[str](), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                content = body["messages"][-1]["content"]
                with lock:
                    server.open += 1
                    server.most_open = max(server.most_open, server.open)
                    count = counts[content]
                    counts[content] += 1
                    server.bodies.append(body)
                    server.keys.add(self.headers.get("Authorization"))
                try:
                    status, data = server.behaviour(count, body) if self.path == "/v1/chat/completions" else (404, b"")
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    for piece in [data[i : i + 1] for i in range(len(data))] if server.pause else [data]:
                        self.wfile.write(piece)
                        time.sleep(server.pause)
                except OSError:  # the client gave up
                    pass
                finally:
                    with lock:
                        server.open -= 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(completions, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def drafts(server: Server, items: list[Item] = ITEMS, **settings: Any) -> list[Draft]:
    generator = Endpoint(url=server.url, **settings)
    generator.prepare(SourceRows(items, ""))
    return generator.generate(items)


def test_answers_come_back_in_the_order_of_their_rows(server: Server) -> None:
    def later_first(count: int, body: dict[str, Any]) -> tuple[int, bytes]:
        number = int(body["messages"][-1]["content"].rpartition(" ")[2])
        time.sleep(0.05 if number == 0 else 0)
        return 200, whole(f" answer {number}\n")

    server.behaviour = later_first
    assert [draft.positive for draft in drafts(server)] == [f"answer {i}" for i in range(12)]


def test_half_a_character_in_an_answer_is_replaced(server: Server) -> None:
    server.behaviour = lambda count, body: (200, whole("floods \ud83d"))
    assert drafts(server, ITEMS[:1])[0].positive == "floods \ufffd"


def test_requests_run_side_by_side_but_not_more_than_asked(server: Server) -> None:
    answer = server.behaviour
    server.behaviour = lambda count, body: (time.sleep(0.05), answer(count, body))[1]
    drafts(server, concurrency=3)
    assert server.most_open == 3


def test_a_request_says_what_is_asked_and_has_a_seed_of_its_own(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    drafts(server, model="big", system="Be brief.", key="MY_KEY", temperature=0.3, max_new_tokens=9)
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("big", 0.3, 9)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert len({body["seed"] for body in server.bodies}) == 12
    assert server.keys == {"Bearer secret"}


def test_a_key_is_sent_without_the_end_of_its_line_and_never_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", " secret\n")
    drafts(server, ITEMS[:1], key="MY_KEY")
    assert server.keys == {"Bearer secret"}
    for wrong in ("sec\nret", "s\u00e9cret"):
        monkeypatch.setenv("MY_KEY", wrong)
        with pytest.raises(InputError, match=r"^generator.key: the variable 'MY_KEY' holds characters") as caught:
            drafts(server, ITEMS[:1], key="MY_KEY")
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "trouble",
    [
        (429, b"slow down"),
        (500, b"oops"),
        (503, b""),
        (200, whole("half")[:25]),
        (200, b'{"choices": []}'),
        (200, whole("x").replace(b'"x"', b"null")),
    ],
    ids=["busy", "broken", "starting", "half-json", "no-choice", "no-text"],
)
def test_passing_trouble_costs_no_row(server: Server, trouble: tuple[int, bytes]) -> None:
    answer = server.behaviour
    server.behaviour = lambda count, body: trouble if count < 2 else answer(count, body)
    assert [draft.positive[-3:].strip() for draft in drafts(server)] == [f"t {i}"[-3:].strip() for i in range(12)]
    assert len(server.bodies) == 36


def test_a_request_that_hangs_is_tried_again(server: Server) -> None:
    answer = server.behaviour

    def hang(count: int, body: dict[str, Any]) -> tuple[int, bytes]:
        if count == 0:
            time.sleep(0.6)
        return answer(count, body)

    server.behaviour = hang
    assert all(draft.positive for draft in drafts(server, ITEMS[:2], timeout_s=0.2))


def test_an_answer_that_trickles_in_is_given_up_too(server: Server) -> None:
    server.pause = 0.05  # 4 s for all of it
    start = time.monotonic()
    with pytest.raises(InputError, match=r"failed 2 times, at last with no answer in time \(generator.timeout_s\)"):
        drafts(server, ITEMS[:1], timeout_s=0.2, attempts=2)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("status", "data", "trouble"),
    [(503, b"", "HTTP 503"), (200, b"<html>", "no chat completion: '<html>'"), (429, b"", "HTTP 429")],
)
def test_lasting_trouble_ends_the_run_with_one_sentence(server: Server, status: int, data: bytes, trouble: str) -> None:
    server.behaviour = lambda count, body: (status, data)
    with pytest.raises(
        InputError, match=rf"generator.url: .* failed 3 times, at last with .*{trouble}.*same command goes on"
    ):
        drafts(server, attempts=3)


def test_a_server_that_is_not_there_is_named() -> None:
    generator = Endpoint(url="http://127.0.0.1:9/v1", attempts=1)
    generator.prepare(SourceRows(ITEMS, ""))
    with pytest.raises(InputError, match=r"http://127.0.0.1:9/v1/chat/completions' failed 1 times"):
        generator.generate(ITEMS)


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_address_is_not_tried_again(server: Server, status: int) -> None:
    server.behaviour = lambda count, body: (status, b"no such model")
    with pytest.raises(InputError, match=rf"HTTP {status} \(no such model\); look at generator.url"):
        drafts(server, ITEMS[:1])
    assert len(server.bodies) == 1


def test_a_server_that_refuses_all_of_the_first_block_ends_the_run(server: Server) -> None:
    answer = server.behaviour
    server.behaviour = lambda n, body: (422, b"unknown field:\n 'seed'")
    with pytest.raises(InputError, match=r"refuses all requests .* one with: HTTP 422: unknown field: 'seed'; change"):
        drafts(server)
    server.behaviour = lambda n, body: (422, b"") if "text 11" in body["messages"][-1]["content"] else answer(n, body)
    generator = Endpoint(url=server.url)
    generator.prepare(SourceRows(ITEMS, ""))
    assert [generator.generate([item])[0].reason for item in ITEMS] == [*[""] * 11, "endpoint_refused"]


def test_a_request_that_is_wrong_costs_its_row_only(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    answer = server.behaviour
    server.behaviour = lambda n, body: (
        (400, b"too long") if body["messages"][-1]["content"].endswith(" 3") else answer(n, body)
    )
    found = drafts(server)
    assert [draft.row for draft in found if draft.reason] == [3]
    assert found[3].reason == "endpoint_refused"
    assert "the first with: HTTP 400: too long" in caplog.text


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        ({"message": {"content": None}, "finish_reason": "length"}, 1),
        ({"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}, 1),
        ({"message": {}, "finish_reason": "content_filter"}, 1),
        ({"message": {"content": None}, "finish_reason": "stop"}, 3),
    ],
    ids=["thought-too-long", "refusal", "filter", "silence"],
)
def test_a_text_that_never_gets_an_answer_costs_its_row_only(
    server: Server, answer: dict[str, Any], requests: int
) -> None:
    other = server.behaviour
    server.behaviour = lambda n, body: (
        (200, json.dumps({"choices": [answer]}).encode())
        if body["messages"][-1]["content"].endswith(" 3")
        else other(n, body)
    )
    found = drafts(server, attempts=3)
    assert [draft.row for draft in found if draft.reason] == [3]
    assert found[3].reason == "endpoint_refused"
    assert len(server.bodies) == 11 + requests


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_cut_by_the_server_is_marked(server: Server, reason: str) -> None:
    server.behaviour = lambda count, body: (200, whole("It goes on and", reason))
    assert all(draft.truncated for draft in drafts(server))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "generator.url: 'localhost:8000' does not begin with http"),
        ({"concurrency": 0}, "generator.concurrency: 0"),
        ({"timeout_s": 0}, "generator.timeout_s: 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Endpoint(**settings)


@pytest.mark.parametrize("generator", ["endpoint", "mixture"])
def test_a_run_goes_on_with_more_patience(server: Server, tmp_path: Path, generator: str) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"text {i}\n" for i in range(12)))
    place = "generator" if generator == "endpoint" else "generator.parts.endpoint"
    words = ["synth", str(texts), "-o", str(tmp_path / "a.parquet"), f"generator={generator}", "gates=none", "block=4"]
    words += [f"{place}.url={server.url}"]
    if generator == "mixture":
        words += [f"generator.weights.{name}=0" for name in ("llm", "word_noise")] + ["generator.weights.endpoint=1"]
    answer = server.behaviour
    server.behaviour = lambda n, body: (
        (429, b"") if body["messages"][-1]["content"].endswith(" 9") and n < 2 else answer(n, body)
    )
    assert main([*words, f"{place}.attempts=2"]) == 2
    done = len(server.bodies)
    assert main([*words, f"{place}.attempts=3", f"{place}.concurrency=2", f"{place}.timeout_s=30"]) == 0
    assert len(server.bodies) == done + 4  # of the last block
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 12
    assert main([*words, f"{place}.model=other"]) == 2
