#!/usr/bin/python3
"""stay-net itself, spoken to as core speaks to it, against a real HAProxy and against hostile servers."""
import contextlib, fcntl, http.server, os, select, shutil, signal, socket, subprocess, sys, tempfile, threading, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import haproxy, wire
from haproxy import Backend, HAProxy, free_port
from hostile_http import HOSTILE, OK, Hostile, answer

os.umask(0o022)  # stay-net, which is somebody else, reads what is made here
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("STAYD_BUILD", TOP + "/build")
SANITIZED = BUILD.rstrip("/").endswith("-san")
SLOW = max(1, int(float(os.environ.get("STAYD_TEST_SLOW", "4" if SANITIZED else "1"))))
PATIENCE = 4 * SLOW  # deadlines: only what hangs is to meet them
PROBE_SEC = 1 + (SLOW + 1) // 2  # what a probe has


def readable(fd, timeout):
    """select() without its limit of 1024 descriptors."""
    p = select.poll()
    p.register(fd, select.POLLIN)
    return bool(p.poll(timeout * 1000))


class Process:
    """A child with these files at these descriptors (subprocess has no way to say so)."""

    def __init__(self, path, files):
        high = {fcntl.fcntl(f.fileno(), fcntl.F_DUPFD_CLOEXEC, 100): n for f, n in files.items()}
        self.pid = os.posix_spawn(path, [path], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, h, n) for h, n in high.items()])
        self.pidfd, self.returncode = os.pidfd_open(self.pid), None
        for h in high:
            os.close(h)

    def wait(self, timeout):
        if self.returncode is None:
            if not readable(self.pidfd, timeout):
                raise subprocess.TimeoutExpired("stay-net", timeout)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pidfd)
        return self.returncode

    def kill(self):
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.wait(10 * PATIENCE)


