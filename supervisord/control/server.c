/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control server: org.varlink.service, and each call on its way from a client to its handler.
 *
 * Owns the parts of struct control. Invariants:
 *  1. Who may not make a call is told so whatever its parameters are, and no handler runs.
 *  2. A change is in the audit log before it begins.
 * Called by core: control_*(); and by client.c for each call.
 */
#include "control/control.h"

#include "control/audit.h"
#include "control/json.h"
#include "control/logs.h"
#include "control/verbs.h"
#include "control/waits.h"
#include "stayd/stayd.h"

static verb_fn *const handlers[METHOD_MAX] = {
#define METHOD(id, name_, role_, is_change_, in_, out_, doc_) [METHOD_##id] = verb_##id,
#include "stayd/verbs.def"
};

/* ---- org.varlink.service --------------------------------------------------------------------------- */

static void service_info(struct client *cl)
{
	struct buf b = {0};
	j_open(&b, NULL, '{');
	j_str(&b, "vendor", "stayd");
	j_str(&b, "product", "stayd");
	j_str(&b, "version", STAYD_VERSION);
	j_str(&b, "url", "https://stayd.org/");
	j_open(&b, "interfaces", '[');
	j_str(&b, NULL, "org.varlink.service");
	j_str(&b, NULL, "org.stayd.Control");
	j_close(&b, ']');
	j_close(&b, '}');
	client_send(cl, &b, false);
	buf_done(&b);
}

static const char varlink_service[] =
	"interface org.varlink.service\n\n"
	"method GetInfo() -> (vendor: string, product: string, version: string, url: string, "
	"interfaces: []string)\n"
	"method GetInterfaceDescription(interface: string) -> (description: string)\n\n"
	"error InterfaceNotFound (interface: string)\n"
	"error MethodNotFound (method: string)\n"
	"error InvalidParameter (parameter: string)\n"
	"error PermissionDenied ()\n";

static void service_description(struct client *cl, const json_t *params)
{
	const char *interface = json_string_value(json_object_get(params, "interface"));
	struct buf text = {0}, b = {0};
	if (!interface) {
		client_fail(
			cl, "org.varlink.service.InvalidParameter", "parameter", "interface", NULL);
		return;
	}
	if (streq(interface, "org.stayd.Control")) {
		methods_describe(&text);
	} else if (streq(interface, "org.varlink.service")) {
		buf_add_str(&text, varlink_service);
	} else {
		client_fail(
			cl, "org.varlink.service.InterfaceNotFound", "interface", interface, NULL);
		return;
	}
	j_open(&b, NULL, '{');
	j_strn(&b, "description", text.data, text.size);
	j_close(&b, '}');
	client_send(cl, &b, false);
	buf_done(&text);
	buf_done(&b);
}

/* ---- calls --------------------------------------------------------------------------------------------- */

static void call_denied(struct call *c)
{
	struct peer *p = client_peer(c->client);
	if (audit_refused(c->control->audit, c))
		log_note(NULL, "control: pid %d: %s", (int)p->pid, c->e.text);
	client_fail(
		c->client, "org.varlink.service.PermissionDenied", "message", c->e.text, c->hint);
}

/* A change is in the audit log before it begins. */
static int call_handler(struct call *c)
{
	struct audit *a = c->control->audit;
	int r = methods[c->method].is_change ? audit_may_change(a, c) : 0;
	if (r < 0)
		return r;
	if (methods[c->method].is_change)
		audit_intent(a, c);
	r = handlers[c->method](c);
	audit_called(a, c, r);
	return r;
}

static void call_verb(struct client *cl, enum method_id id, const json_t *params, bool more)
{
	struct control *control = client_owner(cl);
	struct call c = {
		.control = control,
		.daemon = control->daemon,
		.core = control->core,
		.client = cl,
		.method = id,
		.params = params,
		.more = more,
	};
	char bad[64];
	c.role = access_role(control->access, client_peer(cl));
	int r = verbs_allowed(&c);
	if (r == 0 && params_check(methods[id].in, params, bad, sizeof(bad)) < 0) {
		client_fail(cl, "org.varlink.service.InvalidParameter", "parameter", bad, NULL);
		return;
	}
	if (r == 0)
		r = call_handler(&c);
	if (r < 0 && c.is_denied)
		call_denied(&c);
	else if (r < 0)
		client_send_error(cl, call_error(&c), c.e.text, c.hint);
	else if (r == VERB_REPLIED && c.out.size > CONTROL_REPLY_MAX)
		client_send_error(
			cl, "TooLarge", "the answer is too large: ask for fewer units", NULL);
	else if (r == VERB_REPLIED && c.out.size > CLIENT_KEPT_MAX &&
		 client_user_behind(cl) + c.out.size > CONTROL_UNREAD_UID_MAX)
		client_send_error(cl, "Busy", "answers to this user are not being read", NULL);
	else if (r == VERB_REPLIED)
		client_send(cl, &c.out, false);
	clients_wake(control->clients, audit_retry_at(control->audit));
	buf_done(&c.out);
}

