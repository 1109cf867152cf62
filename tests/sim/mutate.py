#!/usr/bin/python3
"""Does anybody notice? Builds the model with one deliberate mistake at a time and runs the simulator.

Each mutant is a replacement of a text that stands exactly once in its file. A mutant that the
simulator does not catch within its steps is "not ok": an invariant is missing or too weak. What
only a sentence can judge names the unit test that has to fail instead, and "scripts" stands for the
stories with a death at every instant.

  mutate.py [--quick] [WORD...]    --quick: the first few only (make check)"""
import argparse, concurrent.futures, os, resource, shutil, signal, subprocess, sys, tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEEDS, STEPS = 1, 4000000
CPU_SEC = 300  # what is right needs some ten
QUICK = 4  # from the front, and as many from the end

# (what is wrong, file, text, replacement[, unit test that judges it])
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
     "	if (!u->rec.control_pid)\n		note_dropped(u, u->rec.control.seq);\n",
     "", "test_model_instance"),
    ("canceled requests are forgotten", "job.c",
     "		requests_answer(w, u, REPLY_CANCELED, \"canceled by a later request\");",
     "		u->n_requests = 0;"),
    ("requests are answered and kept", "job.c",
     "	u->n_requests = 0;\n}\n\nstatic void requests_cancel",
     "}\n\nstatic void requests_cancel"),
    ("a record changes and is not written", "health.c",
     "	if (*streak != before)\n		unit_touch(w, u);",
     ""),
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
     "", "test_model_job"),
    ("a timer of the heap is misplaced", "world.c",
     "	if (last != t) {\n		heap_set(w, i, last);\n		heap_sift(w, i);\n	}",
     "	if (last != t)\n		heap_set(w, i, last);"),
    ("one zero is enough to be drained", "lb.c",
     "#define ZERO_SEEN 2", "#define ZERO_SEEN 1"),
    ("a row counts before it is read back", "lb.c",
     "	return s->serial && s->known && s->in_sync && s->state == (uint32_t)state;",
     "	(void)state;\n	return s->serial && s->known;", "test_model_lb"),
    ("the last sample before a change counts", "lb.c",
     "	if (s->serial <= last->serial)\n		return;", "	if (0)\n		return;"),
    ("a stop while it is out believes one sample", "lb.c",
     "		if (is_reachable(u, i) && !is_unknown && u->lb->zero_seen[i] < ZERO_SEEN)",
     "		if (is_reachable(u, i) && !is_unknown && !s->serial)"),
    ("members that never ran have no row", "lb.c",
     "		if (!u || lb >= lb_count(u) || !attach(w, u))",
     "		if (!u || lb >= lb_count(u) || !u->lb || u->rec.lb_phase == LBP_NONE)"),
    ("an exit does not take it out of the load balancer", "lb.c",
     "	feed(w, u, LBE_GONE);", "	;"),
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
     "	if (u->next_conf && !r->is_rollback_wanted)", "test_model_rollout"),
    ("the deadline of a restored rollout is lost", "rollout_begin.c",
     "		rollout_arm_deadline(w, s, rollout_soak_us(s, 0));", "		;"),
    ("what a restart put right is not journalled", "rollout_begin.c",
     "		rollout_journal(w, s, \"core was restarted\");", "		;"),
    ("the end of a rollout takes back what a person asked for", "rollout.c",
     "	return u->rec.want == WANT_DOWN || (u->n_requests && u->request_verb == REQ_RESTART);",
     "	(void)u;\n	return false;", "test_model_rollout"),
    ("a late drain is taken for a stop", "rollout.c",
     "		return has_left_lb(u) ? step : STEP_DRAIN;",
     "		return step;", "test_model_rollout"),
    ("an abort forgets who waits for the set", "rollout_begin.c",
     "		set_op_cancel(w, s, \"the rollout goes on\");", "		;", "test_model_rollout"),
    ("who waits for a back-off through others is not told", "job.c",
     "		else if (was_stuck || waits_for_restart(u))", "		else if (was_stuck)", "test_model_job"),
    ("failures of a core before are counted", "health.c",
     "		u->rec.check_streak[c] = 0;\n	}", "	}", "test_model_job"),
    ("a shutdown forgets a unit", "world.c",
     "		if (!unit_is_down(w->units[w->down_from]))\n			return;",
     "		if (unit_is_up(w->units[w->down_from]))\n			return;"),
    ("the waiter of a dead core is answered", "rollout_begin.c",
     "	r->request = 0; /*", "	/*"),
    # ---- worlds, deaths at every instant, causes ----
    ("adoption doubles what runs", "instance_event.c",
     "		inst_arm_watchdog(w, u); /* keep-alives went unheard */",
     "		inst_spawn(w, u, EXEC_START, 0, true);", "scripts"),
    ("what is gone without a status is started again behind Restart=", "instance_event.c",
     "	if (is_main ? u->rec.main_pid : u->rec.control_pid)\n		return false;\n",
     "", "test_model_instance"),
    ("a row of another host is written", "lb.c",
     "	fx = fx_add(w, FX_LB_WANT);\n	fx->unit = u;",
     "	fx = fx_add(w, FX_LB_WANT);\n	fx->unit = u->set->members[0];"),
    ("a restored record may sit in another's place", "world.c",
     "	if (!u->rec.index)\n		u->rec.index = index;",
     "	u->rec.index = index > 1 ? (uint16_t)(index - 1) : index;"),
    ("nobody asks again for what a survivor left", "instance.c",
     "	if (u->rec.left_over)\n		inst_check_empty(w, u);\n	job_survivors_gone",
     "	job_survivors_gone"),
    ("survivors are gone before their exit is told", "instance.c",
     "	if (u->rec.left_over && u->is_empty) {",
     "	if (u->rec.left_over) {", "test_model_instance"),
    ("any word of birth settles a spawn that was given up", "instance_event.c",
     "		if (u->dropped[i] != id->seq)\n			continue;\n",
     "", "test_model_instance"),
    ("an undrain that fails is not answered", "lb.c",
     "	if (u->rec.lb_phase != LBP_HELD)\n		answer(w, u, REPLY_FAILED, why);",
     "	(void)answer, (void)w, (void)u, (void)why;", "test_model_lb"),
    ("a check written under a running service is never asked", "world.c",
     "	health_conf_changed(w, u);\n", "", "test_model_instance"),
    ("a command before the start names the main process", "instance_event.c",
     "	bool may_be_named = s == INST_START || s == INST_START_POST || is_live_state(s);",
     "	bool may_be_named = s == INST_START || s == INST_START_POST || is_live_state(s) ||\n			    s == INST_CONDITION || s == INST_START_PRE;", "test_model_instance"),
    ("a preflight that is restored takes members for touched", "rollout_begin.c",
     "		if (r->state == ROLL_PREFLIGHT)", "		if (false)", "test_model_rollout"),
    ("a deadline that nobody looked at is held against the service", "world.c",
     "	if (!is_judging(t->kind) || w->now_us - t->at_us < LATE_US)\n		return false;",
     "	(void)is_judging, (void)w, (void)t;\n	if (true)\n		return false;", "scripts"),
    ("one that runs long is killed for nothing", "instance.c",
     "		backoff_stable(w, u);", "		inst_fire(w, u, FSM_STOP);"),
    ("identities are used again", "instance.c",
     "	id->seq = ++u->rec.next_seq;",
     "	id->seq = u->rec.next_seq += !(u->rec.next_seq % 8 == 7);"),
    ("draining leaves it enabled", "lb.c",
     "	u->lb->is_forced = false;\n	lb_want(w, u, LB_DRAIN, 100);\n	arm_drain(w, u);\n}\n\nstatic void enter_ramping",
     "	u->lb->is_forced = false;\n	lb_want(w, u, LB_READY, 100);\n	arm_drain(w, u);\n}\n\nstatic void enter_ramping"),
    ("one more may leave than MaxUnavailable", "rollout.c",
     "	       rollout_serving(s) >= rollout_needed(s) + unit_is_available(u);",
     "	       rollout_serving(s) >= rollout_needed(s);", "scripts"),
    ("a stop whose status nobody saw has failed", "instance_event.c",
     "	if (r == RES_LOST &&", "	if (false && r == RES_LOST &&", "scripts"),
    ("a commit that core died of is not made again", "rollout_begin.c",
     "		rollout_commit(w, s);", "		;", "scripts"),
    ("an end without a status is no end", "instance_event.c",
     "	if (is_main && ev->code == CHILD_LOST)\n		fx_event(",
     "	if (is_main && ev->code == CHILD_LOST)\n		return;\n	if (is_main && ev->code == CHILD_LOST)\n		fx_event(", "scripts"),
    ("a restored unit no longer wants its row", "lb.c",
     "	u->lb->wanted = LB_STATE_MAX;\n	if (phase == LBP_HELD) {",
     "	u->lb->wanted = phase == LBP_IN ? LB_READY : LB_MAINT;\n	u->lb->weight = 100;\n	if (phase == LBP_HELD) {", "scripts"),
    ("probes of a restored core are not begun", "health.c",
     "	if (u->rec.state == INST_RUNNING || u->rec.state == INST_RELOAD)\n		begin_all(w, u, 1);",
     "	;", "scripts"),
]


