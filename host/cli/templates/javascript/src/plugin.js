// Keeps the flows to one port, and marks those that moved much as such.
//
// Change `keep`, run `make test`, and look at what is otherwise than expected; `make bless` accepts it.

import { field, stage } from "../vendor/flowgate.js";

export const { plugin, flowStage } = stage(class Filter {
  static describe() {
    return {
      name: "{{name}}",
      version: "0.1.0",
      summary: "Flows to one port, and which of them moved much",
      options: [
        { name: "port", help: "keep flows to this port", placeholder: "PORT", default: "443" },
        { name: "bytes", help: "note flows that moved more bytes than this", placeholder: "N", default: "1000000" },
      ],
      // The host decodes and hands over only what is read here. Added up: the operator `|` of JavaScript knows 32 bits
      // only.
      reads: field.PROTOCOL + field.DESTINATION_L4 + field.COUNTERS,
    };
  }

  constructor(options) {
    this.port = options.number("port");
    this.bytes = options.number("bytes");
    if (this.port > 65535) throw new Error(`option port: ${this.port} is no port; they end at 65535`);
  }

  keep(flow, notes) {
    if (!flow.hasPorts || flow.original.destinationPort !== this.port) return false;
    // Without accounting in the kernel, a flow has no counters.
    if ((flow.bytes ?? 0) > this.bytes) notes.annotate(flow.row, "heavy", flow.bytes);
    return true;
  }
});
