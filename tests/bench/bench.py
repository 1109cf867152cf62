#!/usr/bin/env python3
"""Peer benchmark of process supervisors. See README.md.

  bench.py list
  bench.py run --peers limit,s6,runit --workloads W1,W2 --json out.json [--quick] [--rounds 3] [--n 10,100,1000]
  bench.py table out.json [more.json]
"""
import argparse, json, os, random, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib, adapters
from lib import Fifo, Instance, median, pct, now, ID_EXEC, ID_GONE

BINS, ROOT, OPT = {}, None, None
SESSION = ("W1", "W2", "W4", "W5", "W8", "W9")


def log(*a):
    print(*a, file=sys.stderr, flush=True)


class Run:
    """A fresh folder, a FIFO and an instance; ends everything on exit."""
    def __init__(self, ad, args, logs=False):
        self.ad = ad
        self.d = tempfile.mkdtemp(prefix=ad.name + "-", dir=ROOT)
        os.chmod(self.d, 0o755)
        self.fifo = Fifo(self.d + "/fifo")
        self.logdir = self.d + "/logs" if logs else None
        if logs:
            os.makedirs(self.logdir)
        self.specs = [adapters.Spec(i, BINS["child"], a.format(id=i, fifo=self.fifo.path)) for i, a in enumerate(args)]
        ad.setup(self.d, self.specs, self.logdir)
        self.inst = Instance(ad, BINS, self.fifo, self.d)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.inst.end()
        self.fifo.close()
        if not OPT.keep:
            shutil.rmtree(self.d, ignore_errors=True)


def args_for(ad, n, mode=None, param=None):
    m = mode or ad.mode
    if mode is None and param is None:
        param = ad.param
    return [m + ":{id}:{fifo}" + (":" + str(param) if param is not None else "")] * n


def session(ad, n, want):
    """W1, W2, W4, W5, W8, W9 on one instance with n services."""
    res, inst = {}, None
    with Run(ad, args_for(ad, n)) as r:
        inst = r.inst
        inst.start()
        t = inst.await_start(n, OPT.timeout if n else 3)
        if n == 0:
            time.sleep(0.7)
        elif t is None:
            return {"error": "not all services started in %d s: %d run" % (OPT.timeout, len(inst.services()))}
        time.sleep(0.05)
        tot, usr, sysc = inst.cpu_all()
        own, _ = inst.cpu_own()
        if "W1" in want and n:
            res["W1"] = {"start_ms": t / 1e6, "cpu_total_ms": tot * 1e3, "cpu_user_ms": usr * 1e3, "cpu_sys_ms": sysc * 1e3, "cpu_own_ms": own * 1e3}
        if set(want) == {"W1"}:
            return res
        time.sleep(0.3 if OPT.quick else 1.5)       # let the 1 s back-offs and starting states pass
        if "W4" in want:
            res["W4"] = inst.memory()
        if n and "W5" in want:
            w = 3 if OPT.quick else OPT.idle
            time.sleep(1.0)
            p = inst.own()
            a0, c0 = inst.cpu_own(p), inst.cpu_all()[0]
            t0 = time.monotonic()
            time.sleep(w)
            c1, a1 = inst.cpu_all()[0], inst.cpu_own(p)
            dt = time.monotonic() - t0
            res["W5"] = {"own_cpu_ms_per_s": (a1[0] - a0[0]) * 1e3 / dt, "all_cpu_ms_per_s": (c1 - c0) * 1e3 / dt, "switches_per_s": (a1[1] - a0[1]) / dt}
        if n and "W2" in want:
            res["W2"] = w2(r, n)
        if n and "W8" in want:
            res["W8"] = w8(r, n)
        if n and "W9" in want:
            res["W9"] = w9(r, n)
    return res


def w2(r, n):
    inst, fifo = r.inst, r.fifo
    host, lat, miss = inst.services(), [], 0
    todo = 40 if OPT.quick else 200
    rnd, order, known = random.Random(1), [], set(inst.pids())
    last = {}
    end = time.monotonic() + (4 if OPT.quick else OPT.w2s)
    while len(lat) + miss < todo and time.monotonic() < end:
        if not order:
            order = list(range(n))
            rnd.shuffle(order)
        i = order.pop()
        if i in last and time.monotonic() - last[i] < 1.2:      # a peer with 1 s back-off: only up > 1 s counts
            time.sleep(max(0, 1.2 - (time.monotonic() - last[i])))
        if i not in host:
            continue
        fifo.drain()
        t0 = now()
        try:
            os.kill(host[i], signal.SIGKILL)
        except ProcessLookupError:
            miss += 1
            continue
        hit, _ = fifo.wait(lambda q: q[1] == i and q[0] > t0, 5)
        last[i] = time.monotonic()
        if not hit:
            miss += 1
            continue
        lat.append((hit[0] - t0) / 1e6)
        time.sleep(0.004)
        cur = set(inst.pids())
        host.update(inst.services(cur - known))
        known = cur
    return {"median_ms": median(lat), "p99_ms": pct(lat, 99), "min_ms": min(lat) if lat else None, "samples": len(lat), "missed": miss}