def cc(work, *args):
    return subprocess.run(["gcc", "-O1", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-Iinclude", "-Isupervisord", "-Itests",
                           "-w", *args], cwd=work, capture_output=True, text=True)


def limit_cpu():
    """Of the processor, not of the clock: on a loaded machine what is right takes minutes, too. Nothing here waits."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SEC, CPU_SEC + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def compile_all(work, paths):
    """Objects of the copy, by source; what does not change between mutants is compiled once."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for src, r in zip(paths, pool.map(lambda s: cc(work, "-c", s, "-o", s[:-2] + ".o"), paths)):
            if r.returncode:
                sys.exit("%s: %s" % (src, r.stderr[-1000:]))


def sources(work, folder):
    return [os.path.join(folder, f) for f in sorted(os.listdir(os.path.join(work, folder))) if f.endswith(".c")]


class Tree:
    """A copy of the tree to break, with everything that judges it compiled."""

    def __init__(self, work):
        self.work = work
        for d in ("include", "supervisord", "tests/sim", "tests/unit"):
            shutil.copytree(os.path.join(TOP, d), os.path.join(work, d))
        for f in os.listdir(os.path.join(TOP, "tests")):
            if f.endswith(".h"):
                shutil.copy(os.path.join(TOP, "tests", f), os.path.join(work, "tests", f))
        self.model, self.sim = sources(work, "supervisord/model"), sources(work, "tests/sim")
        self.below = sources(work, "supervisord/unit") + sources(work, "supervisord/base")
        tests = sorted({m[4] for m in MUTANTS if len(m) > 4} - {"scripts"})
        compile_all(work, self.model + self.sim + self.below + ["tests/unit/check_main.c"] +
                    ["tests/unit/%s.c" % x for x in tests])

    def judge(self, test):
        """Links and runs what has to notice; (noticed, how)."""
        is_script = test == "scripts"
        test = None if is_script else test
        mine = ["tests/unit/%s.c" % test, "tests/unit/check_main.c"] if test else self.sim
        objects = [s[:-2] + ".o" for s in mine + self.model + self.below]
        libs = ["-lcap", "-lseccomp", "-linih", "-ljansson", "-lmd"]
        r = cc(self.work, "-o", "judge", *objects, *libs, *(["-lcheck", "-lsubunit", "-lm", "-lrt", "-pthread"] if test else []))
        if r.returncode:
            return False, "does not link: " + r.stderr[-300:]
        argv = ["./judge", "--scripts", "--failures", "1"] if is_script else ["./judge"] if test else ["./judge", "--steps", str(STEPS), "--seed", str(SEEDS), "--failures", "1"]
        r = subprocess.run(argv, cwd=self.work, text=True, capture_output=True, errors="replace", preexec_fn=limit_cpu)
        if r.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return True, "it hangs"
        line = next((l for l in r.stdout.splitlines() if l.startswith("not ok - " if not test else "not ok ")), "")
        return r.returncode != 0, line[9 if not test else 7:200] or (r.stderr.strip().splitlines() or ["nothing noticed"])[-1]

    def run(self, mutant):
        what, name, old, new, *test = mutant
        src = os.path.join("supervisord/model", name)
        path = os.path.join(self.work, src)
        text = open(path, encoding="utf-8").read()
        if text.count(old) != 1:
            return False, "the text to replace stands %d times in %s" % (text.count(old), name)
        try:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text.replace(old, new))
            r = cc(self.work, "-c", src, "-o", src[:-2] + ".o")
            if r.returncode:
                return False, "does not compile: " + r.stderr[-300:]
            return self.judge(test[0] if test else None)
        finally:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            cc(self.work, "-c", src, "-o", src[:-2] + ".o")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", help="accepted from tests/run.py; everything is compiled here")
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("words", nargs="*", help="only mutants whose description has one of these")
    a = ap.parse_args()
    mutants = MUTANTS[:QUICK] + MUTANTS[-QUICK:] if a.quick else MUTANTS
    mutants = [m for m in mutants if not a.words or any(w in m[0] for w in a.words)]
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        tree = Tree(work)
        for test in sorted({(m[4:] or ("",))[0] for m in mutants}):  # else everything would be noticed
            noticed, how = tree.judge(test or None)
            if noticed:
                bad += 1
                print("not ok - no mutant, %s (%s)" % (test or "simulator", how), flush=True)
        for m in mutants:
            caught, how = tree.run(m)
            bad += not caught
            print("%sok - mutant: %s (%s)" % ("" if caught else "not ", m[0], how), flush=True)
    print("# %d of %d mutants caught" % (len(mutants) - bad, len(mutants)))
    return 1 if bad else 0


sys.exit(main())
