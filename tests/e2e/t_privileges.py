#!/usr/bin/python3
"""What the daemon's own processes may do: who they are, what they gave up, what they call.

The tables are the program's own (supervisord/confine/*.def); what is compared with them is the kernel's
word: /proc/PID/status, and strace over a run in which most of the product is used."""
import collections, grp, re, stat, textwrap, threading
from lib import *

CONFINE = os.path.join(TOP, "supervisord/confine")
LETTER = {"core": "C", "logger": "L", "net": "N"}


def rows(name, text):
    """Arguments of NAME(...) rows, split at commas outside of parentheses and quotes."""
    for m in re.finditer(r"^%s\((.*)\)$" % name, text, re.M):
        yield [w.strip() for w in re.findall(r'((?:"[^"]*"|\([^)]*\)|[^,"(])+)(?:,|$)', m.group(1))]


def table(file):
    with open(os.path.join(CONFINE, file)) as f:
        return f.read()


def users():
    """{role: uid} as the daemon finds them."""
    found = {}
    for role, name, fallback in rows("USER", table("users.def")):
        with open("/etc/passwd") as f:
            uid = [int(l.split(":")[2]) for l in f if l.startswith(name.strip('"') + ":")]
        found[role.replace("ROLE_", "").lower()] = uid[0] if uid else int(fallback)
    return found


def kept_caps():
    numbers = dict(CHOWN=0, DAC_OVERRIDE=1, FOWNER=3, FSETID=4, KILL=5, NET_BIND_SERVICE=10, SYS_PTRACE=19, SYS_RESOURCE=24)
    return sum(1 << numbers[name] for name, _ in rows("CAP", table("caps.def")))


def status(pid):
    with open("/proc/%d/status" % pid) as f:
        s = dict(l.rstrip("\n").split(":\t", 1) for l in f if ":\t" in l)
    s.update({k: int(s[k], 16) for k in s if k.startswith("Cap")})
    return s


def full_powers():
    """root with all that a change of user needs (and so the table as it is on a host)."""
    return os.geteuid() == 0 and status(os.getpid())["CapEff"] & 0xe3 == 0xe3


def need_full_powers():
    if not full_powers():
        skip("needs root with CAP_CHOWN, DAC_OVERRIDE, KILL, SETUID, SETGID")


def roles(d):
    """{role: pid}, when all of them are there and have confined themselves."""
    def there():
        j = d.ctl("status", "--json").json["daemon"]
        pids = {r: j[r + "_pid"] for r in ("keeper", "core", "launcher", "logger", "net")}
        return all(pids.values()) and all(status(pids[r])["Seccomp"] == "2" for r in LETTER) and pids
    return wait_for(there, 10, "all processes of the daemon")


def service(s="wait", **more):
    return "[Service]\nExecStart=%s %s\n%s" % (SVC, s, "".join("%s=%s\n" % kv for kv in more.items()))


CHECKED = "[X-Health]\nLive=tcp://localhost:%d\nIntervalSec=50ms\nTimeoutSec=10s\n"


@contextlib.contextmanager
def listener():
    """A port that takes each connection: those of the checks would soon fill a backlog, and later ones hang."""
    def take():
        with contextlib.suppress(OSError):
            while True:
                s.accept()[0].close()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(128)
        t = threading.Thread(target=take, daemon=True)
        t.start()
        try:
            yield s.getsockname()[1]
        finally:
            s.shutdown(socket.SHUT_RDWR)  # wakes it
            t.join(10 * PATIENCE)


@contextlib.contextmanager
def daemon_with_all_roles(units=None, **more):
    """One service with a check by name: logger, stay-net and its resolver threads are at work."""
    with listener() as port:
        text = service(Restart="always") + CHECKED % port
        with Daemon(dict(units or {}, **{"a.service": text}), targets=["a.service"], **more) as d:
            d.wait_unit("a.service", active_state="active")
            yield d


def check_confined(role, s, uid, kept, fields=("CapPrm", "CapEff", "CapBnd")):
    want = {"Uid": "\t".join([str(uid)] * 4), "NoNewPrivs": "1", "Seccomp": "2", "CapInh": 0, "CapAmb": 0}
    for field, value in want.items():
        check(s[field] == value, "%s: %s is %s, not %s" % (role, field, s[field], value))
    for field in fields:
        check(s[field] & ~kept == 0, "%s: %s is %x, of which only %x is its own" % (role, field, s[field], kept))
    if uid:
        check(s["Groups"].strip() == "" and "0" not in s["Gid"].split(), "%s: groups %r %r" % (role, s["Gid"], s["Groups"]))


