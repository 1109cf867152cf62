"""A file system that hangs or fails, in some eighty lines: FUSE spoken by hand, needs root."""
import ctypes, struct, threading

from lib import *

libc = ctypes.CDLL(None, use_errno=True)


class HungFs(threading.Thread):
    """A file system (FUSE, spoken by hand) whose file "hang" is never answered for: who reads it is in D state.
    release() answers what is open and makes further reads fail. With error= every other name fails so."""

    def __init__(self, at, error=0):
        super().__init__(daemon=True)
        self.at, self.held, self.is_open, self.error = at, [], True, error
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        text = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % self.fd
        if libc.mount(b"hung", at.encode(), b"fuse", 0, text.encode()) != 0:
            os.close(self.fd)
            skip("cannot mount FUSE here: %s" % os.strerror(ctypes.get_errno()))
        self.start()

    def answer(self, unique, data=b"", error=0):
        with contextlib.suppress(OSError):
            os.write(self.fd, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)

    def attr(self, node):
        return struct.pack("<QQQQQQIIIIIIIIII", node, 4096, 8, 0, 0, 0, 0, 0, 0, 0o40755 if node == 1 else 0o100755, 1, 0, 0, 0, 4096, 0)

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                b = os.read(self.fd, 1 << 17)
                _, op, unique, node = struct.unpack_from("<IIQQ", b)
                if op == 26:  # INIT
                    self.answer(unique, struct.pack("<IIIIHHII", 7, 19, 0, 0, 12, 10, 4096, 1) + b"\0" * 36)
                elif op == 1 and self.error and b[40:].rstrip(b"\0") != b"hang":  # LOOKUP
                    self.answer(unique, error=self.error)
                elif op == 1:
                    self.answer(unique, struct.pack("<QQQQII", 2, 0, 1, 1, 0, 0) + self.attr(2))
                elif op == 3:  # GETATTR
                    self.answer(unique, struct.pack("<QII", 1, 0, 0) + self.attr(node))
                elif op in (14, 27):  # OPEN, OPENDIR
                    self.answer(unique, struct.pack("<QII", 0, 1, 0))
                elif op == 15 and self.is_open:  # READ
                    self.held.append(unique)
                elif op not in (2, 42):  # FORGET has no answer
                    self.answer(unique, error=5 if op == 15 else 0 if op in (18, 25, 36) else self.error or 38)

    def release(self):
        self.is_open = False
        for u in self.held:
            self.answer(u, error=5)
        self.held = []

    def close(self):
        self.release()
        libc.umount2(self.at.encode(), 2)
        os.close(self.fd)
