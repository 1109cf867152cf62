#!/usr/bin/python3
"""The daemon's core is killed -9 at each step of a rollout in turn: the next core goes on from the journal.

Normally a few lines of the journal are tried for each kind of rollout; with STAYD_FULL=1 every one."""
from lib import *
from rollout_rig import *

SIDE_BY_SIDE = 2
KILLS_EACH = 4  # for one daemon: keeper takes more for a crash loop and waits longer each time
BAD = "never-ready\n"
# lines: of the journal of an undisturbed rollout, found by the test itself; stride: when not FULL.
KINDS = {
    "in place": dict(stride=4),
    "surge": dict(stride=9, rollout={"MaxUnavailable": "0", "MaxSurge": "1"}),
    # Each step of the way back has to be made in it, too, with a core that is begun anew.
    "rollback": dict(stride=5, rollout={"ProgressDeadlineSec": "%gs" % max(3, 2 * SLOW)}, end="rolled-back"),
    "restart": dict(stride=9),
}


def begin(r, kind, release):
    """The client of a rollout of that kind, in the background."""
    if kind == "restart":
        return r.d.ctl_start("restart", "web")
    return r.d.ctl_start("deploy", "web", release)


def check_after(r, kind, release, before, where):
    """Whatever was interrupted: at its end, each member begun once, records that agree."""
    ro = r.wait_rollout("done", "rolled-back", "halted", "aborted")
    check(ro["state"] == KINDS[kind].get("end", "done"), "%s: the rollout is %s: %s" % (where, ro["state"], ro["reason"]))
    is_same = kind in ("rollback", "restart")
    on = "v1" if is_same else release
    r.check_all_on(on)
    r.wait_up()
    check(len(r.active()) == r.replicas, "%s: %s run" % (where, r.pids()))
    last = r.journal()[-1]
    revision = last["from"] if is_same else last["to"]
    check({u["revision"] for u in r.active()} == {revision}, "%s: revisions %s, journal %s" % (where, r.active(), last))
    if not is_same:
        with open(r.dir + "/state/sets/web/current") as f:
            current = f.readline().split()
        check(current == [str(revision), on], "%s: current is %s, the journal ends with %s" % (where, current, last))
    check(os.readlink(r.dir + "/current").endswith("releases/" + on), "%s: the release link" % where)
    kept = set(before.items()) & set(r.pids().items())
    if kind == "rollback":
        check(len(kept) == r.replicas - 1, "%s: members were touched without need: %s, now %s" % (where, before, r.pids()))
    else:
        check(not kept, "%s: members were not replaced: %s" % (where, kept))


def kill_at(r, kind, number, k, release):
    """One rollout, with core killed as soon as line k of its journal is there; returns the line."""
    before, began = r.pids(), r.starts(release if kind != "restart" else "v1")
    where = "%s, killed at line %d" % (kind, k)
    killer = KillAtLine("%s/state/sets/web/rollouts/d-%d.log" % (r.dir, number), k, core_pid_of(r.d))
    killer.start()
    with r.accounted(where, steady=False):
        client = begin(r, kind, release)
        out = client.communicate(timeout=60 * PATIENCE)[0]
        wait_for(lambda: r.journal(number), 10, "the rollout to have begun: %s" % out)
        killer.finish()  # not while somebody asks below
        r.d.wait_answering()
        check_after(r, kind, release, before, where)
    if kind == "restart":
        once = {n: v - began.get(n, 0) for n, v in r.starts("v1").items()}
        check(set(once.values()) == {1}, "%s: begun more than once: %s" % (where, once))
    else:
        check(set(r.starts(release).values()) <= {0, 1}, "%s: begun more than once: %s" % (where, r.starts(release)))
    expected = 150 if kind == "rollback" else 0
    if kind != "restart":
        check(client.returncode == expected or k == 1, "%s: stayctl ended with %d: %s" % (where, client.returncode, out))
    return killer.text or "(over before)"


def some_lines(kind, lines):
    def run():
        names = ["k%d" % k for k in lines]
        conf = {k: v for k, v in KINDS[kind].items() if k == "rollout"}
        with Rig(releases={n: BAD if kind == "rollback" else "" for n in names}, **conf) as r:
            r.start_load()
            seen = ["%d %s" % (k, kill_at(r, kind, i, k, name)) for i, (k, name) in enumerate(zip(lines, names), 1)]
            t = r.load.finish()
            check(t["failed"] == 0, "total %s" % t)
            say("%s: %d rollouts, core killed at: %s; %d requests, 0 failed" % (kind, len(lines), "; ".join(seen), t["sent"]))
    return run


def count_lines(kind):
    """Of the journal when nobody disturbs it."""
    conf = {k: v for k, v in KINDS[kind].items() if k == "rollout"}
    with Rig(releases={"k0": BAD if kind == "rollback" else ""}, **conf) as r:
        begin(r, kind, "k0").communicate(timeout=60 * PATIENCE)
        return len(r.journal())


def at_every_line(kind):
    n = count_lines(kind)
    lines = list(range(1, n + 1, 1 if FULL else KINDS[kind]["stride"]))
    say("%s: %d lines in the journal, core is killed at %d of them" % (kind, n, len(lines)))
    parts = max(1 if len(lines) < 4 else 2, -(-len(lines) // KILLS_EACH))
    fork_each({"%s, part %d" % (kind, p + 1): some_lines(kind, lines[p::parts]) for p in range(parts)}, SIDE_BY_SIDE)


@test
def core_killed_at_each_step_of_a_rollout_in_place_costs_no_request():
    at_every_line("in place")


@test
def core_killed_at_each_step_of_a_rollout_with_surge_costs_no_request():
    at_every_line("surge")


@test
def core_killed_at_each_step_of_a_rollback_costs_no_request():
    at_every_line("rollback")


@test
def core_killed_at_each_step_of_a_rolling_restart_costs_no_request():
    at_every_line("restart")


if __name__ == "__main__":
    main()
