import hashlib
import http.server
import io
import logging
import socket
import tarfile
import threading

import numpy as np
import pytest

from bsexp.data.preparation import catalogue, cifar
from bsexp.data.preparation.remote import Remote

TRAIN, TEST = 30, 10


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine, where the tests' own server runs; overrides the fixture that allows nothing."""
    connect = socket.socket.connect

    def local(self, address):
        if address[0] != "127.0.0.1":
            raise AssertionError("a data set reached for the network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def own_log_level():
    """The command line sets it for good."""
    logger = logging.getLogger("bsexp")
    level = logger.level
    yield
    logger.setLevel(level)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, promised = self.server.files.get(self.path, (None, 0))
        self.server.asked.append(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(content)
        if promised > len(content) and self.server.stalls:
            self.wfile.flush()
            self.server.released.wait(60)
            self.wfile.write(self.server.rest)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.stalls, self.released = False, threading.Event()
        self.rest = b""

    def serve(self, name, content, promised=None):
        """Serve ``content`` and promise that many bytes; return the address."""
        self.files[f"/{name}"] = content, promised or len(content)
        return f"http://127.0.0.1:{self.server_port}/{name}"


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def cifar100_record(random):
    """Coarse label, label, then red, green and blue planes."""
    coarse, fine = random.integers(20), random.integers(100)
    return (
        bytes([coarse, fine])
        + random.integers(256, size=3072, dtype=np.uint8).tobytes()
    )


def tar(members):
    """A gzipped archive of named contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def means(images):
    return tuple(images.mean(axis=(0, 1, 2)) / 255)


@pytest.fixture
def small(server):
    """A CIFAR-100 of 30 and 10 images in the owner's format; (its entry of the table, its archive)."""
    random = np.random.default_rng(0)
    files = {
        f"{split}.bin": b"".join(cifar100_record(random) for _ in range(size))
        for split, size in (("train", TRAIN), ("test", TEST))
    }
    archive = tar(
        {f"cifar-100-binary/{name}": content for name, content in files.items()}
        | {"cifar-100-binary/fine_label_names.txt": b"apple\n"}
    )
    name = "cifar-100-binary.tar.gz"
    original = catalogue.CIFAR100._replace(
        digests={
            file: f"sha1:{hashlib.sha1(content).hexdigest()}"
            for file, content in files.items()
        },
        counts={"train": TRAIN, "test": TEST},
        means=means(cifar.parse([files["train.bin"]], 2)[0]),
        archive=(
            Remote(server.serve(name, archive), hashlib.sha256(archive).hexdigest()),
        ),
    )
    return original, archive
