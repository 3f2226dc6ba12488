"""flowgate plugins in Python: a row view over the columns of a batch, and notes that become an outcome.

    import flowgate
    from flowgate import field

    class Big:
        @staticmethod
        def describe():
            return flowgate.description("big", "1.0.0", "Many packets", reads=field.COUNTERS)

        def __init__(self, options):
            pass

        def keep(self, flow, notes):
            return (flow.packets or 0) > 1000

    Plugin, FlowStage = flowgate.stage(Big)

A class has either `keep(flow, notes)`, which is simpler, or `process(batch)`, which reads columns and is faster, because
creating objects is the main cost. wit/flow.wit describes each column.
"""

from ipaddress import IPv4Address, IPv6Address

from componentize_py_types import Err
from wit_world.imports.action import Actions, Outcome
from wit_world.imports.columns import Addresses, Annotations, RawAttributes, SparseTexts, Texts
from wit_world.imports.flow import (
    Dccps, Flows, Masters, Rare, Sequences, Synproxies, Translations, Tuples,
)
from wit_world.imports.setup import Description, OptionSpec


class field:
    """Bits of `batch.has` and of `reads`: the fields that a row carries, or that a plugin reads."""

    SOURCE, DESTINATION, REPLY_SOURCE, REPLY_DESTINATION = 1 << 0, 1 << 1, 1 << 2, 1 << 3
    PROTOCOL, REPLY_PROTOCOL = 1 << 4, 1 << 5
    SOURCE_L4, DESTINATION_L4, REPLY_SOURCE_L4, REPLY_DESTINATION_L4 = 1 << 6, 1 << 7, 1 << 8, 1 << 9
    ORIGINAL_ZONE, REPLY_ZONE, ZONE = 1 << 10, 1 << 11, 1 << 12
    STATUS, TIMEOUT, MARK, USE, ID = 1 << 13, 1 << 14, 1 << 15, 1 << 17, 1 << 18
    ORIGINAL_COUNTERS, REPLY_COUNTERS, START, STOP, EVENT_TIME = 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23
    STATE, HELPER, LABELS = 1 << 24, 1 << 31, 1 << 33
    MARK_MASK, ANNOTATIONS = 1 << 35, 1 << 45

    ORIGINAL = SOURCE | DESTINATION | PROTOCOL | SOURCE_L4 | DESTINATION_L4
    REPLY = REPLY_SOURCE | REPLY_DESTINATION | REPLY_PROTOCOL | REPLY_SOURCE_L4 | REPLY_DESTINATION_L4
    TUPLES = ORIGINAL | REPLY
    COUNTERS = ORIGINAL_COUNTERS | REPLY_COUNTERS
    ALL = (1 << 51) - 1


class protocol:
    """Layer-4 protocol numbers assigned by IANA."""

    ICMP, TCP, UDP, DCCP, GRE, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 47, 58, 132, 136


class status:
    """Status bits: IPS_* of linux/netfilter/nf_conntrack_common.h."""

    EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 1, 2, 4, 8, 0x10, 0x20
    DYING, FIXED_TIMEOUT, HELPER, OFFLOAD, HW_OFFLOAD = 0x200, 0x400, 0x2000, 0x4000, 0x8000


TCP_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
)
SCTP_STATES = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
)
EVENTS = ("", "NEW", "UPDATE", "DESTROY", "GAP")

IPV4 = 2
NO_ROW = 0xFFFFFFFF


def address(family, hi, lo):
    """Returns an address from its two halves in the columns."""
    return IPv4Address(lo & 0xFFFFFFFF) if family == IPV4 else IPv6Address(hi << 64 | lo)


def _at(column, row):
    return column[row] if row < len(column) else 0


class Direction:
    """One direction of a flow."""

    __slots__ = ("tuples", "row", "family")

    def __init__(self, tuples, row, family):
        self.tuples = tuples
        self.row = row
        self.family = family

    def _address(self, addresses):
        return address(self.family, _at(addresses.hi, self.row), _at(addresses.lo, self.row))

    @property
    def source(self):
        return self._address(self.tuples.source)

    @property
    def destination(self):
        return self._address(self.tuples.destination)

    @property
    def source_port(self):
        """Source port, GRE key or ICMP identifier."""
        return _at(self.tuples.source_l4, self.row)

    @property
    def destination_port(self):
        """Destination port, GRE key, or ICMP type times 256 plus code."""
        return _at(self.tuples.destination_l4, self.row)


