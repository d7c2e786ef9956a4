"""A server on loopback that speaks the part of the hub's protocol that downloads use."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by id, each a folder, and the faults that the server shows."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.missing: set[str] = set()
        self.truncated: set[str] = set()
        self.branches: set[str] = set()
        self.hangs = False
        self.refusals: dict[str, tuple[int, str]] = {}
        """The status and error code of what is asked of a repository, or of a file by its name."""
        self.page: bytes | None = None
        """What is answered instead of the hub's own, as a login page is."""
        self.requests: list[str] = []
        self.address = ""
        self.released = threading.Event()

    def reach(self, home: Path, patch: pytest.MonkeyPatch, *, is_offline: bool = False) -> None:
        """Let this process take it for the hub: what HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE do for a new one."""
        from huggingface_hub import constants

        patch.setattr(constants, "ENDPOINT", self.address)
        template = f"{self.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_HUB_OFFLINE", is_offline)

    def files(self, repository: str) -> dict[str, Path]:
        folder = self.repositories[repository]
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            """Keep the tests' output clean."""

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            hub.requests.append(self.path)
            if hub.page is not None:
                self.send(hub.page, {"Content-Type": "text/html"}, with_body)
                return
            if hub.hangs:
                hub.released.wait(60)
                return
            if self.path.startswith("/api/"):
                self.answer_info()
            else:
                self.answer_file(with_body)

        def answer_info(self) -> None:
            path = self.path.split("?")[0]
            kind, rest = path.removeprefix("/api/").split("/", 1)
            repository, _, revision = rest.partition("/revision/")
            if repository in hub.refusals:
                status, code = hub.refusals[repository]
                self.refuse(code, status)
            elif repository not in hub.repositories:
                self.refuse("RepoNotFound")
            elif unquote(revision) not in ("", COMMIT, *hub.branches):
                self.refuse("RevisionNotFound")
            else:
                siblings = [{"rfilename": name} for name in hub.files(repository)]
                body = {"id": repository, "sha": COMMIT, "siblings": siblings, kind[:-1]: repository}
                self.send(json.dumps(body).encode(), {"Content-Type": "application/json"})

        def answer_file(self, with_body: bool) -> None:
            location, name = self.path.lstrip("/").split("/resolve/", 1)
            repository = location.removeprefix("datasets/")
            name = unquote(name.split("/", 1)[1])
            path = hub.files(repository).get(name)
            if name in hub.refusals:
                status, code = hub.refusals[name]
                self.refuse(code, status)
                return
            if path is None or name in hub.missing:
                self.refuse("EntryNotFound")
                return
            body = path.read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            cut = len(body) // 2 if name in hub.truncated else None
            self.send(body, headers, with_body, cut)

        def send(self, body: bytes, headers: dict[str, str], with_body: bool = True, cut: int | None = None) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body[:cut])
                if cut is not None:
                    self.wfile.flush()
                    time.sleep(0.05)
                    self.close_connection = True

        def refuse(self, code: str, status: int = 404) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def self_signed(path: Path, address: str = "127.0.0.1", days: int = 1) -> Path:
    """Write a certificate that nothing trusts, valid until in so many days, and its key beside it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a company's proxy")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=9))
        .not_valid_after(today + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(made.public_bytes(pem))
    bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.with_suffix(".key").write_bytes(key.private_bytes(pem, *bare))
    return path


@contextmanager
def serving(hub: Hub, certificate: Path | None = None) -> Iterator[Hub]:
    """Serve the hub on a free port of 127.0.0.1 while the block runs; over TLS with a certificate, its key beside."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
