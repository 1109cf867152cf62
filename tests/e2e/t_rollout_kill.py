#!/usr/bin/python3
"""The daemon's core is killed -9 at each step of a rollout in turn: the next core goes on from the journal.

Normally every third line of the journal of an undisturbed rollout is tried; all of them, for more
kinds of rollout, with STAYD_FULL=1."""
from lib import *
from rollout_rig import *

STRIDE = 1 if FULL else 4
SIDE_BY_SIDE = 2
KINDS = {
    "in place": dict(rollout={"MaxUnavailable": "1"}),
    "surge": dict(rollout={"MaxUnavailable": "0", "MaxSurge": "1"}),
}


def check_after(r, release, before, k):
    """Whatever was interrupted: done, on the new release, each member begun once, records that agree."""
    ro = r.wait_rollout("done", "rolled-back", "halted", "aborted")
    check(ro["state"] == "done", "killed at line %d: the rollout is %s: %s" % (k, ro["state"], ro["reason"]))
    r.check_all_on(release)
    starts = r.starts(release)
    check(set(starts.values()) <= {1}, "killed at line %d: members were begun more than once: %s" % (k, starts))
    check(len(r.active()) == r.replicas, "killed at line %d: %s run" % (k, r.pids()))
    last = r.journal()[-1]
    with open(r.dir + "/state/sets/web/current") as f:
        current = f.read().split()
    check(current == [str(last["to"]), release], "killed at line %d: current is %s, the journal ends with %s" % (k, current, last))
    check({u["revision"] for u in r.active()} == {last["to"]}, "killed at line %d: revisions %s" % (k, r.active()))
    check(os.readlink(r.dir + "/current").endswith("releases/" + release), "the release link is behind")
    check(not set(before.items()) & set(r.pids().items()), "killed at line %d: a member was not replaced" % k)
    r.wait_up()


def number_of_lines(kind):
    """Of the journal of a rollout that nobody disturbs."""
    with Rig(**KINDS[kind]) as r:
        r.deploy("v2")
        return len(r.journal())


def one_by_one(kind, lines, part, parts):
    """Every part-th of these lines: a rollout each in one daemon, which goes through many cores."""
    def run():
        mine = lines[part::parts]
        names = ["k%d" % k for k in mine]
        with Rig(releases={n: "" for n in names}, **KINDS[kind]) as r:
            r.start_load()
            seen = []
            for number, (k, release) in enumerate(zip(mine, names), 1):
                before = r.pids()
                killer = KillAtLine("%s/state/sets/web/rollouts/d-%d.log" % (r.dir, number), k, core_pid_of(r.d))
                killer.start()
                with r.accounted("%s, killed at line %d" % (kind, k), steady=False) as a:
                    out = r.d.ctl("deploy", "web", release, check=False)
                    wait_for(lambda: killer.killed or len(r.journal(number)) < k, 10, "the kill at line %d" % k)
                    check_after(r, release, before, k)
                killer.stopping = True
                seen.append((k, killer.text, out.rc))
                check(out.rc == 0 or not killer.killed or k <= 1, "stayctl was left with %r" % out)
            say("%s: killed at %s" % (kind, "; ".join("%d %s" % s[:2] for s in seen)))
            t = r.load.finish()
            check(t["failed"] == 0, "total %s" % t)
            say("%s: %d rollouts with a kill, %d requests, %d failed" % (kind, len(mine), t["sent"], t["failed"]))
    return run


def every_line(kind, stride, parts):
    # A journal is two lines more or less from time to time (a member seen twice in a step).
    n = {"in place": 31, "surge": 45}[kind]
    lines = list(range(1, n + 1, stride))
    fork_each({"%s, part %d" % (kind, p + 1): one_by_one(kind, lines, p, parts) for p in range(parts)}, parts)


@test
def core_killed_at_each_step_of_a_rollout_in_place_costs_no_request():
    every_line("in place", STRIDE, SIDE_BY_SIDE)


@test
def core_killed_at_each_step_of_a_rollout_with_surge_costs_no_request():
    every_line("surge", STRIDE * 2 if not FULL else 1, SIDE_BY_SIDE)


if __name__ == "__main__":
    main()
