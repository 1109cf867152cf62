#!/usr/bin/python3
"""Init mode beside tini (and catatonit): the same cases, the same answers.

Each case runs as PID 1 of a new pid namespace and as a plain process (a subreaper)."""
import contextlib, os, pty, select, shutil, signal, subprocess, sys, tempfile, time

BUILD = os.environ.get("STAYD_BUILD", "build")
STAYD = os.path.join(BUILD, "stayd")
DEADLINE = 300  # for what hangs
failed = 0


def report(ok, name, why=""):
    global failed
    failed += not ok
    print("%s - %s%s" % ("ok" if ok else "not ok", name, "" if ok else ": %s" % why), flush=True)


def skip(name, why):
    print("ok - %s # SKIP %s" % (name, why), flush=True)


INITS = {"stayd": [STAYD, "--"], "tini": ["tini", "-s", "--"], "catatonit": ["catatonit", "--"]}
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def run(init, cmd, pid1):
    p = subprocess.run((UNSHARE if pid1 else []) + INITS[init] + cmd, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=DEADLINE, text=True)
    return p.returncode, p.stdout


def init_pid(p, pid1):
    """pid of the init itself: below unshare it is the only child."""
    if not pid1:
        return p.pid
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with open("/proc/%d/task/%d/children" % (p.pid, p.pid)) as f:
            kids = f.read().split()
        if kids:
            return int(kids[0])
        time.sleep(0.002)
    raise TimeoutError("unshare has no child")


def kill_tree(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            children = f.read().split()
        for child in children:
            kill_tree(int(child))
        os.kill(pid, signal.SIGKILL)


def forward(init, signum, pid1):
    """Exit status and output when the init gets a signal that the command handles."""
    # Blocked, then waited for: a handler of Python runs between two bytecodes, and a signal that comes
    # between the last of them and pause(2) would be waited for in vain.
    script = ("import signal, os\n"
              "signal.pthread_sigmask(signal.SIG_BLOCK, [%d]); os.write(1, b'ready\\n')\n"
              "n = signal.sigwait([%d])\n"
              "os.write(1, b'got %%d\\n' %% n); os._exit(40)" % (signum, signum))
    p = subprocess.Popen((UNSHARE if pid1 else []) + INITS[init] + ["/usr/bin/python3", "-c", script],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if not select.select([p.stdout], [], [], DEADLINE)[0]:
            return None, "the command is not there after %d s" % DEADLINE
        first = p.stdout.readline()
        os.kill(init_pid(p, pid1), signum)
        rest = p.communicate(timeout=DEADLINE)[0]
        return p.returncode, first + rest
    except subprocess.TimeoutExpired:
        return None, "the command has not got the signal after %d s" % DEADLINE
    finally:
        if p.poll() is None:
            kill_tree(p.pid)
            p.wait()


# Orphans: each child forks and ends, so that its child becomes the init's. The script waits until no
# zombie and no orphan of the init is left, or says what it sees after the deadline.
ORPHANS = r'''
import os, sys, time
n, ppid = int(sys.argv[1]), os.getppid()
for i in range(n):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
end = time.monotonic() + 120
left = None
while time.monotonic() < end:
    with open('/proc/%d/task/%d/children' % (ppid, ppid)) as f:
        left = [c for c in f.read().split() if c != str(os.getpid())]
    if not left:
        print('clean'); sys.exit(7)
    time.sleep(0.005)
print('left', len(left)); sys.exit(8)
'''


FORWARDED = [(s.name, int(s)) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT,
                                        signal.SIGWINCH)] + [("SIGRTMIN+3", int(signal.SIGRTMIN) + 3)]


def cases(work):
    noexec = os.path.join(work, "not-executable")
    with open(noexec, "w") as f:
        f.write("#!/bin/sh\nexit 0\n")
    os.chmod(noexec, 0o644)
    sh = lambda s: (lambda i, p1: run(i, ["sh", "-c", s], p1))
    yield "exit status 0", sh("exit 0")
    yield "exit status 3", sh("exit 3")
    yield "exit status 255", sh("exit 255")
    yield "a command that is not executable is 126", lambda i, p1: run(i, [noexec], p1)
    yield "a command that does not exist is 127", lambda i, p1: run(i, ["/nonexistent/command"], p1)
    yield "a command that is not in PATH is 127", lambda i, p1: run(i, ["no-such-command-anywhere"], p1)
    for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP):
        yield "death by %s is 128 + n" % s.name, sh("kill -%d $$" % s)
    yield "arguments and standard output pass through", lambda i, p1: run(i, ["printf", "%s|", "a b", "", "--", "-x"], p1)
    for name, n in FORWARDED:
        yield "%s is forwarded to the command" % name, (lambda n: lambda i, p1: forward(i, n, p1))(n)
    yield "the command has no blocked signals", sh("grep -c 'SigBlk:.*0000000000000000' /proc/self/status")
    yield "the command leads its own process group", sh("read -r _ _ _ _ group _ </proc/$$/stat && test $group -eq $$ && echo leader")
    yield "one double-forked orphan is reaped", lambda i, p1: run(i, ["/usr/bin/python3", "-c", ORPHANS, "1"], p1)
    yield "2000 orphans are reaped without a zombie left", lambda i, p1: run(i, ["/usr/bin/python3", "-c", ORPHANS, "2000"], p1)


