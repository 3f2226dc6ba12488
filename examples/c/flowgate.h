/* flowgate plugins in C: a row view over the columns of a batch, and notes that become an outcome.
 *
 * A plugin includes this file once and defines the functions under "what a plugin defines". It is linked with the
 * bindings that `flowgate-bindgen c` writes for the world `stage` (stage.h, stage.c, stage_component_type.o).
 * wit/flow.wit describes each column.
 */
#ifndef FLOWGATE_H
#define FLOWGATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stage.h"

typedef exports_flowgate_conntrack_plugin_description_t fg_description;
typedef exports_flowgate_conntrack_plugin_setup_t fg_setup;
typedef exports_flowgate_conntrack_flow_stage_flows_t fg_flows;
typedef exports_flowgate_conntrack_flow_stage_outcome_t fg_outcome;
typedef flowgate_conntrack_flow_tuples_t fg_tuples;
typedef stage_string_t fg_text;

/* Fields: bits of `has` and of what a plugin reads. */
enum {
  FG_SOURCE_BIT, FG_DESTINATION_BIT, FG_REPLY_SOURCE_BIT, FG_REPLY_DESTINATION_BIT, FG_PROTOCOL_BIT, FG_REPLY_PROTOCOL_BIT,
  FG_SOURCE_L4_BIT, FG_DESTINATION_L4_BIT, FG_REPLY_SOURCE_L4_BIT, FG_REPLY_DESTINATION_L4_BIT, FG_ORIGINAL_ZONE_BIT,
  FG_REPLY_ZONE_BIT, FG_ZONE_BIT, FG_STATUS_BIT, FG_TIMEOUT_BIT, FG_MARK_BIT, FG_SECMARK_BIT, FG_USE_BIT, FG_ID_BIT,
  FG_ORIGINAL_COUNTERS_BIT, FG_REPLY_COUNTERS_BIT, FG_START_BIT, FG_STOP_BIT, FG_EVENT_TIME_BIT, FG_STATE_BIT,
};
#define FG_FIELD(name) (UINT64_C(1) << FG_##name##_BIT)
#define FG_ORIGINAL UINT64_C(0xd3)                                    /* original tuple and protocol */
#define FG_REPLY UINT64_C(0x32c)                                      /* reply tuple and protocol */
#define FG_TUPLES (FG_ORIGINAL | FG_REPLY)
#define FG_COUNTERS (FG_FIELD(ORIGINAL_COUNTERS) | FG_FIELD(REPLY_COUNTERS))
#define FG_TIMES (FG_FIELD(START) | FG_FIELD(STOP))

/* Layer-4 protocols (IANA), address families (AF_* of the kernel), status bits (IPS_* of the kernel). */
enum { FG_ICMP = 1, FG_TCP = 6, FG_UDP = 17, FG_DCCP = 33, FG_GRE = 47, FG_ICMPV6 = 58, FG_SCTP = 132, FG_UDPLITE = 136 };
enum { FG_IPV4 = 2, FG_IPV6 = 10 };
enum { FG_SEEN_REPLY = 2, FG_ASSURED = 4, FG_SRC_NAT = 0x10, FG_DST_NAT = 0x20 };
enum { FG_EVENT_NONE, FG_EVENT_NEW, FG_EVENT_UPDATE, FG_EVENT_DESTROY, FG_EVENT_GAP };

/* ---- what a plugin defines ---- */

/* Returns the plugin's description. FG_OPTION fills an option. */
static void plugin_describe(fg_description *description);
/* Receives the options; returns NULL, or an error that is shown to the user. */
static const char *plugin_configure(const fg_setup *setup);
/* Processes a batch. `outcome` is empty at first: all rows are kept, without annotations. */
static void plugin_process(const fg_flows *batch, fg_outcome *outcome);

/* ---- texts ---- */

/* A text that is passed to the host: freed by the bindings. */
static inline fg_text fg_copy(const char *text) {
  fg_text copy;
  stage_string_dup(&copy, text);
  return copy;
}

/* ---- description and options ---- */

/* Sets the plugin's name and the fields that it reads. */
static inline void fg_describe(fg_description *description, const char *name, const char *version, const char *summary,
                               uint64_t reads) {
  memset(description, 0, sizeof *description);
  description->name = fg_copy(name);
  description->version = fg_copy(version);
  description->summary = fg_copy(summary);
  description->reads = reads;
}

