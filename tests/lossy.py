"""An HTTP proxy that loses the answer to every first try of a commit: the store has the commit, and the client does not hear it.

It runs in a process of its own, since some calls of the table library hold the interpreter while they wait for the store:
`python tests/lossy.py http://127.0.0.1:1234` prints its address, then the path of every commit whose answer was lost.
"""

import http.client
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"transfer-encoding", "connection", "content-length"}


def say(line: str) -> None:
    """Writes a line for the process that started this one."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    """Forwards a request to the store, with the client's host, which the signature covers."""

    protocol_version = "HTTP/1.1"
    lost: set[str] = set()  # noqa: RUF012

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(urlsplit(sys.argv[1]).netloc)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
        if self.command == "PUT" and "/_delta_log/" in self.path and self.path not in self.lost:
            self.lost.add(self.path)
            say(self.path)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        is_head = self.command == "HEAD"
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", (is_head and answer.getheader("Content-Length")) or str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward

    def log_message(self, *_: object) -> None:
        """Writes nothing: standard output is for the lost commits."""


if __name__ == "__main__":
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    say(f"http://127.0.0.1:{proxy.server_port}")
    proxy.serve_forever()
