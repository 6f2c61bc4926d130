import datasets.config
import huggingface_hub
import pytest
from huggingface_hub import constants

from embedllm.eval.hub_access import hub_is_reachable, local_copies_only


class Session:
    def __init__(self, error=None):
        self.error = error
        self.requests = []

    def head(self, url, timeout):
        self.requests.append((url, timeout))
        if self.error is not None:
            raise self.error


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(("error", "reachable"), [(None, True), (OSError("no route"), False)])
def test_one_bounded_request_tells_whether_the_hub_answers(online, monkeypatch, error, reachable):
    session = Session(error)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    assert hub_is_reachable() is reachable
    ((url, timeout),) = session.requests
    assert url == constants.ENDPOINT
    assert 0 < timeout <= 10


def test_offline_by_setting_asks_nothing(monkeypatch):
    session = Session()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    assert not hub_is_reachable()
    assert session.requests == []


def test_local_copies_only_makes_no_request(online):
    with local_copies_only(), pytest.raises(ConnectionError, match="OfflineModeIsEnabled"):
        datasets.load_dataset("nobody/no-such-data-set")


def test_local_copies_only_is_undone_even_after_an_error(online):
    with pytest.raises(KeyError), local_copies_only():
        raise KeyError
    assert not huggingface_hub.is_offline_mode()
    assert not datasets.config.HF_HUB_OFFLINE
