/* Keeps the flows to one port, and marks those that moved much as such.
 *
 * Change `keep`, run `make test`, and look at what is otherwise than expected; `make bless` accepts it.
 */
#include "flowgate.h"

/* What the options said. */
static uint64_t wanted_port, heavy_bytes;

static void plugin_describe(fg_description *description) {
  /* The host decodes and hands over only what is read here. */
  fg_describe(description, "{{name}}", "0.1.0", "Flows to one port, and which of them moved much",
              FG_FIELD(PROTOCOL) | FG_FIELD(DESTINATION_L4) | FG_COUNTERS);
  fg_option(description, "port", "PORT", "keep flows to this port", "443", false);
  fg_option(description, "bytes", "N", "note flows that moved more bytes than this", "1000000", false);
}

static const char *plugin_configure(const fg_setup *setup) {
  if (!fg_number(fg_value(setup, "port"), &wanted_port) || wanted_port > 65535)
    return "option port: it is no whole number from 0 to 65535";
  if (!fg_number(fg_value(setup, "bytes"), &heavy_bytes))
    return "option bytes: it is no whole number from 0 to 18446744073709551615";
  return NULL;
}

/* Whether ports have a meaning in this protocol. */
static bool has_ports(uint8_t protocol) {
  switch (protocol) {
    case FG_TCP: case FG_UDP: case FG_DCCP: case FG_SCTP: case FG_UDPLITE: return true;
    default: return false;
  }
}

static bool keep(const fg_flows *batch, uint32_t row, fg_outcome *outcome) {
  uint64_t bytes = fg_original_bytes(batch, row) + fg_reply_bytes(batch, row);
  if (!has_ports(fg_protocol(batch, row)) || fg_destination(&batch->original, row).port != wanted_port) return false;
  if (bytes > heavy_bytes) {
    char page[21];
    fg_annotate(outcome, row, "heavy", fg_decimal(page, bytes));
  }
  return true;
}

static void plugin_process(const fg_flows *batch, fg_outcome *outcome) {
  uint8_t *verdicts = fg_verdicts(batch, outcome);
  for (uint32_t row = 0; row < batch->length; row++) verdicts[row] = keep(batch, row, outcome);
}
