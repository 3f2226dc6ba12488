"""Keeps the flows that have moved more than a number of bytes, and annotates them with that number.

It reads columns, which is fast.
"""

import flowgate
from flowgate import field


class Heavy:
    @staticmethod
    def describe():
        return flowgate.description(
            "heavy-python", "1.0.0", "Flows that have moved many bytes", reads=field.COUNTERS,
            options=[flowgate.option("bytes", "keep flows that have moved more bytes than this", placeholder="N", default="1000000")],
        )

    def __init__(self, options):
        self.limit = options.number("bytes")

    def process(self, batch):
        notes = flowgate.Notes()
        verdicts = bytearray(batch.length)
        # Without accounting no flow carries counters; a field that a row does not carry is 0.
        if batch.counters is not None:
            limit = self.limit
            # The column of a direction without counters is empty.
            zeros = [0] * batch.length
            original, reply = batch.counters.original_bytes or zeros, batch.counters.reply_bytes or zeros
            for row, (sent, received) in enumerate(zip(original, reply)):
                if sent + received > limit:
                    verdicts[row] = 1
                    notes.annotate(row, "total_bytes", sent + received)
        return notes.outcome(verdicts)


Plugin, FlowStage = flowgate.stage(Heavy)
