// flowgate plugins in JavaScript: a row view over the columns of a batch, and notes that become an outcome.
//
//     import { field, stage } from "./flowgate.js";
//     export const { plugin, flowStage } = stage(class {
//       static describe() { return { name: "big", version: "1.0.0", summary: "Many packets", reads: field.COUNTERS }; }
//       keep(flow, notes) { return flow.packets > 1000; }
//     });
//
// A class has either `keep(flow, notes)`, which is simpler, or `process(batch)`, which reads columns and is faster.
// wit/flow.wit describes each column.

/** Bits of `batch.has` and of `reads`: the fields that a row carries, or that a plugin reads. See wit/flow.wit. */
export const field = {
  SOURCE: 1n << 0n, DESTINATION: 1n << 1n, REPLY_SOURCE: 1n << 2n, REPLY_DESTINATION: 1n << 3n,
  PROTOCOL: 1n << 4n, REPLY_PROTOCOL: 1n << 5n, SOURCE_L4: 1n << 6n, DESTINATION_L4: 1n << 7n,
  REPLY_SOURCE_L4: 1n << 8n, REPLY_DESTINATION_L4: 1n << 9n, ORIGINAL_ZONE: 1n << 10n, REPLY_ZONE: 1n << 11n,
  ZONE: 1n << 12n, STATUS: 1n << 13n, TIMEOUT: 1n << 14n, MARK: 1n << 15n, USE: 1n << 17n, ID: 1n << 18n,
  ORIGINAL_COUNTERS: 1n << 19n, REPLY_COUNTERS: 1n << 20n, START: 1n << 21n, STOP: 1n << 22n, EVENT_TIME: 1n << 23n,
  STATE: 1n << 24n, HELPER: 1n << 31n, LABELS: 1n << 33n, LABELS_MASK: 1n << 34n, MARK_MASK: 1n << 35n,
  ANNOTATIONS: 1n << 45n,
  ORIGINAL: 0xd3n, REPLY: 0x32cn, TUPLES: 0x3ffn, COUNTERS: 3n << 19n, ALL: (1n << 51n) - 1n,
};

/** Layer-4 protocol numbers assigned by IANA, by name. */
export const protocol = { ICMP: 1, TCP: 6, UDP: 17, DCCP: 33, GRE: 47, ICMPV6: 58, SCTP: 132, UDPLITE: 136 };

/** Status bits: IPS_* of linux/netfilter/nf_conntrack_common.h. */
export const status = {
  EXPECTED: 1, SEEN_REPLY: 2, ASSURED: 4, CONFIRMED: 8, SRC_NAT: 0x10, DST_NAT: 0x20, SEQ_ADJUST: 0x40,
  SRC_NAT_DONE: 0x80, DST_NAT_DONE: 0x100, DYING: 0x200, FIXED_TIMEOUT: 0x400, HELPER: 0x2000, OFFLOAD: 0x4000,
  HW_OFFLOAD: 0x8000,
};

const TCP_STATES = [
  "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
];
const SCTP_STATES = [
  "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT",
  "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
];
const EVENTS = ["", "NEW", "UPDATE", "DESTROY", "GAP"];

const IPV4 = 2;
const PORTS = new Set([protocol.TCP, protocol.UDP, protocol.DCCP, protocol.SCTP, protocol.UDPLITE]);

