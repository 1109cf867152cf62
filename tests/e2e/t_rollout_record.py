#!/usr/bin/python3
"""What a rollout's journal is for: a killed core goes on with the same rollout, a new daemon does not."""
from lib import *

UNIT = """[Service]
ExecStart=%s print:up
Restart=always
[X-Replicas]
Count=3
[X-Rollout]
MaxSurge=0
MaxUnavailable=1
MinReadySec=%s
"""


def rollout(d):
    return d.ctl("rollout", "status", "web", "--json", check=False).json["rollout"]


def paused(d, *verb):
    """Begins it, and holds it while its first member soaks."""
    d.wait_status(lambda s: sum(u["active_state"] == "active" for u in s["units"]) >= 3, what="three members")
    before = {u["name"]: u["main_pid"] for u in d.members("web")}
    d.ctl(*verb, "--no-wait")
    wait_for(lambda: any(u["main_pid"] not in (0, before[u["name"]]) for u in d.members("web")), 15, "a new member")
    d.ctl("rollout", "pause", "web")
    return before


def daemon(soak, **more):
    return Daemon({"web@.service": UNIT % (SVC, soak)}, targets=["web"], **more)


@test
def a_restart_whose_core_is_killed_ends_as_a_restart():
    with daemon("%gs" % SLOW) as d:  # long enough to be paused in
        before = paused(d, "restart", "web")
        d.kill_core()
        check(rollout(d)["state"] == "paused", rollout(d))
        d.ctl("rollout", "resume", "web")
        wait_for(lambda: rollout(d)["state"] == "done", 30, "the end of the restart")
        after = {u["name"]: u["main_pid"] for u in d.members("web")}
        check(all(after[n] != before[n] for n in before), (before, after))


@test
def a_rollout_that_a_new_daemon_finds_is_over_and_stays_so():
    with temp_dir() as where:
        with daemon("60s", directory=where) as d:
            paused(d, "deploy", "web", "v2")
            d.stop()
        with daemon("60s", directory=where) as d:
            d.wait_status(lambda s: sum(u["active_state"] == "active" for u in s["units"]) >= 3, what="three members")
            check(rollout(d)["state"] == "aborted", rollout(d))
            revisions = {u["revision"] for u in d.members("web")}
            check(len(revisions) == 1, revisions)
            pids = {u["main_pid"] for u in d.members("web")}
            d.kill_core()
            check(rollout(d)["state"] == "aborted", rollout(d))
            check({u["main_pid"] for u in d.members("web")} == pids, "members were replaced")


@test
def a_service_beside_a_deployed_set_comes_from_its_own_file():
    """web.service and web@.service: the snapshots of the set web are of one of the two."""
    with temp_dir() as where:
        units = {"web@.service": UNIT % (SVC, "0"), "web.service": "[Service]\nExecStart=%s print:plain\n" % SVC}

        def check_plain(d):
            u = d.unit("web.service")
            check(u["active_state"] == "active" and not u["revision"] and not u["release"], u)
            with open("/proc/%d/cmdline" % u["main_pid"]) as f:
                check("print:plain" in f.read(), "it runs what its file says")

        with Daemon(units, directory=where, targets=["web"]) as d:
            d.wait_status(lambda s: sum(u["active_state"] == "active" for u in s["units"]) >= 3, what="three members")
            d.ctl("deploy", "web", "v2", check=True)
            d.ctl("start", "web.service", check=True)
            check_plain(d)
            d.kill_core()
            check_plain(d)
            d.ctl("stop", "web.service", check=True)
            check(sum(u["active_state"] == "active" for u in d.members("web")) == 3, "the set is another unit")
            d.stop()
        with Daemon(units, directory=where, targets=["web.service", "web"]) as d:
            d.wait_status(lambda s: sum(u["active_state"] == "active" for u in s["units"]) >= 4, what="all four")
            check_plain(d)
            check({u["release"] for u in d.members("web")} == {"v2"}, d.members("web"))


main()
