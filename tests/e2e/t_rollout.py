#!/usr/bin/python3
"""Releases under load: no request is lost, whatever the clients do and however members are replaced."""
from lib import *
from rollout_rig import *

WAYS = {"in place": {"MaxUnavailable": "1", "MaxSurge": "0"}, "surge": {"MaxUnavailable": "0", "MaxSurge": "1"}}
CLIENTS = {"keep-alive GET": {}, "keep-alive POST": {"post": 200}, "a connection per GET": {"close": True},
           "a connection per POST": {"close": True, "post": 200}}


def matrix(way):
    """One set, the four kinds of client after each other: a release each."""
    def run():
        with Rig(rollout=WAYS[way], releases={"v%d" % i: "" for i in range(4, 7)}) as r:
            for n, (client, how) in enumerate(CLIENTS.items(), 2):
                r.start_load(**how)
                with r.accounted("%s, %s" % (way, client)) as a:
                    r.deploy("v%d" % n)
                check(set(a.during["releases"]) <= {"v%d" % (n - 1), "v%d" % n}, "clients saw %s" % a.during["releases"])
                r.check_all_on("v%d" % n)
                check(set(r.starts("v%d" % n).values()) <= {1}, "starts: %s" % r.starts("v%d" % n))
                if way == "surge":
                    check(len(r.active()) == 4, "extra members stay: %s" % r.pids())
                t = r.load.finish()
                check(t["failed"] == 0 and t["sent"] == t["ok"], "total %s" % t)
                r.load = None
    return run


@test
def no_request_is_lost_in_place_or_with_surge_by_get_or_post_with_or_without_keepalive():
    fork_each({way: matrix(way) for way in WAYS})


if __name__ == "__main__":
    main()
