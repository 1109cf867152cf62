#!/usr/bin/python3
"""stayd as PID 1 of real OCI containers (podman, runc), of an image that holds nothing else: as
Docker runs them, with Docker's own filter, with a writable cgroup, and as uid 1000 with nothing."""
import threading

from lib import *

BED = os.path.join(TOP, "tests/testbed/podman.sh")
WORK = tempfile.mkdtemp(prefix="stayd-podman.")
ENV = dict(os.environ, STAYD_TESTBED_DIR=WORK)
MODES = ["docker", "dockersec", "systemd", "hardened"]
WEB = """[Service]
ExecStart=/opt/web/current/websvc --instance web@%i
Restart=always
RestartSec=0
[X-Replicas]
Count=4
Ports=8001-8008
[X-Health]
Ready=http://127.0.0.1:${PORT}/healthz
IntervalSec=100ms
TimeoutSec=5
Rise=1
[X-Rollout]
ReleaseRoot=/opt/web/releases
ReleaseLink=/opt/web/current
"""
UNITS = {
    "web@.service": WEB,
    # The same without a network probe: what works in an image without stay-net.
    "lean@.service": WEB.replace("http://127.0.0.1:${PORT}/healthz", "exec:/usr/bin/svc exit:0").replace("8001-8008", "8101-8108"),
    "bomb.service": "[Service]\nType=notify\nExecStart=/usr/bin/svc ignore:TERM %s notify:READY=1\nTimeoutStopSec=2\n"
                    % " ".join(["setsid-fork"] * 150 + ["double-fork"] * 150),
    "boxed.service": "[Service]\nType=exec\nExecStart=/usr/bin/svc print:inside\nPrivateTmp=yes\nProtectSystem=strict\n"
                     "PrivateNetwork=yes\nMemoryMax=100M\n",
    "user.service": "[Service]\nType=exec\nExecStart=/usr/bin/svc\nUser=nobody\n",
    "main.service": "[Unit]\nSuccessAction=exit\nFailureAction=exit\n[Service]\nExecStart=/usr/bin/svc sleep:200 exit:7\n",
    "good.service": "[Unit]\nSuccessAction=exit\n[Service]\nExecStart=/usr/bin/svc print:done sleep:200 exit:0\n",
}


def build():
    """One image, FROM scratch: the static programs, stay-net with its libraries, units, a passwd."""
    root = os.path.join(WORK, "image")
    for d in "usr/bin usr/lib/stayd etc/stayd/units tmp run proc sys dev var/tmp opt/web/releases/v1 opt/web/releases/v2".split():
        os.makedirs(os.path.join(root, d))
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    for f in (STAYD, STAYCTL, SVC):
        shutil.copy2(f, os.path.join(root, "usr/bin"))
    shutil.copy2(STAY_NET, os.path.join(root, "usr/lib/stayd"))
    for v in ("v1", "v2"):
        shutil.copy2(WEBSVC, os.path.join(root, "opt/web/releases", v))
    os.symlink("releases/v1", os.path.join(root, "opt/web/current"))
    # Sanitized programs are dynamic too.
    for f in (STAYD, STAYCTL, STAY_NET):
        for lib in re.findall(r"(/\S+)", subprocess.run(["ldd", f], capture_output=True, text=True).stdout):
            os.makedirs(os.path.dirname(root + lib), exist_ok=True)
            if not os.path.exists(root + lib):
                shutil.copy2(lib, root + lib)
    files = {"etc/passwd": "root:x:0:0:root:/:/bin/false\napp:x:1000:1000::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
             "etc/group": "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n",
             "Containerfile": "FROM scratch\nCOPY . /\nENV ASAN_OPTIONS=detect_leaks=0\nENV STAYD_STOP_BUDGET=%d\nENTRYPOINT [\"/usr/bin/stayd\"]\n" % (8 * SLOW)}
    files.update({"etc/stayd/units/" + n: t for n, t in UNITS.items()})
    for name, text in files.items():
        with open(os.path.join(root, name), "w") as f:
            f.write(text)
    r = bed("build", "stayd-test", root)
    check(r.returncode == 0, r.stderr)


def bed(*words, timeout=90):
    return subprocess.run([BED, *map(str, words)], capture_output=True, text=True, errors="replace", env=ENV,
                          stdin=subprocess.DEVNULL, timeout=timeout * PATIENCE)


