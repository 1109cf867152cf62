#!/usr/bin/python3
"""Arrows point down only: checks every #include "..." against the layering of the folders.

base <- unit <- model <- {keeper, launch, logd, net, control} <- core; the roles never include each other
(control reads log files through logd, roles give up privileges through confine, which stands on base); ctl
uses include/, base/ and unit/. Within another folder only its face may be included. Within a folder of ORDER a
file may include headers of those before it alone; a file of ALONE knows nothing else of its folder."""
import os, re, sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAY = {
    "base": {"base"},
    "confine": {"base", "confine"},
    "unit": {"base", "unit"},
    "model": {"base", "unit", "model"},
    "table": {"base", "table"},
    "keeper": {"base", "table", "keeper"},
    "init": {"base", "init"},
    "launch": {"base", "unit", "launch"},
    "logd": {"base", "confine", "logd"},
    "net": {"base", "confine", "net"},
    "control": {"base", "unit", "model", "logd", "control"},
    "core": {"base", "confine", "unit", "model", "launch", "logd", "table", "keeper", "control", "core"},
    "main": {"base", "init", "keeper", "launch", "logd", "table", "core"},
    "ctl": {"base", "unit", "ctl"},
}
FACE = {"base": "base.h", "confine": "confine.h", "unit": "units.h", "model": "model.h", "table": "table.h", "keeper": "keeper.h",
        "init": "init.h",
        "launch": "launch.h", "logd": "logd.h", "net": "net.h", "control": "control.h",
        "core": "core.h"}
ORDER = {"control": "control json peer shares waiting access client call audit_file audit names show logs waits verbs rights "
                    "verbs_act verbs_logs verbs_rollout verbs_status server"}
ALONE = {"core": {"condition", "conns", "host", "procfs"}}
PURE_HEADERS = {"model": {"sys/", "unistd.h", "time.h", "signal.h", "fcntl.h"}}


def folder_of(path):
    parts = os.path.relpath(path, TOP).split(os.sep)
    if parts[0] == "supervisord":
        return parts[1] if len(parts) > 2 else "main"
    return parts[0]


def stands_below(folder, header, f):
    header, f = (os.path.splitext(os.path.basename(n))[0] for n in (header, f))
    if folder not in ORDER:
        return header == f or f not in ALONE.get(folder, ())
    order = ORDER[folder].split()
    return header in order and f in order and order.index(header) <= order.index(f)


def main():
    bad = n = 0
    for root in ("supervisord", "ctl"):
        for d, _dirs, files in os.walk(os.path.join(TOP, root)):
            for f in files:
                if not f.endswith((".c", ".h")):
                    continue
                path = os.path.join(d, f)
                me = folder_of(path)
                for ln, line in enumerate(open(path, encoding="utf-8"), 1):
                    m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                    if not m:
                        s = re.match(r'\s*#\s*include\s+<([^>]+)>', line)
                        if s and any(s.group(1).startswith(p) for p in PURE_HEADERS.get(me, ())):
                            print("%s:%d: %s is pure and may not include <%s>" % (os.path.relpath(path, TOP), ln, me, s.group(1)))
                            bad += 1
                        continue
                    n += 1
                    inc = m.group(1)
                    if inc.startswith("stayd/"):
                        continue
                    local = os.path.exists(os.path.join(d, inc))
                    to = me if local and "/" not in inc else inc.split("/")[0]
                    if local and "/" in inc and me != "main":
                        to = me
                    if to == "lb":
                        to = "net"
                    if inc.startswith("../"):
                        to = folder_of(os.path.normpath(os.path.join(d, inc)))
                    where = "%s:%d" % (os.path.relpath(path, TOP), ln)
                    if to not in MAY.get(me, set()):
                        print("%s: %s may not include %s (%s)" % (where, me, to, inc))
                        bad += 1
                    elif to != me and os.path.basename(inc) != FACE[to]:
                        print("%s: only %s/%s may be included from outside, not %s" % (where, to, FACE[to], inc))
                        bad += 1
                    elif to == me and not stands_below(me, inc, f):
                        print("%s: %s does not stand below this file (ORDER, ALONE in tests/layers.py)" % (where, inc))
                        bad += 1
    print("layers: %d includes checked, %d violations" % (n, bad))
    return 1 if bad else 0


sys.exit(main())
