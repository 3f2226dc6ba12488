//! flowgate plugins in Zig: a row view over the columns of a batch, and notes that become an outcome.
//!
//! A plugin is a struct with
//!
//! * `pub const description: flowgate.Description`;
//! * `pub fn configure(self: *Self, options: flowgate.Options) ?[]const u8`, which stores the options, or returns an
//!   error for the user if one is invalid;
//! * `pub fn keep(self: *Self, flow: flowgate.Flow, notes: *flowgate.Notes) bool`;
//!
//! and the line `comptime { flowgate.stage(Self); }`. The module `bindings` is the output of `zig translate-c` for the
//! header that `flowgate-bindgen c` writes. wit/flow.wit describes each column.

const std = @import("std");
const bindings = @import("bindings");

pub const Flows = bindings.flowgate_conntrack_flow_flows_t;
const Tuples = bindings.flowgate_conntrack_flow_tuples_t;
const Addresses = bindings.flowgate_conntrack_columns_addresses_t;
const Outcome = bindings.flowgate_conntrack_action_outcome_t;
const Texts = bindings.flowgate_conntrack_columns_texts_t;
const Text = bindings.stage_string_t;

/// Bits of `has` and of `reads`.
pub const field = struct {
    pub const source: u64 = 1 << 0;
    pub const destination: u64 = 1 << 1;
    pub const reply_source: u64 = 1 << 2;
    pub const reply_destination: u64 = 1 << 3;
    pub const protocol: u64 = 1 << 4;
    pub const status: u64 = 1 << 13;
    pub const timeout: u64 = 1 << 14;
    pub const mark: u64 = 1 << 15;
    pub const id: u64 = 1 << 18;
    pub const original_counters: u64 = 1 << 19;
    pub const reply_counters: u64 = 1 << 20;
    pub const counters: u64 = original_counters | reply_counters;
    pub const start: u64 = 1 << 21;
    pub const stop: u64 = 1 << 22;
    pub const state: u64 = 1 << 24;
    /// Addresses, protocol and layer-4 words of the original direction.
    pub const original: u64 = 0xd3;
    /// The same for the reply direction.
    pub const reply: u64 = 0x32c;
};

/// Layer-4 protocol numbers assigned by IANA.
pub const protocol = struct {
    pub const icmp: u8 = 1;
    pub const tcp: u8 = 6;
    pub const udp: u8 = 17;
    pub const dccp: u8 = 33;
    pub const gre: u8 = 47;
    pub const icmpv6: u8 = 58;
    pub const sctp: u8 = 132;
    pub const udplite: u8 = 136;
};

/// Layer-3 families, by the kernel's AF_ numbers.
pub const family = struct {
    pub const ipv4: u8 = 2;
    pub const ipv6: u8 = 10;
};

/// Kinds of event.
pub const event = struct {
    pub const none: u8 = 0;
    pub const new: u8 = 1;
    pub const update: u8 = 2;
    pub const destroy: u8 = 3;
    pub const gap: u8 = 4;
};

/// An option, given as `--plugin FILE,name=value`.
pub const Option = struct {
    name: [:0]const u8,
    placeholder: [:0]const u8,
    help: [:0]const u8,
    /// The value if it is not given; null if it may be absent.
    default: ?[:0]const u8 = null,
    required: bool = false,
};

/// The description of a plugin.
pub const Description = struct {
    name: [:0]const u8,
    version: [:0]const u8,
    summary: [:0]const u8,
    options: []const Option = &.{},
    /// The grants that it requests, such as `delete`.
    grants: []const [:0]const u8 = &.{},
    /// The fields that it reads; other fields stay empty and cost nothing.
    reads: u64,
};

/// The options given to the plugin, with their defaults.
pub const Options = struct {
    setup: *const bindings.flowgate_conntrack_setup_setup_t,

    /// Returns the text of an option, the last one if it is given several times.
    pub fn text(self: Options, name: []const u8) ?[]const u8 {
        var found: ?[]const u8 = null;
        for (0..self.setup.options.len) |i| {
            const option = self.setup.options.ptr[i];
            if (std.mem.eql(u8, slice(option.name), name)) found = slice(option.value);
        }
        return found;
    }

    /// Returns an option that is a whole number; null if it is absent or not one.
    pub fn number(self: Options, name: []const u8) ?u64 {
        return std.fmt.parseInt(u64, self.text(name) orelse return null, 10) catch null;
    }
};

