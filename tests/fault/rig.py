"""What the fault matrix stands on: the file that arms inject.c, a daemon that serves thousands of
cells, and what must hold after each of them. Standard library only."""
import contextlib, json, mmap, os, re, resource, signal, socket, struct, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
import lib  # noqa: E402

lib.STAYD = os.path.join(lib.BUILD, "fault/stayd")  # and stay-net beside it

SHORT = -1
WHO = ["keeper", "core", "launcher", "logger", "net", "child", "role-child", "other"]
ERRNO = {n: getattr(__import__("errno"), n) for n in dir(__import__("errno")) if n.startswith("E")}
COUNT, FAIL, KILL = range(3)
TIMEOUT = 4.0 * lib.PATIENCE / lib.SLOW  # of a call; generous: an operation takes milliseconds


def read_calls():
    """[(name, how, [errors])] in the order of the file."""
    with open(os.path.join(HERE, "calls.def")) as f:
        return [(n, how, e.split()) for n, how, e in
                re.findall(r'^CALL\((\w+),\s*(\w+),\s*"([A-Z0-9 ]*)"\)', f.read(), re.M)]


CALLS = read_calls()
INDEX = {c[0]: i for i, c in enumerate(CALLS)}


class Fault:
    """The file shared with every process of the daemon: struct fault of inject.c."""
    HEAD = struct.Struct("=8Ii7I")
    MAGIC = 0x464c5431

    def __init__(self, path):
        self.path, size = path, self.HEAD.size + 4 * len(WHO) * len(CALLS)
        with open(path, "wb+") as f:
            f.truncate(size)
            self.map = mmap.mmap(f.fileno(), size)
        self._write(0, COUNT, 0, 0, 0, 0, 0)

    def _write(self, armed, action, who, call, first, times, error):
        self.HEAD.pack_into(self.map, 0, self.MAGIC, len(CALLS), 0, action, who, call, first, times, error, 0, 0, 0, 0, 0, 0, 0)
        if armed:
            struct.pack_into("=I", self.map, 8, 1)

    def arm(self, action=COUNT, who="keeper", call="open", first=1, times=1, error=0):
        self.disarm()
        self.map[self.HEAD.size:] = bytes(len(self.map) - self.HEAD.size)
        self._write(1, action, WHO.index(who), INDEX[call], first, times, error)

    def disarm(self):
        struct.pack_into("=I", self.map, 8, 0)

    @property
    def fired(self):
        return struct.unpack_from("=I", self.map, 36)[0]

    def raw(self):
        return self.map[self.HEAD.size:]

    def counts(self):
        """{(who, call): n} of those that were called."""
        v = struct.unpack_from("=%dI" % (len(WHO) * len(CALLS)), self.map, self.HEAD.size)
        return {(w, c[0]): v[i * len(CALLS) + j] for i, w in enumerate(WHO) for j, c in enumerate(CALLS) if v[i * len(CALLS) + j]}


class Lost(Exception):
    """The connection ended without an answer: core is dead, or never took it."""


class Refused(Exception):
    """An answer that is an error; the text is what a person would read."""


class Violation(AssertionError):
    pass


class Client:
    """One call of the control protocol on a connection of its own, as stayctl makes it."""

    def __init__(self, path):
        self.path, self.timeout = path, TIMEOUT

    def call(self, method, timeout=None, **parameters):
        timeout = timeout or self.timeout
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(timeout * lib.SLOW)
                s.connect(self.path)
                s.sendall(json.dumps({"method": "org.stayd.Control." + method, "parameters": parameters}).encode() + b"\0")
                data = b""
                while not data.endswith(b"\0"):
                    more = s.recv(1 << 20)
                    if not more:
                        raise Lost("%s: the connection ended" % method)
                    data += more
        except socket.timeout:
            raise lib.Timeout("no answer to %s within %.0f s" % (method, timeout))
        except OSError as e:
            raise Lost("%s: %s" % (method, e))
        answer = json.loads(data[:-1])
        if "error" in answer:
            p = answer.get("parameters", {})
            raise Refused("%s %s" % (answer["error"].rsplit(".", 1)[-1], p.get("message", p)))
        bad = [o for o in answer["parameters"].get("outcomes", []) if o.get("result") in ("failed", "canceled", "cancelled", "timeout", "refused", "dependency", "bad-request", "rolled-back", "halted", "superseded")]
        if bad:
            raise Refused("; ".join("%s: %s %s" % (o.get("unit") or o.get("name"), o.get("result"), o.get("message") or o.get("text") or "")
                                    for o in bad))
        return answer["parameters"]


ROLES = ("core", "launcher", "logger", "net")


