"""The audit log: what is written, that it cannot be changed unseen, and that it stops nobody."""
import hashlib
from lib import *

AUDIT_FILE_MAX = 8 << 20


def unit(s, **more):
    return s.puppets.unit("event:up", **more)


def log(d):
    return os.path.join(d.state_dir, "audit.log")


def lines(d):
    with open(log(d)) as f:
        return [json.loads(l) for l in f if l.endswith("\n")]


def verify(d, *words):
    return d.ctl("audit", "--verify", *words, check=False)


def intact(d):
    r = verify(d)
    check(r.rc == 0 and "intact" in r.out, r)
    return r


def audit_of(d):
    return d.status()["daemon"]["audit"]


@test
def every_change_has_an_intent_and_an_outcome():
    with Stage(lambda s: {"a.service": unit(s), "bad.service": s.puppets.unit("exit:3", Type="notify"),
                          "set@.service": unit(s) + "[X-Replicas]\nCount=3\n"}) as (s, d):
        d.ctl("start", "a")
        d.ctl("start", "bad", check=False)
        d.ctl("start", "nosuch", check=False)
        d.ctl("start", "set")
        d.ctl("kill", "-s", "CONT", "a")
        d.ctl("daemon-reload")
        d.ctl("restart", "--no-wait", "a")
        d.ctl("status")
        wait_for(lambda: lines(d)[-1]["kind"] == "outcome" and lines(d)[-1]["verb"] == "Restart", 10, "the outcome of --no-wait")
        all_lines = lines(d)
        check([l["seq"] for l in all_lines] == list(range(1, len(all_lines) + 1)), "numbered without holes")
        check(all_lines[0]["kind"] == "begin" and all_lines[0]["why"] == "start", all_lines[0])
        intents = {l["seq"]: l for l in all_lines if l["kind"] == "intent"}
        outcomes = {l["of"]: l for l in all_lines if l["kind"] == "outcome"}
        check(set(intents) == set(outcomes), (intents, outcomes))
        seen = [(intents[k]["verb"], outcomes[k]["result"], outcomes[k]["exit"], outcomes[k]["units"]) for k in sorted(intents)]
        check(seen == [("Start", "done", 0, 1), ("Start", "failed", 1, 1), ("Start", "NoSuchUnit", 5, 0), ("Start", "done", 0, 3),
                       ("Kill", "done", 0, 1), ("DaemonReload", "done", 0, 0), ("Restart", "done", 0, 1)], seen)
        one = intents[min(intents)]
        check((one["uid"], one["gid"], one["user"]) == (0, 0, "root") and one["pid"] > 1 and one["boot_us"] > 0, one)
        check(one["args"] == {"names": ["a"]} and re.match(r"20\d\d-\d\d-\d\dT.*Z$", one["time"]), one)
        check("status=3" in outcomes[sorted(outcomes)[1]]["text"], "a failure has its cause")
        check(stat_mode(log(d)) == 0o600, "only root may read it")
        wait_for(lambda: audit_of(d)["synced_seq"] == audit_of(d)["seq"], 20, "all of it to be on the disk")
        intact(d)
        shown = d.ctl("audit").out
        check("root(0)" in shown and "nosuch" in shown and "failed" in shown, shown)
        doc = d.ctl("audit", "--json", "--since", "1h").json
        check(doc["schema"] == "stay.audit/1" and doc["intact"] and len(doc["lines"]) == len(all_lines), doc)
        check(d.ctl("audit", "--json", "--since", "2099-01-01T00:00:00Z").json["lines"] == [], "nothing of the future")


def stat_mode(path):
    return os.stat(path).st_mode & 0o777


