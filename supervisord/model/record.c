/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a record may say. A record comes from another process, perhaps of another version, through a
 * file: its checksum says that it is whole, not that it is true.
 *
 *  1. Nothing here looks beyond the record: what it says about a unit or set is for its restorer.
 *  2. Every value that is an index, an enum, a bound or a text somewhere is checked here, so that
 *     nobody behind a restore has to.
 *  3. Times and counters may be anything; they are compared and shown, never trusted.
 *
 * Called by world.c before anything is restored, and by the readers of core.
 */
#include "rollout.h"

#define IS_TEXT(field) (memchr(field, '\0', sizeof(field)) != NULL)

/* It becomes part of paths; the same rule as for a release that is asked for. */
static bool is_release(const char release[RELEASE_NAME_MAX + 1])
{
	return memchr(release, '\0', RELEASE_NAME_MAX + 1) && !strchr(release, '/') &&
	       release[0] != '.';
}

static bool is_process(const struct spawn_id *id, int32_t pid, uint32_t next_seq)
{
	return (pid == 0 || pid > 1) && id->seq <= next_seq && (id->seq || !pid);
}

static bool flags_are_good(const struct unit_rec *r)
{
	return r->is_ready <= 1 && r->is_manual <= 1 && r->stop_wanted <= 1 &&
	       r->restart_wanted <= 1 && r->left_over <= 1 && r->is_unhealthy <= 1;
}

int unit_rec_check(const struct unit_rec *r)
{
	bool is_good = r->version + 1 >= UNIT_REC_VERSION && r->version <= UNIT_REC_VERSION + 1 &&
		       is_release(r->release) && r->state < INST_STATE_MAX && r->result < RES_MAX &&
		       r->want <= WANT_DOWN && r->lb_phase < LBP_MAX &&
		       r->control_kind < EXEC_KIND_MAX && r->reload_result < RES_MAX &&
		       r->index <= SET_MEMBERS_MAX && r->revision < REVISION_MAX &&
		       flags_are_good(r) && is_process(&r->main, r->main_pid, r->next_seq) &&
		       is_process(&r->control, r->control_pid, r->next_seq);
	for (int k = 0; k < CHECK_KIND_MAX; k++)
		is_good = is_good && r->check_ok[k] <= CHECK_FAILING;
	for (int k = 0; k < TIMER_UNIT_MAX; k++)
		is_good = is_good && r->timer_at_us[k] != USEC_INFINITY;
	/* Probes begin anew after a restart of core. */
	for (int k = TIMER_STARTUP; k <= TIMER_LIVE; k++)
		is_good = is_good && !r->timer_at_us[k];
	return is_good ? 0 : -EBADMSG;
}

int rollout_rec_check(const struct rollout_rec *r)
{
	bool is_good = r->version == ROLLOUT_REC_VERSION && r->state < ROLL_STATE_MAX &&
		       r->resume_state < ROLL_STATE_MAX && r->id < ROLLOUT_ID_MAX &&
		       r->from_revision < REVISION_MAX && r->to_revision < REVISION_MAX &&
		       r->count <= SET_MEMBERS_MAX && r->surge <= SET_MEMBERS_MAX - r->count &&
		       r->unavailable <= r->count && r->is_undo <= 1 &&
		       r->is_rollback_wanted <= 1 && r->is_canary_passed <= 1 &&
		       r->is_restart <= 1 && is_release(r->from_release) &&
		       is_release(r->to_release) && IS_TEXT(r->set) && IS_TEXT(r->actor) &&
		       IS_TEXT(r->reason);
	/* The phase goes on where it was paused: it must be one that can be. */
	if (r->state == ROLL_PAUSED)
		is_good = is_good && rollout_state_is_active((enum rollout_state)r->resume_state) &&
			  r->resume_state != ROLL_PAUSED;
	for (unsigned i = 0; i < SET_MEMBERS_MAX; i++)
		is_good = is_good && r->step[i] < STEP_MAX && r->touched[i] <= TOUCHED_FAILED;
	return is_good ? 0 : -EBADMSG;
}
