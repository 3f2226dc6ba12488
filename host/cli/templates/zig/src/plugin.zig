//! Keeps the flows to one port, and marks those that moved much as such.
//!
//! Change `keep`, run `make test`, and look at what is otherwise than expected; `make bless` accepts it.

const flowgate = @import("flowgate");

/// The plugin: what its options said.
const Filter = struct {
    port: u64,
    bytes: u64,

    pub const description: flowgate.Description = .{
        .name = "{{name}}",
        .version = "0.1.0",
        .summary = "Flows to one port, and which of them moved much",
        .options = &.{
            .{ .name = "port", .placeholder = "PORT", .help = "keep flows to this port", .default = "443" },
            .{ .name = "bytes", .placeholder = "N", .help = "note flows that moved more bytes than this", .default = "1000000" },
        },
        // The host decodes and hands over only what is read here.
        .reads = flowgate.field.original | flowgate.field.counters,
    };

    pub fn configure(self: *Filter, options: flowgate.Options) ?[]const u8 {
        self.port = options.number("port") orelse return "option port: it is no whole number";
        self.bytes = options.number("bytes") orelse return "option bytes: it is no whole number";
        if (self.port > 65535) return "option port: ports end at 65535";
        return null;
    }

    pub fn keep(self: *Filter, flow: flowgate.Flow, notes: *flowgate.Notes) bool {
        if (!hasPorts(flow.protocolNumber()) or flow.original().destinationPort() != self.port) return false;
        const bytes = flow.originalBytes() +| flow.replyBytes();
        if (bytes > self.bytes) notes.annotateNumber(flow, "heavy", bytes);
        return true;
    }

    /// Whether ports have a meaning in this protocol.
    fn hasPorts(protocol: u8) bool {
        return switch (protocol) {
            flowgate.protocol.tcp, flowgate.protocol.udp, flowgate.protocol.dccp, flowgate.protocol.sctp, flowgate.protocol.udplite => true,
            else => false,
        };
    }
};

comptime {
    flowgate.stage(Filter);
}
