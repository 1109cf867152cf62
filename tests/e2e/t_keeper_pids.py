#!/usr/bin/python3
"""The keeper's tests once more where pids come back at once: a pid namespace with pid_max=400."""
import os, re, subprocess, sys

BUILD = os.environ.get("STAYD_BUILD", "build")
TESTS = (("test_keeper", "keeper never confuses two children that had the same pid"),
         ("test_keeper_reexec", "keeper tells children of one pid apart across a re-exec"))


def skip(why):
    for _program, name in TESTS:
        print("ok - %s # SKIP %s" % (name, why))
    return 0


def run(argv, name):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=1500 if "-san" in BUILD else 800)
    bad = [line for line in p.stdout.splitlines() if line.startswith("not ok")]
    good = sum(line.startswith("ok ") for line in p.stdout.splitlines())
    ok = p.returncode == 0 and good > 0 and not bad
    print("%s - %s%s" % ("ok" if ok else "not ok", name, "" if ok else ": %s" % (bad or p.stderr[-500:])))
    return 0 if ok else 1


def main():
    release = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    if release < (6, 14):  # before, pid_max is one for the whole machine: hands off
        return skip("pid_max of its own per namespace needs Linux 6.14")
    script = "echo 400 > /proc/sys/kernel/pid_max && exec \"$0\""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run(unshare + ["sh", "-c", "echo 400 > /proc/sys/kernel/pid_max"], stderr=subprocess.DEVNULL).returncode:
        return skip("no permission for a pid namespace")
    return max([run(unshare + ["sh", "-c", script, os.path.join(BUILD, "tests", program)], name) for program, name in TESTS])


sys.exit(main())
