/* SPDX-License-Identifier: Apache-2.0 */
/* What differs from start to start: variables in the environment and where ReleaseLink= points. */
#include "core/inner.h"

#include <limits.h>

static char *release_dir_of(const struct unit *u)
{
	const struct rollout_conf *r = &u->conf->rollout;
	if (!r->release_root || !u->rec.release[0])
		return NULL;
	return xasprintf("%s/%s", r->release_root, u->rec.release);
}

void start_vars_make(struct core *c, struct unit *u, enum exec_kind exec, const struct spawn_id *id,
	struct start_vars *ret)
{
	struct id128 invocation;
	char hex[ID128_HEX];
	memset(ret, 0, sizeof(*ret));
	memcpy(invocation.b, id->invocation, sizeof(invocation.b));
	strv_add_take(&ret->env, xasprintf("INVOCATION_ID=%s", id128_hex(hex, &invocation)));
	strv_add_take(&ret->env, xasprintf("STAYD_UNIT=%s/%s", c->runtime_dir, u->name));
	if (u->conf->service.notify_access != NOTIFY_NONE && c->notify_path)
		strv_add_take(&ret->env, xasprintf("NOTIFY_SOCKET=%s", c->notify_path));
	if (u->rec.watchdog_us && u->rec.watchdog_us != USEC_INFINITY && exec == EXEC_START)
		strv_add_take(&ret->env,
			xasprintf("WATCHDOG_USEC=%llu", (unsigned long long)u->rec.watchdog_us));
	if (u->rec.main_pid && exec != EXEC_START)
		strv_add_take(&ret->env, xasprintf("MAINPID=%d", u->rec.main_pid));
	if (u->rec.port)
		strv_add_take(&ret->env, xasprintf("PORT=%u", u->rec.port));
	if (u->rec.index) {
		strv_add_take(&ret->env, xasprintf("INSTANCE=%s", strna(u->conf->instance)));
		strv_add_take(&ret->env, xasprintf("REPLICA_INDEX=%u", u->rec.index));
	}
	if (u->rec.release[0])
		strv_add_take(&ret->env, xasprintf("RELEASE=%s", u->rec.release));
	ret->release_dir = release_dir_of(u);
	if (ret->release_dir)
		strv_add_take(&ret->env, xasprintf("RELEASE_DIR=%s", ret->release_dir));
	if (exec == EXEC_STOP || exec == EXEC_STOP_POST) {
		/* systemd.exec(5): $SERVICE_RESULT, $EXIT_CODE, $EXIT_STATUS */
		bool is_exit = u->rec.main_code == 1; /* CLD_EXITED */
		strv_add_take(
			&ret->env, xasprintf("SERVICE_RESULT=%s", inst_result_name(u->rec.result)));
		if (u->rec.main_code) {
			strv_add_take(&ret->env,
				xasprintf("EXIT_CODE=%s", is_exit ? "exited" : "killed"));
			strv_add_take(&ret->env,
				is_exit ? xasprintf("EXIT_STATUS=%d", u->rec.main_status)
					: xasprintf("EXIT_STATUS=%s",
						  strna(signal_name(u->rec.main_status)) + 3));
		}
	}
}

void start_vars_done(struct start_vars *v)
{
	strv_done(&v->env);
	free(TAKE_PTR(v->release_dir));
}

/* As the service has it: ours come last, and of two the later one counts. */
static const char *value_of(
	const struct strv *ours, const struct conf_list *unit, const char *name, size_t n)
{
	const char *value = NULL;
	for (size_t i = 0; i < unit->n; i++)
		if (strncmp(unit->v[i], name, n) == 0 && unit->v[i][n] == '=')
			value = unit->v[i] + n + 1;
	for (size_t i = 0; i < ours->n; i++)
		if (strncmp(ours->v[i], name, n) == 0 && ours->v[i][n] == '=')
			value = ours->v[i] + n + 1;
	return strna(value);
}

/* ${NAME} and $NAME of the variables above, for probe targets. Unknown ones expand to nothing. */
char *expand_variables(struct core *c, struct unit *u, const char *text)
{
	struct start_vars vars;
	struct spawn_id none = {.seq = 0};
	struct buf out = {0};
	start_vars_make(c, u, EXEC_START, &none, &vars);
	for (const char *p = text; *p;) {
		if (*p != '$') {
			buf_add_byte(&out, *p++);
			continue;
		}
		bool braced = p[1] == '{';
		const char *name = p + 1 + braced;
		size_t n = strspn(
			name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
		if (n == 0 || (braced && name[n] != '}')) {
			buf_add_byte(&out, *p++);
			continue;
		}
		buf_add_str(&out, value_of(&vars.env, &u->conf->exec.environment, name, n));
		p = name + n + braced;
	}
	start_vars_done(&vars);
	return buf_steal(&out);
}
