"""Annotates flows with the owners of both ends, from an inventory in JSON, and keeps those between different owners.

The inventory is an export of an address management system: a list of objects with `network` (or `address`), `owner`,
and optionally `name`, `ports` and `peers`.

    [{"network": "10.1.0.0/24", "owner": "shop", "name": "web", "peers": ["payments"]},
     {"address": "10.2.0.5", "owner": "payments", "name": "db", "ports": [5432]}]

A flow is expected if both ends have the same owner, or if the source lists the destination's owner in `peers` and the
destination's `ports`, if any, contain the port. `show=unexpected` shows all other flows, which should be examined before
a firewall is closed.
"""

import json
from ipaddress import ip_network

import flowgate
from flowgate import field, protocol

SHOW = ("all", "crossing", "unexpected")
WITH_PORTS = (protocol.TCP, protocol.UDP, protocol.DCCP, protocol.SCTP, protocol.UDPLITE)


class Entry:
    """An entry of the inventory."""

    def __init__(self, number, raw):
        def wrong(what):
            return ValueError(f"option inventory: entry {number}: {what}")

        if not isinstance(raw, dict):
            raise wrong("it is no object with `network` and `owner`")
        network = raw.get("network", raw.get("address"))
        try:
            self.network = ip_network(network, strict=False)
        except ValueError:
            raise wrong(f"{network!r} is no network or address") from None
        self.owner = raw.get("owner")
        if not isinstance(self.owner, str) or not self.owner:
            raise wrong("it has no `owner`")
        self.name = str(raw.get("name", self.owner))
        self.peers = self._list(raw, "peers", str, wrong)
        self.ports = self._list(raw, "ports", int, wrong)

    @staticmethod
    def _list(raw, name, kind, wrong):
        items = raw.get(name, [])
        if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
            raise wrong(f"`{name}` is no list of {'numbers' if kind is int else 'texts'}")
        return frozenset(items)


class Inventory:
    @staticmethod
    def describe():
        return flowgate.description(
            "inventory", "1.0.0", "Says to whom the two ends of a flow belong, from an inventory in JSON",
            reads=field.ORIGINAL,
            options=[
                flowgate.option("inventory", "the inventory, in JSON", placeholder="@FILE", required=True),
                flowgate.option("show", f"flows to keep: {', '.join(SHOW)}", placeholder="|".join(SHOW), default="crossing"),
            ],
        )

    def __init__(self, options):
        self.show = options["show"]
        if self.show not in SHOW:
            raise ValueError(f"option show: {self.show!r} is none of {', '.join(SHOW)}")
        try:
            raw = json.loads(options["inventory"])
        except ValueError as error:
            raise ValueError(f"option inventory: it is not JSON: {error}") from None
        if not isinstance(raw, list) or not raw:
            raise ValueError("option inventory: it is no list of objects with `network` and `owner`")
        entries = [Entry(number, entry) for number, entry in enumerate(raw, 1)]
        # The longest prefix first, with a table for each length, so that a lookup takes a few hashes.
        self.tables = {4: {}, 6: {}}
        for entry in sorted(entries, key=lambda entry: -entry.network.prefixlen):
            shift = entry.network.max_prefixlen - entry.network.prefixlen
            self.tables[entry.network.version].setdefault(shift, {})[int(entry.network.network_address) >> shift] = entry
        self.known = {}

    def find(self, family, hi, lo):
        """Returns the entry with the longest prefix of an address."""
        key = (family, hi, lo)
        if key not in self.known:
            version, bits = (4, lo & 0xFFFFFFFF) if family == flowgate.IPV4 else (6, hi << 64 | lo)
            hits = (table.get(bits >> shift) for shift, table in self.tables[version].items())
            # Most addresses occur in many flows and are found here. The size is bounded, so that an attacker cannot
            # exhaust the memory.
            if len(self.known) >= 50_000:
                self.known.clear()
            self.known[key] = next((entry for entry in hits if entry is not None), None)
        return self.known[key]

    @staticmethod
    def expected(source, destination, port):
        if source is None or destination is None:
            return False
        if source.owner == destination.owner:
            return True
        return destination.owner in source.peers and (not destination.ports or port is None or port in destination.ports)

    def process(self, batch):
        notes = flowgate.Notes()
        verdicts = bytearray(batch.length)
        zeros = [0] * batch.length
        sources, destinations = batch.original.source, batch.original.destination
        columns = zip(
            batch.family, batch.protocol or bytes(batch.length),
            sources.hi or zeros, sources.lo or zeros, destinations.hi or zeros, destinations.lo or zeros,
            batch.original.destination_l4 or zeros,
        )
        for row, (family, number, source_hi, source_lo, destination_hi, destination_lo, port) in enumerate(columns):
            if not batch.has[row] & field.SOURCE:
                continue  # a gap in a stream of events
            source = self.find(family, source_hi, source_lo)
            destination = self.find(family, destination_hi, destination_lo)
            expected = self.expected(source, destination, port if number in WITH_PORTS else None)
            crossing = (source and source.owner) != (destination and destination.owner)
            if (self.show == "crossing" and not crossing) or (self.show == "unexpected" and expected):
                continue
            verdicts[row] = 1
            for key, entry in (("from", source), ("to", destination)):
                notes.annotate(row, key, "?" if entry is None else f"{entry.owner}/{entry.name}")
            if not expected:
                notes.annotate(row, "unexpected", "yes")
        return notes.outcome(verdicts)


Plugin, FlowStage = flowgate.stage(Inventory)
