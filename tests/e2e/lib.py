"""Harness of the end-to-end tests: real processes, events, deadlines, TAP. Standard library only.

    from lib import *

    @test
    def a_killed_service_is_restarted():
        with Daemon({"a.service": "[Service]\nExecStart=%s print:hi\nRestart=always\n" % SVC}) as d:
            d.ctl("start", "a")
            pid = d.wait_unit("a.service", active_state="active")["main_pid"]
            os.kill(pid, 9)
            d.wait_unit("a.service", lambda u: u["n_restarts"] == 1 and u["main_pid"] != pid)

    main()

Leaving the `with` block stops the daemon and asserts that it left nothing behind: no process, no
zombie, no socket. The test process is a subreaper, so whatever escapes the daemon lands here and is
found. Everything a test makes is in one temporary directory.
"""
import atexit, contextlib, ctypes, faulthandler, fcntl, fnmatch, itertools, json, os, queue, re, select, shutil, signal, socket
import struct, subprocess, sys, tempfile, threading, time, traceback

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("STAYD_BUILD", os.path.join(TOP, "build")))
STAYD, STAYCTL, STAY_NET = (os.path.join(BUILD, n) for n in ("stayd", "stayctl", "stay-net"))
NEXT = BUILD + "-next"  # the directory of the version after this one (make next)
WEBSVC, LOAD, SVC = (os.path.join(BUILD, "tests/tools", n) for n in ("websvc", "load", "svc"))
# Sanitized or emulated builds are slower: what a test or a unit takes time for is multiplied by this.
SLOW = float(os.environ.get("STAYD_TEST_SLOW", "3" if "-san" in os.path.basename(BUILD) else "1"))
# And deadlines by this, as a machine may have much else to do: only what hangs is to meet them.
PATIENCE = 4 * SLOW
SANITIZED = "-san" in os.path.basename(BUILD)
HANG = 60 * PATIENCE  # of what has no deadline of its own: a child to end, a line to come
os.umask(0o022)  # users of other tests look into our directories
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


# ---- tests and their output -------------------------------------------------------------------

class Skip(Exception):
    pass


class Timeout(AssertionError):
    pass


def skip(reason):
    raise Skip(reason)


_tests = []


def test(fn):
    """Registers a test; its name is a sentence, said with spaces in the TAP line."""
    _tests.append(fn)
    return fn


def main():
    """Runs the registered tests (those matching argv, if given) and exits with the outcome."""
    patterns, failed = sys.argv[1:], 0
    if "STAYD_TEST_LIMIT" in os.environ:  # the runner's patience: before it ends, who hangs says where
        faulthandler.dump_traceback_later(max(1.0, float(os.environ["STAYD_TEST_LIMIT"]) - 20), file=sys.stdout)
    for fn in _tests:
        name = fn.__name__.replace("_", " ")
        if patterns and not any(fnmatch.fnmatch(fn.__name__, "*%s*" % p) for p in patterns):
            continue
        try:
            fn()
            print("ok - %s" % name, flush=True)
        except Skip as e:
            print("ok - %s # SKIP %s" % (name, e), flush=True)
        except BaseException as e:  # noqa: B902 - SystemExit in a test is a failure too
            failed += 1
            text = traceback.format_exc()
            for d in list(Daemon.alive):
                text += d.diagnosis()
                d.destroy()
            print("not ok - %s" % name)
            print("".join("# %s\n" % l for l in text.rstrip().splitlines()), end="", flush=True)
            if isinstance(e, KeyboardInterrupt):
                break
        finally:
            for d in list(Daemon.alive):
                d.destroy()
    sys.exit(1 if failed else 0)


def need(path):
    """Skips the test when a program of the build, or a command, is not there."""
    if not (os.path.exists(path) if "/" in path else shutil.which(path)):
        skip("%s is not available" % os.path.basename(path))


def need_root():
    if os.geteuid() != 0:
        skip("needs root")


def without_leak_checks():
    """For tests that wait for a role's orderly end: the leak checker, which traces the process that ends, now
    and then waits for itself, and what is behind it then waits too. The other tests look for leaks."""
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def check(ok, what):
    if not ok:
        raise AssertionError(what)


# ---- waiting -----------------------------------------------------------------------------------