@test
def every_process_is_what_the_tables_say():
    need_full_powers()
    own = status(os.getpid())
    with daemon_with_all_roles() as d:
        pids = roles(d)
        check_confined("core", status(pids["core"]), 0, kept_caps())
        for role in ("logger", "net"):
            check_confined(role, status(pids[role]), users()[role], 0)
        check(status(pids["core"])["CapEff"] == kept_caps() & own["CapEff"], "core lacks what it needs")
        # What services would inherit is as it was given to us.
        service_pid = d.wait_unit("a.service", lambda u: u["main_pid"])["main_pid"]
        for pid in (pids["keeper"], pids["launcher"], service_pid):
            s = status(pid)
            for field in ("CapBnd", "NoNewPrivs", "Seccomp"):
                check(s[field] == own[field], "%s: %s is %s" % (cmdline(pid), field, s[field]))
        j = d.ctl("status", "--json").json["daemon"]
        check(j["degraded"] == [], j["degraded"])
        if not SANITIZED:  # dumpable 0: its files in /proc are root's, whoever it is
            for role in LETTER:
                check(os.stat("/proc/%d/maps" % pids[role]).st_uid == 0, "%s is dumpable" % role)


@test
def logger_holds_nothing_but_pipes_links_and_its_directory():
    need_full_powers()
    with daemon_with_all_roles() as d:
        pid = roles(d)["logger"]
        links = {n: os.readlink("/proc/%d/fd/%s" % (pid, n)) for n in os.listdir("/proc/%d/fd" % pid)}
        for n, l in links.items():
            ours = l.startswith((d.log_dir, "pipe:", "anon_inode:", "socket:", "/dev/null", d.output))
            check(ours, "descriptor %s of the logger is %s" % (n, l))


@test
def a_core_of_after_a_crash_gives_up_the_same():
    need_full_powers()
    with daemon_with_all_roles() as d:
        first = roles(d)
        os.kill(first["core"], signal.SIGKILL)
        wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0 and roles(d)["core"] != first["core"], 15)
        check_confined("core", status(roles(d)["core"]), 0, kept_caps())
        check(roles(d)["logger"] == first["logger"], "the logger was replaced")
        u = d.unit("a.service")
        check(u["n_restarts"] == 0, u)
        d.ctl("restart", "a")


@test
def a_parser_that_crashes_is_replaced_and_no_service_flaps():
    with daemon_with_all_roles() as d:
        before = roles(d)
        for pid in (before["net"], before["net"]):
            now = roles(d)["net"]
            os.kill(now, signal.SIGSEGV)
            wait_for(lambda: roles(d)["net"] != now, 15, "another stay-net")
        u = d.unit("a.service")
        check(u["n_restarts"] == 0 and u["active_state"] == "active", u)
        check(roles(d)["core"] == before["core"], "core did not survive it")


# ---- the log directory -----------------------------------------------------------------------------

def tell(s, name, step):
    """As soon as it listens: a service without readiness counts as up before its first step."""
    wait_for(lambda: s.tell(name, step) or True, 10, "%s to listen" % name)


def lines(d, unit="a"):
    return d.ctl("logs", unit, check=False).out


@test
def the_log_directory_is_handed_over_with_what_was_in_it():
    need_full_powers()
    top = tempfile.mkdtemp(prefix="stayd-test.")
    old = os.path.join(top, "log/a.service")
    os.makedirs(old)
    with open(old + "/current", "w") as f:
        f.write("2026-01-01T00:00:00.000Z o of an older version\n")
    secret = os.path.join(top, "secret")
    with open(secret, "w") as f:
        f.write("root's\n")
    os.link(secret, old + "/0000000001.log")  # a name for somebody else's file
    os.chmod(old + "/current", 0o640)
    d = Daemon({"a.service": service("print:new")}, targets=["a.service"], directory=top)
    d.owns_dir = True
    with d:
        wait_for(lambda: "new" in lines(d) and "older version" in lines(d), 10, lambda: lines(d))
        uid = users()["logger"]
        for p in (d.log_dir, old, old + "/current"):
            check(os.stat(p).st_uid == uid, "%s belongs to %d" % (p, os.stat(p).st_uid))
        check(os.stat(secret).st_uid == 0, "a hard link was handed over")
        with contextlib.suppress(KeyError):
            adm = grp.getgrnam("adm").gr_gid
            check(os.stat(old + "/current").st_gid == adm, "adm cannot read it")
        check(stat.S_IMODE(os.stat(old + "/current").st_mode) == 0o640, "mode")


