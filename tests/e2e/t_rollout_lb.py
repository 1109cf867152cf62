#!/usr/bin/python3
"""HAProxy reloaded, restarted, unreachable, or two of them, in the middle of a rollout."""
from lib import *
from rollout_rig import *

STEPS = ("draining", "stopping", "waiting for ready", "entering the load balancer", "soaking")


def deploy_with(r, release, index, step, action, rc=0):
    """deploy RELEASE, and the action when web@INDEX is at the step."""
    before = len(r.journal())
    done = {}

    def watch():
        wait_for(lambda: any(l["text"] == "web@%d %s" % (index, step) for l in r.journal()
                             if l["to_release"] == release), 30, "web@%d %s" % (index, step))
        done["at"] = time.monotonic()
        action()
        done["took"] = time.monotonic() - done["at"]
    t = threading.Thread(target=watch, daemon=True)
    t.start()
    out = r.deploy(release, rc=rc)
    t.join(30 * PATIENCE)
    check("took" in done, "%s: nothing was done at web@%d %s: %s" % (release, index, step, r.journal()[before:]))
    return out


def reloads(client, path, how, service, rate=None):
    def run():
        names = ["r%d" % i for i in range(len(STEPS))]
        with Rig(releases={n: "" for n in names}, service=service) as r:
            r.start_load(path, rate=rate, **how)
            for release, step in zip(names, STEPS):
                with r.accounted("%s, reload when web@2 is %s" % (client, step), counters=False, steady=False):
                    deploy_with(r, release, 2, step, r.lb.reload)
                    r.check_all_on(release)
                    r.wait_up()
            t = r.load.finish()
            check(t["failed"] == 0, "total %s" % t)
            say("%s: %d reloads, %d requests, 0 failed" % (client, len(names), t["sent"]))
    return run


@test
def haproxy_reloaded_at_any_step_costs_no_request():
    # KillSignal=SIGKILL: nothing is finished that was not drained.
    kill = {"KillSignal": "SIGKILL"}
    fork_each({"keep-alive": reloads("keep-alive GET", "/", {}, {}),
               "slow": reloads("POST of 400 ms, replicas killed", "/delay?ms=400", {"post": 100}, kill, rate=200)})


@test
def haproxy_restarted_in_the_middle_is_told_everything_again():
    with Rig() as r:
        r.start_load()

        def restart():
            r.lb.kill()
            r.lb.start()
        deploy_with(r, "v2", 2, "soaking", restart)
        r.check_all_on("v2")
        r.wait_up()
        p = r.load.mark("between")
        say("one HAProxy, killed and started again: %d of %d requests found nobody to talk to: %s" % (p["failed"], p["sent"], p["kinds"]))
        with r.accounted("after the restart"):
            r.deploy("v3")