class Flow:
    """One flow: a row of a batch. A field that the flow does not carry, or that was not asked for, is None."""

    __slots__ = ("batch", "row")

    def __init__(self, batch, row):
        self.batch = batch
        self.row = row

    def has(self, fields):
        """Returns true if the flow carries all of these fields (bits of `field`)."""
        return self.batch.has[self.row] & fields == fields

    def _carried(self, fields, group, name):
        if group is None or self.batch.has[self.row] & fields != fields:
            return None
        return _at(getattr(group, name), self.row)

    @property
    def family(self):
        """4 or 6."""
        return 4 if self.batch.family[self.row] == IPV4 else 6

    @property
    def protocol(self):
        return self._carried(field.PROTOCOL, self.batch, "protocol")

    @property
    def original(self):
        return Direction(self.batch.original, self.row, self.batch.family[self.row])

    @property
    def reply(self):
        return Direction(self.batch.reply, self.row, self.batch.family[self.row])

    @property
    def status(self):
        return self._carried(field.STATUS, self.batch, "status")

    @property
    def timeout(self):
        """Seconds until the entry expires."""
        return self._carried(field.TIMEOUT, self.batch, "timeout")

    @property
    def mark(self):
        return self._carried(field.MARK, self.batch, "mark")

    @property
    def id(self):
        return self._carried(field.ID, self.batch, "id")

    @property
    def zone(self):
        return self._carried(field.ZONE, self.batch.zones, "zone")

    @property
    def state(self):
        """Name of the state of TCP and SCTP."""
        number = self._carried(field.STATE, self.batch, "state")
        names = {protocol.TCP: TCP_STATES, protocol.SCTP: SCTP_STATES}.get(self.protocol, ())
        return None if number is None else names[number] if number < len(names) else str(number)

    @property
    def original_bytes(self):
        return self._carried(field.ORIGINAL_COUNTERS, self.batch.counters, "original_bytes")

    @property
    def reply_bytes(self):
        return self._carried(field.REPLY_COUNTERS, self.batch.counters, "reply_bytes")

    @property
    def original_packets(self):
        return self._carried(field.ORIGINAL_COUNTERS, self.batch.counters, "original_packets")

    @property
    def reply_packets(self):
        return self._carried(field.REPLY_COUNTERS, self.batch.counters, "reply_packets")

    @property
    def bytes(self):
        """Bytes of both directions."""
        return self.original_bytes + self.reply_bytes if self.has(field.COUNTERS) else None

    @property
    def packets(self):
        """Packets of both directions."""
        return self.original_packets + self.reply_packets if self.has(field.COUNTERS) else None

    @property
    def start(self):
        """When the entry was created, in nanoseconds since 1970."""
        return self._carried(field.START, self.batch.times, "start")

    @property
    def stop(self):
        """When the entry ended, in nanoseconds since 1970."""
        return self._carried(field.STOP, self.batch.times, "stop")

    @property
    def event(self):
        """NEW, UPDATE, DESTROY, GAP, or an empty text in a listing."""
        kind = _at(self.batch.events.kind, self.row) if self.batch.events is not None else 0
        return EVENTS[kind] if kind < len(EVENTS) else str(kind)

    @property
    def helper(self):
        if self.batch.rare is None or not self.has(field.HELPER):
            return None
        return _sparse(self.batch.rare.helper, self.row).decode(errors="replace")


def _sparse(column, row):
    """Returns the bytes of a row in a sparse column."""
    index = column.rows.index(row)
    ends = column.texts.ends
    return column.texts.bytes[ends[index - 1] if index > 0 else 0 : ends[index]]


def flows(batch):
    """Iterates over the flows of a batch."""
    for row in range(batch.length):
        yield Flow(batch, row)


