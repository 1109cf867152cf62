#!/usr/bin/python3
"""What is built is what was promised: static, hardened, without traces of this machine, installable.

  products.py BUILD      (not for sanitized builds, which are another thing altogether)"""
import os, subprocess, sys, tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIZE_MAX = 2 << 20  # stripped; a quarter is ours, the rest glibc, libseccomp and jansson
failed = 0


def tap(ok, name):
    global failed
    failed += not ok
    print("%s - %s" % ("ok" if ok else "not ok", name), flush=True)


def run(*argv, **kw):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120, **kw).stdout


def main(build):
    with tempfile.TemporaryDirectory() as tmp:
        for name in ("stayd", "stayctl", "stay-net"):
            path = os.path.join(build, name)
            heads, symbols = run("readelf", "-lWd", path), run("readelf", "-sW", path)
            stack = [l for l in heads.splitlines() if "GNU_STACK" in l]
            loads = [l.split()[6:-1] for l in heads.splitlines() if l.split()[:1] == ["LOAD"]]
            tap("GNU_RELRO" in heads and ("BIND_NOW" in heads or "INTERP" not in heads), "%s: relocations are read-only" % name)
            tap(len(stack) == 1 and "RWE" not in stack[0], "%s: the stack is not executable" % name)
            tap(loads and not any("W" in "".join(f) and "E" in "".join(f) for f in loads), "%s: nothing is writable and executable" % name)
            tap("__stack_chk_fail" in symbols, "%s: the stack protector is in" % name)
            with open(path, "rb") as f:
                tap(TOP.encode() + b"/" not in f.read(), "%s: the build directory is not in it" % name)
            stripped = os.path.join(tmp, name)
            run("strip", "-s", "-o", stripped, path)
            tap(0 < os.path.getsize(stripped) < SIZE_MAX, "%s: %d KiB stripped" % (name, os.path.getsize(stripped) >> 10))
            if name != "stay-net":
                tap("INTERP" not in heads and "NEEDED" not in heads, "%s: static" % name)
                # In a static program they can only fail, or load code of another libc.
                bad = sorted({l.split()[-1] for l in symbols.splitlines() if l.split()[-1:] and
                              l.split()[-1] in ("getpwnam_r", "getaddrinfo", "gethostbyname", "__nss_module_load")})
                tap(not bad, "%s: no name service in it %s" % (name, bad))
        root = os.path.join(tmp, "root")
        # What the make above us was told is not meant for this one.
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR", "PREFIX")}
        text = run("make", "-s", "-o", "all", "install", "DESTDIR=" + root, "B=" + build, cwd=TOP, env=env)
        found = sorted(os.path.relpath(os.path.join(d, f), root) for d, _, fs in os.walk(root) for f in fs)
        tap(found == ["usr/bin/stayctl", "usr/bin/stayd", "usr/lib/stayd/stay-net", "usr/share/man/man1/stayctl.1",
                      "usr/share/man/man5/stayd.unit.5", "usr/share/man/man8/stayd.8"], "make install: %s %s" % (found, text))
    return 1 if failed else 0


sys.exit(main(os.path.abspath(sys.argv[1])))