class Net:
    """A stay-net and both ends of its life: keeper's link, core's link."""

    def __init__(self):
        self.keeper, k = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.core, c = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log = tempfile.TemporaryFile()
        self.p = Process(BUILD + "/stay-net", {k: 3, c: 4, self.log: 2})
        k.close(), c.close()
        self.samples, self.history, self.status, self.statuses, self.probed, self.connects = {}, [], {}, [], {}, 0
        self.answers_connect, self.numbers = True, 0
        self.send(wire.HELLO)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.keeper.close()
        try:
            rc = self.p.wait(10 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise AssertionError("no end after keeper's: " + self.messages())
        finally:
            self.core.close()
        assert rc == 0, "exit status %s: %s" % (rc, self.messages())

    def messages(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def send(self, kind, fd=None, **fields):
        data = bytes(wire.frame(kind, **fields))
        if fd is None:
            self.core.send(data)
        else:
            socket.send_fds(self.core, [data], [fd])

    def connect(self, f):
        self.connects += 1
        if not self.answers_connect:
            return
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(f.text.decode())
            self.send(wire.LB_SOCKET, fd=s.fileno(), lb=f.lb, number=f.number)
        except OSError as e:
            self.send(wire.LB_SOCKET, lb=f.lb, number=f.number, error=e.errno)
        finally:
            s.close()

    def take(self, f):
        if f.kind == wire.LB_CONNECT:
            self.connect(f)
        elif f.kind == wire.LB_STATUS:
            self.status[f.lb] = f
            self.statuses.append(f)
        elif f.kind == wire.LB_SAMPLE:
            self.samples[f.lb, f.server.decode()] = f
            self.history.append(f)
        elif f.kind == wire.PROBED:
            assert f.number not in self.probed, "answered twice"
            self.probed[f.number] = f
        else:
            raise AssertionError("unexpected frame %r" % f)

    def until(self, what, fn, timeout=8.0):
        """Reads frames until fn() is true; its value."""
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            value = fn()
            if value:
                return value
            left = deadline - time.monotonic()
            assert left > 0, "no %s within %g s: %r %r\n%s" % (what, timeout, self.status, self.samples, self.messages())
            if readable(self.core, min(left, 0.5)):
                data = self.core.recv(65536)
                assert len(data) == wire.SIZE, "stay-net ended: " + self.messages()
                self.take(wire.Frame.from_buffer_copy(data))

    def lb(self, id, address, backend="web", driver="haproxy"):
        self.send(wire.LB, lb=id, text="%s\n%s\n%s" % (driver, address, backend))

    def want(self, server, state, weight=100, addr="", port=0, lb=1):
        self.samples.pop((lb, server), None)
        self.send(wire.LB_WANT, lb=lb, server=server, state=state, weight=weight, addr=addr, port=port)

    def sample(self, server, lb=1, **want):
        """The newest sample when it has these values, else None."""
        f = self.samples.get((lb, server))
        return f if f and all(getattr(f.sample, k) == v for k, v in want.items()) else None

    def until_sample(self, server, lb=1, **want):
        return self.until("%s with %r" % (server, want), lambda: self.sample(server, lb, **want)).sample

    def enter(self, server, port, lb=1):
        """What core's model does to a new instance: drain, the load balancer's own check, ready."""
        self.want(server, wire.DRAIN, addr="127.0.0.1", port=port, lb=lb)
        self.until_sample(server, lb, in_sync=1, state=wire.DRAIN, check=wire.CHECK_OK)
        self.want(server, wire.READY, addr="127.0.0.1", port=port, lb=lb)
        return self.until_sample(server, lb, in_sync=1, state=wire.READY)

    def probe(self, target, timeout=5.0, wait=8.0):
        self.numbers += 1
        n = self.numbers
        self.send(wire.PROBE, number=n, timeout_us=int(timeout * 1e6), text=target)
        return self.until("answer to " + target, lambda: self.probed.get(n), wait)


class Origin:
    """An HTTP server whose /slow answers when it is released."""

    def __init__(self):
        outer = self
        self.release = threading.Event()
        self.entered = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def do_GET(self):
                if self.path == "/slow":
                    outer.entered.set()
                    outer.release.wait(30 * PATIENCE)
                body = b"ok\n"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *a: None  # a check that hangs up is no news
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def get(port, path="/", timeout=10):
    with socket.create_connection(("127.0.0.1", port), timeout * PATIENCE) as s:
        s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        out = b""
        while True:
            part = s.recv(65536)
            if not part:
                return int(out.split(b" ", 2)[1])
            out += part


# ---- load balancers -------------------------------------------------------------------------------

def lb_states_are_set_and_read_back(d):
    with HAProxy(d) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.until("contact", lambda: net.status.get(1) and net.status[1].reachable)
        assert net.status[1].generation == 1 and net.status[1].text == b""
        net.want("web1", wire.MAINT)
        s = net.until_sample("web1", in_sync=1)
        assert s.known and s.state == wire.MAINT and not s.is_up, s
        net.enter("web1", o.port)
        row = lb.stat()["web1"]
        assert row["status"] == "UP" and row["addr"] == "127.0.0.1:%d" % o.port, row
        assert get(lb.port()) == 200
        net.until("the request in a sample", lambda: net.samples[1, "web1"].sample.total >= 1)
        net.want("web1", wire.READY, weight=40, addr="127.0.0.1", port=o.port)
        assert net.until_sample("web1", in_sync=1).weight == 40 and lb.stat()["web1"]["weight"] == 40
        net.want("web1", wire.MAINT, addr="127.0.0.1", port=o.port)
        net.until_sample("web1", in_sync=1, state=wire.MAINT)
        assert lb.stat()["web1"]["status"] == "MAINT"
        assert lb.totals() == dict.fromkeys(("wretr", "wredis", "eresp", "econ", "hrsp_5xx"), 0), lb.totals()


def lb_a_drain_shows_the_session_until_it_ends(d):
    with HAProxy(d) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        code = []
        t = threading.Thread(target=lambda: code.append(get(lb.port(), "/slow", 30)))
        t.start()
        assert o.entered.wait(10 * PATIENCE)
        net.want("web1", wire.DRAIN, addr="127.0.0.1", port=o.port)
        first = net.until_sample("web1", in_sync=1, state=wire.DRAIN)
        assert first.sessions == 1, first.sessions
        serial = first.serial
        busy = net.until("later samples", lambda: net.samples[1, "web1"].sample.serial >= serial + 5 and net.samples[1, "web1"])
        assert busy.sample.sessions == 1 and busy.sample.check == wire.CHECK_OK
        o.release.set()
        zero = net.until_sample("web1", sessions=0)
        after = net.until("a second zero", lambda: net.samples[1, "web1"].sample.serial > zero.serial and net.samples[1, "web1"])
        assert after.sample.sessions == 0 and after.sample.total == zero.total
        t.join()
        assert code == [200]


def lb_a_check_of_the_slot_before_is_not_believed(d):
    closed = free_port()
    with HAProxy(d, Backend("web", lines=["default-server inter 400ms fastinter 400ms downinter 400ms"])) as lb, \
            Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        net.want("web1", wire.MAINT, addr="127.0.0.1", port=o.port)
        net.until_sample("web1", in_sync=1, state=wire.MAINT)
        del net.history[:]
        net.want("web1", wire.DRAIN, addr="127.0.0.1", port=closed)
        net.until_sample("web1", in_sync=1, state=wire.DRAIN, check=wire.CHECK_FAILED)
        moved = [f.sample for f in net.history if f.sample.in_sync]
        assert moved and not any(s.check == wire.CHECK_OK for s in moved), net.history
        net.want("web1", wire.DRAIN, addr="127.0.0.1", port=o.port)
        assert net.until_sample("web1", in_sync=1, check=wire.CHECK_OK).is_up


def lb_without_checks_says_so(d):
    with HAProxy(d, Backend("web", check=None)) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.want("web1", wire.DRAIN, addr="127.0.0.1", port=o.port)
        s = net.until_sample("web1", in_sync=1, state=wire.DRAIN)
        assert s.check == wire.CHECK_NONE and s.is_up
        net.want("web1", wire.READY, addr="127.0.0.1", port=o.port)
        net.until_sample("web1", in_sync=1, state=wire.READY)
        assert get(lb.port()) == 200


def lb_small_configured_weights_never_round_to_zero(d):
    with HAProxy(d, Backend("web", lines=["default-server weight 1"])) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.want("web1", wire.READY, weight=10, addr="127.0.0.1", port=o.port)
        net.until_sample("web1", in_sync=1, state=wire.READY)
        assert lb.stat()["web1"]["weight"] == 1


def lb_a_human_is_overruled_and_reported(d):
    with HAProxy(d) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        lb.command("set server web/web1 state drain;set server web/web5 weight 7")
        net.until("a word about it", lambda: any(b"web1 was changed from outside" in f.text for f in net.statuses))
        net.until_sample("web1", in_sync=1, state=wire.READY)
        net.until("the end of the word", lambda: net.status[1].text == b"")
        assert lb.stat()["web1"]["status"] == "UP"
        assert " 7 100 " in [l for l in lb.command("show servers state web").splitlines() if " web5 " in l][0], "a server that is in no row was touched"
        assert net.status[1].generation == 1


def lb_a_reload_is_noticed_and_everything_told_again(d):
    with HAProxy(d, "web") as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        net.enter("web2", o.port)
        net.want("web3", wire.DRAIN, addr="127.0.0.1", port=o.port)
        net.until_sample("web3", in_sync=1, state=wire.DRAIN)
        before = net.samples[1, "web3"].sample.serial
        lb.reload()
        net.until("a new generation", lambda: net.status[1].generation == 2 and net.status[1].reachable)
        net.until("agreement", lambda: all(net.sample(w, in_sync=1) for w in ("web1", "web2", "web3"))
                  and net.samples[1, "web3"].sample.serial > before)
        net.until_sample("web3", in_sync=1, state=wire.DRAIN, check=wire.CHECK_OK)
        rows = lb.stat()
        assert [rows["web%d" % i]["status"].split()[0] for i in (1, 2, 3, 4)] == ["UP", "UP", "DRAIN", "MAINT"], rows
        assert all(rows["web%d" % i]["addr"].endswith(":%d" % o.port) for i in (1, 2, 3))
        assert get(lb.port()) == 200


def lb_gone_is_unreachable_and_back_is_told_again(d):
    with HAProxy(d) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        lb.kill()
        net.until("unreachable", lambda: not net.status[1].reachable)
        assert b"not running any more" in net.status[1].text, net.status[1]
        net.samples.clear()
        lb.start()
        net.until("reachable", lambda: net.status[1].reachable and net.status[1].generation == 2)
        net.until_sample("web1", in_sync=1, state=wire.READY)
        assert get(lb.port()) == 200
        os.unlink(lb.socket)
        net.until("no socket", lambda: not net.status[1].reachable and b"no such socket" in net.status[1].text)


def lb_that_comes_back_is_told_of_although_nothing_changed(d):
    """Core believes no sample of before the loss: it waits for one of after it."""
    with HAProxy(d) as lb, Net() as net:
        net.lb(1, lb.socket)
        net.want("web1", wire.MAINT)
        net.until_sample("web1", in_sync=1, state=wire.MAINT)

        def is_quiet():  # two rounds at the slow pace, of which nothing is told
            n = len(net.history)
            with contextlib.suppress(AssertionError):
                net.until("more samples", lambda: len(net.history) > n, 2.5 / PATIENCE)
            return len(net.history) == n
        net.until("quiet", is_quiet, 20)
        os.rename(lb.socket, lb.socket + ".away")
        net.until("unreachable", lambda: not net.status[1].reachable)
        net.samples.clear()
        os.rename(lb.socket + ".away", lb.socket)
        net.until("reachable", lambda: net.status[1].reachable)
        net.until_sample("web1", in_sync=1, state=wire.MAINT)


def lb_that_hangs_delays_nobody(d):
    path = d + "/hang.sock"
    with HAProxy(d) as lb, Origin() as o, Net() as net, \
            Hostile(lambda c, stop: stop.wait(30), socket.AF_UNIX, path, read=False):
        net.lb(2, path)
        net.want("web1", wire.READY, lb=2)
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        net.until("the verdict", lambda: net.status.get(2) and b"no answer within 1s" in net.status[2].text)
        assert not net.status[2].reachable and (2, "web1") not in net.samples
        net.answers_connect = False  # core itself does not answer
        net.until("the same for core", lambda: net.status.get(1) and b"not connected" in net.status[1].text)
        net.answers_connect = True
        net.until("recovery", lambda: net.status[1].reachable)


def lb_that_talks_nonsense_is_unreachable(d):
    def flood(c, stop):
        while not stop.is_set():
            c.sendall(b"x" * 65536)

    answers = {"flood": flood, "empty": lambda c, s: None, "garbage": lambda c, s: c.sendall(b"\n\n\n\0\xff\n\n,,,"),
               "html": lambda c, s: c.sendall(b"HTTP/1.1 400 Bad request\r\n\r\n")}
    with Net() as net:
        for i, (name, fn) in enumerate(answers.items(), 1):
            with Hostile(fn, socket.AF_UNIX, d + "/" + name) as h:
                net.lb(i, d + "/" + name)
                net.want("web1", wire.READY, lb=i)
                net.until("verdict on " + name, lambda: net.status.get(i))
                assert not net.status[i].reachable and net.status[i].text, net.status[i]
                net.send(wire.LB_REMOVE, lb=i)
        assert b"larger than 1 MiB" in net.statuses[0].text, net.statuses[0]
        assert not net.samples


def lb_unknown_names_are_explained(d):
    with HAProxy(d, Backend("web", slots=2)) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.want("web9", wire.READY, addr="127.0.0.1", port=o.port)
        f = net.until("a sample", lambda: net.samples.get((1, "web9")))
        assert not f.sample.known and not f.sample.in_sync and b"server-template" in f.text, f
        net.enter("web1", o.port)  # the others go on
        net.lb(2, lb.socket, backend="nope")
        net.want("web1", wire.READY, lb=2)
        net.until("word of the backend", lambda: net.status.get(2) and b'no backend "nope"' in net.status[2].text)
        assert net.status[2].reachable
        net.want("web1;shutdown sessions server web/web1", wire.READY)
        f = net.until("a refusal", lambda: [f for f in net.history if b";" in f.server])
        assert f[0].sample.known == 0 and b"name" in f[0].text
        net.lb(3, lb.socket, backend="web;disable frontend web-in")
        net.until("a refusal", lambda: 3 in net.status and b"no name of a backend" in net.status[3].text)
        net.lb(4, lb.socket, driver="nginxx")
        net.until("a refusal", lambda: 4 in net.status and b"no load-balancer driver" in net.status[4].text)


def lb_by_tcp_needs_nothing_of_core(d):
    port = free_port()
    with HAProxy(d, globals=["stats socket 127.0.0.1:%d level admin" % port]) as lb, Origin() as o, Net() as net:
        net.lb(1, "tcp 127.0.0.1:%d" % port)
        net.enter("web1", o.port)
        assert net.connects == 0 and get(lb.port()) == 200
        net.lb(2, "127.0.0.1:%d" % free_port())
        net.until("refused", lambda: 2 in net.status and b"onnection refused" in net.status[2].text)


def lb_read_only_socket_is_reported(d):
    port = free_port()
    with HAProxy(d, globals=["stats socket 127.0.0.1:%d level operator" % port]) as lb, Net() as net:
        net.lb(1, "127.0.0.1:%d" % port)
        net.want("web1", wire.READY)
        net.until("permission denied", lambda: 1 in net.status and b"ermission denied" in net.status[1].text)
        assert net.status[1].reachable and not net.sample("web1", in_sync=1)
        assert lb.stat()["web1"]["status"] == "MAINT"


def lb_hello_forgets_everything(d):
    with HAProxy(d) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        net.enter("web1", o.port)
        last = net.samples[1, "web1"].sample.serial
        net.send(wire.HELLO)
        net.lb(1, lb.socket)
        net.status.clear()
        net.until("contact", lambda: 1 in net.status and net.status[1].reachable)
        assert net.status[1].generation == 1
        connects = net.connects
        assert not net.probe("tcp://127.0.0.1:%d" % free_port()).ok
        assert net.connects == connects, "rows of the old core are still sampled"
        # The new core may have read what was meant for the old one.
        net.samples.clear()
        net.enter("web1", o.port)
        assert net.samples[1, "web1"].sample.serial > last, "samples begin again below those of before"


def lb_many_rows_take_several_requests(d):
    with HAProxy(d, Backend("web", slots=300)) as lb, Origin() as o, Net() as net:
        net.lb(1, lb.socket)
        names = ["web%d" % i for i in range(1, 257)]
        for n in names:
            net.want(n, wire.READY, addr="127.0.0.1", port=o.port)
        net.until("all of them", lambda: all(net.sample(n, in_sync=1, state=wire.READY) for n in names), 20)
        rows = lb.stat()
        assert all(rows[n]["addr"] == "127.0.0.1:%d" % o.port for n in names)


# ---- probes ---------------------------------------------------------------------------------------

def probe_hostile_servers_are_bounded(d):
    def rss():
        with open("/proc/%d/status" % net.p.pid) as f:
            return int([l for l in f if l.startswith("VmRSS")][0].split()[1])

    def fds():  # the process is not dumpable: only root may look
        return len(os.listdir("/proc/%d/fd" % net.p.pid)) if os.geteuid() == 0 else 0

    with Net() as net:
        with Hostile(answer(OK)) as h:
            assert net.probe(h.url).ok
        base_fds, base_rss = fds(), rss()
        for _ in range(2):
            for name, fn, ok, text in HOSTILE:
                with Hostile(fn) as h:
                    t = time.monotonic()
                    f = net.probe(h.url, PROBE_SEC)
                    took = time.monotonic() - t
                    assert ok is None or f.ok == ok, "%s: %r" % (name, f)
                    assert text.replace("after 1s", "after %ds" % PROBE_SEC).lower() in f.text.decode().lower() and f.text, "%s: %r" % (name, f)
                    assert took < PROBE_SEC + PATIENCE, "%s took %.1f s" % (name, took)
                    assert f.text.decode().isprintable(), f.text
        net.until("descriptors back to %d" % base_fds, lambda: fds() <= base_fds)
        assert SANITIZED or rss() < base_rss + 4096, "%d KiB before, %d after" % (base_rss, rss())


def probe_kinds_of_targets(d):
    with Net() as net, Origin() as o:
        assert net.probe("http://127.0.0.1:%d/" % o.port).text == b"http 200"
        assert net.probe("http://localhost:%d/" % o.port).ok
        f = net.probe("tcp://127.0.0.1:%d" % o.port)
        assert f.ok and f.text == b"connected" and 0 < f.latency_us < 5e6, f
        f = net.probe("tcp://127.0.0.1:%d" % free_port())
        assert not f.ok and f.text == b"connection refused", f
        f = net.probe("http://127.0.0.1:%d/" % free_port())
        assert not f.ok and f.text == b"connection refused", f
        path = d + "/service.sock"
        os.chmod(d, 0o755)
        with Hostile(lambda c, stop: stop.wait(10), socket.AF_UNIX, path, read=False):
            os.chmod(path, 0o666)
            assert net.probe("unix:" + path).ok
        f = net.probe("unix:" + path)
        assert not f.ok and b"refused" in f.text.lower(), f
        f = net.probe("unix:" + d + "/none.sock")
        assert not f.ok and b"no such file" in f.text.lower(), f
        f = net.probe("https://127.0.0.1:%d/" % o.port)
        assert not f.ok and f.text, f
        for target, text in (("grpc://127.0.0.1:1", b"not supported yet"), ("ftp://127.0.0.1/", b"not http://"),
                             ("file:///etc/passwd", b"not http://"), ("tcp://127.0.0.1", b"not tcp://HOST:PORT"),
                             ("", b"not http://"), ("http://", b"no host"), ("http://a b/", b"no spaces")):
            f = net.probe(target)
            assert not f.ok and text in f.text, (target, f)


def probe_proxies_of_the_environment_are_not_asked(d):
    os.environ["http_proxy"] = os.environ["all_proxy"] = "http://127.0.0.1:1"
    try:
        with Net() as net, Origin() as o:
            assert net.probe("http://127.0.0.1:%d/" % o.port).ok
    finally:
        del os.environ["http_proxy"], os.environ["all_proxy"]


def probe_tls_is_verified(d):
    if not shutil.which("openssl") or subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                       d + "/key", "-out", d + "/cert", "-subj", "/CN=localhost", "-days", "2"], capture_output=True).returncode:
        return "no openssl"
    import ssl
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(d + "/cert", d + "/key")

    def fn(c, stop):
        with ctx.wrap_socket(c, server_side=True) as t:
            t.recv(1000)
            t.sendall(OK)

    with Hostile(fn, read=False) as h, Net() as net:
        f = net.probe("https://localhost:%d/" % h.port, 5)
        assert not f.ok and b"certificate" in f.text.lower(), f


