/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of units and rollouts as a core before us may have left them: whole and true, whole and
 * lying, or damaged. Written by the real writer, damaged here, read by the real reader, restored
 * into a world that then goes on for some events.
 *
 *  - what was not damaged comes back as it was;
 *  - what is damaged is not seen, or its previous copy is;
 *  - no record leads to a state that does not exist.
 * Options: -max_len=4096
 */
#include "world_rig.h"

#include <sys/mman.h>

#define FLIPS_MAX  4
#define EVENTS_MAX 24

static struct core before, core;
static struct unit_rec written[64];
static bool is_damaged;

static void make_core(struct core *c, int fd)
{
	memset(c, 0, sizeof(*c));
	c->keeper_fd = c->launcher_fd = c->logger_fd = c->net_fd = -1;
	c->cgroup_base_fd = c->notify_fd = c->control_fd = -1;
	c->runtime_dir = (char *)"/nonexistent";
	memset(&c->boot, 7, sizeof(c->boot));
	c->world = rig_world(c);
	c->is_in_memory = c->is_exiting = true; /* no file, no keeper */
	if (record_open(c, dup(fd)) < 0)
		abort();
}

static void free_core(struct core *c)
{
	fd_close(c->record_fd);
	rig_world_free(c->world);
	effects_done(&c->fx);
}

static void write_records(struct input *in)
{
	struct world *w = before.world;
	memset(written, 0, sizeof(written));
	for (unsigned n = in_u8(in) % 12; n > 0 && in_left(in); n--) {
		struct unit *u = w->units[in_u8(in) % w->n_units];
		uint8_t what = in_u8(in);
		if (what & 1) { /* some true fields */
			u->rec.state = in_u8(in) % INST_STATE_MAX;
			u->rec.want = in_u8(in) % 3;
			u->rec.main =
				(struct spawn_id){.invocation = {in_u8(in)}, .seq = in_u8(in)};
			u->rec.main_pid = in_u8(in);
			u->rec.lb_phase = in_u8(in) % LBP_MAX;
			u->rec.timer_at_us[in_u8(in) % TIMER_UNIT_MAX] = in_u32(in);
			u->rec.revision = in_u8(in) % 4;
		} else {
			in_bytes(in, &u->rec, sizeof(u->rec));
			u->rec.version = UNIT_REC_VERSION;
		}
		written[u->id] = u->rec;
		is_damaged |= unit_rec_check(&u->rec) < 0; /* a lie is as good as damage */
		unit_touch(w, u);
		record_write_dirty(&before);
	}
}

static void damage(struct input *in, int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	unsigned n = in_u8(in) % (2 * FLIPS_MAX);
	for (; n > FLIPS_MAX && size > 0; n--) {
		off_t at = (off_t)(in_u32(in) % (uint32_t)size);
		uint8_t byte = 0, mask = in_u8(in);
		(void)!pread(fd, &byte, 1, at);
		byte ^= mask;
		(void)!pwrite(fd, &byte, 1, at);
		is_damaged |= mask != 0;
	}
	if (in_u8(in) & 1) {
		is_damaged = true;
		uint32_t to = in_u32(in); /* shorter, or very much longer */
		(void)!ftruncate(fd, to & 1 ? (off_t)to << 8 : (off_t)(to % (uint32_t)(size + 1)));
	}
}

static void restore_one(struct core *c, uint32_t slot, uint64_t generation, const char *name,
	const struct unit_rec *r, const struct unit_kept *kept UNUSED, bool is_sound)
{
	struct unit *u = world_unit(c->world, name);
	assert(is_sound || is_damaged);
	assert(u && generation > 0 && slot < c->n_slots);
	if (!is_damaged)
		assert(memcmp(r, &written[u->id], sizeof(*r)) == 0);
	(void)world_restore_unit(c->world, u, r);
}

