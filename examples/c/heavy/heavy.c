/* Keeps the flows that have moved more than a number of bytes, and annotates them with that number. */
#include "../flowgate.h"

static uint64_t limit;

static void plugin_describe(fg_description *description) {
  fg_describe(description, "heavy-c", "1.0.0", "Flows that have moved many bytes", FG_COUNTERS);
  fg_option(description, "bytes", "N", "keep flows that have moved more bytes than this", "1000000", false);
}

static const char *plugin_configure(const fg_setup *setup) {
  if (fg_number(fg_value(setup, "bytes"), &limit)) return NULL;
  return "option bytes: it is no whole number from 0 to 18446744073709551615";
}

static void plugin_process(const fg_flows *batch, fg_outcome *outcome) {
  uint8_t *verdicts = fg_verdicts(batch, outcome);
  for (uint32_t row = 0; row < batch->length; row++) {
    uint64_t bytes = fg_original_bytes(batch, row) + fg_reply_bytes(batch, row);
    if (bytes > limit) {
      char page[21];
      verdicts[row] = 1;
      fg_annotate(outcome, row, "total_bytes", fg_decimal(page, bytes));
    }
  }
}