static void on_call(struct client *cl, const char *method, const json_t *params, bool more)
{
	static const char prefix[] = "org.stayd.Control.";
	const char *dot = strrchr(method, '.');
	if (streq(method, "org.varlink.service.GetInfo")) {
		service_info(cl);
	} else if (streq(method, "org.varlink.service.GetInterfaceDescription")) {
		service_description(cl, params);
	} else if (!startswith(method, prefix) && !startswith(method, "org.varlink.service.")) {
		char *interface = dot ? xstrndup(method, (size_t)(dot - method)) : xstrdup(method);
		client_fail(
			cl, "org.varlink.service.InterfaceNotFound", "interface", interface, NULL);
		free(interface);
	} else {
		int id = startswith(method, prefix) ? method_find(method + strlen(prefix)) : -1;
		if (id >= 0)
			call_verb(cl, (enum method_id)id, params, more);
		else
			client_fail(
				cl, "org.varlink.service.MethodNotFound", "method", method, NULL);
	}
}

static void on_has_read(struct client *cl)
{
	logs_follow_poke(cl);
}

static void on_gone(struct client *cl)
{
	struct control *c = client_owner(cl);
	waits_client_gone(c->waits, cl);
}

/* Lines of the audit log are being lost: are they still? */
static void on_wake(void *owner)
{
	struct control *c = owner;
	audit_retry(c->audit);
	clients_wake(c->clients, audit_retry_at(c->audit));
}

static const struct client_ops ops = {
	.called = on_call,
	.has_read = on_has_read,
	.gone = on_gone,
	.wake = on_wake,
};

/* ---- for core ------------------------------------------------------------------------------------------- */

void control_reply_done(
	struct control *c, uint64_t request, enum reply_result result, const char *text)
{
	waits_reply_done(c->waits, request, result, text);
}

void control_logs_written(struct control *c)
{
	waits_logs_written(c->waits);
}

void control_event(struct control *c, const struct effect *fx)
{
	waits_event(c->waits, fx);
}

void control_reexec_refused(struct control *c, const char *why)
{
	audit_reexec_refused(c->audit, why);
}

uint64_t control_signal_begin(struct control *c, const char *signal, bool is_reload)
{
	return audit_signal(c->audit, is_reload ? METHOD_DAEMON_RELOAD : METHOD_SHUTDOWN, signal);
}

void control_signal_end(struct control *c, uint64_t change)
{
	audit_signal_done(c->audit, change);
	clients_wake(c->clients, audit_retry_at(c->audit));
}

size_t control_clients(const struct control *c)
{
	return clients_count(c->clients);
}

void control_reload(struct control *c, struct buf *notes)
{
	struct err e = {0};
	if (access_reload(c->access, &e) >= 0)
		return;
	log_error(NULL, "%s; until it is repaired only root and uid %u may do anything", e.text,
		(unsigned)geteuid());
	if (notes)
		buf_printf(notes, "%s; only root may do anything\n", e.text);
}

int control_new(struct loop *l, int listen_fd, const char *config,
	const struct control_daemon *daemon, struct core *core, struct control **ret)
{
	struct control *c = xcalloc(1, sizeof(*c));
	c->loop = l;
	c->daemon = daemon;
	c->core = core;
	c->access = access_new(config, geteuid());
	int r = clients_new(l, listen_fd, c->access, &ops, c, &c->clients);
	if (r < 0) {
		access_free(c->access);
		free(c);
		return r;
	}
	control_reload(c, NULL);
	c->audit = audit_new(l, daemon->status(core));
	clients_wake(c->clients, audit_retry_at(c->audit));
	c->waits = waits_new(c);
	*ret = c;
	return 0;
}

struct control *control_free(struct control *c)
{
	if (!c)
		return NULL;
	clients_free(c->clients);
	waits_free(c->waits);
	access_free(c->access);
	audit_free(c->audit);
	free(c);
	return NULL;
}