@test
def two_haproxies_agree_before_anything_is_stopped_and_one_may_be_restarted():
    with Rig(lbs=2) as r:
        r.start_load()
        second = Load("http://127.0.0.1:%d/" % r.lbs[1].port("web"), rate=RATE // 2)
        with r.accounted("two HAProxies"):
            r.deploy("v2")
        check(second.mark("a")["failed"] == 0, "the clients of the second lost requests: %s" % second.phases)

        def restart():
            r.lbs[0].kill()
            r.lbs[0].start()
        deploy_with(r, "v3", 2, "draining", restart)
        r.check_all_on("v3")
        r.wait_up()
        t = second.finish()
        check(t["failed"] == 0, "the second HAProxy's clients felt the restart of the first: %s" % t)
        say("the other HAProxy, while the first was killed and started: %d sent, 0 failed" % t["sent"])
        r.load.mark("end")
        r.load.wait_ok(200)


@test
def an_unreachable_load_balancer_is_waited_for_and_a_deploy_is_refused_or_waits():
    with Rig(balancer={"Unreachable": "abort"}) as r:
        r.start_load()
        r.hide()
        wait_for(lambda: "unreachable" in (r.d.ctl("plan", "web", "v2").out), 20, "the loss to be noticed")
        with r.accounted("a deploy without load balancer, Unreachable=abort"):
            out = r.deploy("v2", rc=152)
            check("unreachable" in out.out + out.err and r.address() in out.out + out.err, repr(out))
            check(r.releases() == ["v1"] * 4, "something was touched: %s" % r.releases())
        r.unhide()
        wait_for(lambda: "unreachable" not in r.d.ctl("plan", "web", "v2").out, 20, "it to be noticed again")
        for step in ("draining", "entering the load balancer"):
            release = {"draining": "v2"}.get(step, "v3")

            def away():
                r.hide()
                wait_for(lambda: "unreachable" in r.rollout()["waits_for"] or r.rollout()["state"] != "rolling", 20,
                         lambda: "the wait to be said; it is %r" % r.rollout()["waits_for"])
                check(r.rollout()["state"] == "rolling", "it went on without: %s" % r.rollout())
                r.unhide()
            with r.accounted("the admin socket goes away while web@2 is %s" % step):
                deploy_with(r, release, 2, step, away)
            r.check_all_on(release)


@test
def with_unreachable_wait_a_deploy_begins_when_the_load_balancer_is_back():
    with Rig(balancer={"Unreachable": "wait"}) as r:
        r.start_load()
        r.hide()
        with r.accounted("a deploy without load balancer, Unreachable=wait"):
            p = r.d.ctl_start("deploy", "web", "v2")
            wait_for(lambda: "unreachable" in r.rollout()["waits_for"], 20, "the rollout to wait")
            check(r.releases() == ["v1"] * 4, "something was touched: %s" % r.releases())
            r.unhide()
            out = p.communicate(timeout=60 * PATIENCE)[0]
            check(p.returncode == 0, "exit code %d: %s" % (p.returncode, out))
        r.check_all_on("v2")


@test
def a_deploy_may_name_another_address_and_a_refused_one_changes_nothing():
    with Rig(releases={"bad": "exit-after-ms 50\n"}) as r:
        r.start_load()
        other = r.dir + "/other.sock"
        os.symlink(r.lb.socket, other)
        r.rewrite_unit(X_LoadBalancer={"Address": other}, X_Rollout={"Gate": "exec:/bin/true"})
        r.deploy("v2", rc=152)
        r.rewrite_unit(X_Rollout={"Gate": None})
        with r.accounted("the address is another one, and the release is bad"):
            r.deploy("bad", rc=150)
        with r.accounted("a deploy that names another address"):
            r.deploy("v2")
            r.check_all_on("v2")
        r.hide()
        with r.accounted("without the address of before"):
            r.deploy("v3")
            r.check_all_on("v3")


def second_load_balancer(tell):
    def run():
        r = Rig(lbs=2, start=False)
        r.conf["X_LoadBalancer"]["Address"] = r.address(0)
        with r:
            r.d.ctl("start", "web")
            r.start_load()
            r.rewrite_unit(X_LoadBalancer={"Address": [r.address(0), r.address(1)]})
            with r.accounted("a second load balancer", counters=False):
                tell(r)
                wait_for(lambda: all(m["lb_state"] == "in" for m in r.members()) and len(r.up(r.lbs[1])) == 4, 20,
                         lambda: "the second to be told; there are up: %s" % r.up(r.lbs[1]))
            second = Load("http://127.0.0.1:%d/" % r.lbs[1].port("web"), rate=RATE // 2)
            with r.accounted("with both", counters=False):
                r.deploy("v3")
                r.check_all_on("v3")
            t = second.finish()
            check(t["failed"] == 0, "the clients of the second lost requests: %s" % t)
    return run


@test
def a_load_balancer_is_added_by_a_deploy_or_a_daemon_reload():
    fork_each({"deploy": second_load_balancer(lambda r: r.deploy("v2")),
               "daemon-reload": second_load_balancer(lambda r: r.d.ctl("daemon-reload"))})


@test
def a_load_balancer_that_only_a_rolled_back_revision_named_is_dropped():
    r = Rig(lbs=2, releases={"bad": "exit-after-ms 50\n"}, start=False)
    r.conf["X_LoadBalancer"]["Address"] = r.address(0)
    with r:
        def said(word):
            return [n for n in (1, 2) if re.search(r"load balancer %d %s" % (n, word), r.d.log_text())]
        r.d.ctl("start", "web")
        r.start_load()
        r.rewrite_unit(X_LoadBalancer={"Address": [r.address(0), r.address(1)]})
        r.deploy("bad", rc=150)
        r.hide(1)
        r.hide(0)
        wait_for(lambda: 1 in said("unreachable"), 20, "the loss of the first to be noticed")
        r.unhide(0)
        wait_for(lambda: 1 in said("is reachable"), 20, "the first to be back")
        check(said("unreachable") == [1], "nobody looks at the second any more")
        r.unhide(1)
        r.deploy("v2")
        r.check_all_on("v2")
        wait_for(lambda: len(r.up(r.lbs[1])) == 4, 20, lambda: "the second to be told; there are up: %s" % r.up(r.lbs[1]))


@test
def a_load_balancer_that_stays_away_ends_the_rollout_at_its_deadline():
    # Lost when the member is out already, and when it has entered.
    fork_each({step: stays_away(step) for step in ("stopping", "entering the load balancer")})


def stays_away(step):
    def run():
        with Rig(rollout={"ProgressDeadlineSec": "%g" % max(3, 2 * SLOW)}) as r:
            lost_for_good(r, step)
    return run


def lost_for_good(r, step):
    r.start_load()
    p = r.d.ctl_start("deploy", "web", "v2")
    wait_for(lambda: any(l["text"] == "web@2 " + step for l in r.journal()), 30, "web@2 " + step)
    r.hide()
    out = p.communicate(timeout=60 * PATIENCE)[0]
    check(p.returncode in (150, 151) and "unreachable" in out, "exit code %d: %s" % (p.returncode, out))
    say("  | " + out.rstrip().splitlines()[-1])
    r.unhide()
    r.wait_up()
    check(r.load.peek()["failed"] == 0, "lost: %s" % r.load.peek())


if __name__ == "__main__":
    main()
