#!/usr/bin/python3
"""Runs every test and prints the totals; the last line is "N passed, N failed, N skipped".

A test is a program that prints TAP (ok / not ok / ok # SKIP reason). Checks, unit tests and fuzz
replays go first, one per processor; then the end-to-end tests (tests/e2e/t_*.py), each with
directories and namespaces of its own, two at a time: a dozen processes each under load. The output
of a test is shown when something in it failed.

An end-to-end test that failed is run once more, alone: processes on a machine that has much else to do
may miss each other. Passes it then, it is counted as passed and named as unsteady, with its first output
above: a defect of the test or of the product to be found, but not this change's. With --strict, when a
sanitizer found something, and when many fail, there is no second time.

  run.py --build build [--strict] [PATTERN...]   only tests whose name contains one of the patterns"""
import argparse, collections, concurrent.futures, contextlib, glob, os, re, shutil, signal, stat, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PY = "/usr/bin/python3"
E2E_JOBS = 2
AGAIN_MAX = 3  # programs that are run a second time; when more fail, it is not bad luck
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|runtime error: ")
TAP = re.compile(r"^(not ok|ok)\b(?:\s+\d+)?(?:\s*-)?\s*(.*)$")


def plan(build):
    """(name, argv, timeout seconds) of everything there is, cheap checks first."""
    # Only what hangs is to meet its deadline: a loaded machine takes many times as long as a quiet one.
    patience = 1200 if "-san" in build else 900
    t = [("layers", [PY, "tests/layers.py"], 300)]
    for what in ("model.a", "keeper.a", "table.a", "init.a", "supervisord/base/bare.o", "supervisord/base/pack.o"):
        t.append(("purity " + os.path.basename(what)[:-2], [PY, "tests/purity.py", os.path.join(build, what)], 300))
    if "-san" not in build:
        t.append(("products", [PY, "tests/products.py", build], 120))
    t.append(("readme", [PY, "tests/readme.py", build], 120))
    for m in ("supervisord/stayd.8", "ctl/stayctl.1", "units/stayd.unit.5"):
        t.append(("man " + m, ["sh", "-c", "test -s \"$0\" && mandoc -T lint -W warning \"$0\"", m], 60))
    for p in sorted(glob.glob(build + "/tests/test_*")):
        if os.access(p, os.X_OK) and not p.endswith(".o"):
            t.append(("unit " + os.path.basename(p)[5:], [p], patience))
    for p in sorted(glob.glob(build + "/tests/replay_*")):
        if os.access(p, os.X_OK):
            name = os.path.basename(p)[7:]
            t.append(("fuzz " + name, [p] + sorted(glob.glob("tests/fuzz/corpus/%s/*" % name)), patience))
    if os.path.exists(build + "/sim"):
        t.append(("sim", [build + "/sim", "--check"], patience))
        t.append(("mutations", [PY, "tests/sim/mutate.py", "--quick", "--build", build], patience))
    for p in sorted(glob.glob("tests/e2e/t_*.py")):
        t.append(("e2e " + os.path.basename(p)[2:-3], [PY, p], patience))
    return t


def copy_program(source, to, name):
    if os.path.exists(os.path.join(source, name)):
        os.makedirs(os.path.dirname(os.path.join(to, name)), exist_ok=True)
        shutil.copy(os.path.join(source, name), os.path.join(to, name))


@contextlib.contextmanager
def programs(build):
    """The directory of the programs under test. Services run as other users and with their homes hidden:
    when root's clone is where nobody else gets in (/root), they are copied to where everybody does."""
    where = os.path.abspath(build)
    parents = [where[:i] or "/" for i, c in enumerate(where + "/") if c == "/"]
    hidden = any(where.startswith(home) for home in ("/root/", "/home/", "/run/user/", "/tmp/", "/var/tmp/"))
    if os.getuid() != 0 or not (hidden or any(not os.stat(p).st_mode & stat.S_IXOTH for p in parents)):
        yield where
        return
    top = tempfile.mkdtemp(prefix="stayd-tests.", dir="/var/lib")
    try:
        os.chmod(top, 0o755)
        copy = os.path.join(top, os.path.basename(where))
        for name in ("stayd", "stayctl", "stay-net", "fault/stayd", "fault/stay-net", "tests/test_keeper",
                     "tests/test_keeper_reexec"):
            copy_program(where, copy, name)
        for name in ("stayd", "stay-net"):
            copy_program(where + "-next", copy + "-next", name)
        shutil.copytree(where + "/tests/tools", copy + "/tests/tools")
        yield copy
    finally:
        shutil.rmtree(top, ignore_errors=True)


def of_process(pid, name):
    with contextlib.suppress(OSError):
        with open("/proc/%d/%s" % (pid, name), errors="replace") as f:
            return f.read()
    return ""


