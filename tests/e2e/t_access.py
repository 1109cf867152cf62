"""Who may do what: roles by uid and group, owners of units, and what the refused are told."""
from lib import *

ALICE, BOB, CAROL, DAVE, STRANGER = 4201, 5, 4203, 4204, 65534  # bob is games, who exists everywhere
OPS = 4300


def units(s):
    quiet = s.puppets.unit("event:up")
    return {
        "web.service": s.puppets.unit("print:a secret of web", "event:up", section="[X-Access]\nOwner=%d\nViewer=%d\n" % (ALICE, DAVE),
                                      Environment="TOKEN=hunter2", User="games"),
        "db.service": quiet,
        "set@.service": quiet + "[X-Replicas]\nCount=2\n[X-Access]\nOwner=%d\n" % ALICE,
    }


class People(Stage):
    """A stage whose control socket others reach, and stayctl as them."""

    def __init__(self, conf="", **kw):
        need_root()
        super().__init__(units, **kw)
        self.config = self.path("stayd.conf")
        self.stayctl = shutil.copy(STAYCTL, self.path("stayctl"))
        self.configure(conf)
        self.daemon.args += ["--config", self.config]

    def configure(self, text):
        with open(self.config, "w") as f:
            f.write(text)

    def ctl(self, uid, *words, groups=(), gid=None):
        p = subprocess.run([self.stayctl, "--socket", self.daemon.socket, *words], capture_output=True, text=True, errors="replace",
                           stdin=subprocess.DEVNULL, timeout=60 * PATIENCE, user=uid, group=gid or uid, extra_groups=list(groups), cwd="/")
        return Result(list(words), p.returncode, p.stdout, p.stderr)


CONF = "[Access]\nViewer=%d\nOperator=@%d\nAdmin=%d\n" % (CAROL, OPS, 4209)
READS = ("status web", "ps", "list-units", "is-active web", "is-enabled web", "wait web --for ready", "ping", "version")
VIEWS = ("logs web", "events", "show web")
ACTS = ("restart web", "stop web", "start web", "reset-failed web", "kill -s CONT web", "cat web")
SETS = ("plan set", "scale set=2", "restart set", "rollout history set", "rollout status set")
RULES = ("daemon-reload", "enable web", "disable web")


def outcome(s, uid, words, **who):
    return {w: s.ctl(uid, *w.split(), **who).rc for w in words}


def check_rc(s, uid, words, want, **who):
    for w in words:
        r = s.ctl(uid, *w.split(), **who)
        check(r.rc == want, "uid %d: `stayctl %s` gives %d, not %d\n%s%s" % (uid, w, r.rc, want, r.out, r.err))
        if want == 4:
            check("needs role" in r.err and r.err.count("hint:") == 1 and "uid %d" % uid in r.err, r)


@test
def each_role_may_do_its_own_and_no_more():
    with People(CONF) as (s, d):
        d.ctl("start", "web", "db", "set")
        check_rc(s, STRANGER, READS, 0)
        check_rc(s, STRANGER, VIEWS + ACTS + RULES, 4)
        check_rc(s, STRANGER, ("plan set", "scale set=1", "restart set", "shutdown", "reexec"), 4)
        check_rc(s, CAROL, READS + VIEWS + ("rollout history set",), 0)
        check_rc(s, CAROL, ACTS + RULES + ("scale set=1",), 4)
        check_rc(s, BOB, VIEWS + ACTS + RULES, 4)  # User= alone gives nothing
        check_rc(s, 4210, ("restart db", "logs db") + SETS, 0, groups=[1, OPS])
        check_rc(s, 4210, RULES + ("shutdown",), 4, groups=[1, OPS])
        check_rc(s, 4210, ("restart db",), 0, gid=OPS)
        check_rc(s, 4209, ("restart db", "daemon-reload"), 0)
        check(d.unit("web.service")["active_state"] == "active", d.unit("web.service"))


@test
def an_owner_operates_the_unit_and_nothing_else():
    with People(CONF) as (s, d):
        d.ctl("start", "db", "set")
        check_rc(s, ALICE, ("start web", "logs web", "logs -n 5 web", "events web", "restart web", "cat web", "show web", "stop web"), 0)
        check_rc(s, ALICE, SETS + ("stop set", "start set@1"), 0)
        check_rc(s, ALICE, ("stop db", "logs db", "restart web db", "stop *", "restart *.service", "start nosuch", "cat db", "events",
                            "reset-failed", "show db", "daemon-reload", "enable web", "kill db", "start web@1", "start ../web"), 4)
        check(d.unit("db.service")["active_state"] == "active", "db is not alice's")
        check(d.unit("web.service")["active_state"] == "inactive", "and of a call with a foreign unit nothing was done")
        check_rc(s, DAVE, ("logs web", "events web"), 0)
        check_rc(s, DAVE, ("restart web", "cat web", "logs db"), 4)
        check("hunter2" in s.ctl(ALICE, "cat", "web").out, "its own text an owner may read")


