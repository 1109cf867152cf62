#!/usr/bin/python3
"""What services do to a rollout: they ignore their signal, answer slowly, stream, or hang."""
import http.client

from lib import *
from rollout_rig import *


@test
def a_service_that_ignores_its_stop_signal_is_killed_after_its_drain_and_loses_nothing():
    with Rig(service={"TimeoutStopSec": "300ms"}, releases={n: "ignore-term\n" for n in ("v4", "v5")}) as r:
        r.start_load()
        with r.accounted("to a release that ignores SIGTERM"):
            r.deploy("v4")
        with r.accounted("from a release that ignores SIGTERM"):
            r.deploy("v5")
        events = r.d.ctl("events", "--json").out
        check("SIGKILL" in events or "signal=KILL" in events or "timeout" in events, "nobody was killed: %s" % events[-600:])


@test
def requests_of_three_seconds_are_waited_for():
    with Rig(replicas=2, service={"KillSignal": "SIGKILL"}) as r:
        r.start_load("/delay?ms=3000", rate=50, connections=400)
        r.load.mark("slow")
        r.deploy("v2")
        t = r.load.finish()
        say("requests of 3 s, replicas killed once drained: %d sent, %d failed, p99 %.0f ms" % (t["sent"], t["failed"], t["p99_ms"]))
        check(t["failed"] == 0 and t["sent"] == t["ok"], "lost: %s" % t)


@test
def streams_are_cut_when_the_drain_timeout_says_so_and_nothing_else_is():
    with Rig(balancer={"DrainTimeoutSec": "1", "OnDrainTimeout": "force"}, service={"TimeoutStopSec": "300ms"}) as r:
        r.start_load()
        streams = []
        for i in range(8):
            c = http.client.HTTPConnection("127.0.0.1", r.lb.port("web"), timeout=60 * PATIENCE)
            c.request("GET", "/stream?s=60")
            streams.append((c, c.getresponse()))
        with r.accounted("eight streams that never end", counters=False):
            r.deploy("v2")
        for c, answer in streams:
            with contextlib.suppress(http.client.HTTPException, OSError):
                while answer.read(4096):
                    pass
            c.close()
        events = r.d.ctl("events", "--json").out
        check("going on without them" in events, "no drain was forced: %s" % events[-600:])


@test
def a_hung_replica_is_found_by_its_live_check_and_replaced():
    live = {"Live": "http://127.0.0.1:${PORT}/healthz", "TimeoutSec": "%dms" % (600 * SLOW)}
    repeat = GOOD_LB + ["retry-on all-retryable-errors", "http-request disable-l7-retry unless METH_GET"]
    with Rig(health=live, balancer={"DrainTimeoutSec": "1"}, service={"TimeoutStopSec": "300ms"}, lb_lines=repeat) as r:
        r.start_load(connections=1024)  # a quarter of them wait for the hung one
        r.load.mark("steady")
        r.load.wait_sent(200)
        victim = r.members()[1]
        r.load.mark("hung")
        os.kill(victim["main_pid"], signal.SIGSTOP)
        u = r.d.wait_unit(victim["name"], lambda u: u["main_pid"] not in (0, None, victim["main_pid"]) and u["active_state"] == "active", 20)
        r.wait_up()
        p = r.load.mark("after")
        say("a stopped replica of four: %d sent, %d failed %s, worst %.0f ms; pid %d became %d" % (
            p["sent"], p["failed"], p["kinds"] or "", p["max_ms"], victim["main_pid"], u["main_pid"]))
        r.load.wait_sent(300)
        a = r.load.mark("end")
        # What was in hand of the hung one is repeated by HAProxy when it dies, as all are GET; the
        # rest of the clients felt nothing, and nobody does afterwards.
        check(p["failed"] <= p["sent"] // 4, "others were hurt: %s" % p)
        check(a["failed"] == 0 and a["max_ms"] < 5000 * SLOW, "it is not over: %s" % a)
        check("live" in r.d.ctl("events", "--json").out, "no word of the live check")


if __name__ == "__main__":
    main()
