#!/usr/bin/python3
"""Does the simulator notice? Builds the model with one deliberate mistake at a time and runs `sim`.

Each mutant is a replacement of a text that stands exactly once in its file. A mutant that the
simulator does not catch within its seeds is "not ok": an invariant is missing or too weak.

  mutate.py [--build build] [--quick]    --quick: the first few only (make check)"""
import argparse, os, shutil, subprocess, sys, tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEEDS, STEPS = 1, 4000000
QUICK = 4

# (what is wrong, file, text, replacement)
MUTANTS = [
    ("survivors do not hold the start", "job.c",
     "	if (has_survivors(u)) {",
     "	if (false) {"),
    ("starts do not wait for After=", "job.c",
     "		if (is_stopping(x) || (!e->is_inverse && is_coming(x, false)))",
     "		if (is_stopping(x))"),
    ("exits of other activations count", "instance_event.c",
     "	return a->seq && a->seq == b->seq && memcmp(a->invocation, b->invocation, 16) == 0;",
     "	return a->seq && b->seq;"),
    ("stop_wanted is lost when restored", "world.c",
     "	if (!u->rec.index)\n		u->rec.index = index;",
     "	if (!u->rec.index)\n		u->rec.index = index;\n	u->rec.stop_wanted = 0;"),
    ("a manual start does not clear the limit", "job.c",
     "	if (is_manual) {\n		backoff_clear(w, u);",
     "	if (is_manual) {"),
    ("the burst is not looked at", "backoff.c",
     "	if (u->rec.limit_count >= c->limit_burst)\n		return true;",
     ""),
    ("timers survive their state", "instance.c",
     "		if (!(kept_timers(next) >> k & 1))\n			timer_drop(w, &u->timers[k]);",
     "		if (k != TIMER_STATE && !(kept_timers(next) >> k & 1))\n			timer_drop(w, &u->timers[k]);"),
    ("stops do not wait for what is after them", "job.c",
     "	u->waits_for = stop_blocker(u);\n",
     "	u->waits_for = NULL;\n"),
    ("waiting units are not told", "job.c",
     "		if (u->edges[i].to->waits_for == u)\n			unit_poke(w, u->edges[i].to);",
     "		;"),
    ("a lost spawn is not repeated", "instance_event.c",
     "	if (ev->code == CHILD_LOST && spawn_again(w, u, is_main))\n		return;",
     "	if (ev->code == CHILD_LOST)\n		return;"),
    ("a spawn that was given up is forgotten", "instance.c",
     "	u->n_dropped += !u->rec.control_pid;\n",
     ""),
    ("canceled requests are forgotten", "job.c",
     "		requests_answer(w, u, REPLY_CANCELED, \"canceled by a later request\");",
     "		u->n_requests = 0;"),
    ("requests are answered and kept", "job.c",
     "	u->n_requests = 0;\n}\n\nstatic void requests_cancel",
     "}\n\nstatic void requests_cancel"),
    ("a record changes and is not written", "health.c",
     "	h->last_ok = is_ok;\n	unit_touch(w, u);",
     "	h->last_ok = is_ok;"),
    ("Conflicts= is not waited for", "job.c",
     "		return unit_is_down(x) && !has_survivors(x) ? MAY_GO : MAY_WAIT;",
     "		return MAY_GO;"),
    ("timers are not restored", "world.c",
     "	for (size_t i = 0; i < w->n_units; i++)\n		rearm(w, w->units[i]);",
     ""),
    ("SIGKILL never follows", "instance.c",
     "	return service(u)->send_sigkill ? INST_STOP_SIGKILL : INST_STOP_POST;",
     "	return stay(u);"),
    ("a restart spreads again and again", "job.c",
     "		u->has_spread = true;\n",
     ""),
    ("a timer of the heap is misplaced", "world.c",
     "	if (last != t) {\n		heap_set(w, i, last);\n		heap_sift(w, i);\n	}",
     "	if (last != t)\n		heap_set(w, i, last);"),
    ("one zero is enough to be drained", "lb.c",
     "#define ZERO_SEEN 2", "#define ZERO_SEEN 1"),
    ("the last sample before a change counts", "lb.c",
     "	if (s->serial <= last->serial)\n		return;", "	if (0)\n		return;"),
    ("an exit does not take it out of the load balancer", "lb.c",
     "		feed(w, u, LBE_GONE);", "		;"),
    ("a stop does not wait for the drain", "lb.c",
     "	return u->rec.lb_phase != LBP_OUT;", "	return false;"),
    ("a step is not journalled", "rollout.c",
     "	rollout_journal(w, s, \"%s %s\", SHORT(u), rollout_step_name(step));", ""),
    ("members that soak count as serving", "rollout_look.c",
     "		if (s->members[i] && (step == STEP_PENDING || step == STEP_DONE))",
     "		(void)step;\n		if (s->members[i])"),
    ("extra members are counted twice", "rollout_look.c",
     "			n += unit_is_available(s->members[i]);",
     "			n += unit_is_available(s->members[i]) + (i >= s->rollout.count);"),
    ("a rollback forgets what it has to swap back", "rollout.c",
     "	if (u->next_conf && (u->next_revision == rollout_target(s) || r->is_rollback_wanted))",
     "	if (u->next_conf && !r->is_rollback_wanted)"),
    ("the deadline of a restored rollout is lost", "rollout_begin.c",
     "		rollout_arm_deadline(w, s, rollout_soak_us(s, 0));", "		;"),
    ("the waiter of a dead core is answered", "rollout_begin.c",
     "	r->request = 0; /*", "	/*"),
]