def probe_a_dead_name_server_is_bounded(d):
    """In a mount namespace whose resolv.conf names a name server that swallows every question."""
    address = "127.%d.%d.53" % divmod(os.getpid() % 65000 + 256, 256)  # others run this test at the same time
    hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        hole.bind((address, 53))
    except OSError as e:
        return "cannot take port 53 of %s: %s" % (address, e)
    with open(d + "/resolv.conf", "w") as f:
        f.write("nameserver %s\n" % address)
    with open(d + "/nsswitch.conf", "w") as f:
        f.write("hosts: files dns\n")
    os.chmod(d, 0o755)
    wrapper = d + "/stay-net"
    with open(wrapper, "w") as f:
        f.write('#!/bin/sh\nexec unshare -m sh -c \'mount --bind %s/resolv.conf /etc/resolv.conf && '
                'mount --bind %s/nsswitch.conf /etc/nsswitch.conf && exec %s/stay-net\'\n' % (d, d, BUILD))
    os.chmod(wrapper, 0o755)
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        return "no mount namespaces here"
    saved, globals()["BUILD"] = BUILD, d
    try:
        with Net() as net, Origin() as o:
            t = time.monotonic()
            f = net.probe("http://service.example.com/", 0.5)
            took = time.monotonic() - t
            assert not f.ok and b"timeout after 500ms resolving the name" in f.text, f
            assert took < 3 * PATIENCE, took
            for i in range(200):  # at most 64 lookups; numeric ones are not behind them
                net.send(wire.PROBE, number=1000 + i, timeout_us=3000000 * SLOW, text="http://n%d.example.com/" % i)
            assert net.probe("http://127.0.0.1:%d/" % o.port).ok
            assert not [f for f in net.probed.values() if b"timeout after %ds" % (3 * SLOW) in f.text], "behind the lookups"
            net.until("all answers", lambda: len([n for n in net.probed if n >= 1000]) == 200)
            refused = [n for n, f in net.probed.items() if b"too many probes by name" in f.text]
            assert len(refused) == 136, len(refused)
    finally:
        globals()["BUILD"] = saved
        hole.close()