@test
def who_is_refused_is_written_and_a_flood_of_refusals_is_bounded():
    need_root()
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        d.ctl("start", "a")
        ask = b'{"method":"org.stayd.Control.Stop","parameters":{"names":["a"]}}\0'
        asker = ("import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
                 "for i in range(500):\n s.sendall(%r)\n b=b''\n while not b.endswith(b'\\0'): b+=s.recv(65536)\n"
                 " assert b'PermissionDenied' in b, b\n" % ask)
        r = subprocess.run(["/usr/bin/python3", "-c", asker, d.socket], user=4201, group=4201, extra_groups=[], cwd="/",
                           capture_output=True, text=True, timeout=120 * PATIENCE)
        check(r.returncode == 0, r.stderr)
        refused = [l for l in lines(d) if l["kind"] == "refused"]
        check(16 <= len(refused) <= 24, "%d lines of 500 refusals" % len(refused))
        check(refused[0]["uid"] == 4201 and refused[0]["needs"] == "operator" and refused[0]["role"] == "guest" and
              refused[0]["exit"] == 4 and refused[0]["args"] == {"names": ["a"]}, refused[0])
        check(d.log_text().count("needs role") <= 24, "nor is the daemon's log flooded")
        check(d.unit("a.service")["active_state"] == "active", "and a runs")
        intact(d)


@test
def an_owner_cannot_push_the_history_out_by_changes():
    need_root()
    with Stage(lambda s: {"a.service": unit(s) + "[X-Access]\nOwner=4201\n"}) as (s, d):
        asker = ("import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nbusy=0\nbegan=time.monotonic()\n"
                 "ask=b'{\"method\":\"org.stayd.Control.Deploy\",\"parameters\":{\"name\":\"a.service\",\"release\":\"'+b'x'*50000+b'\"}}\\0'\n"
                 "for i in range(300):\n s.sendall(ask)\n b=b''\n while not b.endswith(b'\\0'): b+=s.recv(65536)\n"
                 " busy += b'Busy' in b and b'one a second' in b\nprint(busy, int(time.monotonic()-began))\n")
        r = subprocess.run(["/usr/bin/python3", "-c", asker, d.socket], user=4201, group=4201, extra_groups=[], cwd="/",
                           capture_output=True, text=True, timeout=120 * PATIENCE)
        check(r.returncode == 0, r.stderr)
        busy, seconds = map(int, r.stdout.split())
        intents = [l for l in lines(d) if l["kind"] == "intent" and l["uid"] == 4201]
        check(len(intents) == 300 - busy and 100 <= len(intents) <= 102 + seconds, "%d lines, %d refused, in %d s" % (len(intents), busy, seconds))
        check(all(len(l["args_begin"]) == 4096 and "args" not in l for l in intents), "of each 4 KiB of its arguments")
        for verb in ("start", "stop", "start"):
            check(d.ctl(verb, "a", check=False).rc == 0, "root's changes are not counted with them")
        intact(d)


@test
def any_change_of_the_file_is_found_and_the_first_broken_line_named():
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        for _ in range(5):
            d.ctl("restart", "a")
        good = open(log(d), "rb").read()
        rows = good.splitlines(keepends=True)
        copy = s.path("copy.log")

        def broken(data, place, *words):
            with open(copy, "wb") as f:
                f.write(data)
            r = verify(d, "--file", copy, *words)
            check(r.rc == 1 and place in r.err and "hint:" in r.err, (place, r))
            check(d.ctl("audit", "--json", "--file", copy, *words, check=False).json["intact"] is False, "and in JSON")
        broken(good.replace(b'"uid":0', b'"uid":1', 1), "copy.log:2:")
        broken(b"".join(rows[:4] + rows[5:]), "copy.log:5: lines before this one are missing")
        broken(b"".join(rows[:4] + [rows[5], rows[4]] + rows[6:]), "copy.log:5:")
        broken(b"".join(rows[:3] + [rows[2]] + rows[3:]), "copy.log:4: the line is out of order")
        broken(good[:-30], "copy.log:%d:" % len(rows))

        def forged(line, prev):  # with a good hash of its own
            body = re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"%s"' % prev, line[:line.rindex(b',"hash":"')])
            return body + b',"hash":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()
        prev = json.loads(rows[3])["prev"].encode()
        broken(b"".join(rows[:3] + [forged(rows[3].replace(b'"uid":0', b'"uid":7'), prev)] + rows[4:]), "copy.log:5: the line before was changed")
        head = json.loads(rows[-1])["hash"]
        broken(b"".join(rows[:-2]), "no line has the hash of --head", "--head", head)
        with open(copy, "wb") as f:
            f.write(good)
        check(verify(d, "--file", copy, "--head", head).rc == 0, "an untouched copy is good")
        # In place: the daemon itself knows its last line.
        with open(log(d), "wb") as f:
            f.write(b"".join(rows[:-2]))
        r = verify(d)
        check(r.rc == 1 and "lines at the end are missing" in r.err, r)
        d.kill_core()
        check("was written and is not there" in d.log_text(), "so does the next core, by the anchor")
        check(verify(d).rc == 1 and "missing" in verify(d).err, verify(d))