class Rig:
    """A daemon under fault injection."""

    def __init__(self, units, args=(), rotate=False, start=True):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # aborts are part of it
        self.dir = lib.tempfile.mkdtemp(prefix="stayd-fault.")
        os.chmod(self.dir, 0o755)
        self.fault = Fault(os.path.join(self.dir, "fault"))
        self.d = lib.Daemon(dict(units, **{"rest.target": "[Unit]\nDefaultDependencies=no\n"}), args=list(args), targets=["rest.target"],
                            directory=self.dir, env={"STAYD_FAULT": self.fault.path})
        if rotate:  # a log directory that cannot be: volatile logs, small files
            self.d.log_dir = "/proc/nowhere"
        self.client = Client(self.d.socket)
        self.baseline, self.is_learning = {}, True
        if start:
            self.start()

    def start(self):
        self.d.start()
        lib.adopt(self.d.proc)  # the end of another daemon leaves it alone
        self.keeper = self.d.keeper_pid
        self.mark = 0
        return self

    def log_since(self):
        """What the daemon printed since this was last asked."""
        text = self.d.log_text()
        new, self.mark = text[self.mark:], len(text)
        return new

    # -- the state of affairs

    def status(self, timeout=None):
        return self.client.call("Status", timeout)

    def units(self):
        return {u["name"]: u for u in self.status()["units"]}

    def children(self):
        try:
            with open("/proc/%d/task/%d/children" % (self.keeper, self.keeper)) as f:
                return {int(p) for p in f.read().split()}
        except FileNotFoundError:
            raise Violation("the keeper is dead")

    def wrong(self, expect):
        """What is not as it should be, as text; None: all is well. expect: {unit: active_state}."""
        s = self.status(TIMEOUT / 2)
        units, roles = {u["name"]: u for u in s["units"]}, {r: s["daemon"].get(r + "_pid", 0) for r in ROLES}
        allowed = {p for p in roles.values() if p}
        for name, u in units.items():
            state = expect.get(name, "inactive") if name.endswith(".service") else u["active_state"]
            is_state = u["active_state"] == state or (state == "inactive" and u["active_state"] == "failed" and u["detail"])
            if not is_state or u["sub_state"] in ("start", "stop", "auto-restart"):
                return "%s is %s (%s: %s), not %s" % (name, u["active_state"], u["sub_state"], u["detail"], state)
            if u["detail"] and u["active_state"] != "failed":
                return "%s waits: %s" % (name, u["detail"])
            if u["main_pid"]:
                if not lib.is_alive(u["main_pid"]):
                    return "%s: pid %d is dead" % (name, u["main_pid"])
                allowed.add(u["main_pid"])
            if u["main_pid"] == 0 and state == "active" and name.endswith(".service") and "once" not in name:
                return "%s is active without a process" % name
            bad = self.wrong_group(u)
            if bad:
                return bad
        missing = {n for n, state in expect.items() if state == "active"} - set(units)
        if missing:
            return "not loaded: %s" % missing
        for r in ("core", "launcher"):
            if not roles[r] or not lib.is_alive(roles[r]):
                return "no %s" % r
        strangers = self.children() - allowed
        if strangers and not self.shims(strangers, allowed):
            return "children of the keeper that are nobody's: " + ", ".join("%d %s" % (p, lib.cmdline(p)) for p in strangers)
        return self.wrong_fds(roles, units)

    links_held = 0  # by shims, of launchers that are dead

    def shims(self, strangers, allowed):
        return False

    def wrong_group(self, u):
        group = u["control_group"]
        if not group or not u["main_pid"]:
            return None
        try:
            with open(group + "/cgroup.procs") as f:
                inside = {int(p) for p in f.read().split()}
        except OSError as e:
            return "%s: %s" % (group, e)
        return None if u["main_pid"] in inside else "%s: pid %d is not in its group" % (u["name"], u["main_pid"])

    def wrong_fds(self, roles, units):
        """Descriptors above what they were in the same state before."""
        for who, pid in list(roles.items()) + [("keeper", self.keeper)] + [(n, u["main_pid"]) for n, u in units.items()]:
            if not pid:
                continue
            try:
                n = len(os.listdir("/proc/%d/fd" % pid))
            except OSError:
                continue
            if self.is_learning or who not in self.baseline:
                self.baseline[who] = max(n, self.baseline.get(who, 0))
            elif n > self.baseline[who] + (self.links_held if who == "keeper" else 0):
                return "%s (%d) has %d descriptors, %d before: %s" % (who, pid, n, self.baseline[who], self.fds(pid))
        return None

    def fds(self, pid):
        out = []
        with contextlib.suppress(OSError):
            for f in sorted(os.listdir("/proc/%d/fd" % pid), key=int):
                with contextlib.suppress(OSError):
                    out.append("%s=%s" % (f, os.readlink("/proc/%d/fd/%s" % (pid, f))))
        return " ".join(out)

    def wait_steady(self, expect, deadline=TIMEOUT):
        end, last = time.monotonic() + deadline * lib.SLOW, None
        pause = 0.0005
        while True:
            try:
                last = self.wrong(expect)
                if last is None:
                    return
            except (Lost, Refused, lib.Timeout) as e:
                last = "%s: %s" % (type(e).__name__, e)
            if self.d.proc.poll() is not None:
                raise Violation("the keeper ended with %s" % self.d.proc.returncode)
            if time.monotonic() > end:
                raise Violation("not steady after %.0f s: %s" % (deadline * lib.SLOW, last))
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    def wait_quiet(self):
        """Until nothing counts calls any more: what an operation leaves behind has ended."""
        before = None
        for _ in range(40):
            now = self.fault.raw()
            if now == before:
                return
            before = now
            time.sleep(0.002)

    def end(self):
        self.fault.disarm()
        self.d.stop()
        lib._ours.discard(self.d.proc.pid)
        self.d.assert_clean()
        self.d.destroy()
        lib.shutil.rmtree(self.dir, ignore_errors=True)

    def destroy(self):
        self.fault.disarm()
        with contextlib.suppress(Exception):
            os.kill(self.d.proc.pid, signal.SIGTERM)
            self.d.proc.wait(5)
        self.d.destroy()
        lib.shutil.rmtree(self.dir, ignore_errors=True)
