//! Finds flows in which one side sends and the other is silent, or nearly so: black holes, filters on the return path,
//! and routes on which replies bypass this host.
//!
//! Needs accounting (sysctl nf_conntrack_acct). Multicast and broadcast addresses are never answered, so flows to them
//! do not count.

const flowgate = @import("flowgate");

const OneWay = struct {
    packets: u64,
    ratio: u64,

    pub const description: flowgate.Description = .{
        .name = "one-way",
        .version = "1.0.0",
        .summary = "Flows in which one side speaks and the other is silent",
        .options = &.{
            .{ .name = "packets", .placeholder = "N", .help = "the speaker has sent at least this many packets", .default = "10" },
            .{
                .name = "ratio",
                .placeholder = "N",
                .help = "also flows in which the speaker has sent this many times the packets of the other; 0: only silence",
                .default = "0",
            },
        },
        .reads = flowgate.field.counters | flowgate.field.destination,
    };

    pub fn configure(self: *OneWay, options: flowgate.Options) ?[]const u8 {
        self.packets = options.number("packets") orelse return "option packets: it is no whole number";
        self.ratio = options.number("ratio") orelse return "option ratio: it is no whole number";
        if (self.packets == 0) return "option packets: 0 packets are no speech; give 1 or more";
        return null;
    }

    pub fn keep(self: *OneWay, flow: flowgate.Flow, notes: *flowgate.Notes) bool {
        if (!flow.has(flowgate.field.counters | flowgate.field.destination)) return false;
        const sent = flow.originalPackets();
        const answered = flow.replyPackets();
        const speaker = @max(sent, answered);
        const listener = @min(sent, answered);
        if (speaker < self.packets) return false;
        if (listener > 0 and (self.ratio == 0 or speaker / listener < self.ratio)) return false;
        if (toMany(flow)) return false;
        notes.annotate(flow, "silent", if (sent > answered) "reply" else "original");
        notes.annotateNumber(flow, "packets_without_answer", speaker - listener);
        return true;
    }

    /// Returns true if the destination is a multicast (RFC 1112, RFC 4291) or the limited broadcast address.
    fn toMany(flow: flowgate.Flow) bool {
        const address = flow.original().destination();
        if (flow.addressFamily() != flowgate.family.ipv4) return address >> 120 == 0xff;
        const bits: u32 = @truncate(address);
        return bits >> 28 == 0xe or bits == 0xffffffff;
    }
};

comptime {
    flowgate.stage(OneWay);
}