@test
def a_core_that_dies_between_intent_and_outcome_is_owned_up_to():
    with Stage(lambda s: {"slow.service": s.puppets.unit(s.control("c"), "event:slow", Type="notify"), "a.service": unit(s)}) as (s, d):
        d.ctl("start", "a")
        p = d.ctl_start("start", "slow")
        s.puppets.wait("slow")
        check(lines(d)[-1]["kind"] == "intent", "it is under way: %s" % lines(d)[-3:])
        of = lines(d)[-1]["seq"]
        d.kill_core()
        p.wait()
        after = [l for l in lines(d) if l["seq"] > of]
        check(after[0]["kind"] == "begin" and after[0]["why"] == "start" and "text" not in after[0], after)
        check(after[1]["kind"] == "outcome" and after[1]["of"] == of and after[1]["result"] == "unknown", after)
        intact(d)
        with open(log(d), "ab") as f:
            f.write(b'{"seq":99,"prev":"half a li')  # as after a power cut
        d.kill_core()
        check("never finished" in lines(d)[-1].get("text", ""), lines(d)[-1])
        d.ctl("restart", "a")
        intact(d)
        s.tell("c", "notify:READY=1")


# 60 KiB of one name a call: 8 MiB are there soon.
CALL = json.dumps({"method": "org.stayd.Control.ResetFailed", "parameters": {"names": ["x" * 240] * 240}}).encode() + b"\0"


@test
def a_reexec_has_the_outcome_that_came_of_it():
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        def outcome(n, *words):
            def there():
                got = [l for l in lines(d) if l["kind"] == "outcome" and l["verb"] == "Reexec"]
                return len(got) == n and got[-1]
            l = wait_for(there, 30, lambda: "outcome %d: %s" % (n, lines(d)))
            check(all(w in l["text"] for w in words), l)
            return l["result"], l["exit"]
        d.ctl("start", "a")
        pid = d.unit("a.service")["main_pid"]
        check("took over" in d.ctl("reexec").out, "a re-exec")
        check(outcome(1, "stayd ", " took over") == ("done", 0), lines(d))
        check(d.ctl("reexec", "/bin/true", check=False).rc == 1, "no stayd")
        check(outcome(2, "is no stayd") == ("failed", 1), lines(d))
        worse = s.path("stayd-worse")  # passes its trial, but its core does not know an option it is given
        with open(STAYD, "rb") as ours, open(worse, "wb") as out:
            out.write(ours.read().replace(b"\0runtime-dir\0", b"\0runtime-dix\0"))
        os.chmod(worse, 0o755)
        r = d.ctl("reexec", worse, check=False)
        check(r.rc == 1 and "re-exec failed" in r.err and "previous program" in r.err, r)
        check(d.status()["daemon"]["reexec_state"] == "returned", d.status()["daemon"])
        check(outcome(3, "previous program") == ("failed", 1), lines(d))
        check(d.unit("a.service")["main_pid"] == pid, "the service did not notice")
        intact(d)


@test
def what_signals_ask_for_is_written_too():
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        os.kill(d.keeper_pid, signal.SIGHUP)
        wait_for(lambda: lines(d)[-1]["kind"] == "outcome", 10, "the outcome of SIGHUP")
        intent, outcome = lines(d)[-2:]
        check((intent["kind"], intent["verb"], intent["signal"]) == ("intent", "DaemonReload", "SIGHUP"), intent)
        check((outcome["of"], outcome["result"], outcome["exit"]) == (intent["seq"], "done", 0), outcome)
        check(re.search(r"SIGHUP +intent +- +DaemonReload", d.ctl("audit").out), d.ctl("audit").out)
        intact(d)
        d.proc.terminate()
        wait_for(lambda: d.proc.poll() is not None, 20, "its end")
        intent, outcome = lines(d)[-2:]
        check((intent["verb"], intent["signal"], outcome["of"]) == ("Shutdown", "SIGTERM", intent["seq"]), (intent, outcome))