/* Adds an option; without a default (NULL) it may be absent, unless it is required. */
static inline void fg_option(fg_description *description, const char *name, const char *placeholder, const char *help,
                             const char *default_value, bool required) {
  size_t count = description->options.len;
  void *grown = realloc(description->options.ptr, (count + 1) * sizeof *description->options.ptr);
  if (grown == NULL) abort();
  description->options.ptr = grown;
  flowgate_conntrack_setup_option_spec_t *option = &description->options.ptr[count];
  memset(option, 0, sizeof *option);
  option->name = fg_copy(name);
  option->placeholder = fg_copy(placeholder);
  option->help = fg_copy(help);
  option->default_.is_some = default_value != NULL;
  if (default_value != NULL) option->default_.val = fg_copy(default_value);
  option->required = required;
  description->options.len = count + 1;
}

/* Returns the text of an option, the last one if it is given several times; `ptr` is NULL if it is absent. */
static inline fg_text fg_value(const fg_setup *setup, const char *name) {
  for (size_t i = setup->options.len; i-- > 0;) {
    fg_text own = setup->options.ptr[i].name;
    if (own.len == strlen(name) && memcmp(own.ptr, name, own.len) == 0) return setup->options.ptr[i].value;
  }
  return (fg_text){NULL, 0};
}