def wait_for(predicate, deadline=10.0, what=None):
    """The first true value of predicate(), asked every 10 ms; Timeout says what was waited for."""
    end = time.monotonic() + deadline * PATIENCE
    last = None
    while True:
        try:
            value = predicate()
            if value:
                return value
            last = value
        except (FileNotFoundError, ProcessLookupError, ConnectionError) as e:
            last = e
        if time.monotonic() > end:
            if callable(what):
                what = what()
            raise Timeout("waited %.1f s for %s; last: %r" % (deadline * PATIENCE, what or predicate, last))
        time.sleep(0.01)


# ---- processes ---------------------------------------------------------------------------------

class Popen(subprocess.Popen):
    """A child that is waited for no longer than HANG, whoever waits: a hang says for whom."""

    def wait(self, timeout=None):
        try:
            return super().wait(HANG if timeout is None else timeout)
        except subprocess.TimeoutExpired as e:
            if timeout is None:
                raise Timeout("no end of %s within %.0f s" % (self.args, HANG)) from e
            raise

    def communicate(self, input=None, timeout=None):
        try:
            return super().communicate(input, HANG if timeout is None else timeout)
        except subprocess.TimeoutExpired as e:
            if timeout is None:
                raise Timeout("no end of %s within %.0f s" % (self.args, HANG)) from e
            raise

    def line(self):
        """The next line of its output; "" at the end of it."""
        overdue = threading.Event()
        timer = threading.Timer(HANG, lambda: (overdue.set(), self.kill()))
        timer.start()
        try:
            text = self.stdout.readline()
        finally:
            timer.cancel()
        check(not overdue.is_set(), "no line of %s within %.0f s" % (self.args, HANG))
        return text


def proc_stat(pid):
    """(state, ppid) of a process, or None."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return fields[0], int(fields[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    s = proc_stat(pid)
    return bool(s) and s[0] not in "ZX"


def descendants(root):
    """{pid: (state, ppid)} of everything below root."""
    table = {}
    for n in os.listdir("/proc"):
        if n.isdigit():
            s = proc_stat(int(n))
            if s:
                table[int(n)] = s
    found, todo = {}, [root]
    while todo:
        parent = todo.pop()
        for pid, s in table.items():
            if s[1] == parent and pid not in found:
                found[pid] = s
                todo.append(pid)
    return found


def cmdline(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return "?"


_ours = set()  # processes of the test itself that may outlive a daemon: Load, HAProxy, ...


def adopt(popen):
    """Tells assert_clean() that this child, and all below it, belongs to the test."""
    _ours.add(popen.pid)
    return popen


def strangers():
    """Descendants of this test that nobody owns up to; zombies of ours are reaped by the way."""
    reap()
    ours = set()
    for pid in _ours:
        ours.add(pid)
        ours |= set(descendants(pid))
    return {p: s for p, s in descendants(os.getpid()).items() if p not in ours}


def reap():
    """Collects orphans that fell to us, but never a child that a Popen object waits for."""
    known = set(_ours) | {d.proc.pid for d in Daemon.alive if d.proc}
    for pid, (state, ppid) in descendants(os.getpid()).items():
        if state == "Z" and ppid == os.getpid() and pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


# ---- network -----------------------------------------------------------------------------------

def free_ports(n=1):
    """Ports that were free a moment ago, outside of the range the kernel hands out by itself."""
    ports = []
    while len(ports) < n:
        p = 15000 + (os.getpid() * 61 + next(_ports)) % 15000
        with socket.socket() as s:
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", p))
                ports.append(p)
    return ports


_ports = itertools.count()  # none is given away twice, used or not


def private_network():
    """A network namespace of this test's own with lo up; False where that is not allowed."""
    if _libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS: IFF_UP
    return True


def http_get(port, path="/", timeout=5):
    """(status, headers, body) or an OSError; a connection of its own."""
    import http.client
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout * PATIENCE)
    try:
        c.request("GET", path, headers={"Connection": "close"})
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read().decode("utf-8", "replace")
    finally:
        c.close()


def neighbours(n):
    """Free ports without a stranger's in between: units name the first and the last one."""
    p = free_ports(8 * n)
    return next(p[i:i + n] for i in range(7 * n + 1) if p[i + n - 1] - p[i] == n - 1)


# ---- puppets -----------------------------------------------------------------------------------

class Event:
    def __init__(self, line):
        pid, us, self.name, *rest = line.split(" ", 3)
        self.pid, self.us, self.detail = int(pid), int(us), rest[0] if rest else ""

    def __repr__(self):
        return "%d %s %s" % (self.pid, self.name, self.detail)


