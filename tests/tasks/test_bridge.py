import json

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from tasks import bridge

SECRET, NOW = "between us", 1_800_000_000
BODY = json.dumps(
    {"entity": "model_version_alias", "data": {"name": "recommender", "alias": "champion", "version": "3"}}
)


def headers(body: str = BODY, *, secret: str = SECRET, sent: int = NOW) -> dict[str, str]:
    signature = _generate_hmac_signature(secret, "one", str(sent), body)
    return {"X-MLflow-Signature": signature, "X-MLflow-Delivery-Id": "one", "X-MLflow-Timestamp": str(sent)}


def test_what_mlflow_signed_is_genuine():
    assert bridge.is_genuine(headers(), BODY.encode(), secret=SECRET, now=NOW)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (headers(secret="a guess"), BODY),
        (headers(), BODY.replace("3", "4")),
        (headers(sent=NOW - 301), BODY),
        ({}, BODY),
        ({**headers(), "X-MLflow-Timestamp": "soon"}, BODY),
    ],
    ids=["other secret", "changed body", "too old", "unsigned", "no time"],
)
def test_anything_else_is_not(given, body):
    assert not bridge.is_genuine(given, body.encode(), secret=SECRET, now=NOW)


def test_only_the_champion_alias_becomes_an_event(monkeypatch):
    told = []
    monkeypatch.setattr(bridge, "emit_event", lambda event, **named: told.append((event, named["payload"])))
    assert bridge.pass_on(BODY.encode())
    assert not bridge.pass_on(BODY.replace("champion", "candidate").encode())
    assert told == [("mlflow.champion", {"name": "recommender", "version": "3"})]
