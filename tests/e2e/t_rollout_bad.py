#!/usr/bin/python3
"""Releases that are no good: rolled back, the old one serves throughout, and the message says why."""
from lib import *
from rollout_rig import *

DEADLINE = "%g" % max(3, 2 * SLOW)  # each step of the way back has to be made in it, too
HEALTH = {"Live": "http://127.0.0.1:${PORT}/healthz"}


# A process that dies takes what it had in hand with it. HAProxy may repeat a GET elsewhere, never a
# POST: units/examples/haproxy.cfg has these lines.
REPEAT_GET = GOOD_LB + ["retry-on all-retryable-errors", "http-request disable-l7-retry unless METH_GET"]


def rolled_back(r, release, *words, crashes=False):
    """Deploys it, counts what failed meanwhile, and looks for the words in what stayctl said."""
    before = r.pids()
    with r.accounted(release, counters=not crashes) as a:
        out = r.deploy(release, rc=150)
        r.wait_up()
    text = out.out + out.err
    for w in words:
        check(w in text, "%r is not in the message of deploy %s:\n%s" % (w, release, text))
    check(text.count("hint:") == 1, "exactly one hint:\n" + text)
    check(crashes or release not in a.during["releases"], "clients reached %s: %s" % (release, a.during["releases"]))
    r.check_all_on("v1")
    untouched = {n: p for n, p in before.items() if r.pids().get(n) == p}
    check(len(untouched) >= r.replicas - 1, "more than the first member was touched: %s, now %s" % (before, r.pids()))
    check(os.readlink(r.dir + "/current").endswith("releases/v1"), "the release link moved")
    ro = r.rollout()
    check(ro["state"] == "rolled-back" and ro["reason"], "the record: %s" % ro)
    for l in (out.err or out.out).rstrip().splitlines()[-14:]:
        say("  | " + l)
    return out


@test
def a_bad_release_is_rolled_back_with_its_cause_and_no_request_is_lost():
    releases = {"never-ready": "never-ready\n", "db-503": 'healthz-503 "db: connection refused"\n', "exit-at-once": "exit-after-ms 1\nexit-code 3\n", "no-binary": ""}
    with Rig(releases=releases, health=HEALTH, rollout={"MinReadySec": "2", "ProgressDeadlineSec": DEADLINE}) as r:
        os.unlink(r.dir + "/releases/no-binary/websvc")
        r.start_load()
        rolled_back(r, "never-ready", "web@1", "503", "healthz", "last log lines of web@1", "never-ready")
        rolled_back(r, "db-503", "db: connection refused", "healthz", "last log lines of web@1")
        rolled_back(r, "exit-at-once", "web@1", "status=3", "last log lines of web@1")
        rolled_back(r, "no-binary", "releases/no-binary/websvc", "ENOENT")
        t = r.load.finish()
        check(t["failed"] == 0, "total %s" % t)
        h = r.d.ctl("rollout", "history", "web").out
        check(h.count("rolled-back") == 4, "history:\n" + h)


@test
def a_release_that_crashes_or_ends_while_it_soaks_is_rolled_back():
    releases = {"crash-late": "crash-after-ms %d\n" % (500 * SLOW), "exit-late": "exit-after-ms %d\nexit-code 0\n" % (300 * SLOW)}
    with Rig(releases=releases, rollout={"MinReadySec": "%g" % (2 * SLOW)}, lb_lines=REPEAT_GET) as r:
        r.start_load()
        rolled_back(r, "crash-late", "web@1", "SIGABRT", "last log lines of web@1", "websvc web@1 crash-late", crashes=True)
        rolled_back(r, "exit-late", "web@1", "last log lines of web@1", "websvc web@1 exit-late", crashes=True)
        t = r.load.finish()
        check(t["failed"] == 0, "total %s" % t)


@test
def a_release_that_the_load_balancers_own_check_refuses_is_rolled_back():
    # HAProxy asks for a path that v2 answers with 503; our own probe is another one and passes.
    with Rig(releases={"v2": "never-ready\n"}, health={"Ready": "tcp://127.0.0.1:${PORT}"}, rollout={"ProgressDeadlineSec": DEADLINE}) as r:
        r.start_load()
        rolled_back(r, "v2", "web@1", "load balancer", "check")


if __name__ == "__main__":
    main()