@test
def what_is_taken_out_of_the_files_is_taken_away_at_once():
    with People(CONF) as (s, d):
        d.ctl("start", "web", "set")
        check_rc(s, ALICE, ("restart web", "restart set"), 0)
        d.write_unit("web.service", s.puppets.unit("event:up"))
        d.write_unit("set@.service", s.puppets.unit("event:up") + "[X-Replicas]\nCount=2\n")
        check_rc(s, ALICE, ("restart web", "restart set", "stop set@1", "logs set@2"), 4)
        check_rc(s, CAROL, ("logs web",), 0)
        s.configure("[Access]\nViewer=\nGuest=\n")
        d.ctl("daemon-reload")
        check_rc(s, CAROL, ("logs web", "status", "ping"), 4)
        s.configure("[Access]\nGuest=*\nOperator=%d\nOprator=%d\n" % (CAROL, CAROL))
        r = d.ctl("daemon-reload")
        check("stayd.conf:4" in r.out + r.err + d.log_text(), r)
        check_rc(s, CAROL, ("restart web", "status"), 4)
        s.configure(CONF)
        os.chmod(s.config, 0o666)
        d.ctl("daemon-reload")
        check_rc(s, CAROL, ("status",), 4)
        check("chmod o-w" in d.log_text(), "cause and remedy are said")
        os.chmod(s.config, 0o644)
        os.kill(d.keeper_pid, signal.SIGHUP)
        wait_for(lambda: s.ctl(CAROL, "logs", "web").rc == 0, 10, "SIGHUP to read it again")


@test
def secrets_are_not_shown_to_those_who_only_look():
    with People(CONF) as (s, d):
        d.ctl("start", "web")
        wait_for(lambda: "secret of web" in d.ctl("status", "web").out, 10, "its last words to be shown to root")
        d.write_unit("web.service", s.puppets.unit("event:up", Environment="TOKEN=hunter3"))
        for uid in (STRANGER, CAROL, DAVE):
            for words in READS + VIEWS + ("plan web", "cat web", "status web --json", "show web --json"):
                r = s.ctl(uid, *words.split())
                check("hunter" not in r.out + r.err, (uid, r))
        check("secret of web" not in s.ctl(STRANGER, "status", "web").out, "the last log lines are not for guests")


@test
def unit_files_that_others_can_change_are_refused_with_cause_and_remedy():
    need_root()
    unit = "[Service]\nExecStart=/bin/true\nRemainAfterExit=yes\n"
    with Stage(lambda s: {n + ".service": unit for n in ("file", "group", "owner", "dropin", "dropdir", "link", "wants", "requires", "shared",
                                                                     "turned", "good")}) as (s, d):
        where = d.units_dir
        outside = s.path("outside")
        os.mkdir(outside)
        os.chmod(outside, 0o777)
        for name, text in (("dropin.service.d/a.conf", "[Service]\nNice=1\n"), ("dropdir.service.d/a.conf", "[Service]\nNice=1\n")):
            d.write_unit(name, text)
        with open(os.path.join(outside, "link.service"), "w") as f:
            f.write(unit)
        os.unlink(where + "/link.service")
        os.symlink(outside + "/link.service", where + "/link.service")
        os.chmod(where + "/file.service", 0o646)
        os.chown(where + "/group.service", 0, 4300)
        os.chmod(where + "/group.service", 0o664)
        os.chown(where + "/owner.service", 4201, 4201)
        for name, mode in (("wants.service.wants", 0o777), ("requires.service.requires", 0o775), ("shared.service.wants", 0o1777)):
            os.mkdir(os.path.join(where, name))
            os.symlink("/nonexistent", os.path.join(where, name, "good.service"))
            os.chown(os.path.join(where, name), 0, 4300)
            os.chmod(os.path.join(where, name), mode)
        os.lchown(where + "/shared.service.wants/good.service", 4201, 4201)
        sticky = s.path("sticky")
        os.mkdir(sticky)
        os.chmod(sticky, 0o1777)
        os.unlink(where + "/turned.service")
        with open(s.path("roots.service"), "w") as f:
            f.write(unit)
        os.symlink(s.path("roots.service"), sticky + "/turned.service")
        os.lchown(sticky + "/turned.service", 4201, 4201)
        os.symlink(sticky + "/turned.service", where + "/turned.service")
        os.chmod(where + "/dropin.service.d/a.conf", 0o666)
        os.chmod(where + "/dropdir.service.d", 0o777)
        for name, remedy in (("file", "chmod o-w"), ("group", "chmod g-w"), ("owner", "chown root"), ("dropin", "chmod o-w"),
                             ("dropdir", "chmod o-w"), ("link", "chmod o-w"), ("wants", "chmod o-w"), ("requires", "chmod g-w"),
                             ("shared", "chown -h root"), ("turned", "chown -h root")):
            before = len(d.log_text())
            r = d.ctl("start", name, check=False)
            check(r.rc == 6, (name, r))
            check(remedy in d.log_text()[before:], "%s: the remedy is in the log" % name)
            r = subprocess.run([STAYCTL, "check", "--unit-path", where, name], capture_output=True, text=True, timeout=60 * PATIENCE)
            check(r.returncode == 1 and remedy in r.stdout, "%s: check says it as well: %s" % (name, r))
        check(d.ctl("start", "good").rc == 0, "what is safe starts")
        os.chmod(where, 0o777)

        def is_refused(n=iter(range(100000))):
            name = "late%d.service" % next(n)
            d.write_unit(name, unit)
            return d.ctl("start", name, check=False).rc == 6
        wait_for(is_refused, 10, "a unit in a directory that everybody can write to be refused")
        os.chmod(where, 0o755)


main()
