// Keeps the flows that have moved more than a number of bytes, and annotates them with that number. It reads columns,
// which is fast.

import { Notes, field, stage } from "../flowgate.js";

export const { plugin, flowStage } = stage(class Heavy {
  static describe() {
    return {
      name: "heavy-javascript",
      version: "1.0.0",
      summary: "Flows that have moved many bytes",
      options: [{ name: "bytes", help: "keep flows that have moved more bytes than this", placeholder: "N", default: "1000000" }],
      reads: field.COUNTERS,
    };
  }

  constructor(options) {
    this.limit = BigInt(options.number("bytes"));
  }

  process(batch) {
    const notes = new Notes();
    const verdicts = new Uint8Array(batch.length);
    // Without accounting no flow carries counters.
    if (batch.counters == null) return notes.outcome(verdicts);
    const { originalBytes, replyBytes } = batch.counters;
    const limit = this.limit;
    for (let row = 0; row < verdicts.length; row++) {
      // A field that a row does not carry is 0; the column of a direction without counters is empty.
      const bytes = (originalBytes[row] ?? 0n) + (replyBytes[row] ?? 0n);
      if (bytes > limit) {
        verdicts[row] = 1;
        notes.annotate(row, "total_bytes", bytes);
      }
    }
    return notes.outcome(verdicts);
  }
});
