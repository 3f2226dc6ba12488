//! Keeps the flows that have moved more than a number of bytes, and annotates them with that number.

const flowgate = @import("flowgate");

const Heavy = struct {
    bytes: u64,

    pub const description: flowgate.Description = .{
        .name = "heavy-zig",
        .version = "1.0.0",
        .summary = "Flows that have moved many bytes",
        .options = &.{.{
            .name = "bytes",
            .placeholder = "N",
            .help = "keep flows that have moved more bytes than this",
            .default = "1000000",
        }},
        .reads = flowgate.field.counters,
    };

    pub fn configure(self: *Heavy, options: flowgate.Options) ?[]const u8 {
        self.bytes = options.number("bytes") orelse
            return "option bytes: it is no whole number from 0 to 18446744073709551615";
        return null;
    }

    pub fn keep(self: *Heavy, flow: flowgate.Flow, notes: *flowgate.Notes) bool {
        const bytes = flow.originalBytes() +| flow.replyBytes();
        if (bytes <= self.bytes) return false;
        notes.annotateNumber(flow, "total_bytes", bytes);
        return true;
    }
};

comptime {
    flowgate.stage(Heavy);
}