class Container:
    """A detached container; on leaving it is stopped and must leave with `expect`."""
    count = 0

    def __init__(self, mode, *args, expect=0, options=""):
        Container.count += 1
        self.name, self.mode, self.args, self.expect, self.options = "c%d" % Container.count, mode, args, expect, options

    def __enter__(self):
        # Without --rm semantics after a stop we could not read logs: they go to a file of ours.
        self.log = os.path.join(WORK, self.name + ".log")
        r = bed("run", "-m", self.mode, "-o", "--name %s -d --log-driver k8s-file --log-opt path=%s %s"
                % (self.name, self.log, self.options), "stayd-test", *self.args)
        check(r.returncode == 0, r.stderr)
        self.init = int(bed("raw", "inspect", "-f", "{{.State.Pid}}", self.name).stdout or 0)
        return self

    def exec(self, *words):
        return bed("raw", "exec", self.name, *words)

    def ctl(self, *words, ok=True):
        r = self.exec("/usr/bin/stayctl", *words)
        check(not ok or r.returncode == 0, "stayctl %s: %s\n%s%s" % (words, r.returncode, r.stdout, r.stderr))
        return r

    def unit(self, name):
        return next((u for u in json.loads(self.ctl("status", "--json", name).stdout)["units"] if u["name"] == name), None)

    def members(self, name):
        units = json.loads(self.ctl("status", "--json").stdout)["units"]
        return [u for u in units if u.get("set") == name]

    def wait_available(self, name, n, **fields):
        def look():
            with contextlib.suppress(AssertionError):
                m = [u for u in self.members(name) if u.get("available") and all(u.get(k) == v for k, v in fields.items())]
                return m if len(m) == n else None
        return wait_for(look, 40, lambda: "%d of %s %s\n%s" % (n, name, fields, self.text()))

    def processes(self, word):
        return [p for p in descendants(self.init) if word in cmdline(p)]

    def text(self):
        with contextlib.suppress(OSError):
            with open(self.log, errors="replace") as f:
                return "".join(l.split(" ", 3)[3] if l.count(" ") > 2 else l for l in f)
        return ""

    def wait(self):
        r = bed("raw", "wait", self.name)
        return int(r.stdout) if r.stdout.strip().lstrip("-").isdigit() else r.stderr

    def __exit__(self, kind, value, tb):
        if kind:
            print("".join("# | %s\n" % l for l in self.text().splitlines()[-40:]), end="")
            bed("raw", "rm", "-f", "-t", "0", self.name)
            return False
        if not is_alive(self.init):
            return False
        waiter = adopt(subprocess.Popen([BED, "raw", "wait", self.name], stdout=subprocess.PIPE, text=True, env=ENV))
        start = time.monotonic()
        r = bed("raw", "stop", "-t", int(60 * SLOW), self.name)
        took = time.monotonic() - start
        code = waiter.communicate(timeout=30 * PATIENCE)[0].strip()
        check(r.returncode == 0 and code in (str(self.expect), ""), "stop: %s, exit code %s\n%s" % (r.stderr, code, self.text()))
        check("killing what is left" not in self.text(), self.text())
        print("# %s: stopped in %.1f s" % (self.mode, took))


class Zombies(threading.Thread):
    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.first, self.longest, self.ended = root, {}, 0.0, False

    def run(self):
        while not self.ended:
            now = time.monotonic()
            seen = {p: self.first.get(p, now) for p, (state, _) in descendants(self.root).items() if state == "Z"}
            self.longest = max([self.longest] + [now - t for t in seen.values()])
            self.first = seen
            time.sleep(0.005)

    def done(self):
        self.ended = True
        self.join()
        return self.longest


def in_every_mode(fn):
    for mode in MODES:
        def one(mode=mode):
            fn(mode)
        one.__name__ = "%s_in_%s" % (fn.__name__, mode)
        test(one)
    return fn


