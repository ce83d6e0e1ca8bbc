"""A small HTTP server between MLflow's webhooks and Prefect's events: MLflow cannot speak Prefect, Prefect has no inbound hooks."""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prefect.events import emit_event

log = logging.getLogger(__name__)
EVENT = "mlflow.champion"
OLDEST_S = 300
LARGEST_BYTES = 64 * 1024


def serve(*, host: str, port: int, secret: str) -> None:
    """Answers until the process ends."""
    ThreadingHTTPServer((host, port), _handler(secret)).serve_forever()


def is_genuine(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> bool:
    """Whether MLflow signed this body with our secret (HMAC-SHA256 over `delivery.timestamp.body`) within five minutes."""
    given = headers.get("X-MLflow-Signature", "")
    delivery, sent = headers.get("X-MLflow-Delivery-Id", ""), headers.get("X-MLflow-Timestamp", "")
    if not sent.isdigit() or abs(now - int(sent)) > OLDEST_S:
        return False
    signed = f"{delivery}.{sent}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return hmac.compare_digest(given, f"v1,{base64.b64encode(digest).decode()}")


def pass_on(body: bytes) -> bool:
    """Emits the event for a champion alias; other messages are of no interest."""
    data = json.loads(body).get("data", {})
    if data.get("alias") != "champion":
        return False
    emit_event(
        EVENT,
        resource={"prefect.resource.id": f"mlflow.model.{data['name']}", "prefect.resource.name": data["name"]},
        payload={"name": data["name"], "version": str(data["version"])},
    )
    log.info("champion of %s set to version %s in MLflow", data["name"], data["version"])
    return True


def _handler(secret: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > LARGEST_BYTES:
                return self._answer(413)
            body = self.rfile.read(length)
            if not is_genuine(dict(self.headers), body, secret=secret, now=time.time()):
                log.warning("a message without a valid signature was refused")
                return self._answer(401)
            try:
                pass_on(body)
            except (ValueError, KeyError, AttributeError):
                return self._answer(400)
            return self._answer(204)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            log.debug(format, *arguments)

    return Handler