static void restore_rollouts(struct input *in, struct world *w)
{
	for (size_t i = 0; i < w->n_sets; i++) {
		struct rollout_rec r = w->sets[i]->rollout;
		uint8_t what = in_u8(in);
		if (what & 1) {
			in_bytes(in, &r, sizeof(r));
			r.version = ROLLOUT_REC_VERSION;
		} else if (what & 2) {
			r.state = in_u8(in) % ROLL_STATE_MAX;
			r.resume_state = in_u8(in) % ROLL_STATE_MAX;
			r.count = in_u8(in) % 5;
			r.surge = in_u8(in) % 3;
			r.unavailable = in_u8(in) % 3;
			r.to_revision = 2;
			r.from_revision = 1;
			r.id = in_u8(in);
			for (unsigned k = 0; k < 5; k++) {
				r.step[k] = in_u8(in) % STEP_MAX;
				r.touched[k] = in_u8(in) % 2;
			}
			uint8_t flags = in_u8(in);
			r.is_undo = flags & 1;
			r.is_rollback_wanted = flags >> 1 & 1;
			r.is_canary_passed = flags >> 2 & 1;
			r.is_restart = flags >> 3 & 1;
		} else {
			continue;
		}
		(void)world_restore_rollout(w, w->sets[i], &r);
	}
}

static void step(struct world *w, struct event *ev)
{
	w->n_dirty = 0;
	for (size_t i = 0; i < w->n_units; i++)
		w->units[i]->in_dirty_list = false;
	ev->now_us = MAX(ev->now_us, w->now_us);
	effects_reset(&core.fx);
	(void)world_step(w, ev, &core.fx);
	for (size_t i = 0; i < core.fx.n; i++) {
		const struct effect *fx = &core.fx.v[i];
		assert(fx->kind < FX_KIND_MAX && fx->exec < EXEC_KIND_MAX);
		assert(fx->kind != FX_SPAWN ||
			(fx->id.seq && fx->index < fx->unit->conf->service.exec[fx->exec].n));
		assert(fx->kind != FX_LB_WANT ||
			(fx->lb_state < LB_STATE_MAX && fx->weight <= 100));
		assert(!fx->text || is_printable(fx->text));
	}
	check_world(w);
}

static void go_on(struct input *in, struct world *w)
{
	struct event restored = {.kind = EV_RESTORED};
	step(w, &restored);
	for (int i = 0; i < EVENTS_MAX && in_left(in); i++) {
		struct unit *u = w->units[in_u8(in) % w->n_units];
		uint8_t what = in_u8(in);
		struct event ev = {.kind = EV_TIME, .unit = u, .now_us = w->now_us + 1};
		switch (what % 6) {
		case 0:
			ev.now_us =
				w->now_us + (uint64_t)in_u8(in) * in_u8(in) * USEC_PER_MSEC * 100;
			break;
		case 1:
			ev.kind = EV_EXITED;
			ev.id = what & 8 ? u->rec.control : u->rec.main;
			ev.pid = what & 8 ? u->rec.control_pid : u->rec.main_pid;
			ev.code = in_u8(in) % 4;
			ev.status = in_u8(in);
			break;
		case 2:
			ev.kind = EV_SPAWNED;
			ev.id = what & 8 ? u->rec.control : u->rec.main;
			ev.pid = 1000 + in_u8(in);
			break;
		case 3:
			ev.kind = EV_EMPTY;
			break;
		case 4:
			ev.kind = EV_NOTIFY;
			ev.pid = u->rec.main_pid;
			ev.bits = in_u8(in);
			ev.value_us = in_u32(in);
			break;
		default:
			ev.kind = EV_SHUTDOWN;
			break;
		}
		step(w, &ev);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = in_begin(data, size);
	static int fd = -1;
	if (fd < 0) {
		be_quiet();
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	}
	if (ftruncate(fd, 0) < 0)
		abort();
	is_damaged = false;
	make_core(&before, fd);
	write_records(&in);
	damage(&in, fd);
	make_core(&core, fd);
	record_each(&core, restore_one);
	restore_rollouts(&in, core.world);
	go_on(&in, core.world);
	free_core(&before);
	free_core(&core);
	return 0;
}