# Where a peer is known to answer differently: catatonit exits 1 when it cannot execute the command.
DIFFERS = {"catatonit": ("a command that is not executable is 126", "a command that does not exist is 127",
                         "a command that is not in PATH is 127")}

# What the command must have answered, whatever the peers say.
EXPECT = {
    "exit status 0": 0, "exit status 3": 3, "exit status 255": 255,
    "a command that is not executable is 126": 126, "a command that does not exist is 127": 127,
    "a command that is not in PATH is 127": 127,
    "death by SIGKILL is 128 + n": 137, "death by SIGTERM is 128 + n": 143, "death by SIGSEGV is 128 + n": 139,
    "one double-forked orphan is reaped": 7, "2000 orphans are reaped without a zombie left": 7,
}
EXPECT = {k: (v, None) for k, v in EXPECT.items()}
EXPECT.update({
    "arguments and standard output pass through": (0, "a b||--|-x|"),
    "the command has no blocked signals": (0, "1\n"), "the command leads its own process group": (0, "leader\n"),
})
EXPECT.update({"%s is forwarded to the command" % name: (40, "ready\ngot %d\n" % n) for name, n in FORWARDED})


def testbed():
    """What a container may take away: capabilities, the uid, a writable cgroup tree."""
    bed = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../testbed/unshare.sh")
    for opts in (["-m", "ro", "-c", "docker"], ["-m", "none", "-c", "none"], ["-u", "1000", "-m", "ro"]):
        name = "init mode works with unshare.sh %s" % " ".join(opts)
        p = subprocess.run([bed] + opts + ["--"] + INITS["stayd"] + ["sh", "-c", "test $PPID = 1; exit $((3 + $?))"],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        if p.returncode == 77 or (os.geteuid() != 0 and p.returncode != 3):
            skip(name, "needs root and cgroup v2")
        else:
            report(p.returncode == 3, name, "%s %s" % (p.returncode, p.stderr))


def shell(front, w):
    """As a shell with job control starts a job: in a group of its own, and in front or not."""
    def place():
        os.setpgid(0, 0)
        if front:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(0, os.getpgrp())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    p = subprocess.Popen(INITS["stayd"] + ["/usr/bin/python3", "-c", "import os; os.write(%d, b'%%d' %% (os.tcgetpgrp(0) == os.getpgrp()))" % w],
                         pass_fds=[w], preexec_fn=place)
    p.wait(DEADLINE)
    os.write(w, b"%d" % (os.tcgetpgrp(0) == os.getpgrp()))


def terminal():
    for front, want in ((True, b"10"), (False, b"01")):
        r, w = os.pipe()
        pid, master = pty.fork()
        if pid == 0:
            shell(front, w)
            os._exit(0)
        os.close(w)
        with os.fdopen(r, "rb") as f:
            got = f.read()
        os.waitpid(pid, 0)
        os.close(master)
        report(got == want, "a command %s" % ("in front gets the terminal" if front else "in the background takes it from nobody"),
               "has it: %s of command, shell" % got)


def main():
    if not os.access(STAYD, os.X_OK):
        report(False, "build/stayd exists", "run make first")
        return 1
    peers = [p for p in ("tini", "catatonit") if shutil.which(p)]
    can_unshare = subprocess.run(UNSHARE + ["true"], stderr=subprocess.DEVNULL).returncode == 0
    with tempfile.TemporaryDirectory(prefix="stayd-init-") as work:
        for pid1 in (True, False):
            where = "as PID 1" if pid1 else "as a subreaper"
            if pid1 and not can_unshare:
                skip("everything as PID 1", "unshare --pid is not permitted here")
                continue
            for name, case in cases(work):
                mine = case("stayd", pid1)
                want = EXPECT.get(name)
                if want is not None:
                    report(mine[0] == want[0] and want[1] in (None, mine[1]), "%s, %s" % (name, where), "%s, expected %s" % (mine, want))
                for peer in peers:
                    if name in DIFFERS.get(peer, ()):
                        continue
                    theirs = case(peer, pid1)
                    report(mine == theirs, "%s: equal to %s, %s" % (name, peer, where), "%s, %s: %s" % (mine, peer, theirs))
    testbed()
    terminal()
    for peer in ("tini", "catatonit"):
        if peer not in peers:
            skip("comparison with " + peer, "not installed")
    return 1 if failed else 0


sys.exit(main())