def write_much(d, until):
    with socket.socket(socket.AF_UNIX) as k:
        k.settimeout(HANG)
        k.connect(d.socket)
        for _ in range(4000):
            if until():
                return
            k.sendall(CALL)
            answer = b""
            while not answer.endswith(b"\0"):
                more = k.recv(65536)
                check(more, "the connection ended")
                answer += more
    raise AssertionError("not reached")


def rotated_files(d):
    return sorted(n for n in os.listdir(d.state_dir) if n.startswith("audit.log."))


def outcomes(d, of):
    return [l["result"] for l in lines(d) if l["kind"] == "outcome" and l["of"] == of]


def slow(s):
    return {"slow.service": s.puppets.unit(s.control("c"), "event:slow", Type="notify")}


@test
def a_core_that_dies_before_it_has_owned_up_is_followed_by_one_that_does():
    with Stage(slow) as (s, d):
        p = d.ctl_start("start", "slow")
        s.puppets.wait("slow")
        of = lines(d)[-1]["seq"]
        d.kill_core()
        p.wait()
        core = d.pid_of("core")
        os.kill(core, signal.SIGSTOP)
        with open(log(d), "rb+") as f:
            rows = f.read().splitlines(True)
            f.truncate(len(b"".join(rows[:-1])))
        check(lines(d)[-1]["kind"] == "begin" and not outcomes(d, of), lines(d))
        os.kill(core, signal.SIGKILL)
        wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0 and d.pid_of("core") != core, 20, "a new core")
        check(outcomes(d, of) == ["unknown"], lines(d))
        s.tell("c", "notify:READY=1")


@test
def a_change_that_a_rotation_has_left_behind_is_owned_up_to():
    with Stage(slow) as (s, d):
        p = d.ctl_start("start", "slow")
        s.puppets.wait("slow")
        # Near enough to the end of the file that the next core looks at it.
        write_much(d, lambda: os.path.getsize(log(d)) > AUDIT_FILE_MAX - (200 << 10))
        q = d.ctl_start("restart", "slow")
        wait_for(lambda: lines(d)[-1].get("verb") == "Restart", 10, "the second change")
        later = lines(d)[-1]["seq"]
        write_much(d, lambda: os.path.getsize(log(d)) >= AUDIT_FILE_MAX or rotated_files(d))
        wait_for(lambda: lines(d)[0]["why"] == "rotation", 10, "the rotation to be over")
        d.kill_core()
        p.wait()
        q.wait()
        check(outcomes(d, later) == ["unknown"], lines(d))
        intact(d)
        s.tell("c", "notify:READY=1")


@test
def the_chain_goes_on_over_rotations_and_cores():
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        def fill(until):
            write_much(d, until)

        def rotated():
            return rotated_files(d)
        fill(lambda: len(rotated()) == 1)
        d.kill_core()
        fill(lambda: len(rotated()) == 2)

        def begun():  # for a moment the old file has both names
            first = lines(d)[0]
            return first["seq"] > int(rotated()[1].rsplit(".")[-1]) and first
        first = wait_for(begun, 10, "the rotation to be over")
        check(first["kind"] == "begin" and first["why"] == "rotation", first)
        with open(os.path.join(d.state_dir, rotated()[-1]), "rb") as f:
            last = json.loads(f.read().splitlines()[-1])
        check(first["prev"] == last["hash"] and first["seq"] == last["seq"] + 1, (first, last))
        check(rotated()[0].endswith(".%020d" % 1), rotated())
        intact(d)
        os.rename(os.path.join(d.state_dir, rotated()[1]), s.path("stolen"))
        r = verify(d)
        check(r.rc == 1 and "audit.log:1: lines before this one are missing" in r.err, r)


