#!/usr/bin/python3
"""The keeper's tests once more where pids come back at once: a pid namespace with pid_max=400."""
import os, re, subprocess, sys

BUILD = os.environ.get("STAYD_BUILD", "build")
PROGRAM = os.path.join(BUILD, "tests/test_keeper")
NAME = "keeper never confuses two children that had the same pid"


def main():
    release = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    if release < (6, 14):  # before, pid_max is one for the whole machine: hands off
        print("ok - %s # SKIP pid_max of its own per namespace needs Linux 6.14" % NAME)
        return 0
    script = "echo 400 > /proc/sys/kernel/pid_max && exec \"$0\""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run(unshare + ["sh", "-c", "echo 400 > /proc/sys/kernel/pid_max"], stderr=subprocess.DEVNULL).returncode:
        print("ok - %s # SKIP no permission for a pid namespace" % NAME)
        return 0
    p = subprocess.run(unshare + ["sh", "-c", script, PROGRAM], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=1500 if "-san" in BUILD else 800)
    bad = [line for line in p.stdout.splitlines() if line.startswith("not ok")]
    good = sum(line.startswith("ok ") for line in p.stdout.splitlines())
    ok = p.returncode == 0 and good > 0 and not bad
    print("%s - %s%s" % ("ok" if ok else "not ok", NAME, "" if ok else ": %s" % (bad or p.stderr[-500:])))
    return 0 if ok else 1


sys.exit(main())
