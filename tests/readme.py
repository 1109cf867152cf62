#!/usr/bin/python3
"""The README is true: its unit file checks clean, its commands and options exist, its files are there. The manuals
leave no option out.

  readme.py BUILD"""
import os, re, subprocess, sys, tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
failed = 0


def tap(ok, name):
    global failed
    failed += not ok
    print("%s - %s" % ("ok" if ok else "not ok", name), flush=True)


def main(build):
    text = open(os.path.join(TOP, "README.md"), encoding="utf-8").read()
    stayctl = os.path.join(build, "stayctl")

    m = re.search(r"^\$ cat (\S+@?\.service)[^\n]*\n(.*?)^\$ ", text, re.M | re.S)
    with tempfile.TemporaryDirectory() as tmp:
        unit = os.path.join(tmp, m.group(1))
        with open(unit, "w") as f:
            f.write(m.group(2))
        r = subprocess.run([stayctl, "check", unit], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=100)
        tap(r.returncode == 0 and "error" not in r.stdout, "%s is a unit without errors %s" % (m.group(1), r.stdout if r.returncode else ""))
    examples = [os.path.join(TOP, "units/examples", f) for f in sorted(os.listdir(os.path.join(TOP, "units/examples"))) if f.endswith(".service")]
    r = subprocess.run([stayctl, "check"] + examples, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=100)
    tap(examples and r.returncode == 0, "the examples are units without errors %s" % (r.stdout if r.returncode else ""))

    with open(os.path.join(TOP, "include/stayd/verbs.def"), encoding="utf-8") as f:
        verbs = set(re.findall(r'^VERB\(\w+,\s*"([a-z-]+)"', f.read(), re.M))
    used = set(re.findall(r"stayctl ([a-z]+)\b", text))
    tap(used and used <= verbs, "every verb in it exists: %s" % sorted(used - verbs or used))

    with open(os.path.join(TOP, "Makefile"), encoding="utf-8") as f:
        targets = set(re.findall(r"^([a-z]+):", f.read(), re.M))
    used = set(re.findall(r"`make ([a-z]+)`|^    make ([a-z]+)", text, re.M))
    used = {a or b for a, b in used}
    tap(used and used <= targets, "every make target in it exists: %s" % sorted(used - targets or used))

    paths = set(re.findall(r"`(?:man \./|\./)?((?:supervisord|include|tests|units|ctl|packaging)/[\w@./-]+)`", text))
    missing = sorted(p for p in paths if not os.path.exists(os.path.join(TOP, p)))
    tap(paths and not missing, "every file it names is there: %s" % (missing or len(paths)))

    for program, manual, helps in (("stayd", "supervisord/stayd.8", [[]]), ("stayctl", "ctl/stayctl.1", [[]] + [[v] for v in sorted(verbs)])):
        there = set()
        for words in helps:
            r = subprocess.run([os.path.join(build, program)] + words + ["--help"], stdout=subprocess.PIPE, universal_newlines=True, timeout=100)
            there |= set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", r.stdout))
        with open(os.path.join(TOP, manual), encoding="utf-8") as f:
            told = set(re.findall(r"Fl (?:\w [,|] )?-([a-z][a-z-]+)", f.read()))
        tap(there and there <= told, "every option of %s is in %s: %s" % (program, manual, sorted(there - told) or len(there)))
    return 1 if failed else 0


sys.exit(main(os.path.abspath(sys.argv[1])))