def w8(r, n):
    ad, inst, d = r.ad, r.inst, r.d
    out = {}
    k = 10 if OPT.quick else 40
    rnd = random.Random(2)
    base = []
    for _ in range(20):
        t0 = now()
        p = os.posix_spawn(BINS["child"], ["child", "n"], {})
        os.waitpid(p, 0)
        base.append((now() - t0) / 1e6)
    out["spawn_only_ms"] = median(base)
    try:
        v, bad, t_end = [], 0, time.monotonic() + 20
        while len(v) < k and time.monotonic() < t_end:
            t, st = inst.ctl(ad.status(d, r.specs[rnd.randrange(n)]))
            v.append(t / 1e6)
            bad += st != 0
        out["status_one_ms"], out["status_one_failed"] = median(v), bad
        v, t_end = [], time.monotonic() + 12
        while len(v) < (2 if OPT.quick else 7) and time.monotonic() < t_end:
            v.append(sum(inst.ctl(a)[0] for a in ad.status_all(d, r.specs)) / 1e6)
        out["status_all_ms"] = median(v)
        v, t_end, done = [], time.monotonic() + 30, []
        for j in rnd.sample(range(n), min(n, 3 if OPT.quick else 11)):
            if time.monotonic() > t_end:
                break
            r.fifo.drain()
            t0 = now()
            tc, st = inst.ctl(ad.restart(d, r.specs[j]))
            hit, _ = r.fifo.wait(lambda q: q[1] == j and q[0] > t0, 6)
            if hit:
                v.append((hit[0] - t0) / 1e6)
                done.append(tc / 1e6)
        out["restart_one_ms"], out["restart_command_ms"], out["restart_samples"] = median(v), median(done), len(v)
    except NotImplementedError:
        pass
    return out


def w9(r, n):
    inst = r.inst
    time.sleep(1.2)
    t0, c0 = now(), inst.cpu_all()[0]
    r.ad.shutdown(inst, r.specs)
    res = {}
    try:
        inst.proc.wait(timeout=30 if r.ad.stops else 3)
        res["all_gone_ms"] = (now() - t0) / 1e6
        res["cpu_total_ms"] = (inst.cpu_all()[0] - c0) * 1e3
    except subprocess.TimeoutExpired:
        left = inst.services()
        res["all_gone_ms"] = None
        res["services_left"] = len(left)
        res["own_left"] = len(inst.own())
    for q in r.fifo.drain():
        if q[1] == ID_GONE:
            res["supervisor_exit_ms"] = (q[0] - t0) / 1e6
    return res


def W3(ad):
    n, win = (50 if OPT.quick else 200), (3 if OPT.quick else 10)
    if ad.mode == "d":
        return {"skipped": "polls"}
    with Run(ad, args_for(ad, n, "x")) as r:
        inst = r.inst
        inst.start()
        if inst.await_start(n, 30) is None:
            return {"error": "did not start"}
        time.sleep(0.5)
        r.fifo.drain()
        t0, c0, o0 = time.monotonic(), inst.cpu_all()[0], inst.cpu_own()[0]
        cnt, lat, nxt = 0, [], t0 + 0.3
        while time.monotonic() - t0 < win:
            time.sleep(0.01)
            cnt += sum(1 for q in r.fifo.drain() if q[1] < ID_GONE)
            if time.monotonic() > nxt and len(lat) < 40:
                tl, st = inst.ctl(ad.status(r.d, r.specs[len(lat) % n]))
                lat.append(tl / 1e6)
                nxt = time.monotonic() + 0.2
        dt = time.monotonic() - t0
        cnt += sum(1 for q in r.fifo.drain() if q[1] < ID_GONE)
        c1, o1 = inst.cpu_all()[0], inst.cpu_own()[0]
        return {"restarts_per_s": cnt / dt, "cpu_total_s_per_10s": (c1 - c0) / dt * 10, "cpu_own_s_per_10s": (o1 - o0) / dt * 10,
                "cpu_us_per_restart": (c1 - c0) / cnt * 1e6 if cnt else None, "own_us_per_restart": (o1 - o0) / cnt * 1e6 if cnt else None,
                "status_median_ms": median(lat), "status_max_ms": max(lat) if lat else None, "services": n}