class Notes:
    """Annotations and actions for a batch: requests, which the host checks against the plugin's grants."""

    def __init__(self):
        self._rows, self._keys, self._values = [], [], []
        self._kinds, self._action_rows, self._action_values = [], [], []
        self._updates = []

    def annotate(self, row, key, value):
        """Annotates a row with a key and a value."""
        self._rows.append(row)
        self._keys.append(str(key).encode(errors="replace"))
        self._values.append(str(value).encode(errors="replace"))

    def delete(self, row):
        """Requests that the flow of a row is deleted from the kernel's table. Needs the grant `delete`."""
        self._action(1, row, NO_ROW)

    def update(self, flow, *, mark=None, mask=0xFFFFFFFF, timeout=None):
        """Requests that the mark (the bits in `mask`) and the timeout of a flow are set in the kernel's table. Needs the
        grants `update.mark` and `update.timeout`."""
        self._action(2, flow.row, len(self._updates))
        batch = flow.batch
        self._updates.append((batch.family[flow.row], _at(batch.protocol, flow.row), mark, mask, timeout))

    def _action(self, kind, row, value):
        self._kinds.append(kind)
        self._action_rows.append(row)
        self._action_values.append(value)

    def outcome(self, verdicts=b""):
        """Returns the outcome of a batch: a verdict for each row (1 keep, 0 drop), or none if all are kept."""
        annotations = actions = None
        if self._rows:
            annotations = Annotations(self._rows, _texts(self._keys), _texts(self._values))
        if self._kinds:
            actions = Actions(bytes(self._kinds), self._action_rows, self._action_values)
        return Outcome(bytes(verdicts), None, annotations, actions, _values(self._updates) if self._updates else None)


def _texts(items):
    ends, end = [], 0
    for item in items:
        end += len(item)
        ends.append(end)
    return Texts(ends, b"".join(items))


def _values(updates):
    """The table that updates refer to."""

    def tuples():
        return Tuples(Addresses([], []), Addresses([], []), [], [])

    def sparse():
        return SparseTexts([], Texts([], b""))

    has = [
        field.PROTOCOL
        | (0 if mark is None else field.MARK | field.MARK_MASK)
        | (0 if timeout is None else field.TIMEOUT)
        for _, _, mark, _, timeout in updates
    ]
    rare = Rare(
        helper=sparse(), helper_info=sparse(), labels=sparse(), labels_mask=sparse(), security_context=sparse(), secmark=[],
        mark_mask=[mask for _, _, _, mask, _ in updates],
        master=Masters([], b"", tuples(), []), sequence=Sequences([], b"", [], [], []), synproxy=Synproxies([], [], [], []),
        dccp=Dccps([], b"", []), nat=Translations([], b"", Addresses([], []), Addresses([], []), [], []),
        unknown=RawAttributes([], [], Texts([], b"")), annotations=Annotations([], Texts([], b""), Texts([], b"")),
    )
    return Flows(
        length=len(updates), time=0, has=has, family=bytes(update[0] for update in updates),
        protocol=bytes(update[1] for update in updates), original=tuples(), reply=tuples(), status=[],
        timeout=[timeout or 0 for *_, timeout in updates], mark=[mark or 0 for _, _, mark, _, _ in updates],
        use_count=[], id=[], state=b"", zones=None, counters=None, times=None, tcp=None, sctp=None, events=None, rare=rare, more=[],
    )


def option(name, help, *, placeholder="VALUE", default=None, required=False):
    """An option, given as `--plugin FILE,name=value`."""
    return OptionSpec(name, help, placeholder, default, required)


def description(name, version, summary, *, options=(), grants=(), reads=field.ALL):
    """The description of a plugin. Fields that are not in `reads` stay empty and cost nothing."""
    return Description(name, version, summary, list(options), list(grants), reads, [], [])


class Options(dict):
    """The options given to the plugin, with their defaults, as texts."""

    def number(self, name):
        """Returns an option that is a whole number and not negative."""
        text = self.get(name, "")
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"option {name}: {text!r} is no whole number")
        return int(text)


def stage(plugin):
    """Returns the exports of a stage from a class. Its constructor takes the `Options`, and raises ValueError with an
    error for the user; it has `keep(flow, notes)` or `process(batch)`, and optionally `finish(notes)`."""
    instance = None

    class Plugin:
        def describe(self):
            return plugin.describe()

        def configure(self, setup):
            nonlocal instance
            try:
                instance = plugin(Options((option.name, option.value) for option in setup.options))
            except ValueError as error:
                raise Err(str(error)) from error

    class FlowStage:
        def process(self, batch):
            if hasattr(instance, "process"):
                return instance.process(batch)
            notes = Notes()
            return notes.outcome(bytes(bool(instance.keep(flow, notes)) for flow in flows(batch)))

        def finish(self):
            notes = Notes()
            if hasattr(instance, "finish"):
                instance.finish(notes)
            return notes.outcome()

    return Plugin, FlowStage
