"""struct nt_frame of include/stayd/wire.h for tests that speak to stay-net themselves.

The one place where its layout stands in Python; check(build) compares it with what the compiler says
(tests/tools/wiresize.c)."""
import ctypes, os, re, subprocess

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../include/stayd/wire.h")
with open(HEADER) as f:
    BUILD = int(re.search(r"#define WIRE_BUILD (0x[0-9a-f]+)u", f.read()).group(1), 16)
HELLO, PROBE, LB, LB_REMOVE, LB_WANT, LB_FORGET, LB_SOCKET, LB_FAST = range(1, 9)
PROBED, LB_CONNECT, LB_STATUS, LB_SAMPLE = range(32, 36)
MAINT, DRAIN, READY = range(3)
CHECK_NONE, CHECK_UNKNOWN, CHECK_OK, CHECK_FAILED = range(4)

u16, u32, u64, i32 = ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32


class Sample(ctypes.Structure):
    _fields_ = [(n, u32) for n in ("known", "in_sync", "state", "is_up", "check", "weight")] + \
               [(n, u64) for n in ("sessions", "total", "errors", "retries", "http_5xx", "serial")]


class Frame(ctypes.Structure):
    _fields_ = [("build", u32), ("kind", u16), ("lb", u16), ("number", u64), ("timeout_us", u64), ("latency_us", u64),
                ("ok", i32), ("error", i32), ("reachable", u32), ("generation", u32), ("state", u32), ("weight", u32),
                ("port", u16), ("addr", ctypes.c_char * 64), ("server", ctypes.c_char * 128), ("sample", Sample),
                ("text", ctypes.c_char * 512)]

    def __repr__(self):
        s = self.sample
        return "<%d lb=%d n=%d ok=%d reach=%d gen=%d %s %r sample(%s)>" % (
            self.kind, self.lb, self.number, self.ok, self.reachable, self.generation, self.server.decode(),
            self.text.decode(errors="replace"), " ".join("%s=%d" % (n, getattr(s, n)) for n, _ in s._fields_))


SIZE = ctypes.sizeof(Frame)


def frame(kind, **fields):
    f = Frame(build=BUILD, kind=kind)
    for k, v in fields.items():
        setattr(f, k, v.encode() if isinstance(v, str) else v)
    return f


def check(build):
    """A list of differences between this file and the compiler's layout; empty is good."""
    out = subprocess.run([build + "/tests/tools/wiresize"], capture_output=True, text=True, check=True).stdout
    bad = []
    for line in out.splitlines():
        name, offset, size = line.split()
        if name == "build":
            mine = (0, BUILD)
        elif "." in name:
            cls, field = name.split(".")
            d = getattr({"nt_frame": Frame, "lb_sample": Sample}[cls], field)
            mine = (d.offset, d.size)
        else:
            mine = (0, ctypes.sizeof({"nt_frame": Frame, "lb_sample": Sample}[name]))
        if mine != (int(offset), int(size)):
            bad.append("%s: %s here, %s compiled" % (name, mine, (int(offset), int(size))))
    if not out:
        bad.append("wiresize said nothing")
    return bad