def W6(ad):
    """Orphans with the supervisor as PID 1."""
    if not ad.can_pid1:
        return {"skipped": "not a PID 1"}
    out, cnt = {}, (4000 if OPT.quick else 20000)
    saved = ad.pid1
    for mode, key in (("o", "steady"), ("b", "burst")):
        type(ad).pid1 = True
        try:
            with Run(ad, args_for(ad, 1, mode, cnt)) as r:
                inst = r.inst
                inst.start()
                first = inst.await_start(1, 20)
                if first is None:
                    out[key] = {"error": "did not start"}
                    continue
                t0, hit, end, high = inst.t_exec + first, None, time.monotonic() + 60, 0
                c0 = inst.cpu_own()[0]
                while hit is None and time.monotonic() < end:
                    time.sleep(0.002)
                    high = max(high, inst.tasks() or 0)
                    for q in r.fifo.drain():
                        if q[1] == 0 and q[3]:
                            hit = q
                if hit is None:
                    out[key] = {"error": "not done in 60 s"}
                    continue
                t_last, prev, end = now(), None, time.monotonic() + 30
                while time.monotonic() < end:
                    c = inst.tasks()
                    high = max(high, c)
                    if c != prev:
                        prev, t_last, quiet = c, now(), time.monotonic()
                    elif time.monotonic() - quiet > 0.25 and c < 100:
                        break
                    time.sleep(0.001)
                peak = lib.slurp(inst.pids_cg + "/pids.peak")
                o = {"orphans": cnt, "tasks_high": int(peak) if peak.strip() else high, "rest": prev,
                     "none_left_after_ms": max(0, (t_last - hit[0]) / 1e6), "own_cpu_us_per_orphan": (inst.cpu_own()[0] - c0) / cnt * 1e6,
                     "spawn_failures": hit[3] == 2}
                if prev > 100:      # given up after 30 s: it does not reap, or far too slowly
                    o["zombies_left"] = prev - 3
                    o["none_left_after_ms"] = None
                elif key == "steady":
                    o["spawn_s"] = (hit[0] - t0) / 1e9
                    o["orphans_per_s"] = cnt / max(1e-9, (max(t_last, hit[0]) - t0) / 1e9)
                else:
                    o["reaped_per_s"] = cnt / max(1e-9, (t_last - hit[0]) / 1e9)
                out[key] = o
        finally:
            type(ad).pid1 = saved
    return out


def W7(ad):
    if not ad.logs:
        return {"skipped": "no logger"}
    out = {}
    for mode, key, size in (("l", "blocks_4000", 100 if OPT.quick else 500), ("L", "lines_100", 20 if OPT.quick else 100)):
        size = max(1, int(size * ad.log_scale))
        with Run(ad, args_for(ad, 1, mode, size * 1000000), logs=True) as r:
            inst = r.inst
            inst.start()
            first = inst.await_start(1, 20)
            if first is None:
                out[key] = {"error": "did not start"}
                continue
            t0 = inst.t_exec + first        # its exec; when done it writes a tag
            hit, _ = r.fifo.wait(lambda q: q[1] == 0 and q[3] in (1, 2), 40 if OPT.quick else 60)
            t1 = hit[0] if hit else now()
            time.sleep(0.3)
            o = {"seconds": (t1 - t0) / 1e9, "cpu_total_s": inst.cpu_all()[0], "cpu_own_s": inst.cpu_own()[0]}
            if hit and hit[3] == 1:
                o["mb_per_s"] = size / o["seconds"]
            else:
                o["error"] = "stopped" if hit else "not done"
            o["own_cpu_ns_per_line"] = o["cpu_own_s"] * 1e9 / (size * 10000)
            o["kept_files"] = sum(len(f) for _, _, f in os.walk(r.logdir))
            o["kept_mb"] = sum(os.path.getsize(os.path.join(a, x)) for a, _, f in os.walk(r.logdir) for x in f) / 1e6
            out[key] = o
    n, win = (100 if OPT.quick else min(1000, ad.max_n)), (3 if OPT.quick else 10)
    with Run(ad, args_for(ad, n, "r"), logs=True) as r:
        inst = r.inst
        inst.start()
        if inst.await_start(n, OPT.timeout) is None:
            out["many"] = {"error": "did not start"}
        else:
            time.sleep(2)
            c0, o0 = inst.cpu_all()[0], inst.cpu_own()[0]
            t0 = time.monotonic()
            time.sleep(win)
            dt = time.monotonic() - t0
            c1, o1 = inst.cpu_all()[0], inst.cpu_own()[0]
            out["many"] = dict(inst.memory(), writers=n, cpu_total_ms_per_s=(c1 - c0) / dt * 1e3, cpu_own_ms_per_s=(o1 - o0) / dt * 1e3)
    return out