@test
def a_log_directory_that_is_removed_is_made_again():
    with Stage(lambda s: {"a.service": s.puppets.unit(s.control("a"), "wait"),
                          "b.service": s.puppets.unit(s.control("b"), "wait")}, targets=["a.service", "b.service"]) as (s, d):
        d.wait_unit("a.service", active_state="active")
        d.wait_unit("b.service", active_state="active")
        tell(s, "a", "print:before")
        wait_for(lambda: "before" in lines(d), 10)
        shutil.rmtree(d.log_dir)

        def again():
            d.ctl("restart", "b")  # each start is a line: one that cannot be written makes the logger ask
            tell(s, "a", "print:after")
            return "after" in lines(d)
        wait_for(again, 20, "lines in the new directory")
        if full_powers():
            check(os.stat(d.log_dir).st_uid == users()["logger"], "the new directory is not the logger's")


@test
def a_directory_of_others_is_not_given_away():
    need_full_powers()
    top = tempfile.mkdtemp(prefix="stayd-test.")
    os.makedirs(top + "/log")
    with open(top + "/log/syslog", "w") as f:
        f.write("not ours\n")
    d = Daemon({"a.service": service("print:x")}, targets=["a.service"], directory=top)
    d.owns_dir = True
    with d:
        wait_for(lambda: "a directory of their own" in d.log_text(), 10, d.log_text)
        check(os.stat(top + "/log").st_uid == 0 and os.stat(top + "/log/syslog").st_uid == 0, "it was given away")


# ---- where not everything is possible ---------------------------------------------------------------

@test
def with_one_uid_mapped_it_says_so_and_works():
    need("unshare")
    if subprocess.run(["unshare", "-U", "-r", "true"], capture_output=True).returncode:
        skip("no user namespaces here")
    with daemon_with_all_roles(wrap=["unshare", "-U", "-r"]) as d:
        pids = roles(d)
        rows_ = wait_for(lambda: (lambda r: r if len(r) == 2 else None)(d.ctl("status", "--json").json["daemon"]["degraded"]), 5,
                         "two processes that stay root")
        check({r["process"] for r in rows_} == {"logger", "stay-net"} and all("root" in r["reason"] for r in rows_), rows_)
        for role in ("logger", "net"):
            check(status(pids[role])["CapPrm"] == 0, role)


@test
def without_root_there_is_nothing_to_give_away():
    need_root()
    with daemon_with_all_roles(uid=SOMEBODY) as d:
        pids = roles(d)
        for role in LETTER:
            check_confined(role, status(pids[role]), SOMEBODY, 0, ("CapPrm", "CapEff"))
        check(d.ctl("status", "--json").json["daemon"]["degraded"] == [], "degraded")


SOMEBODY = 23456


@test
def names_of_the_name_service_are_asked_of_getent_by_the_launcher():
    need_full_powers()
    with temp_dir() as t:
        fake = os.path.join(t, "getent")
        with open(fake, "w") as f:
            f.write("#!/bin/sh\n[ $2 = passwd ] && [ $3 = ldapuser ] && echo ldapuser:x:%d:%d::/:/bin/sh\n" % (SOMEBODY, SOMEBODY))
        os.chmod(fake, 0o755)
        os.chmod(t, 0o755)
        wrap = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /usr/bin/getent && exec "$@"', fake]
        if subprocess.run(wrap + ["true"], capture_output=True).returncode:
            skip("no mount namespace here")
        with Daemon({"a.service": service(User="ldapuser"), "b.service": service(User="nobodyknows")}, wrap=wrap) as d:
            d.ctl("start", "a")
            pid = d.wait_unit("a.service", active_state="active")["main_pid"]
            check(status(pid)["Uid"].split()[0] == str(SOMEBODY), status(pid)["Uid"])
            check(d.ctl("start", "b", check=False).rc != 0, "a user that nobody knows")
            check(d.ctl("status", "--json").json["daemon"]["restarts_of_core"] == 0, "core died of it")


# ---- the calls --------------------------------------------------------------------------------------

