"""A stand-in of the few calls of the Hugging Face Hub that making a model and sending a folder to it take."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_stand_in"


@dataclass
class Model:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """What the stand-in holds."""

    url: str = ""
    models: dict[str, Model] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    refuses_commits: bool = False
    status: int = 200
    """What it answers where only its head is asked for."""


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve on loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET", b"")

        def do_HEAD(self) -> None:
            self.send_response(hub.status)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        def do_POST(self) -> None:
            self._answer("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def do_PUT(self) -> None:
            self._answer("PUT", self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, verb: str, body: bytes) -> None:
            path = urlsplit(self.path).path
            hub.calls.append(f"{verb} {path}")
            known = path.startswith("/objects/") or self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, content, error = answer(hub, verb, path, body) if known else (401, {"error": "Who?"}, None)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(hub: Hub, verb: str, path: str, body: bytes) -> tuple[int, Any, str | None]:
    """Return the status, the body and the Hub's code of an error."""
    if path == "/api/whoami-v2":
        return 200, {"name": "someone", "type": "user", "orgs": []}, None
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}, None
    if path == "/api/repos/create":
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in hub.models:
            return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, None
        hub.models[name] = Model(private=wanted.get("visibility") == "private")
        return 200, {"url": f"{hub.url}/{name}"}, None
    if verb == "PUT":
        hub.objects[path.removeprefix("/objects/")] = body
        return 200, {}, None
    if path.endswith("/info/lfs/objects/batch"):
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{hub.url}/objects/{wanted['oid']}"}}}
            for wanted in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}, None
    owner, model, *rest = path.removeprefix("/api/models/").split("/")
    found = hub.models.get(f"{owner}/{model}")
    if found is None:
        return 404, {"error": "Repository not found"}, "RepoNotFound"
    if rest[:1] == ["preupload"]:
        files = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": [{**file, "shouldIgnore": False} for file in files]}, None
    if rest[:1] == ["commit"]:
        return _commit(hub, found, f"{owner}/{model}", body)
    return 200, {"id": f"{owner}/{model}", "private": found.private, "siblings": [], "tags": []}, None


def _commit(hub: Hub, model: Model, name: str, body: bytes) -> tuple[int, Any, str | None]:
    if hub.refuses_commits:
        return 403, {"error": "You may not write here"}, None
    for line in body.splitlines():
        operation = json.loads(line)
        value = operation["value"]
        if operation["key"] == "header":
            model.commits.append(value["summary"])
        elif operation["key"] == "file":
            model.files[value["path"]] = base64.b64decode(value["content"])
        else:
            assert operation["key"] == "lfsFile"
            content = hub.objects[value["oid"]]
            assert hashlib.sha256(content).hexdigest() == value["oid"]
            model.files[value["path"]] = content
    commit = "0" * 40
    return 200, {"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True}, None