def W10(ad):
    out, libs = {"files": {}}, {}
    for b in ad.binaries():
        if not b:
            continue
        b = os.path.realpath(b)
        out["files"][os.path.basename(b)] = os.path.getsize(b)
        p = subprocess.run(["ldd", b], capture_output=True, text=True)
        for line in p.stdout.splitlines():
            f = line.split()
            if "=>" in f and len(f) > 2 and f[2].startswith("/"):
                libs[f[0]] = os.path.getsize(os.path.realpath(f[2]))
    out["own_bytes"] = sum(out["files"].values())
    out["libs"] = libs
    out["lib_bytes_beside_libc"] = sum(v for k, v in libs.items() if not k.startswith(("libc.", "libm.", "ld-")))
    return out


def run_all():
    global ROOT, BINS
    bdir = OPT.build or os.path.join(tempfile.gettempdir(), "peerbench-build-%d" % os.getuid())
    BINS = lib.build(bdir)
    base = "/dev/shm" if os.path.isdir("/dev/shm") and OPT.shm else None
    ROOT = tempfile.mkdtemp(prefix="peerbench-", dir=base)
    os.chmod(ROOT, 0o755)
    have = adapters.load()
    adapters.limit.Limit.bins = BINS
    out = {"kernel": os.uname().release, "cpus": os.cpu_count(), "quick": OPT.quick, "peers": {}, "samples": []}
    peers = []
    for p in OPT.peers.split(","):
        a = have.get(p)
        if not a:
            raise SystemExit("no such peer: " + p)
        a = a()
        why = a.available()
        out["peers"][p] = {"available": why is None, "reason": why, "backoff": a.backoff, "logs": a.logs}
        if why:
            log("%-12s skipped: %s" % (p, why))
        else:
            peers.append(a)
    want = OPT.workloads.split(",")
    ns = [int(x) for x in OPT.n.split(",")]

    def rec(p, w, n, rnd, v):
        out["samples"].append({"peer": p, "workload": w, "n": n, "round": rnd, "value": v})
        log("%-12s %-4s n=%-5s %s" % (p, w, n if n is not None else "-", json.dumps(v)[:300]))
        if OPT.json:
            json.dump(out, open(OPT.json + ".part", "w"), indent=1)

    try:
        for rnd in range(OPT.rounds):
            order = peers[:] if rnd % 2 == 0 else peers[::-1]       # A B C, C B A: interleaved
            sw = [w for w in SESSION if w in want]
            if rnd:
                sw = [w for w in sw if w in OPT.repeat.split(",")]
            if sw:
                for n in ([0] if "W4" in sw else []) + ns:
                    for a in order:
                        if a.only_pid1 or n > a.max_n:
                            continue
                        try:
                            v = session(a, n, sw)
                        except Exception as e:
                            v = {"error": repr(e)}
                        if "error" in v:
                            rec(a.name, "error", n, rnd, v)
                        for w, x in v.items():
                            if w != "error":
                                rec(a.name, w, n, rnd, x)
            for w, f in (("W3", W3), ("W6", W6), ("W7", W7)):
                if w in want and (rnd == 0 or w in OPT.repeat.split(",")):
                    for a in order:
                        if a.only_pid1 and w != "W6":
                            continue
                        try:
                            v = f(a)
                        except Exception as e:
                            v = {"error": repr(e)}
                        rec(a.name, w, None, rnd, v)
        if "W10" in want:
            for a in peers:
                rec(a.name, "W10", None, 0, W10(a))
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)
    if OPT.json:
        json.dump(out, open(OPT.json, "w"), indent=1)
        try:
            os.unlink(OPT.json + ".part")
        except OSError:
            pass
    return out