def probe_many_at_once_and_too_many(d):
    n = 2048
    with Hostile(lambda c, stop: stop.wait(30 * PATIENCE), read=False) as h, Net() as net:
        h.s.listen(4096)
        with open("/proc/%d/limits" % net.p.pid) as f:
            files = int([l for l in f if l.startswith("Max open files")][0].split()[3])
        for i in range(n + 40):
            net.send(wire.PROBE, number=10000 + i, timeout_us=60000000 * SLOW, text="tcp://127.0.0.1:1" if files < 2200 else h.url)
            if i % 64 == 0:
                net.until("nothing", lambda: True)
        if files >= 2200:  # none of the first ones is over before the last ones are refused
            net.until("refusals", lambda: len(net.probed) == 40, 20)
        h.stop.set()
        net.until("all answers", lambda: len(net.probed) == n + 40, 20)
        texts = [f.text for f in net.probed.values()]
        assert all(not f.ok for f in net.probed.values())
        if files >= 2200:
            assert texts.count(b"too many probes") == 40, texts.count(b"too many probes")


# ---- the process ------------------------------------------------------------------------------------

def process_has_no_privileges(d):
    junk, other = os.pipe()
    os.set_inheritable(junk, True)
    with Net() as net:
        net.probe("tcp://127.0.0.1:1")
        with open("/proc/%d/status" % net.p.pid) as f:
            s = dict(l.rstrip("\n").split(":\t", 1) for l in f if ":\t" in l)
        if os.geteuid() == 0:
            assert "0" not in s["Uid"].split() and "0" not in s["Gid"].split(), s["Uid"]
        assert all(int(s[c], 16) == 0 for c in ("CapEff", "CapPrm", "CapAmb", "CapInh")), s
        assert s["NoNewPrivs"] == "1"
        assert s["Seccomp"] == "2", s["Seccomp"]
        if os.geteuid() != 0:
            return
        links = [os.readlink("/proc/%d/fd/%s" % (net.p.pid, n)) for n in os.listdir("/proc/%d/fd" % net.p.pid)]
        assert os.readlink("/proc/self/fd/%d" % junk) not in links, links
    os.close(junk), os.close(other)