/* Parses a whole number; returns false if the text is not one, or too large. */
static inline bool fg_number(fg_text text, uint64_t *number) {
  uint64_t value = 0;
  if (text.len == 0 || text.ptr == NULL) return false;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t digit = (uint8_t)(text.ptr[i] - '0');
    if (digit > 9 || value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *number = value;
  return true;
}

/* ---- rows: a field that a row does not carry, or that was not asked for, is 0 ---- */

#define FG_AT(column, row) ((row) < (column).len ? (column).ptr[row] : 0)

/* Returns true if a row carries all of these fields. */
static inline bool fg_has(const fg_flows *batch, uint32_t row, uint64_t fields) {
  return (FG_AT(batch->has, row) & fields) == fields;
}
static inline uint8_t fg_family(const fg_flows *batch, uint32_t row) { return FG_AT(batch->family, row); }
static inline uint8_t fg_protocol(const fg_flows *batch, uint32_t row) { return FG_AT(batch->protocol, row); }
static inline uint8_t fg_state(const fg_flows *batch, uint32_t row) { return FG_AT(batch->state, row); }
static inline uint32_t fg_status(const fg_flows *batch, uint32_t row) { return FG_AT(batch->status, row); }
static inline uint32_t fg_timeout(const fg_flows *batch, uint32_t row) { return FG_AT(batch->timeout, row); }
static inline uint32_t fg_mark(const fg_flows *batch, uint32_t row) { return FG_AT(batch->mark, row); }
static inline uint32_t fg_id(const fg_flows *batch, uint32_t row) { return FG_AT(batch->id, row); }
static inline uint16_t fg_zone(const fg_flows *batch, uint32_t row) {
  return batch->zones.is_some ? FG_AT(batch->zones.val.zone, row) : 0;
}
static inline uint64_t fg_original_bytes(const fg_flows *batch, uint32_t row) {
  return batch->counters.is_some ? FG_AT(batch->counters.val.original_bytes, row) : 0;
}
static inline uint64_t fg_reply_bytes(const fg_flows *batch, uint32_t row) {
  return batch->counters.is_some ? FG_AT(batch->counters.val.reply_bytes, row) : 0;
}
static inline uint64_t fg_original_packets(const fg_flows *batch, uint32_t row) {
  return batch->counters.is_some ? FG_AT(batch->counters.val.original_packets, row) : 0;
}
static inline uint64_t fg_reply_packets(const fg_flows *batch, uint32_t row) {
  return batch->counters.is_some ? FG_AT(batch->counters.val.reply_packets, row) : 0;
}
/* Nanoseconds since 1970. */
static inline uint64_t fg_start(const fg_flows *batch, uint32_t row) {
  return batch->times.is_some ? FG_AT(batch->times.val.start, row) : 0;
}
static inline uint64_t fg_stop(const fg_flows *batch, uint32_t row) {
  return batch->times.is_some ? FG_AT(batch->times.val.stop, row) : 0;
}
static inline uint8_t fg_event(const fg_flows *batch, uint32_t row) {
  return batch->events.is_some ? FG_AT(batch->events.val.kind, row) : FG_EVENT_NONE;
}

/* An address and a port: one end of one direction. IPv4 is `hi` 0 and `lo` 0x0000ffff_aabbccdd. */
typedef struct {
  uint64_t hi, lo;
  uint16_t port;
} fg_end;

static inline fg_end fg_source(const fg_tuples *tuples, uint32_t row) {
  return (fg_end){FG_AT(tuples->source.hi, row), FG_AT(tuples->source.lo, row), FG_AT(tuples->source_l4, row)};
}
static inline fg_end fg_destination(const fg_tuples *tuples, uint32_t row) {
  return (fg_end){FG_AT(tuples->destination.hi, row), FG_AT(tuples->destination.lo, row),
                  FG_AT(tuples->destination_l4, row)};
}

/* ---- notes ---- */

/* Makes a verdict of 0 (drop) for every row; set those to keep to 1. */
static inline uint8_t *fg_verdicts(const fg_flows *batch, fg_outcome *outcome) {
  outcome->verdicts.len = batch->length;
  outcome->verdicts.ptr = calloc(batch->length > 0 ? batch->length : 1, 1);
  if (outcome->verdicts.ptr == NULL) abort();
  return outcome->verdicts.ptr;
}

/* Makes room for one more element of `size` bytes after `length` of them: doubled at every power of two. */
static inline void *fg_room(void *list, size_t length, size_t more, size_t size) {
  size_t needed = length + more, held = 16, wanted = 16;
  while (held < length) held *= 2;
  while (wanted < needed) wanted *= 2;
  if (length > 0 && wanted == held) return list;
  list = realloc(list, wanted * size);
  if (list == NULL) abort();
  return list;
}

static inline void fg_append(flowgate_conntrack_columns_texts_t *texts, const char *text, size_t length) {
  texts->bytes.ptr = fg_room(texts->bytes.ptr, texts->bytes.len, length, 1);
  memcpy(texts->bytes.ptr + texts->bytes.len, text, length);
  texts->bytes.len += length;
  texts->ends.ptr = fg_room(texts->ends.ptr, texts->ends.len, 1, sizeof *texts->ends.ptr);
  texts->ends.ptr[texts->ends.len++] = (uint32_t)texts->bytes.len;
}

/* Annotates a row with a key and a value. */
static inline void fg_annotate(fg_outcome *outcome, uint32_t row, const char *key, const char *value) {
  flowgate_conntrack_action_annotations_t *notes = &outcome->annotations.val;
  outcome->annotations.is_some = true;
  notes->rows.ptr = fg_room(notes->rows.ptr, notes->rows.len, 1, sizeof *notes->rows.ptr);
  notes->rows.ptr[notes->rows.len++] = row;
  fg_append(&notes->keys, key, strlen(key));
  fg_append(&notes->values, value, strlen(value));
}

/* Requests that the flow of a row is deleted from the kernel's table. Needs the grant `delete`. */
static inline void fg_delete(fg_outcome *outcome, uint32_t row) {
  flowgate_conntrack_action_actions_t *actions = &outcome->actions.val;
  outcome->actions.is_some = true;
  actions->kinds.ptr = fg_room(actions->kinds.ptr, actions->kinds.len, 1, sizeof *actions->kinds.ptr);
  actions->kinds.ptr[actions->kinds.len++] = 1;
  actions->rows.ptr = fg_room(actions->rows.ptr, actions->rows.len, 1, sizeof *actions->rows.ptr);
  actions->rows.ptr[actions->rows.len++] = row;
  actions->values.ptr = fg_room(actions->values.ptr, actions->values.len, 1, sizeof *actions->values.ptr);
  actions->values.ptr[actions->values.len++] = UINT32_MAX;
}

/* Writes a number in decimal and returns where it begins in `page`; stdio would import a whole system interface. */
static inline char *fg_decimal(char page[21], uint64_t number) {
  char *digit = page + 20;
  *digit = 0;
  do *--digit = (char)('0' + number % 10);
  while ((number /= 10) > 0);
  return digit;
}

/* ---- the exports ---- */

void exports_flowgate_conntrack_plugin_describe(fg_description *ret) { plugin_describe(ret); }

bool exports_flowgate_conntrack_plugin_configure(fg_setup *setup, stage_string_t *err) {
  const char *wrong = plugin_configure(setup);
  if (wrong != NULL) *err = fg_copy(wrong);
  exports_flowgate_conntrack_plugin_setup_free(setup);
  return wrong == NULL;
}

void exports_flowgate_conntrack_flow_stage_process(fg_flows *batch, fg_outcome *ret) {
  memset(ret, 0, sizeof *ret);
  plugin_process(batch, ret);
  exports_flowgate_conntrack_flow_stage_flows_free(batch);
}

void exports_flowgate_conntrack_flow_stage_finish(fg_outcome *ret) { memset(ret, 0, sizeof *ret); }

#endif