@test
def who_reads_during_rotations_sees_a_whole_chain():
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        missed, n, over = [], [0], threading.Event()

        def look():
            while not over.is_set():
                n[0] += 1
                if not os.path.exists(log(d)):
                    missed.append("audit.log")
        t = threading.Thread(target=look, daemon=True)
        t.start()
        writer = threading.Thread(target=write_much, args=(d, lambda: len(rotated_files(d)) >= 4), daemon=True)
        writer.start()
        verified = 0
        while writer.is_alive():
            intact(d)
            verified += 1
        over.set()
        t.join()
        check(len(rotated_files(d)) >= 4, rotated_files(d))
        check(not missed, "missing in %d of %d looks" % (len(missed), n[0]))
        intact(d)
        print("# verified %d times during %d rotations; the file was there in all of %d looks" % (verified, len(rotated_files(d)), n[0]))


@test
def a_core_that_dies_in_a_rotation_is_followed_by_one_that_does_it_again():
    with Stage(lambda s: {"a.service": unit(s)}) as (s, d):
        write_much(d, lambda: rotated_files(d))
        wait_for(lambda: lines(d)[0]["why"] == "rotation", 10, "the rotation to be over")
        core, first = d.pid_of("core"), lines(d)[0]["seq"]
        os.kill(core, signal.SIGSTOP)
        second = "%s.%020d" % (log(d), first)
        os.link(log(d), second)  # both names, and a successor that nobody has seen
        with open(os.path.join(d.state_dir, "audit.new"), "w") as f:
            f.write("{}\n")
        r = verify(d, "--file", log(d))
        check(r.rc == 0 and "intact" in r.out, r)
        os.kill(core, signal.SIGKILL)
        wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0 and d.pid_of("core") != core, 20, "a new core")
        d.ctl("restart", "a")
        intact(d)
        check(not os.path.exists(second) and os.stat(log(d)).st_nlink == 1, "one name again")
        check(not os.path.exists(os.path.join(d.state_dir, "audit.new")), os.listdir(d.state_dir))
        check(audit_of(d)["error"] == "" and audit_of(d)["lost"] == 0, audit_of(d))
        write_much(d, lambda: len(rotated_files(d)) >= 2)
        intact(d)
        check(os.path.exists(second), "rotated to the name it was to have: %s" % rotated_files(d))


@test
def a_full_disk_stops_nobody_and_leaves_a_line_about_the_gap():
    need_root()
    with temp_dir() as where:
        state = os.path.join(where, "state")
        os.mkdir(state)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0755", "none", state], capture_output=True).returncode:
            skip("a small file system cannot be mounted")
        try:
            with Stage(lambda s: {"a.service": unit(s)}, args=["--state-dir", state]) as (s, d):
                path = os.path.join(state, "audit.log")

                def read():
                    with open(path) as f:
                        return [json.loads(l) for l in f if l.endswith("\n")]
                d.ctl("start", "a")
                big = os.path.join(state, "big")
                with contextlib.suppress(OSError), open(big, "wb", buffering=0) as f:
                    while f.write(b"x" * 512):
                        pass
                before = len(read())
                for _ in range(12):
                    d.ctl("restart", "a")
                a = audit_of(d)
                check(a["lost"] > 0 and a["error"] == "ENOSPC", a)
                check("ENOSPC" in d.log_text(), "it is said")
                os.unlink(big)
                wait_for(lambda: any(l["kind"] == "gap" for l in read()), 30, "the line about the gap, without another change")
                gap = next(l for l in read() if l["kind"] == "gap")
                check(gap["lost"] == a["lost"] and gap["error"] == "ENOSPC", (gap, a))
                d.ctl("restart", "a")
                check(len(read()) >= before + 3 and audit_of(d)["error"] == "", audit_of(d))
                r = verify(d)
                check(r.rc == 0 and "were never written" in r.out, r)
        finally:
            subprocess.run(["umount", "-l", state], capture_output=True)


@test
def a_log_that_somebody_laid_in_wait_is_not_written_to():
    with temp_dir() as where:
        target = os.path.join(where, "target")
        with open(target, "w") as f:
            f.write("precious\n")

        class Trapped(Stage):
            def __init__(self):
                super().__init__(lambda s: {"a.service": unit(s)})
                os.symlink(target, os.path.join(self.daemon.state_dir, "audit.log"))
        with Trapped() as (s, d):
            d.ctl("start", "a")
            check(open(target).read() == "precious\n", "the target is untouched")
            check(audit_of(d)["error"] == "ELOOP" and audit_of(d)["lost"] >= 1, audit_of(d))


main()