KEYS = [("W1", "start_ms"), ("W1", "cpu_total_ms"), ("W1", "cpu_own_ms"), ("W2", "median_ms"), ("W2", "p99_ms"),
        ("W3", "restarts_per_s"), ("W3", "cpu_us_per_restart"), ("W3", "own_us_per_restart"), ("W3", "status_median_ms"), ("W3", "status_max_ms"),
        ("W4", "pss_kib"), ("W4", "processes"), ("W4", "pte_kib"), ("W5", "own_cpu_ms_per_s"), ("W5", "switches_per_s"),
        ("W6", "steady.orphans_per_s"), ("W6", "steady.tasks_high"), ("W6", "steady.none_left_after_ms"), ("W6", "steady.own_cpu_us_per_orphan"),
        ("W6", "burst.reaped_per_s"), ("W6", "burst.none_left_after_ms"), ("W6", "burst.own_cpu_us_per_orphan"),
        ("W7", "blocks_4000.mb_per_s"), ("W7", "blocks_4000.own_cpu_ns_per_line"), ("W7", "lines_100.mb_per_s"), ("W7", "lines_100.own_cpu_ns_per_line"),
        ("W7", "many.cpu_total_ms_per_s"), ("W7", "many.cpu_own_ms_per_s"), ("W7", "many.pss_kib"),
        ("W8", "status_one_ms"), ("W8", "status_all_ms"), ("W8", "restart_one_ms"), ("W8", "restart_command_ms"),
        ("W9", "all_gone_ms"), ("W9", "cpu_total_ms"), ("W10", "own_bytes"), ("W10", "lib_bytes_beside_libc")]


def dig(v, path):
    for k in path.split("."):
        v = v.get(k) if isinstance(v, dict) else None
    return v


def table(runs):
    vals, peers = {}, []
    for run in runs:
        for s in run["samples"]:
            if s["peer"] not in peers:
                peers.append(s["peer"])
            for w, k in KEYS:
                if s["workload"] == w:
                    x = dig(s["value"], k)
                    if isinstance(x, (int, float)):
                        vals.setdefault((w, k, s["n"]), {}).setdefault(s["peer"], []).append(x)
    print("median (ratio to limit) [spread max/min when over 1.25]\n")
    for key in sorted(vals, key=lambda t: ([w for w, _ in KEYS].index(t[0]), [k for k in KEYS].index((t[0], t[1])), t[2] or 0)):
        v = vals[key]
        base = median(v["limit"]) if "limit" in v else None
        print("%s %s%s" % (key[0], key[1], "" if key[2] is None else " n=%d" % key[2]))
        for p in sorted(v, key=lambda q: median(v[q])):
            m = median(v[p])
            sp = max(v[p]) / min(v[p]) if min(v[p]) > 0 else 1
            print("    %-14s %12.3f  %s %s" % (p, m, "x%.2f" % (m / base) if base else "", "[%.2f, n=%d]" % (sp, len(v[p])) if sp > 1.25 else ""))


def main():
    global OPT
    ap = argparse.ArgumentParser()
    sub = ap.add_subparsers(dest="cmd", required=True)
    r = sub.add_parser("run")
    r.add_argument("--peers", required=True)
    r.add_argument("--workloads", default="W1,W2,W3,W4,W5,W6,W7,W8,W9,W10")
    r.add_argument("--json")
    r.add_argument("--quick", action="store_true", help="smaller counts; two peers in less than a minute")
    r.add_argument("--rounds", type=int, default=1, help="the workloads of --repeat are run this often, interleaved")
    r.add_argument("--repeat", default="W1,W3,W6,W7")
    r.add_argument("--n", default=None)
    r.add_argument("--idle", type=int, default=20)
    r.add_argument("--w2s", type=int, default=30, help="seconds at most for the kills of W2")
    r.add_argument("--timeout", type=int, default=60)
    r.add_argument("--build")
    r.add_argument("--shm", action="store_true", default=True)
    r.add_argument("--disk", dest="shm", action="store_false", help="work folder on the default temporary file system, not in shared memory")
    r.add_argument("--keep", action="store_true")
    t = sub.add_parser("table")
    t.add_argument("files", nargs="+")
    sub.add_parser("list")
    OPT = ap.parse_args()
    if OPT.cmd == "table":
        return table([json.load(open(f)) for f in OPT.files])
    if OPT.cmd == "list":
        for k, a in sorted(adapters.load().items()):
            w = a().available() if not k.startswith("limit") else None
            print("%-14s %s" % (k, w or "ok"))
        return
    if os.geteuid():
        raise SystemExit("needs root (namespaces, cgroups)")
    if OPT.n is None:
        OPT.n = "100" if OPT.quick else "10,100,1000"
    table([run_all()])


if __name__ == "__main__":
    main()