class Puppets:
    """Where svc processes report to: Environment=PUPPET=<path> in their unit."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "puppets")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o666)
        self.seen, self.pending, self.queue, self.drains = [], [], queue.Queue(), 0
        # Always reading: a datagram socket holds ten messages, then its senders block.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError):
            while line := self.sock.recv(65536):
                self.queue.put(Event(line.decode("utf-8", "replace")))

    def unit(self, *steps, section="", prefix="", **service):
        """Text of a service unit that runs svc with these steps."""
        words = " ".join('"%s"' % s.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") for s in steps)
        lines = "".join("%s=%s\n" % kv for kv in service.items())
        return "%s[Service]\nEnvironment=PUPPET=%s\nExecStart=%s %s\n%s%s" % (prefix, self.path, SVC, words, lines, section)

    def _receive(self, timeout):
        try:
            e = self.queue.get(timeout > 0, max(0, timeout))
        except queue.Empty:
            return False
        self.seen.append(e)
        self.pending.append(e)
        return True

    def wait(self, name, pid=None, detail=None, deadline=10.0):
        """The next event of that name (not returned before) of that process, with that in its detail."""
        end = time.monotonic() + deadline * PATIENCE
        while True:
            for e in self.pending:
                if e.name == name and pid in (None, e.pid) and (detail is None or detail in e.detail):
                    self.pending.remove(e)
                    return e
            if not self._receive(end - time.monotonic()) and time.monotonic() >= end:
                raise Timeout("no event %r pid=%s detail=%r within %.1f s; seen: %s"
                              % (name, pid, detail, deadline * PATIENCE, self.seen[-20:]))

    def drain(self):
        """Everything that was said by now, also what the reader has yet to take from the socket: up to a word of our own."""
        self.drains += 1
        mark = "drained-%d" % self.drains
        self.command(self.path, "%d 0 %s" % (os.getpid(), mark))
        self.wait(mark)
        events, self.pending = self.pending, []
        self.seen = [e for e in self.seen if e.name != mark]
        return events

    def command(self, path, step):
        """One more step for a puppet that listens with control:PATH, as soon as it does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.settimeout(HANG)
            wait_for(lambda: s.sendto(step.encode(), path), 10, "somebody to listen at " + path)

    def close(self):
        if self.sock.fileno() < 0:
            return  # twice
        self.sock.shutdown(socket.SHUT_RDWR)  # wakes the reader
        self.sock.close()


# ---- the daemon --------------------------------------------------------------------------------

class Result:
    def __init__(self, argv, rc, out, err):
        self.argv, self.rc, self.out, self.err = argv, rc, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return "`%s` -> %s\n%s%s" % (" ".join(self.argv), self.rc, self.out, self.err)