def build(work, build_dir):
    """Compiles model/ and tests/sim of the copy; unit and base come from the build as they are."""
    flags = ["-O1", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-Iinclude", "-Isupervisord", "-Itests", "-w"]
    src = [os.path.join(d, f) for d in ("supervisord/model", "tests/sim")
           for f in sorted(os.listdir(os.path.join(work, d))) if f.endswith(".c")]
    libs = [p for p in (os.path.join(build_dir, a) for a in ("unit.a", "base.a")) if os.path.exists(p)]
    return subprocess.run(["gcc", *flags, "-o", "sim", *src, *libs, "-lcap", "-lseccomp", "-linih", "-ljansson"],
                          cwd=work, capture_output=True, text=True)


def run_mutant(m, work, build_dir):
    what, name, old, new = m
    path = os.path.join(work, "supervisord/model", name)
    text = open(path, encoding="utf-8").read()
    if text.count(old) != 1:
        return False, "the text to replace stands %d times in %s" % (text.count(old), name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    try:
        b = build(work, build_dir)
        if b.returncode:
            return False, "does not compile: " + b.stderr[-300:]
        try:
            r = subprocess.run(["./sim", "--steps", str(STEPS), "--seed", str(SEEDS)], cwd=work, text=True,
                               capture_output=True, timeout=120, errors="replace")
        except subprocess.TimeoutExpired:
            return True, "it hangs"
        line = next((l for l in r.stdout.splitlines() if l.startswith("not ok - seed")), "")
        return r.returncode != 0, line[9:] or (r.stderr.strip().splitlines() or ["nothing noticed"])[-1]
    finally:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default=os.environ.get("STAYD_BUILD", "build"))
    ap.add_argument("--quick", action="store_true")
    a = ap.parse_args()
    build_dir = os.path.abspath(a.build)
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        for d in ("include", "supervisord", "tests/sim"):
            shutil.copytree(os.path.join(TOP, d), os.path.join(work, d))
        for f in os.listdir(os.path.join(TOP, "tests")):
            if f.endswith(".h"):
                shutil.copy(os.path.join(TOP, "tests", f), os.path.join(work, "tests", f))
        for m in MUTANTS[:QUICK] if a.quick else MUTANTS:
            caught, how = run_mutant(m, work, build_dir)
            bad += not caught
            print("%sok - mutant: %s (%s)" % ("" if caught else "not ", m[0], how), flush=True)
    return 1 if bad else 0


sys.exit(main())
