/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a unit file: loading ends, the conf is sane, every diagnostic has its place.
 * Options: -max_len=1536 */
#include "unit/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
	"web@1.service", "a.service", "x.target", "x.socket", "-.slice"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct unit_path path;
	if (!path.config_dir)
		unit_path_default(&path, "/nonexistent");
	const char *name = names[size ? data[0] % ARRAY_SIZE(names) : 0];
	struct unit_conf *c = unit_load_text(&path, name, "fuzz", (const char *)data, size);
	for (size_t i = 0; i < c->n_diagnostics; i++) {
		const struct diagnostic *d = &c->diagnostics[i];
		assert(d->text && d->code && utf8_is_valid(d->text, strlen(d->text)));
		assert((d->line == 0) == (d->column == 0));
	}
	for (size_t i = 0; i < c->n_degraded; i++)
		assert(c->degraded[i].reason && c->degraded[i].class != CLASS_FULL);
	for (enum exec_kind k = 0; k < EXEC_KIND_MAX; k++)
		for (size_t i = 0; i < c->service.exec[k].n; i++) {
			const struct exec_cmd *cmd = &c->service.exec[k].v[i];
			assert(cmd->argc > 0 && cmd->argv[cmd->argc] == NULL && cmd->path[0]);
		}
	for (enum dep_kind k = 0; k < DEP_MAX; k++)
		for (size_t i = 0; i < c->deps[k].n; i++)
			assert(unit_name_is_valid(c->deps[k].v[i]));
	assert(c->service.type < SERVICE_TYPE_MAX && c->text && c->description);
	unit_conf_unref(c);
	return 0;
}