@in_every_mode
def replicas_crash_roll_and_stop(mode):
    with Container(mode, "web@.service") as c:
        zombies = Zombies(c.init)
        zombies.start()
        before = c.wait_available("web", 4)
        c.ctl("kill", "-s", "KILL", "web@3")
        wait_for(lambda: c.unit("web@3.service")["n_restarts"] == 1, 20, "the restart")
        c.wait_available("web", 4)
        c.ctl("deploy", "web", "v2")
        c.wait_available("web", 4, release="v2")
        check(len(before) == 4, before)
        text = c.text()
        check(re.search(r"^web@1.*websvc", text, re.M), "service output with its name in front:\n" + text)
        check("websvc" in c.ctl("logs", "web@1").stdout, c.ctl("logs", "web@1"))
        # What is exec'ed into the container and leaves orphans is reaped like everything else.
        r = c.exec("/usr/bin/svc", "double-fork", "exit:5")
        check(r.returncode == 5, r)
        orphans = wait_for(lambda: c.processes("/usr/bin/svc"), 10, "the orphan")
        check(proc_stat(orphans[0])[1] == c.init, "an orphan is PID 1's")
        for p in orphans:
            os.kill(p, signal.SIGKILL)
        wait_for(lambda: not any(os.path.exists("/proc/%d" % p) for p in orphans), 5, "the orphan to be reaped")
        longest = zombies.done()
        check(longest < 2.0 * SLOW, "a zombie was seen for %.2f s" % longest)
        print("# %s: longest zombie seen %.0f ms" % (mode, longest * 1000))


@in_every_mode
def a_bomb_of_300_orphans_leaves_nobody(mode):
    with Container(mode, "bomb.service") as c:
        wait_for(lambda: len(c.processes("/usr/bin/svc")) == 301, 30, lambda: "301 processes; %s" % c.text())
        c.ctl("stop", "bomb")
        left = c.processes("/usr/bin/svc")
        check(not left, "left: %d" % len(left))
        print("# %s: 301 processes stopped, %d left" % (mode, len(left)))


@in_every_mode
def sandbox_and_user_are_enforced_or_said(mode):
    with Container(mode, "boxed.service") as c:
        u = wait_for(lambda: (lambda u: u and u["main_pid"] and u)(c.unit("boxed.service")), 20, c.text)
        said = {d["directive"]: d["reason"] for d in u["degraded"]}
        for k in ("PrivateTmp", "ProtectSystem", "PrivateNetwork"):
            check("CAP_SYS_ADMIN" in said.get(k, ""), "%s: %s" % (k, said))
        check("not enforced" in said.get("MemoryMax", "not enforced"), said)
        r = c.ctl("start", "user", ok=False)
        if mode == "hardened":
            check(r.returncode != 0 and "CAP_SETUID" in r.stdout + r.stderr, r)
        else:
            check(r.returncode == 0, r)
            uids = set()
            for p in c.processes("/usr/bin/svc"):
                with open("/proc/%d/status" % p) as f:
                    uids.add(re.search(r"^Uid:\s+(\d+)", f.read(), re.M).group(1))
            check("65534" in uids, uids)


@test
def without_stay_net_exec_probes_work_and_http_probes_say_so():
    with Container("docker", "lean@.service", options="-v /dev/null:/usr/lib/stayd/stay-net:ro") as c:
        c.wait_available("lean", 4)
        c.ctl("deploy", "lean", "v2")
        c.wait_available("lean", 4, release="v2")


@in_every_mode
def the_main_service_gives_the_exit_code(mode):
    for unit, code in (("main.service", 7), ("good.service", 0)):
        r = bed("run", "-m", mode, "stayd-test", unit)
        check(r.returncode == code, "%s: %s\n%s%s" % (unit, r.returncode, r.stdout, r.stderr))
    check(re.search(r"^good.* done", r.stdout, re.M), r.stdout)


@test
def more_privilege_is_used():
    with Container("sysadmin", "boxed.service") as c:
        u = wait_for(lambda: (lambda u: u and u["main_pid"] and u)(c.unit("boxed.service")), 20, c.text)
        said = {d["directive"]: d["reason"] for d in u["degraded"]}
        check("PrivateTmp" not in said and "ProtectSystem" not in said, said)
        print("# sysadmin: %s" % said)


def available():
    if os.geteuid() != 0:
        return "podman here needs root"
    for p in ("podman", "runc"):
        if not shutil.which(p):
            return "%s is not installed" % p
    try:
        build()
    except AssertionError as e:
        return "podman cannot build an image here: %s" % str(e).strip().splitlines()[-1:]
    r = bed("run", "stayd-test", "--version")
    return "" if r.returncode == 0 else "podman cannot run a container here: %s" % r.stderr.strip()


try:
    why_not = available()
    if why_not:
        print("ok - stayd in OCI containers # SKIP %s" % why_not)
        sys.exit(0)
    main()
finally:
    bed("raw", "rm", "-f", "-a", "-t", "0") if shutil.which("podman") and os.geteuid() == 0 else None
    subprocess.run(["rm", "-rf", WORK])