def end_tree(pid, depth=0):
    """Kills a process with all below it; a line for each of what it was doing."""
    state = re.search(r"^State:\s*(\S)", of_process(pid, "status"), re.M)
    line = "%s%d %s %s %s\n" % ("  " * depth, pid, state.group(1) if state else "?", of_process(pid, "wchan") or "-",
                               of_process(pid, "cmdline").replace("\0", " ")[:160])
    children = [int(c) for c in of_process(pid, "task/%d/children" % pid).split()]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return line + "".join(end_tree(c, depth + 1) for c in children)


def as_at_login():
    """Whoever began this, a shell in the background, nohup or cron: tests find the same."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for s in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(s, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    unwanted = [k for k in os.environ if k.startswith(("LC_", "LANG")) or k in ("TZ", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
                                                                                "WATCHDOG_USEC", "STAYD_SOCKET", "STAYD_UNIT_PATH")]
    return dict({k: v for k, v in os.environ.items() if k not in unwanted}, LC_ALL="C.UTF-8")


def run(item, build, env):
    name, argv, timeout = item
    env = dict(env, STAYD_TEST_LIMIT=str(timeout))
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env,
                             cwd=TOP, start_new_session=True)
        try:
            rc = p.wait(timeout)
        except subprocess.TimeoutExpired:
            found = end_tree(p.pid)
            p.wait()
            rc = "no end after %d s" % timeout
            out.seek(0, os.SEEK_END)
            out.write(("\nIt hung with these processes (pid, state, waits in, command):\n" + found).encode())
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    passed, failed, skipped = [], [], []
    for line in text.splitlines():
        m = TAP.match(line.strip())
        if not m:
            continue
        what = "%s: %s" % (name, m.group(2))
        if re.search(r"# *SKIP", m.group(2), re.I):
            skipped.append(what)
        elif m.group(1) == "ok":
            passed.append(what)
        else:
            failed.append(what)
    for what in skipped:  # a unit test that skipped itself ended well: counted once, as skipped
        sentence = what.split(": ", 1)[1].split(" # ")[0].strip()
        passed = [p for p in passed if not p.endswith(":%s: Passed" % sentence)]
    if rc != 0 and not failed:
        failed.append("%s: exit status %s" % (name, rc))
    if rc == 0 and not passed and not skipped and not failed:
        # A check that says nothing and succeeds is one test; what has several says which it did.
        (failed if name.startswith(("e2e ", "unit ")) else passed).append(name)
    return Result(item, text, passed, failed, skipped, time.monotonic() - start)


Result = collections.namedtuple("Result", "item text passed failed skipped took")


def show(r):
    if r.failed:
        print("---- %s\n%s" % (r.item[0], r.text.rstrip()))
    print("%-40s %4d passed %3d failed %3d skipped  %6.1f s" % (r.item[0], len(r.passed), len(r.failed), len(r.skipped), r.took), flush=True)


def run_all(tests, jobs, build, env):
    results = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for f in concurrent.futures.as_completed([pool.submit(run, t, build, env) for t in tests]):
            show(f.result())
            results.append(f.result())
    return results


def again(results, build, env):
    """(results, what was unsteady): those that failed have had a second run."""
    failed = [r for r in results if r.failed]
    if len(failed) > AGAIN_MAX or any(SANITIZER.search(r.text) for r in failed):
        return results, []
    unsteady = []
    for first in failed:
        print("---- %s once more, alone" % first.item[0], flush=True)
        second = run(first.item, build, env)
        show(second)
        if not second.failed:
            unsteady += first.failed
        results[results.index(first)] = second
    return results, unsteady


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2))
    ap.add_argument("--strict", action="store_true", help="no second run of what failed")
    ap.add_argument("patterns", nargs="*")
    a = ap.parse_args()
    os.chdir(TOP)
    tests = [t for t in plan(a.build) if not a.patterns or any(p in t[0] for p in a.patterns)]
    begin, unsteady = time.monotonic(), []
    with programs(a.build) as where:
        env = dict(as_at_login(), STAYD_BUILD=where, ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99",
                   UBSAN_OPTIONS="print_stacktrace=1")
        results = run_all([t for t in tests if not t[0].startswith("e2e ")], a.jobs, a.build, env)
        e2e = run_all([t for t in tests if t[0].startswith("e2e ")], min(a.jobs, E2E_JOBS), a.build, env)
        if not a.strict:
            e2e, unsteady = again(e2e, a.build, env)
    passed, failed, skipped = ([what for r in results + e2e for what in getattr(r, l)] for l in ("passed", "failed", "skipped"))
    print("%d programs in %.0f s" % (len(tests), time.monotonic() - begin))
    for word, l in (("skipped", skipped), ("UNSTEADY", unsteady), ("FAILED", failed)):
        for what in l:
            print("%s: %s" % (word, what))
    print("%d passed%s, %d failed, %d skipped" % (len(passed), " (%d unsteady)" % len(unsteady) if unsteady else "", len(failed), len(skipped)))
    return 1 if failed or not passed else 0


sys.exit(main())
