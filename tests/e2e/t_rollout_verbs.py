#!/usr/bin/python3
"""What a person does to a set under load: pause, resume, abort, undo, plan, scale, restart, drain."""
from lib import *
from rollout_rig import *


@test
def a_rollout_is_paused_resumed_aborted_undone_and_remembered():
    with Rig(rollout={"MinReadySec": "%dms" % (500 * SLOW)}) as r:  # not over before it is paused
        r.start_load()
        with r.accounted("pause, resume, abort, undo"):
            p = r.d.ctl_start("deploy", "web", "v2")
            r.wait_step(1, "stopping", "waiting for ready", "entering the load balancer", "soaking", "done")
            r.d.ctl("rollout", "pause", "web")
            r.wait_rollout("paused")
            second = r.deploy("v3", rc=152)
            check("d-1" in second.out + second.err, "who is in the way: %r" % second)
            wait_for(lambda: [m["step"] for m in r.rollout()["members"]].count("pending") + [m["step"] for m in r.rollout()["members"]].count("done") == 4,
                     20, lambda: "the member under way to be done; %s" % r.rollout())
            check("v1" in r.releases(), "it was not paused: %s" % r.releases())
            again = r.d.ctl("rollout", "pause", "web", check=False)
            check(again.rc == 152, "pausing twice: %r" % again)
            r.d.ctl("rollout", "resume", "web")
            out = p.communicate(timeout=60 * PATIENCE)[0]
            check(p.returncode == 0, "exit code %d: %s" % (p.returncode, out))
            r.check_all_on("v2")

            p = r.d.ctl_start("deploy", "web", "v3")
            r.wait_step(2, "draining", "stopping", "waiting for ready", "entering the load balancer", "soaking")
            a = r.d.ctl("rollout", "abort", "web")
            out = p.communicate(timeout=60 * PATIENCE)[0]
            check(p.returncode == 150 and "aborted by" in out, "exit code %d: %s" % (p.returncode, out))
            r.check_all_on("v2")
            check(a.rc == 0, repr(a))

            r.d.ctl("rollout", "undo", "web", "--to-revision", "1", check=False)
            wait_for(lambda: r.rollout()["state"] != "rolling", 30, "the undo")
        h = r.d.ctl("rollout", "history", "web", "--json").json["rollouts"]
        check([x["state"] for x in h][:2] == ["done", "rolled-back"], "history: %s" % [(x["id"], x["state"]) for x in h])
        text = r.d.ctl("rollout", "history", "web").out
        check("aborted by" in text and "v3" in text, text)


@test
def undo_goes_back_to_the_release_before():
    with Rig() as r:
        r.start_load()
        r.deploy("v2")
        with r.accounted("undo"):
            r.d.ctl("rollout", "undo", "web")
            r.check_all_on("v1")
        check(os.readlink(r.dir + "/current").endswith("/v1"), "the release link")
        with open(r.dir + "/state/sets/web/current") as f:
            check(f.readline().split() == ["0", "v1"], "what is committed")


@test
def plan_changes_nothing_and_a_deploy_can_be_followed_later():
    with Rig() as r:
        r.start_load()
        before = r.pids()
        plan = r.d.ctl("plan", "web", "v2").out
        check("v1 -> v2" in plan and "web@4" in plan and "never fewer than 3" in plan, plan)
        check(r.d.ctl("plan", "web", "v2", "--detailed-exitcode", check=False).rc == 2, "the exit code of a plan with changes")
        check(r.pids() == before, "plan touched something")
        with r.accounted("deploy --no-wait, rollout status -f"):
            out = r.d.ctl("deploy", "web", "v2", "--no-wait")
            check(r.rollout()["state"] in ("preflight", "rolling"), "it waited: %r" % out)
            f = r.d.ctl("rollout", "status", "web", "-f")
            check(f.rc == 0 and "done" in f.out, repr(f))
            r.check_all_on("v2")


@test
def scaling_and_restarting_and_draining_by_hand_cost_no_request():
    with Rig(slots=8) as r:
        r.start_load()
        with r.accounted("scale to 6"):
            r.d.ctl("scale", "web=6")
            r.wait_up(6)
        with r.accounted("scale to 3"):
            r.d.ctl("scale", "web=3")
            wait_for(lambda: len(r.active()) == 3, 20, lambda: "three members; %s" % r.pids())
        r.d.ctl("scale", "web=4")
        r.wait_up(4)
        before = r.pids()
        with r.accounted("restart, rolling"):
            r.d.ctl("restart", "web")
            r.wait_up(4)
        after = r.pids()
        check(sorted(before) == sorted(after) and not set(before.items()) & set(after.items()), "restarted: %s, %s" % (before, after))
        check(r.releases() == ["v1"] * 4, str(r.releases()))
        with r.accounted("drain and undrain"):
            r.d.ctl("drain", "web@2")
            check(r.lb.stat()["web2"]["scur"] == 0 and "web2" not in r.up(), "web2 is %s" % r.lb.stat()["web2"])
            check(r.pids() == after, "drain stopped something")
            r.d.ctl("undrain", "web@2")
            r.wait_up(4)