def traced_calls(path):
    """{role: Counter of calls after its filter}, {role: [refused lines]} of a trace of strace -f."""
    role, confined, calls, refused = {}, set(), collections.defaultdict(collections.Counter), collections.defaultdict(list)
    waiting = {}
    with open(path, errors="replace") as f:
        for line in f:
            m = re.match(r"(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed)", line)
            if not m:
                continue
            pid, name = m.group(1), m.group(2) or m.group(3)
            who = re.search(r'"--role=(\w+)"', line)
            if name in ("execve", "execveat") and m.group(2):
                role[pid] = who.group(1) if who else None
                confined.discard(pid)
            if pid in confined and m.group(2):
                calls[role[pid]][name] += 1
            if pid in confined and ("ENOSYS" in line or "killed by SIGSYS" in line):
                refused[role[pid]].append(line.strip())
            if name == "seccomp" and line.rstrip().endswith("= 0"):
                confined.add(pid)
            new = re.search(r"= (\d+)$", line)
            if name in ("clone", "clone3") and new and pid in confined:
                role[new.group(1)] = role[pid]
                confined.add(new.group(1))
    return calls, refused


def a_name():
    """Of this host and known without a name server: "localhost" libcurl does not even look up."""
    with open("/etc/hosts") as f:
        for line in f:
            words = line.split("#")[0].split()
            names = [w for w in words[1:] if words[0].startswith("127.") and "localhost" not in w]
            if names:
                return names[0]
    return "localhost"


def use_most_of_it(s, d):
    d.ctl("restart", "a")
    d.ctl("logs", "a")
    follow = d.ctl_start("logs", "-f", "a")
    tell(s, "a", "print:followed")
    wait_for(lambda: "followed" in lines(d), 20)
    d.ctl("stop", "a")
    d.ctl("start", "a", "user", "dirs")
    d.write_unit("late.service", service())
    d.ctl("reload", check=False)
    d.ctl("enable", "late", check=False)
    d.ctl("start", "late")
    d.ctl("stop", "dirs")
    d.ctl("deploy", "web", "v2", check=False)
    d.ctl("scale", "web=1", check=False)
    core = d.ctl("status", "--json").json["daemon"]["core_pid"]
    os.kill(core, signal.SIGKILL)
    wait_for(lambda: d.ctl("status", "--json", check=False).rc == 0
             and d.ctl("status", "--json").json["daemon"]["core_pid"] != core, 30)
    d.ctl("restart", "user")
    follow.kill()


@test
def no_process_makes_a_call_that_is_not_in_its_list():
    need("strace")
    need_root()
    ports = neighbours(4)
    with temp_dir() as t:
        trace = os.path.join(t, "trace")
        if subprocess.run(["strace", "-f", "-o", trace, "true"], capture_output=True).returncode:
            skip("strace may not trace here")
        web = textwrap.dedent("""\
            [Service]
            Type=notify
            ExecStart=%s --port ${PORT}
            [X-Replicas]
            Count=2
            Ports=%d-%d
            [X-Health]
            Ready=http://%s:${PORT}/
            IntervalSec=100ms
            [X-Rollout]
            MinReadySec=0
            """) % (WEBSVC, ports[0], ports[-1], a_name())

        def units(s):
            return {"a.service": s.puppets.unit(s.control("a"), "wait"), "web@.service": web,
                    "user.service": service(User="nobody"), "dirs.service": service(RuntimeDirectory="stayd-test-dirs-%d" % os.getpid(), User="nobody")}
        wrap = ["strace", "-D", "-f", "-qq", "-o", trace]  # -D: the daemon is our child, not strace's
        with Stage(units, targets=["a.service", "web"], wrap=wrap,
                   env={"ASAN_OPTIONS": "detect_leaks=0"}) as (s, d):  # its leak checker cannot trace what is traced
            d.wait_unit("a.service", deadline=30, active_state="active")
            use_most_of_it(s, d)
        calls, refused = traced_calls(trace)
    text = table("calls.def")
    for role, letter in LETTER.items():
        listed = {r[0] for r in rows("CALL", text) if letter in r[1] and (r[2] != "SAN" or SANITIZED)}
        quiet = {r[0] for r in rows("QUIET", text) if letter in r[1]}
        check(calls[role], "nothing was seen of %s" % role)
        stray = {n: k for n, k in calls[role].items() if n not in listed | quiet}
        check(not stray, "%s called what it has no row for: %s" % (role, stray))
        denied = [l for l in refused[role] if not any(re.search(r"\b%s[( ]" % q, l) for q in quiet)]
        check(not denied, "%s was refused: %s" % (role, denied[:5]))
        print("# %s: %d different calls, %d made; listed and not seen here: %s"
              % (role, len(calls[role]), sum(calls[role].values()), " ".join(sorted(listed - set(calls[role])))))


main()