fn slice(string: Text) []const u8 {
    return if (string.len == 0) "" else string.ptr[0..string.len];
}

/// Returns an element of a dense column, 0 if the column is empty.
inline fn at(column: anytype, row: usize) @TypeOf(column.ptr[0]) {
    return if (row < column.len) column.ptr[row] else 0;
}

/// One direction of a flow.
pub const Direction = struct {
    tuples: *const Tuples,
    row: usize,

    /// Returns the source address as a number, IPv4 in its mapped form ::ffff:a.b.c.d.
    pub fn source(self: Direction) u128 {
        return join(self.tuples.source, self.row);
    }
    pub fn destination(self: Direction) u128 {
        return join(self.tuples.destination, self.row);
    }
    /// Source port, GRE key or ICMP identifier.
    pub fn sourcePort(self: Direction) u16 {
        return at(self.tuples.source_l4, self.row);
    }
    /// Destination port, GRE key, or ICMP type times 256 plus code.
    pub fn destinationPort(self: Direction) u16 {
        return at(self.tuples.destination_l4, self.row);
    }
    fn join(addresses: Addresses, row: usize) u128 {
        return @as(u128, at(addresses.hi, row)) << 64 | at(addresses.lo, row);
    }
};

/// One flow: a row of a batch. A field that the flow does not carry, or that was not asked for, is 0; see `has`.
pub const Flow = struct {
    batch: *const Flows,
    row: usize,

    /// Returns true if the flow carries all of these fields.
    pub fn has(self: Flow, fields: u64) bool {
        return at(self.batch.has, self.row) & fields == fields;
    }
    pub fn addressFamily(self: Flow) u8 {
        return at(self.batch.family, self.row);
    }
    pub fn protocolNumber(self: Flow) u8 {
        return at(self.batch.protocol, self.row);
    }
    pub fn original(self: Flow) Direction {
        return .{ .tuples = &self.batch.original, .row = self.row };
    }
    pub fn reply(self: Flow) Direction {
        return .{ .tuples = &self.batch.reply, .row = self.row };
    }
    pub fn status(self: Flow) u32 {
        return at(self.batch.status, self.row);
    }
    /// Seconds until the entry expires.
    pub fn timeout(self: Flow) u32 {
        return at(self.batch.timeout, self.row);
    }
    pub fn mark(self: Flow) u32 {
        return at(self.batch.mark, self.row);
    }
    pub fn state(self: Flow) u8 {
        return at(self.batch.state, self.row);
    }
    pub fn originalBytes(self: Flow) u64 {
        return if (self.batch.counters.is_some) at(self.batch.counters.val.original_bytes, self.row) else 0;
    }
    pub fn replyBytes(self: Flow) u64 {
        return if (self.batch.counters.is_some) at(self.batch.counters.val.reply_bytes, self.row) else 0;
    }
    pub fn originalPackets(self: Flow) u64 {
        return if (self.batch.counters.is_some) at(self.batch.counters.val.original_packets, self.row) else 0;
    }
    pub fn replyPackets(self: Flow) u64 {
        return if (self.batch.counters.is_some) at(self.batch.counters.val.reply_packets, self.row) else 0;
    }
    pub fn eventKind(self: Flow) u8 {
        return if (self.batch.events.is_some) at(self.batch.events.val.kind, self.row) else event.none;
    }
};

