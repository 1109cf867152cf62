"""Servers that mean harm to whoever asks them: what HTTP allows, and what it does not."""
import socket, struct, threading


class Hostile:
    """Accepts, reads one request, then fn(connection, stop)."""

    def __init__(self, fn, family=socket.AF_INET, path=None, read=True):
        self.s = socket.socket(family)
        self.s.bind(path if path else ("127.0.0.1", 0))
        self.s.listen(64)
        self.port = None if path else self.s.getsockname()[1]
        self.fn, self.read, self.stop = fn, read, threading.Event()
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        try:
            c.settimeout(20)
            if self.read:
                c.recv(65536)
            self.fn(c, self.stop)
        except OSError:
            pass
        finally:
            c.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()

    @property
    def url(self):
        return "http://127.0.0.1:%d/health" % self.port


def answer(text):
    return lambda c, stop: c.sendall(text)


def trickle(c, stop):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not stop.wait(0.2):
        c.sendall(b"x")


def trickle_headers(c, stop):
    c.sendall(b"HTTP/1.1 200 OK\r\n")
    while not stop.wait(0.1):
        c.sendall(b"a")


def endless_headers(c, stop):
    c.sendall(b"HTTP/1.1 200 OK\r\n")
    while not stop.is_set():
        c.sendall(b"X-Junk: yes\r\n" * 1000)


def endless_line(c, stop):
    c.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not stop.is_set():
        c.sendall(b"x" * 65536)


def endless_continue(c, stop):
    while not stop.is_set():
        c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def huge_body(c, stop):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
    while not stop.is_set():
        c.sendall(b"x" * 65536)


def huge_bad_body(c, stop):
    c.sendall(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stop.is_set():
        c.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def reset_in_the_body(c, stop):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_at_once(c, stop):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOSTILE = [  # name, server, expected ok, expected in the text
    ("200", answer(OK), 1, "http 200"),
    ("204", answer(b"HTTP/1.1 204 No Content\r\n\r\n"), 1, "http 204"),
    ("redirect, not followed", answer(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), 1, "http 302"),
    ("503 with a reason", answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 40\r\n\r\ndb: connection refused\x1b[31m\nsecond li\n\n\n"),
     0, 'http 503 "db: connection refused?[31m"'),
    ("404", answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), 0, "http 404"),
    ("status 099", answer(b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n"), 0, ""),
    ("status 000", answer(b"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n"), 0, ""),
    ("status 9999", answer(b"HTTP/1.1 9999 Odd\r\nContent-Length: 0\r\n\r\n"), 0, ""),
    ("no HTTP at all", answer(b"SSH-2.0-OpenSSH_9.2\r\n"), 0, ""),
    ("HTTP/0.9", answer(b"hello\n"), 0, ""),
    ("silence and close", answer(b""), 0, "empty reply"),
    ("2^64 content-length", answer(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nok"), None, ""),
    ("negative content-length", answer(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"), 0, ""),
    ("bad chunk size", answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"), 0, ""),
    ("RST mid-body", reset_in_the_body, 0, ""),
    ("RST at once", reset_at_once, 0, "reset"),
    ("one byte a time", trickle, 0, "timeout after 1s reading the answer"),
    ("one header byte a time", trickle_headers, 0, "timeout after 1s"),
    ("accepts, says nothing", lambda c, stop: stop.wait(20), 0, "timeout after 1s waiting for the answer"),
    ("endless headers", endless_headers, 0, "64 KiB of headers"),
    ("endless header line", endless_line, 0, ""),
    ("endless 100 Continue", endless_continue, 0, ""),
    ("10 GB body", huge_body, 1, "http 200"),
    ("endless bad body", huge_bad_body, 0, "http 500"),
]
