#!/usr/bin/python3
"""Every row of TORTURE.md names tests, and all of them exist."""
import os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ITEMS = 40


def tests_of(name):
    """Names that a test file defines; None: there is no such file."""
    path = os.path.join(HERE, name + ".py") if name.startswith("t_") else os.path.join(HERE, "../unit", name + ".c")
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return set(re.findall(r"^def (\w+)\(|^START_TEST\((\w+)\)", f.read(), re.M))


def rows(text):
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and not cells[0].startswith(("item", "hazard")):
            yield cells


def main():
    with open(os.path.join(HERE, "TORTURE.md")) as f:
        text = f.read()
    bad, missing, items, n = [], set(), set(), 0
    for subject, _, tests in rows(text):
        if subject.isdigit():
            items.add(int(subject))
        found = 0
        for entry in tests.strip("| ").split(", "):
            m = re.fullmatch(r"(t_\w+|test_\w+) (\w+)", entry)
            if not m:
                bad.append("%s: %r is no FILE TEST" % (subject, entry))
                continue
            names = tests_of(m.group(1))
            if names is None:
                missing.add(m.group(1))
            elif not any(m.group(2) in pair for pair in names):
                bad.append("%s: %s has no test %s" % (subject, m.group(1), m.group(2)))
            else:
                found += 1
        n += found
        if not found and not missing:
            bad.append("%s: no test" % subject)
    if items != set(range(1, ITEMS + 1)):
        bad.append("items without a row: %s" % sorted(set(range(1, ITEMS + 1)) - items))
    for b in bad:
        print("# " + b)
    print("%s - every item of the torture list has its tests (%d named)" % ("not ok" if bad else "ok", n))
    for m in sorted(missing):
        print("ok - the tests of %s # SKIP it is not in this tree" % m)
    return 1 if bad else 0


sys.exit(main())
