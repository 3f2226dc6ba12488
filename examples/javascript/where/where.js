// Keeps the flows for which an expression on the command line is true, and annotates them with the values of other
// expressions:
//
//     flowgate -L --plugin 'where.wasm,keep="bytes > 1e6 && within(destination, `10.0.0.0/8`)",note="mb: bytes / 1e6"'
//
// Expressions are JavaScript, over the names in NAMES and the functions in FUNCTIONS. A name that a flow does not carry
// is undefined, with which comparisons are false.

import { field, protocol, stage, status } from "../flowgate.js";

/** The names that expressions may use, and how each is read from a flow. */
const NAMES = {
  family: "flow.family",
  protocol: "(PROTOCOLS[flow.protocol] ?? flow.protocol)",
  source: "flow.original.source",
  destination: "flow.original.destination",
  sport: "(flow.hasPorts ? flow.original.sourcePort : undefined)",
  dport: "(flow.hasPorts ? flow.original.destinationPort : undefined)",
  replySource: "flow.reply.source",
  replyDestination: "flow.reply.destination",
  state: "flow.state",
  status: "flow.status",
  timeout: "flow.timeout",
  mark: "flow.mark",
  zone: "(flow.zone ?? 0)",
  id: "flow.id",
  packets: "flow.packets",
  bytes: "flow.bytes",
  originalPackets: "flow.originalPackets",
  originalBytes: "flow.originalBytes",
  replyPackets: "flow.replyPackets",
  replyBytes: "flow.replyBytes",
  age: "(flow.start === undefined ? undefined : (flow.stop ?? Number(flow.batch.time) / 1e9) - flow.start)",
  event: "flow.event",
  helper: "flow.helper",
  assured: "((flow.status & STATUS.ASSURED) !== 0)",
  answered: "((flow.status & STATUS.SEEN_REPLY) !== 0)",
  nat: "((flow.status & (STATUS.SRC_NAT | STATUS.DST_NAT)) !== 0)",
};

const PROTOCOLS = Object.fromEntries(Object.entries(protocol).map(([name, number]) => [number, name.toLowerCase()]));

/** Parses an address; undefined if the text is not one. */
function number(text) {
  if (/^\d+(\.\d+){3}$/.test(text)) {
    const parts = text.split(".").map(Number);
    return parts.every((part) => part < 256) ? parts.reduce((all, part) => (all << 8n) | BigInt(part), 0n) : undefined;
  }
  const sides = text.split("::");
  if (!text.includes(":") || sides.length > 2 || !/^[0-9a-f:]*$/i.test(text)) return undefined;
  const [front, back] = sides.map((side) => (side === "" ? [] : side.split(":")));
  const missing = 8 - front.length - (back?.length ?? 0);
  if (back === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...front, ...Array(missing).fill("0"), ...(back ?? [])];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return groups.reduce((all, group) => (all << 16n) | BigInt(`0x${group}`), 0n);
}

const networks = new Map();

/** Returns a network in CIDR notation, which is parsed once. */
function network(text) {
  let found = networks.get(text);
  if (found === undefined) {
    const [address, length] = text.split("/");
    const bits = number(address);
    const longest = address.includes(":") ? 128 : 32;
    const prefix = length === undefined ? longest : Number(length);
    if (bits === undefined || !(Number.isInteger(prefix) && prefix >= 0 && prefix <= longest)) {
      throw new Error(`${JSON.stringify(text)} is no network; write 10.0.0.0/8 or 2001:db8::/32`);
    }
    const shift = BigInt(longest - prefix);
    found = { longest, shift, value: bits >> shift };
    networks.set(text, found);
  }
  return found;
}

/** Functions that expressions may call. */
const FUNCTIONS = {
  /** Returns true if an address is in one of the networks. */
  within(address, ...list) {
    if (address === undefined) return false;
    const bits = number(address);
    const longest = address.includes(":") ? 128 : 32;
    return list.map(network).some((net) => net.longest === longest && bits >> net.shift === net.value);
  },
  /** Returns true if an address is private (RFC 1918, RFC 4193), loopback or link-local. */
  isPrivate(address) {
    return FUNCTIONS.within(
      address, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1",
    );
  },
};

/** Compiles an expression to a function of a flow. Only the names that occur in it are read. */
function compiled(option, expression) {
  const words = new Set(expression.match(/[A-Za-z_$][\w$]*/g) ?? []);
  const reads = Object.keys(NAMES).filter((name) => words.has(name));
  const body = `"use strict"; return (flow) => { ${reads.map((name) => `const ${name} = ${NAMES[name]};`).join(" ")} return (${expression}\n); };`;
  let evaluate;
  try {
    evaluate = new Function("PROTOCOLS", "STATUS", ...Object.keys(FUNCTIONS), body)(PROTOCOLS, status, ...Object.values(FUNCTIONS));
    // A flow without any field reveals a name that does not exist.
    evaluate({ original: {}, reply: {}, batch: {} });
  } catch (error) {
    if (evaluate === undefined || error instanceof ReferenceError) {
      const names = [...Object.keys(NAMES), ...Object.keys(FUNCTIONS)].join(", ");
      throw new Error(`option ${option}: ${JSON.stringify(expression)} is no expression: ${error.message}; names are ${names}`);
    }
  }
  // An expression that needs a missing field, such as `helper.length`, is false, as a comparison is.
  return (flow) => {
    try {
      return evaluate(flow);
    } catch {
      return undefined;
    }
  };
}

export const { plugin, flowStage } = stage(class Where {
  static describe() {
    return {
      name: "where",
      version: "1.0.0",
      summary: "Keeps the flows for which an expression in JavaScript holds",
      options: [
        { name: "keep", help: "keep flows for which this holds", placeholder: "EXPRESSION", default: "true" },
        { name: "note", help: "note the value of expressions, under these keys", placeholder: "KEY: EXPRESSION[; ...]" },
      ],
      reads: field.TUPLES | field.ZONE | field.STATUS | field.TIMEOUT | field.MARK | field.ID | field.COUNTERS | field.START
        | field.STOP | field.STATE | field.HELPER,
    };
  }

  constructor(options) {
    this.condition = compiled("keep", options.text("keep"));
    const parts = (options.text("note") ?? "").split(";").filter((part) => part.trim() !== "");
    this.expressions = parts.map((part) => {
      const [, key, expression] = part.match(/^\s*([\w.-]+)\s*:(.*)$/s) ?? [];
      if (key === undefined) {
        throw new Error(`option note: ${JSON.stringify(part.trim())} is not KEY: EXPRESSION, such as "mb: bytes / 1e6"`);
      }
      return [key, compiled("note", expression.trim())];
    });
  }

  keep(flow, notes) {
    if (!this.condition(flow)) return false;
    for (const [key, expression] of this.expressions) {
      const value = expression(flow);
      if (value !== undefined) notes.annotate(flow.row, key, value);
    }
    return true;
  }
});