class Daemon:
    """One stayd with directories of its own. units: {name: text}; name may hold "x.service.d/y.conf"."""

    alive = []

    def __init__(self, units=None, args=(), env=None, directory=None, targets=(), uid=None, wait=True, wrap=()):
        need(STAYD)
        need(STAYCTL)
        self.owns_dir = directory is None
        self.dir = directory or tempfile.mkdtemp(prefix="stayd-test.")
        self.uid, self.args, self.targets, self.wrap = uid, list(args), list(targets), list(wrap)
        self.env = dict(os.environ, **(env or {}))
        for n in ("units", "run", "state", "log"):
            os.makedirs(os.path.join(self.dir, n), exist_ok=True)
            setattr(self, n + "_dir", os.path.join(self.dir, n))
        self.socket = os.path.join(self.run_dir, "control.sock")
        self.output = os.path.join(self.dir, "stayd.out")
        self.proc, self._streams = None, []
        for name, text in (units or {}).items():
            self.write_unit(name, text)
        if uid is not None:
            subprocess.run(["chown", "-R", str(uid), self.dir], check=True)
        self.wait_at_start = wait

    def write_unit(self, name, text):
        path = os.path.join(self.units_dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def start(self):
        argv = self.wrap + [STAYD, "--unit-path", self.units_dir, "--runtime-dir", self.run_dir, "--state-dir",
                            self.state_dir, "--log-dir", self.log_dir] + self.args + self.targets
        who = {"user": self.uid, "group": self.uid, "extra_groups": []} if self.uid is not None else {}
        with open(self.output, "ab") as out:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                         env=self.env, cwd=self.dir, start_new_session=True, **who)
        Daemon.alive.append(self)
        if self.wait_at_start:
            self.wait_answering()
        return self

    def wait_answering(self, deadline=15.0):
        def asks():
            check(self.proc.poll() is None, "stayd ended with %s at its start:\n%s" % (self.proc.returncode, self.log_text()))
            return os.path.exists(self.socket) and self.ctl("status", "--json", check=False).rc == 0
        wait_for(asks, deadline, "the daemon to answer on its control socket")

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, tb):
        if kind is None:
            try:
                self.stop()
                self.assert_clean()
            finally:
                if not sys.exc_info()[0]:
                    self.destroy()
        # on failure main() prints diagnosis() and destroys it: the evidence is still there
        return False

    def log_text(self):
        with contextlib.suppress(OSError):
            with open(self.output, errors="replace") as f:
                return f.read()
        return ""

    def diagnosis(self):
        """What one wants to see after a failure."""
        text = "\n---- stayd output (end)\n" + "\n".join(self.log_text().splitlines()[-40:])
        if self.proc and self.proc.poll() is None:
            with contextlib.suppress(Exception):
                text += "\n---- stayctl status\n" + self.ctl("status", check=False, timeout=3).out
        elif self.proc:
            text += "\n---- stayd ended with %s" % self.proc.returncode
        text += "\n---- processes\n" + "\n".join("%d %s %s" % (p, s, cmdline(p)) for p, s in strangers().items())
        return text + "\n"

    # -- control

    def ctl(self, *words, check=True, timeout=60, **popen):
        """stayctl WORDS; raises with all of its output when it fails and check is on."""
        argv = [STAYCTL, "--socket", self.socket, *map(str, words)]
        try:
            for _ in range(100):
                with contextlib.suppress(BlockingIOError):  # no process left: a fork bomb of a test beside us
                    p = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout * PATIENCE,
                                       stdin=subprocess.DEVNULL, **popen)
                    break
                time.sleep(0.1)
        except subprocess.TimeoutExpired as e:
            raise Timeout("no end of `stayctl %s` within %.0f s: %s" % (" ".join(map(str, words)), timeout * PATIENCE, e.stdout))
        r = Result(argv[3:], p.returncode, p.stdout, p.stderr)
        if check and r.rc != 0:
            raise AssertionError("stayctl failed: %r" % r)
        return r

    def ctl_start(self, *words):
        """stayctl WORDS in the background: a Popen with text pipes."""
        return adopt(Popen([STAYCTL, "--socket", self.socket, *map(str, words)], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))

    def status(self):
        doc = self.ctl("status", "--json").json
        check(next(iter(doc)) == "schema", "the first key of JSON is schema: %r" % doc)
        return doc

    def unit(self, name):
        """The row of one unit in status --json, or None."""
        return next((u for u in self.status()["units"] if u["name"] == name), None)

    def members(self, set_name):
        """Rows of a replica set, by instance."""
        return [u for u in self.status()["units"] if u.get("set") == set_name]

    def wait_unit(self, name, predicate=None, deadline=10.0, **fields):
        """The unit's row once it has these fields and satisfies the predicate."""
        seen = []

        def look():
            u = self.unit(name)
            seen[:] = [u]
            ok = u and all(u.get(k) == v for k, v in fields.items()) and (predicate is None or predicate(u))
            return u if ok else None
        return wait_for(look, deadline, lambda: "%s to be %s; it is %s" % (name, fields or predicate, seen))

    def wait_status(self, predicate, deadline=10.0, what="the status asked for"):
        def look():
            s = self.status()
            return s if predicate(s) else None
        return wait_for(look, deadline, what)

    def events(self):
        """`stayctl events -f --json` as an iterator-like stream; .wait(predicate) has a deadline."""
        s = EventStream(self)
        self._streams.append(s)
        return s

    def pid_of(self, role):
        """keeper, core or launcher, from the daemon's own answer; net and logger from /proc."""
        pid = self.status()["daemon"].get(role + "_pid")
        if pid:
            return pid
        for p in descendants(self.keeper_pid):
            if re.search(r"\b(stay-)?%s\b" % role, cmdline(p)):
                return p
        return None

    @property
    def keeper_pid(self):
        """Our child, or below it when a wrapper such as unshare is in between."""
        return self.proc.pid if not self.wrap else self.status()["daemon"]["keeper_pid"]

    def kill_core(self, sig=signal.SIGKILL, deadline=10.0):
        """Kills the brain and returns once the next one answers."""
        before = self.status()["daemon"]
        os.kill(before["core_pid"], sig)

        def next_one():
            r = self.ctl("status", "--json", check=False)
            return r.rc == 0 and r.json["daemon"]["core_pid"] != before["core_pid"] and r.json["daemon"]
        return wait_for(next_one, deadline, "a new core")

    def wait_taken_over(self, deadline=60.0):
        """Until the stayd that was started last answers: for a moment the core of the one before may."""
        def answers():
            check(self.proc.poll() is None, "stayd ended with %s at its start:\n%s" % (self.proc.returncode, self.log_text()[-4000:]))
            r = self.ctl("status", "--json", check=False)
            return r.rc == 0 and r.json["daemon"]["keeper_pid"] == self.proc.pid
        wait_for(answers, deadline, "the new daemon to answer")

    def kill_keeper(self):
        """-9: what runs below goes on as orphans of the test. Nobody supervises it until start()."""
        self.proc.kill()
        self.proc.wait()
        Daemon.alive.remove(self)

    # -- the end

    def stop(self, deadline=30.0):
        for s in self._streams:
            s.close()
        if not self.proc or self.proc.returncode is not None:
            return
        self.proc.terminate()
        try:
            self.proc.wait(deadline * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Timeout("stayd did not stop within %.0f s of SIGTERM" % (deadline * PATIENCE))
        check(self.proc.returncode == 0, "stayd ended with %s" % self.proc.returncode)

    def zombies(self):
        return [p for p, (state, _) in descendants(self.proc.pid).items() if state == "Z"]

    def assert_clean(self):
        """Nothing of the daemon is left: no process, no zombie, no control socket."""
        left = strangers()
        left.pop(self.proc.pid, None)
        check(not left, "left behind: " + ", ".join("%d %s %s" % (p, s, cmdline(p)) for p, s in left.items()))
        check(not os.path.exists(self.socket), "the control socket is still there")

    def destroy(self):
        """Kills what there is, without questions, and removes the directory."""
        for s in self._streams:
            s.close()
        for sig_round in range(50):
            left = set(strangers())
            if self.proc and self.proc.poll() is None:
                left |= set(descendants(self.proc.pid)) | {self.proc.pid}
            if not left:
                break
            for p in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(p, signal.SIGKILL)
            time.sleep(0.01)
        if self.proc:
            self.proc.poll()
        if self in Daemon.alive:
            Daemon.alive.remove(self)
        if self.owns_dir and not os.environ.get("STAYD_TEST_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)


class EventStream:
    def __init__(self, daemon):
        self.proc = daemon.ctl_start("events", "-f", "--json")
        self.q, self.seen = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.proc.stdout:
            with contextlib.suppress(ValueError):
                self.q.put(json.loads(line))
        self.q.put(None)

    def wait(self, predicate, deadline=10.0, what="an event"):
        end = time.monotonic() + deadline * PATIENCE
        while True:
            try:
                e = self.q.get(timeout=max(0.001, end - time.monotonic()))
            except queue.Empty:
                raise Timeout("waited %.1f s for %s; last events: %s" % (deadline * PATIENCE, what, self.seen[-10:]))
            if e is None:
                raise AssertionError("the event stream ended while waiting for %s; last: %s" % (what, self.seen[-10:]))
            self.seen.append(e)
            if predicate(e):
                return e

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        _ours.discard(self.proc.pid)


# ---- a daemon with puppets -----------------------------------------------------------------------

def sh(command):
    """A command line for a unit: $ and % in it are the shell's, not ours to expand."""
    return "/bin/sh -c '%s'" % command.replace("$", "$$").replace("%", "%%")


class Stage:
    """A daemon, its puppets and a file that commands append their words to:

        with Stage(lambda s: {"a.service": s.puppets.unit(s.control("a"), ExecStop=s.say("stopped"))}) as (s, d):
            d.ctl("start", "a")
            s.tell("a", "exit:1")
            wait_for(lambda: s.trace() == ["stopped"])
    """

    def __init__(self, units, **daemon):
        self.dir = tempfile.mkdtemp(prefix="stayd-test.")
        os.chmod(self.dir, 0o755)
        self.puppets = Puppets(self.dir)
        self.trace_path = os.path.join(self.dir, "trace")
        self.daemon = Daemon(units(self), directory=self.dir, **daemon)
        self.daemon.owns_dir = True

    def path(self, name):
        return os.path.join(self.dir, name)

    def say(self, words):
        return sh("echo %s >>%s" % (words, self.trace_path))

    def trace(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.trace_path) as f:
                return f.read().split("\n")[:-1]
        return []

    def control(self, name):
        """A step that lets tell() give further ones."""
        return "control:" + self.path(name + ".control")

    def tell(self, name, step):
        self.puppets.command(self.path(name + ".control"), step)

    def once(self, name, step):
        return "once:%s:%s" % (self.path("once-" + name), step)

    def __enter__(self):
        return self, self.daemon.__enter__()

    def __exit__(self, *exc):
        try:
            return self.daemon.__exit__(*exc)
        finally:
            self.puppets.close()


# ---- load --------------------------------------------------------------------------------------

class Load:
    """Constant load, see tests/tools/load.c. phase = mark("next"); total = finish()."""

    def __init__(self, url, rate=1000, connections=256, close=False, post=0, out=None, timeout_ms=30000):
        need(LOAD)
        argv = [LOAD, "--url", url, "--rate", str(rate), "--until-eof", "--connections", str(connections),
                "--timeout-ms", str(timeout_ms)]
        argv += ["--close"] if close else []
        argv += ["--post", str(post)] if post else []
        argv += ["--out", out] if out else []
        self.proc = adopt(Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        self.phases, self.total = {}, None
        atexit.register(self.kill)

    def _line(self):
        line = self.proc.line()
        check(line, "load ended with %s" % self.proc.poll())
        return json.loads(line)

    def mark(self, name):
        """Begins the phase `name`; returns the totals of the one that ended."""
        self.proc.stdin.write("mark %s\n" % name)
        self.proc.stdin.flush()
        p = self._line()
        self.phases[p["phase"]] = p
        return p

    def peek(self):
        """The totals of the phase so far; it goes on."""
        self.proc.stdin.write("peek\n")
        self.proc.stdin.flush()
        return self._line()

    def wait_sent(self, n, deadline=30.0):
        """Lets the load run until so many requests of this phase were sent."""
        return wait_for(lambda: (lambda p: p if p["sent"] >= n else None)(self.peek()), deadline, "%d requests" % n)

    def wait_ok(self, n, deadline=30.0):
        return wait_for(lambda: (lambda p: p if p["ok"] >= n else None)(self.peek()), deadline, "%d good answers" % n)

    def finish(self):
        """Ends the load, waits for answers still out, returns the grand total."""
        if self.total is None:
            self.proc.stdin.close()
            p = self._line()
            self.phases[p["phase"]] = p
            self.total = self._line()
            self.proc.wait()
            _ours.discard(self.proc.pid)
        return self.total

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        _ours.discard(self.proc.pid)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()
        return False


def haproxy(directory, *backends, **options):
    """A HAProxy of tests/e2e/haproxy.py that assert_clean() knows to be ours; skips where there is none."""
    need("haproxy" if shutil.which("haproxy") else "/usr/sbin/haproxy")
    from haproxy import HAProxy

    class Ours(HAProxy):
        def start(self):
            r = super().start()
            adopt(self.process)
            return r

        def stop(self):
            if self.process:
                _ours.discard(self.process.pid)
            return super().stop()
        kill = stop
    return Ours(directory, *backends, **options)


@contextlib.contextmanager
def temp_dir():
    d = tempfile.mkdtemp(prefix="stayd-test.")
    try:
        yield d
    finally:
        if not os.environ.get("STAYD_TEST_KEEP"):
            shutil.rmtree(d, ignore_errors=True)


@contextlib.contextmanager
def service(*argv, env=None, until=None, deadline=5.0):
    """A child of the test itself (websvc, svc) with its output in .lines; killed at the end."""
    p = adopt(Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    env=dict(os.environ, **(env or {}))))
    p.lines = []
    t = threading.Thread(target=lambda: [p.lines.append(l.rstrip("\n")) for l in p.stdout], daemon=True)
    t.start()
    try:
        if until:
            wait_for(lambda: any(until in l for l in p.lines) or p.poll() is not None and skip("%s: %s" % (argv[0], p.lines)),
                     deadline, "%r in the output of %s" % (until, argv[0]))
        yield p
    finally:
        if p.poll() is None:
            p.kill()
        p.wait()
        t.join(HANG)
        check(not t.is_alive(), "somebody keeps the output of %s open" % argv[0])
        p.stdout.close()
        _ours.discard(p.pid)