def process_sleeps_when_nothing_is_due(d):
    def switches():
        with open("/proc/%d/status" % net.p.pid) as f:
            return int([l for l in f if l.startswith("voluntary_ctxt")][0].split()[1])

    with Net() as net, Hostile(lambda c, stop: stop.wait(5), read=False) as h:
        net.probe("tcp://127.0.0.1:1")
        # The only thing under way is a probe with a deadline of 1 s: it must not be polled for.
        before = switches()
        f = net.probe("http://127.0.0.1:%d/" % h.port, 1.0)
        assert not f.ok and switches() - before < 25, switches() - before


def process_leaves_with_core_and_refuses_strangers(d):
    for data, rc in ((b"x", 1), (bytes(wire.frame(wire.PROBED)), 1), (bytes(wire.Frame(build=1, kind=1)), 1),
                     (bytes(wire.frame(wire.HELLO, text="")).replace(b"\0" * 512, b"y" * 512), 1), (None, 0)):
        net = Net()
        if data:
            net.core.send(data)
        else:
            net.core.close()
        assert net.p.wait(10 * PATIENCE) == rc, (data and data[:8], net.p.returncode, net.messages())
        net.keeper.close()
    with Net() as net:
        net.probe("tcp://127.0.0.1:1")  # and with keeper: in __exit__


def main():
    bad = wire.check(BUILD)
    print("%s - wire.py agrees with the compiler%s" % ("not ok" if bad else "ok", " # " + "; ".join(bad) if bad else ""))
    failed = bool(bad)
    only = sys.argv[1:]
    for name, fn in list(globals().items()):
        if name.split("_")[0] not in ("lb", "probe", "process") or not callable(fn) or (only and not any(o in name for o in only)):
            continue
        title = name.replace("_", " ")
        if name.startswith("lb_") and not haproxy.available():
            print("ok - %s # SKIP no %s" % (title, haproxy.HAPROXY))
            continue
        with tempfile.TemporaryDirectory(prefix="t_net.") as d:
            t = time.monotonic()
            try:
                skip = fn(d)
                print("ok - %s%s" % (title, " # SKIP " + skip if skip else ""), flush=True)
            except Exception:
                failed = True
                print("not ok - %s" % title)
                print("\n".join("# " + l for l in traceback.format_exc().splitlines()), flush=True)
            if os.environ.get("VERBOSE"):
                print("# %.2f s" % (time.monotonic() - t))
    return 1 if failed else 0


sys.exit(main())
