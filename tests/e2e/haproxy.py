"""A real HAProxy for tests and for the demo: its own directory, free ports, admin socket, template servers.

    with HAProxy(dir, Backend("web", slots=8)) as lb:    # start() and stop()
        lb.port("web")      # the frontend's port
        lb.socket           # path of the admin socket
        lb.stat("web")      # {"web1": {"status": "MAINT", "scur": 0, "wretr": 0, ...}, ...}
        lb.reload()         # a new worker: everything set at run time is lost
        lb.kill(); lb.start()   # gone, and back on the same port

Servers are slots (server-template): web1..web8, disabled, at 127.0.0.1:1 until somebody moves them.
It runs as master and worker in the foreground (-W -db), so that reload() is what Debian's unit does
(SIGUSR2) and the listening sockets never close. Standard library only."""
import contextlib, csv, io, os, random, signal, socket, subprocess, time

HAPROXY = os.environ.get("HAPROXY", "/usr/sbin/haproxy")

CONFIG = """\
global
    maxconn 4000
    stats socket {socket} mode 600 level admin expose-fd listeners
    stats timeout 30s
    hard-stop-after {hard_stop}
    master-worker no-exit-on-failure
    nbthread 1
{globals}
defaults
    mode http
    option redispatch
    option dontlognull
    retries 3
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout queue 30s
    timeout check 5s
    timeout http-keep-alive 60s
{defaults}
    default-server check inter 100ms fastinter 50ms downinter 100ms fall 2 rise 1 weight 100
"""
SECTION = """
frontend {name}-in
    bind 127.0.0.1:{port}
    default_backend {name}
backend {name}
    balance roundrobin
{lines}
    server-template {prefix} 1-{slots} 127.0.0.1:1 disabled
"""


def available():
    return os.access(HAPROXY, os.X_OK)


_given = set()


def free_port():
    """A port nobody has now, of none that the kernel hands out by itself: a client's could be bound again by nobody
    when HAProxy is restarted. Never the same one twice. A thief in between makes start() fail loudly."""
    while True:
        port = random.randrange(5000, 15000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def wait_for(what, fn, timeout=60.0):
    """Calls fn until it returns something true, and returns that; AssertionError at the deadline."""
    deadline, last = time.monotonic() + timeout, None
    while True:
        try:
            value = fn()
            if value:
                return value
            last = value
        except (OSError, KeyError, ValueError) as e:
            last = e
        assert time.monotonic() < deadline, "no %s within %g s (last: %r)" % (what, timeout, last)
        time.sleep(0.01)


class Backend:
    """check: "tcp", a path for an HTTP check, or None; lines: further lines of the section."""

    def __init__(self, name, slots=8, prefix=None, check="tcp", lines=(), port=None):
        self.name, self.slots, self.prefix, self.port = name, slots, prefix or name, port or free_port()
        self.lines = list(lines)
        if check and check != "tcp":
            self.lines[:0] = ["option httpchk GET " + check]
        elif not check:
            self.lines[:0] = ["default-server no-check"]

    def section(self):
        return SECTION.format(name=self.name, port=self.port, prefix=self.prefix, slots=self.slots,
                              lines="\n".join("    " + l for l in self.lines))


class HAProxy:
    def __init__(self, dir, *backends, hard_stop="30s", globals=(), defaults=(), keeps_state=False):
        self.dir, self.backends = os.path.abspath(str(dir)), {}
        os.makedirs(self.dir, exist_ok=True)
        for b in backends or (Backend("web"),):
            b = Backend(b) if isinstance(b, str) else b
            self.backends[b.name] = b
        self.socket = os.path.join(self.dir, "admin.sock")
        self.config = os.path.join(self.dir, "haproxy.cfg")
        self.log = os.path.join(self.dir, "haproxy.log")
        self.hard_stop, self.globals, self.defaults, self.process = hard_stop, list(globals), list(defaults), None
        self.state_file = os.path.join(self.dir, "server-state") if keeps_state else None
        if keeps_state:  # what units/examples/haproxy.cfg advises
            self.globals.append("server-state-file " + self.state_file)
            self.defaults.append("load-server-state-from-file global")

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def port(self, backend="web"):
        return self.backends[backend].port

    def write_config(self):
        text = CONFIG.format(socket=self.socket, hard_stop=self.hard_stop,
                             globals="".join("    %s\n" % l for l in self.globals),
                             defaults="\n".join("    " + l for l in self.defaults))
        with open(self.config, "w") as f:
            f.write(text + "".join(b.section() for b in self.backends.values()))

    def start(self):
        assert self.process is None
        self.write_config()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([HAPROXY, "-W", "-db", "-f", self.config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for("answer from haproxy", self.worker_pid)
            # The worker answers before the master listens to signals: a SIGUSR2 now would be lost.
            wait_for("haproxy's word that it is loaded", lambda: "Loading success" in self.messages())
        except AssertionError:
            self.stop()
            raise AssertionError("haproxy did not start:\n" + self.messages())
        return self

    def reload(self):
        """A new worker from the file; returns when it is the one that answers. State is lost, unless kept."""
        old = self.worker_pid()
        if self.state_file:
            with open(self.state_file, "w") as f:
                f.write(self.command("show servers state").lstrip("\n"))
        for attempt in range(3):
            self.process.send_signal(signal.SIGUSR2)
            try:
                return wait_for("new haproxy worker", lambda: self.worker_pid() not in (0, old), 20)
            except AssertionError:
                continue  # not taken: the master was between two states
        raise AssertionError("haproxy did not reload:\n" + self.messages())

    def stop(self):
        """Ends master and workers at once; the socket file stays behind, as after a crash."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process = None

    kill = stop

    def messages(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def worker_pid(self):
        return int(self.info().get("Pid", 0))

    def command(self, text, timeout=30.0):
        """One runtime command (or several joined by ;) and its whole answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.socket)
            s.sendall(text.encode() + b"\n")
            out = b""
            while True:
                part = s.recv(65536)
                if not part:
                    return out.decode("utf-8", "replace")
                out += part

    def info(self):
        return dict(l.split(": ", 1) for l in self.command("show info").splitlines() if ": " in l)

    def stat(self, backend="web"):
        """Server -> row of `show stat`; numbers are ints, an absent number is 0."""
        text = self.command("show stat %s 4 -1" % backend).lstrip("# ")
        rows = {}
        for row in csv.DictReader(io.StringIO(text)):
            if row.get("svname"):
                rows[row["svname"]] = {k: _number(k, v) for k, v in row.items() if k}
        return rows

    def totals(self, backend="web"):
        """What must stay zero in a good rollout, summed over the servers."""
        rows = self.stat(backend).values()
        return {k: sum(r[k] for r in rows) for k in ("wretr", "wredis", "eresp", "econ", "hrsp_5xx")}


NUMBERS = set("qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis weight act bck chkfail"
              " chkdown lastchg downtime lbtot rate hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other".split())


def _number(key, value):
    return int(value or 0) if key in NUMBERS else value