@test
def a_canary_waits_for_a_person_and_percentages_are_batches():
    with Rig(rollout={"Strategy": "canary", "Canary": "1"}) as r:
        r.start_load()
        with r.accounted("canary"):
            p = r.d.ctl_start("deploy", "web", "v2")
            r.wait_rollout("paused")
            check(r.releases() == ["v1", "v1", "v1", "v2"], "more than the canary: %s" % r.releases())
            r.d.ctl("rollout", "resume", "web")
            out = p.communicate(timeout=60 * PATIENCE)[0]
            check(p.returncode == 0, out)
            r.check_all_on("v2")
    with Rig() as r:
        r.start_load()
        with r.accounted("deploy --pause-after=2"):
            p = r.d.ctl_start("deploy", "web", "v2", "--pause-after=2")
            r.wait_rollout("paused")
            check(r.releases() == ["v1", "v1", "v2", "v2"], "two were asked for: %s" % r.releases())
            r.d.kill_core()
            check(r.rollout()["state"] == "paused", "a new core forgot the pause")
            r.d.ctl("rollout", "resume", "web")
            r.wait_rollout("done")
            p.communicate(timeout=60 * PATIENCE)
            r.check_all_on("v2")
    with Rig(replicas=8, rollout={"MaxUnavailable": "25%"}) as r:
        r.start_load()
        fewest, stop = [8], threading.Event()

        def watch():
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    fewest.append(len(r.up()))
        t = threading.Thread(target=watch, daemon=True)
        t.start()
        with r.accounted("8 replicas by 25%"):
            r.deploy("v2")
        stop.set()
        t.join(10 * PATIENCE)
        check(min(fewest) == 6, "HAProxy saw %d of 8 at the least; 6 were promised, and batches of two" % min(fewest))
        r.check_all_on("v2")


@test
def a_set_that_is_stopped_takes_its_release_without_being_started():
    with Rig() as r:
        r.d.ctl("stop", "web")
        out = r.deploy("v2")
        check(not r.active(), "it was started: %s" % r.pids())
        r.d.ctl("start", "web")
        r.wait_up()
        r.check_all_on("v2")
        check("done" in out.out, repr(out))


@test
def scaling_to_the_count_it_has_starts_the_members_that_ended():
    with Stage(lambda s: {"set@.service": s.puppets.unit("event:up", Restart="no") + "[X-Replicas]\nCount=2\n"}) as (s, d):
        d.ctl("start", "set")
        first = d.unit("set@1.service")["main_pid"]
        os.kill(first, signal.SIGKILL)
        d.wait_unit("set@1.service", active_state="failed")
        d.ctl("stop", "set@2")
        d.ctl("scale", "set=2")
        check(d.unit("set@1.service")["main_pid"] not in (0, first), "the one that had failed runs again")
        check(d.unit("set@2.service")["active_state"] == "inactive", "the one stopped by hand does not")


@test
def names_with_dots_are_sets_of_their_own():
    rollout = "[X-Rollout]\nMinReadySec=0\n"
    with Stage(lambda s: {"org.%s.service" % n: s.puppets.unit("event:" + n, section=rollout) for n in "ab"}) as (s, d):
        d.ctl("start", "org.a", "org.b")
        first = {n: s.puppets.wait(n).pid for n in "ab"}
        d.ctl("deploy", "org.a", "v1")
        check(s.puppets.wait("a").pid == d.unit("org.a.service")["main_pid"] != first["a"], "a is new")
        check(d.unit("org.b.service")["main_pid"] == first["b"], "b is not concerned")
        d.ctl("deploy", "org.b.service", "v2")
        check(s.puppets.wait("b").pid == d.unit("org.b.service")["main_pid"], "b runs its own program")
        releases = {x["name"]: x["release"] for x in d.status()["sets"]}
        check(releases == {"org.a": "v1", "org.b": "v2"}, releases)


@test
def a_link_to_what_is_no_release_names_none():
    odd = {"a": b"v0\x1b[2J", "b": b"v\xff", "c": b"..", "d": b"v1\nv9"}

    def units(s):
        os.makedirs(s.path("releases/v1"))
        for n, name in odd.items():
            os.symlink(s.path("releases/").encode() + name, s.path(n + ".current"))
        return {n + ".service": s.puppets.unit("event:" + n, section="[X-Rollout]\nMinReadySec=0\nReleaseRoot=%s\nReleaseLink=%s\n"
                                               % (s.path("releases"), s.path(n + ".current"))) for n in odd}
    with Stage(units) as (s, d):
        for n in odd:
            d.ctl("start", n)
            check(not d.unit(n + ".service")["release"], (n, d.unit(n + ".service")["release"]))
            d.ctl("deploy", n, "v1")
            check(d.unit(n + ".service")["release"] == "v1", d.unit(n + ".service"))
            history = d.ctl("rollout", "history", n, "--json").json["rollouts"]
            check([x["state"] for x in history] == ["done"], (n, history))  # from nothing to v1, and it is in the journal


if __name__ == "__main__":
    main()
