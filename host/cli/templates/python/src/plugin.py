"""Keeps the flows to one port, and marks those that moved much as such.

Change `keep`, run `make test`, and look at what is otherwise than expected; `make bless` accepts it.
"""

import flowgate
from flowgate import field, protocol

# The protocols in which ports have a meaning.
WITH_PORTS = {protocol.TCP, protocol.UDP, protocol.DCCP, protocol.SCTP, protocol.UDPLITE}


class Filter:
    """The plugin: what its options said."""

    @staticmethod
    def describe():
        return flowgate.description(
            "{{name}}", "0.1.0", "Flows to one port, and which of them moved much",
            options=[
                flowgate.option("port", "keep flows to this port", placeholder="PORT", default="443"),
                flowgate.option("bytes", "note flows that moved more bytes than this", placeholder="N", default="1000000"),
            ],
            # The host decodes and hands over only what is read here.
            reads=field.PROTOCOL | field.DESTINATION_L4 | field.COUNTERS,
        )

    def __init__(self, options):
        self.port = options.number("port")
        self.bytes = options.number("bytes")
        if self.port > 65535:
            raise ValueError(f"option port: {self.port} is no port; they end at 65535")

    def keep(self, flow, notes):
        if flow.protocol not in WITH_PORTS or flow.original.destination_port != self.port:
            return False
        # Without accounting in the kernel, a flow has no counters.
        if (flow.bytes or 0) > self.bytes:
            notes.annotate(flow.row, "heavy", flow.bytes)
        return True


Plugin, FlowStage = flowgate.stage(Filter)
