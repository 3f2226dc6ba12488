"""Answers questions about flows by DuckDB.

    oracle.py FLOWS.json

reads one SQL query a line from standard input, and answers each by one line with its rows as JSON. The table `flows` has
a row for each object of the JSON output. Addresses are numbers, as in the WIT package: IPv4 in its mapped form.
"""

import ipaddress
import json
import sys

import duckdb

NUMBERS = """event_kind family protocol state timeout status mark zone use id start stop port_id secmark namespace_id
    original.source_port original.destination_port original.icmp_id original.icmp_type original.icmp_code
    original.source_key original.destination_key original.packets original.bytes original.zone original.window_scale
    original.vtag reply.source_port reply.destination_port reply.icmp_id reply.icmp_type reply.icmp_code
    reply.source_key reply.destination_key reply.packets reply.bytes reply.zone reply.window_scale reply.vtag
    nat.source.port nat.source.icmp_id nat.destination.port master.protocol master.source_port
    master.destination_port""".split()
ADDRESSES = """original.source original.destination reply.source reply.destination nat.source.address
    nat.destination.address master.source master.destination""".split()
TEXTS = "event family_name protocol_name state_name helper program".split()


def at(flow, path):
    for name in path.split("."):
        flow = flow.get(name)
        if flow is None:
            return None
    return flow


def number(address):
    if address is None:
        return None
    address = ipaddress.ip_address(address)
    # As text: numbers of more than 64 bits are bound as floating-point numbers.
    return str(int(address) + (0xFFFF << 32 if address.version == 4 else 0))


database = duckdb.connect()
columns = (
    [f'"{name}" HUGEINT' for name in NUMBERS]
    + [f'"{name}" UHUGEINT' for name in ADDRESSES]
    + [f'"{name}" VARCHAR' for name in TEXTS]
)
database.execute(f"CREATE TABLE flows ({', '.join(columns)}, labels VARCHAR[])")
rows = []
for line in open(sys.argv[1]):
    flow = json.loads(line)
    labels = [str(label) for label in flow["labels"]] if "labels" in flow else None
    rows.append(
        [at(flow, name) for name in NUMBERS]
        + [number(at(flow, name)) for name in ADDRESSES]
        + [at(flow, name) for name in TEXTS]
        + [labels]
    )
database.executemany(f"INSERT INTO flows VALUES ({', '.join('?' * (len(columns) + 1))})", rows)
for query in sys.stdin:
    print(json.dumps(database.execute(query).fetchall(), default=str), flush=True)
