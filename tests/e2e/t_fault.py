#!/usr/bin/python3
"""A sample of the fault matrix (tests/fault/matrix.py; all of it: make fault)."""
import glob, re

from lib import *

without_leak_checks()

FAULT = os.path.join(TOP, "tests/fault")
CELLS = int(os.environ.get("STAYD_CELLS", "200"))


def symbols(pattern):
    """(undefined, defined) of objects and archives."""
    undefined, defined = set(), set()
    for path in glob.glob(os.path.join(TOP, os.path.basename(BUILD), pattern), recursive=True):
        for line in subprocess.run(["nm", path], capture_output=True, text=True).stdout.splitlines():
            f = line.split()
            if len(f) >= 2 and f[-2] == "U":
                undefined.add(f[-1])
            elif len(f) >= 2 and f[-2].isupper():
                defined.add(f[-1])
    return undefined, defined


@test
def every_function_that_may_fail_is_in_the_table():
    if "-san" in BUILD:
        skip("sanitizers bring functions of their own")
    undefined, defined = symbols("*.a")
    more = symbols("supervisord/net/**/*.o")
    check(undefined, "no archives in %s" % BUILD)
    with open(FAULT + "/calls.def") as f:
        calls = set(re.findall(r"^CALL\((\w+)", f.read(), re.M))
    with open(FAULT + "/pure.txt") as f:
        pure = set(f.read().split("\n\n", 1)[1].split())
    missing = (undefined | more[0]) - defined - more[1] - calls - pure
    missing = {m for m in missing if not m.startswith(("_GLOBAL_OFFSET", "_ITM", "__gmon"))}
    check(not missing, "neither in tests/fault/calls.def nor in pure.txt: %s" % " ".join(sorted(missing)))


@test
def a_sample_of_all_faults_leaves_nothing_lost_stuck_or_leaked():
    need_root()
    need(os.path.join(BUILD, "fault/stayd"))
    p = subprocess.run(["/usr/bin/python3", FAULT + "/matrix.py", "--build", BUILD, "--cells", str(CELLS), "--seconds", str(int(120 * SLOW))],
                       capture_output=True, text=True, errors="replace", timeout=300 * PATIENCE)
    last = p.stdout.rstrip().splitlines()[-1:] or [p.stderr]
    print("# " + last[0])
    check(p.returncode == 0, "matrix: %d\n%s\n%s" % (p.returncode, p.stdout[-6000:], p.stderr[-3000:]))
    check(int(last[0].split()[0]) > CELLS // 10, "too few cells: " + last[0])


main()