/** Formats an address from its two 64-bit halves (RFC 5952 for IPv6). */
export function address(family, hi, lo) {
  if (family === IPV4) {
    const bits = Number(lo & 0xffffffffn);
    return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`;
  }
  const shifts = [48n, 32n, 16n, 0n];
  const groups = [hi, lo].flatMap((half) => shifts.map((shift) => Number((half >> shift) & 0xffffn)));
  // The longest run of two or more zero groups, the first one of equal runs, becomes `::`.
  let [start, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) [start, length] = [i, end - i];
  }
  const hex = (part) => part.map((group) => group.toString(16)).join(":");
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

/** One direction of a flow. */
class Direction {
  constructor(tuples, row, family) {
    this.tuples = tuples;
    this.row = row;
    this.family = family;
  }
  get source() {
    const { hi, lo } = this.tuples.source;
    return address(this.family, hi[this.row] ?? 0n, lo[this.row] ?? 0n);
  }
  get destination() {
    const { hi, lo } = this.tuples.destination;
    return address(this.family, hi[this.row] ?? 0n, lo[this.row] ?? 0n);
  }
  /** Source port, GRE key or ICMP identifier. */
  get sourcePort() { return this.tuples.sourceL4[this.row]; }
  /** Destination port, GRE key, or ICMP type times 256 plus code. */
  get destinationPort() { return this.tuples.destinationL4[this.row]; }
}

/** One flow: a row of a batch. A field that the flow does not carry, or that is not in `reads`, is undefined. */
export class Flow {
  constructor(batch, row) {
    this.batch = batch;
    this.row = row;
  }
  /** Returns true if the flow carries all of these fields (bits of `field`). */
  has(fields) { return (this.batch.has[this.row] & fields) === fields; }

  /** Returns a 64-bit number, which is exact up to 2 ** 53: petabytes, and microseconds since 1970. */
  #long(fields, column) { return column != null && this.has(fields) ? Number(column[this.row]) : undefined; }
  #number(fields, column) { return column != null && this.has(fields) ? column[this.row] : undefined; }
  /** Address family: 4 or 6. */
  get family() { return this.batch.family[this.row] === IPV4 ? 4 : 6; }
  /** Layer-4 protocol number. */
  get protocol() { return this.#number(field.PROTOCOL, this.batch.protocol); }
  get original() { return new Direction(this.batch.original, this.row, this.batch.family[this.row]); }
  get reply() { return new Direction(this.batch.reply, this.row, this.batch.family[this.row]); }
  get status() { return this.#number(field.STATUS, this.batch.status); }
  /** Seconds until the entry expires. */
  get timeout() { return this.#number(field.TIMEOUT, this.batch.timeout); }
  get mark() { return this.#number(field.MARK, this.batch.mark); }
  get useCount() { return this.#number(field.USE, this.batch.useCount); }
  get id() { return this.#number(field.ID, this.batch.id); }
  get zone() { return this.#number(field.ZONE, this.batch.zones?.zone); }
  /** Name of the state of TCP and SCTP. */
  get state() {
    const number = this.#number(field.STATE, this.batch.state);
    if (number === undefined) return undefined;
    const names = this.protocol === protocol.TCP ? TCP_STATES : this.protocol === protocol.SCTP ? SCTP_STATES : [];
    return names[number] ?? String(number);
  }
  get originalPackets() { return this.#long(field.ORIGINAL_COUNTERS, this.batch.counters?.originalPackets); }
  get originalBytes() { return this.#long(field.ORIGINAL_COUNTERS, this.batch.counters?.originalBytes); }
  get replyPackets() { return this.#long(field.REPLY_COUNTERS, this.batch.counters?.replyPackets); }
  get replyBytes() { return this.#long(field.REPLY_COUNTERS, this.batch.counters?.replyBytes); }
  /** Packets of both directions. */
  get packets() { return this.has(field.COUNTERS) ? this.originalPackets + this.replyPackets : undefined; }
  /** Bytes of both directions. */
  get bytes() { return this.has(field.COUNTERS) ? this.originalBytes + this.replyBytes : undefined; }
  /** Seconds since 1970, with a fraction. */
  get start() {
    const start = this.#long(field.START, this.batch.times?.start);
    return start === undefined ? undefined : start / 1e9;
  }
  get stop() {
    const stop = this.#long(field.STOP, this.batch.times?.stop);
    return stop === undefined ? undefined : stop / 1e9;
  }
  /** NEW, UPDATE, DESTROY, GAP, or an empty text in a listing. */
  get event() {
    const kind = this.batch.events?.kind[this.row] ?? 0;
    return EVENTS[kind] ?? String(kind);
  }
  get helper() { return this.has(field.HELPER) ? sparse(this.batch.rare?.helper, this.row) : undefined; }
  /** Returns true if the protocol has ports. */
  get hasPorts() { return PORTS.has(this.protocol); }
}

/** Returns the text of a row in a sparse column. */
function sparse(column, row) {
  const index = column == null ? -1 : column.rows.indexOf(row);
  if (index < 0) return undefined;
  const { ends, bytes } = column.texts;
  return String.fromCharCode(...bytes.slice(index === 0 ? 0 : ends[index - 1], ends[index]));
}

/** Iterates over the flows of a batch. */
export function* flows(batch) {
  for (let row = 0; row < batch.length; row++) yield new Flow(batch, row);
}

const NO_ROW = 0xffffffff;

/** Annotations and actions for a batch: requests, which the host checks against the plugin's grants. */
export class Notes {
  #rows = [];
  #keys = [];
  #values = [];
  #actions = { kinds: [], rows: [], values: [] };
  #updates = [];

  /** Annotates a row with a key and a value. */
  annotate(row, key, value) {
    this.#rows.push(row);
    this.#keys.push(String(key));
    this.#values.push(String(value));
  }
  /** Requests that the flow of a row is deleted from the kernel's table. Needs the grant `delete`. */
  delete(row) {
    this.#action(1, row, NO_ROW);
  }
  /**
   * Requests that the flow is changed in the kernel's table: `{ mark, mask, timeout }`, each of which may be missing;
   * `mask` has the bits of the mark to set. Needs the grants `update.mark` and `update.timeout`.
   */
  update(flow, { mark, mask = 0xffffffff, timeout }) {
    const { batch, row } = flow;
    this.#action(2, row, this.#updates.length);
    this.#updates.push({ family: batch.family[row], protocol: batch.protocol[row] ?? 0, mark, mask, timeout });
  }
  #action(kind, row, value) {
    this.#actions.kinds.push(kind);
    this.#actions.rows.push(row);
    this.#actions.values.push(value);
  }
  /** Returns the outcome of a batch: a verdict for each row (1 keep, 0 drop), or none if all are kept. */
  outcome(verdicts = []) {
    const outcome = { verdicts: Uint8Array.from(verdicts), changes: null, annotations: null, actions: null, values: null };
    if (this.#rows.length > 0) {
      outcome.annotations = { rows: this.#rows, keys: texts(this.#keys), values: texts(this.#values) };
    }
    if (this.#actions.kinds.length > 0) {
      const { kinds, rows, values } = this.#actions;
      outcome.actions = { kinds: Uint8Array.from(kinds), rows, values };
    }
    if (this.#updates.length > 0) outcome.values = values(this.#updates);
    return outcome;
  }
}

/** Texts laid end to end, in UTF-8. */
function texts(list) {
  const ends = [];
  const bytes = [];
  list.forEach((text) => {
    for (const character of text) {
      const code = character.codePointAt(0);
      if (code < 0x80) bytes.push(code);
      else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
      else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    }
    ends.push(bytes.length);
  });
  return { ends, bytes: Uint8Array.from(bytes) };
}

/** The table that updates refer to. */
function values(updates) {
  const [none8, none] = [new Uint8Array(), []];
  const addresses = () => ({ hi: none, lo: none });
  const tuples = () => ({ source: addresses(), destination: addresses(), sourceL4: none, destinationL4: none });
  const noTexts = () => ({ ends: none, bytes: none8 });
  const noSparse = () => ({ rows: none, texts: noTexts() });
  const has = updates.map(({ mark, timeout }) =>
    field.PROTOCOL | (mark === undefined ? 0n : field.MARK | field.MARK_MASK) | (timeout === undefined ? 0n : field.TIMEOUT));
  return {
    length: updates.length, time: 0n, has,
    family: Uint8Array.from(updates, (row) => row.family), protocol: Uint8Array.from(updates, (row) => row.protocol),
    original: tuples(), reply: tuples(), status: none,
    timeout: updates.map((row) => row.timeout ?? 0), mark: updates.map((row) => row.mark ?? 0),
    useCount: none, id: none, state: none8,
    zones: null, counters: null, times: null, tcp: null, sctp: null, events: null,
    rare: {
      helper: noSparse(), helperInfo: noSparse(), labels: noSparse(), labelsMask: noSparse(), securityContext: noSparse(),
      secmark: none, markMask: updates.map((row) => row.mask),
      master: { rows: none, protocol: none8, tuple: tuples(), zone: none },
      sequence: { rows: none, reply: none8, position: none, before: none, after: none },
      synproxy: { rows: none, isn: none, its: none, tsoff: none },
      dccp: { rows: none, role: none8, handshake: none },
      nat: { rows: none, destination: none8, first: addresses(), last: addresses(), firstPort: none, lastPort: none },
      unknown: { rows: none, paths: none, payloads: noTexts() },
      annotations: { rows: none, keys: noTexts(), values: noTexts() },
    },
    more: [],
  };
}

/** The options of a plugin. */
class Options {
  #all;
  constructor(setup) {
    this.#all = new Map(setup.options.map(({ name, value }) => [name, value]));
  }
  /** Returns the text of an option; undefined if it was not given and has no default. */
  text(name) { return this.#all.get(name); }
  /** Returns an option that is a whole number and not negative. */
  number(name) {
    const text = this.#all.get(name);
    if (!/^\d{1,15}$/.test(text ?? "")) {
      throw new Error(`option ${name}: ${JSON.stringify(text ?? "")} is no whole number from 0 to 999999999999999`);
    }
    return Number(text);
  }
}

/**
 * Returns the exports of a stage from a class: `static describe()` returns name, version, summary, and optionally
 * `options` (name, help, placeholder, default, required), `grants` and `reads`; the constructor takes the options and
 * throws errors for the user; `keep(flow, notes)` or `process(batch)` handles flows.
 */
export function stage(Plugin) {
  let instance;
  return {
    plugin: {
      describe() {
        const { options = [], ...rest } = Plugin.describe();
        const all = options.map((option) => ({ help: "", placeholder: "VALUE", default: null, required: false, ...option }));
        return { grants: [], reads: field.ALL, more: [], details: [], options: all, ...rest };
      },
      configure(setup) {
        try {
          instance = new Plugin(new Options(setup));
        } catch (error) {
          throw error instanceof Error ? error.message : String(error);
        }
      },
    },
    flowStage: {
      process(batch) {
        if (instance.process) return instance.process(batch);
        const notes = new Notes();
        const verdicts = new Uint8Array(batch.length);
        for (const flow of flows(batch)) verdicts[flow.row] = instance.keep(flow, notes) ? 1 : 0;
        return notes.outcome(verdicts);
      },
      finish() {
        const notes = new Notes();
        instance.finish?.(notes);
        return notes.outcome();
      },
    },
  };
}
