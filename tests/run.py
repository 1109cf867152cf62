#!/usr/bin/python3
"""Runs every test and prints the totals; the last line is "N passed, N failed, N skipped".

A test is a program that prints TAP (ok / not ok / ok # SKIP reason). Unit tests, fuzz replays and
checks run in parallel; each e2e test (tests/e2e/t_*.py) makes its own directory and namespaces, so
they do too, a few at a time. Output of a test is shown when something in it failed.

  run.py --build build [PATTERN...]   only tests whose name contains one of the patterns"""
import argparse, concurrent.futures, glob, os, re, signal, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PY = "/usr/bin/python3"
TAP = re.compile(r"^(not ok|ok)\b(?:\s+\d+)?(?:\s*-)?\s*(.*)$")


def plan(build):
    """(name, argv, timeout seconds) of everything there is, cheap checks first."""
    t = [("layers", [PY, "tests/layers.py"], 60), ("purity model", [PY, "tests/purity.py", build + "/model.a"], 60),
         ("purity keeper", [PY, "tests/purity.py", build + "/keeper.a"], 60)]
    for m in ("supervisord/stayd.8", "ctl/stayctl.1", "units/stayd.unit.5"):
        t.append(("man " + m, ["sh", "-c", "test -s \"$0\" && mandoc -T lint -W warning \"$0\"", m], 60))
    for p in sorted(glob.glob(build + "/tests/test_*")):
        if os.access(p, os.X_OK) and not p.endswith(".o"):
            t.append(("unit " + os.path.basename(p)[5:], [p], 300))
    for p in sorted(glob.glob(build + "/tests/replay_*")):
        if os.access(p, os.X_OK):
            name = os.path.basename(p)[7:]
            t.append(("fuzz " + name, [p] + sorted(glob.glob("tests/fuzz/corpus/%s/*" % name)), 300))
    if os.path.exists(build + "/sim"):
        t.append(("sim", [build + "/sim", "--check"], 600))
        t.append(("mutations", [PY, "tests/sim/mutate.py", "--quick", "--build", build], 600))
    for p in sorted(glob.glob("tests/e2e/t_*.py")):
        t.append(("e2e " + os.path.basename(p)[2:-3], [PY, p], 900))
    return t


def run(item, build, env):
    name, argv, timeout = item
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env,
                             cwd=TOP, start_new_session=True)
        try:
            rc = p.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
            rc = "no end after %d s" % timeout
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
    if rc != 0 and not failed:
        failed.append("%s: exit status %s" % (name, rc))
    if rc == 0 and not passed and not skipped and not failed:
        passed.append(name)  # a check that says nothing and succeeds is one test
    return name, text, passed, failed, skipped, time.monotonic() - start


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2))
    ap.add_argument("patterns", nargs="*")
    a = ap.parse_args()
    os.chdir(TOP)
    env = dict(os.environ, STAYD_BUILD=os.path.abspath(a.build),
               ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99", UBSAN_OPTIONS="print_stacktrace=1")
    tests = [t for t in plan(a.build) if not a.patterns or any(p in t[0] for p in a.patterns)]
    total = [[], [], []]
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for f in concurrent.futures.as_completed([pool.submit(run, t, a.build, env) for t in tests]):
            name, text, passed, failed, skipped, took = f.result()
            if failed:
                print("---- %s\n%s" % (name, text.rstrip()))
            print("%-40s %4d passed %3d failed %3d skipped  %6.1f s" % (name, len(passed), len(failed), len(skipped), took),
                  flush=True)
            for i, l in enumerate((passed, failed, skipped)):
                total[i] += l
    for l in total[2]:
        print("skipped: " + l)
    for l in total[1]:
        print("FAILED: " + l)
    print("%d passed, %d failed, %d skipped" % tuple(len(l) for l in total))
    return 1 if total[1] or not total[0] else 0


sys.exit(main())