/// Annotations and actions for a batch: requests, which the host checks against the plugin's grants.
pub const Notes = struct {
    outcome: *Outcome,

    /// Annotates a flow with a key and a value.
    pub fn annotate(self: Notes, flow: Flow, key: []const u8, value: []const u8) void {
        const annotations = &self.outcome.annotations.val;
        self.outcome.annotations.is_some = true;
        append(&annotations.rows, &.{@intCast(flow.row)});
        push(&annotations.keys, key);
        push(&annotations.values, value);
    }

    /// Annotates a flow with a key and a number.
    pub fn annotateNumber(self: Notes, flow: Flow, key: []const u8, value: u64) void {
        var page: [20]u8 = undefined;
        self.annotate(flow, key, std.fmt.bufPrint(&page, "{d}", .{value}) catch unreachable);
    }

    /// Requests that the flow is deleted from the kernel's table. Needs the grant `delete`.
    pub fn delete(self: Notes, flow: Flow) void {
        const actions = &self.outcome.actions.val;
        self.outcome.actions.is_some = true;
        append(&actions.kinds, &.{1});
        append(&actions.rows, &.{@intCast(flow.row)});
        append(&actions.values, &.{std.math.maxInt(u32)});
    }

    fn push(texts: *Texts, text: []const u8) void {
        append(&texts.bytes, text);
        append(&texts.ends, &.{@intCast(texts.bytes.len)});
    }
};

// The bindings free what is passed to the host, so it must come from malloc.
extern fn realloc(pointer: ?*anyopaque, size: usize) ?*anyopaque;

/// Appends to a list of the bindings, whose capacity is the next power of two of its length.
fn append(list: anytype, items: []const std.meta.Child(@TypeOf(list.ptr))) void {
    const needed = list.len + items.len;
    if (list.len == 0 or room(needed) != room(list.len)) {
        const bytes = room(needed) * @sizeOf(std.meta.Child(@TypeOf(list.ptr)));
        const moved = realloc(list.ptr, bytes) orelse @trap();
        list.ptr = @ptrCast(@alignCast(moved));
    }
    @memcpy(list.ptr[list.len..needed], items);
    list.len = needed;
}

fn room(length: usize) usize {
    return @max(16, std.math.ceilPowerOfTwoAssert(usize, @max(1, length)));
}

fn copy(text: []const u8) Text {
    var string: Text = .{};
    bindings.stage_string_dup_n(&string, text.ptr, text.len);
    return string;
}

/// Exports a struct as the component's stage.
pub fn stage(comptime Plugin: type) void {
    const Component = struct {
        var plugin: Plugin = undefined;

        fn describe(ret: *bindings.flowgate_conntrack_setup_description_t) callconv(.c) void {
            const described: Description = Plugin.description;
            ret.* = .{};
            ret.name = copy(described.name);
            ret.version = copy(described.version);
            ret.summary = copy(described.summary);
            ret.reads = described.reads;
            for (described.options) |option| {
                append(&ret.options, &.{.{
                    .name = copy(option.name),
                    .help = copy(option.help),
                    .placeholder = copy(option.placeholder),
                    .default_ = if (option.default) |value| .{ .is_some = true, .val = copy(value) } else .{},
                    .required = option.required,
                }});
            }
            for (described.grants) |grant| append(&ret.grants, &.{copy(grant)});
        }

        fn configure(setup: *bindings.flowgate_conntrack_setup_setup_t, err: *Text) callconv(.c) bool {
            defer bindings.flowgate_conntrack_setup_setup_free(setup);
            const wrong = plugin.configure(.{ .setup = setup }) orelse return true;
            err.* = copy(wrong);
            return false;
        }

        fn process(batch: *Flows, ret: *Outcome) callconv(.c) void {
            defer bindings.flowgate_conntrack_flow_flows_free(batch);
            ret.* = .{};
            var notes: Notes = .{ .outcome = ret };
            if (batch.length == 0) return;
            const verdicts: [*]u8 = @ptrCast(realloc(null, batch.length) orelse @trap());
            for (0..batch.length) |row| {
                verdicts[row] = @intFromBool(plugin.keep(.{ .batch = batch, .row = row }, &notes));
            }
            ret.verdicts = .{ .ptr = verdicts, .len = batch.length };
        }

        fn finish(ret: *Outcome) callconv(.c) void {
            ret.* = .{};
        }
    };
    @export(&Component.describe, .{ .name = "exports_flowgate_conntrack_plugin_describe" });
    @export(&Component.configure, .{ .name = "exports_flowgate_conntrack_plugin_configure" });
    @export(&Component.process, .{ .name = "exports_flowgate_conntrack_flow_stage_process" });
    @export(&Component.finish, .{ .name = "exports_flowgate_conntrack_flow_stage_finish" });
}
