//! The table of protocols and their options.

use super::{ProtocolKey, ProtocolOption, ProtocolSpec};
use flowgate_model::protocol;

/// A row: key, names, placeholder of the value, legality, help.
const fn option(
    key: ProtocolKey,
    long: &'static [&'static str],
    placeholder: &'static str,
    legality: &'static str,
    help: &'static str,
) -> ProtocolOption {
    ProtocolOption { key, long, placeholder, legality, help }
}

const SPORT: ProtocolOption =
    option(ProtocolKey::Source, &["sport", "orig-port-src"], "port", "ooTTRR", "source port of the original direction");
const DPORT: ProtocolOption = option(
    ProtocolKey::Destination,
    &["dport", "orig-port-dst"],
    "port",
    "ooTTRR",
    "destination port of the original direction",
);
const REPLY_SPORT: ProtocolOption =
    option(ProtocolKey::ReplySource, &["reply-port-src"], "port", "ooTT.R", "source port of the reply direction");
const REPLY_DPORT: ProtocolOption = option(
    ProtocolKey::ReplyDestination,
    &["reply-port-dst"],
    "port",
    "ooTT.R",
    "destination port of the reply direction",
);
const MASK_SPORT: ProtocolOption = option(
    ProtocolKey::MaskSource,
    &["mask-port-src"],
    "port",
    "....R.",
    "mask of the source port of an expected flow, such as 65535",
);
const MASK_DPORT: ProtocolOption = option(
    ProtocolKey::MaskDestination,
    &["mask-port-dst"],
    "port",
    "....R.",
    "mask of the destination port of an expected flow",
);
const TUPLE_SPORT: ProtocolOption =
    option(ProtocolKey::TupleSource, &["tuple-port-src"], "port", "....R.", "source port of an expected flow");
const TUPLE_DPORT: ProtocolOption = option(
    ProtocolKey::TupleDestination,
    &["tuple-port-dst"],
    "port",
    "....R.",
    "destination port of an expected flow",
);

const fn state(help: &'static str) -> ProtocolOption {
    option(ProtocolKey::State, &["state"], "state", "ooRo..", help)
}

/// The options of protocols with ports. The state, if there is one, comes before the ports of expectations.
macro_rules! ports {
    ([$($state:expr)?], [$($more:expr),*]) => {
        &[
            SPORT, DPORT, REPLY_SPORT, REPLY_DPORT, MASK_SPORT, MASK_DPORT, $($state,)? TUPLE_SPORT, TUPLE_DPORT,
            $($more),*
        ]
    };
}

const PORT_PAIRS: [(&str, &str); 2] = [("sport", "dport"), ("reply-src-port", "reply-dst-port")];

/// The protocols with options.
pub const PROTOCOLS: [ProtocolSpec; 8] = [
    ProtocolSpec {
        name: "tcp",
        number: protocol::TCP,
        options: ports!(
            [state(
                "NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE or LISTEN"
            )],
            []
        ),
        pairs: PORT_PAIRS,
    },
    ProtocolSpec { name: "udp", number: protocol::UDP, options: ports!([], []), pairs: PORT_PAIRS },
    ProtocolSpec { name: "udplite", number: protocol::UDPLITE, options: ports!([], []), pairs: PORT_PAIRS },
    ProtocolSpec {
        name: "sctp",
        number: protocol::SCTP,
        options: ports!(
            [state(
                "NONE, CLOSED, COOKIE_WAIT, COOKIE_ECHOED, ESTABLISHED, SHUTDOWN_SENT, SHUTDOWN_RECD or SHUTDOWN_ACK_SENT"
            )],
            [
                option(
                    ProtocolKey::OriginalVtag,
                    &["orig-vtag"],
                    "value",
                    ".oRoR.",
                    "verification tag of the original direction"
                ),
                option(
                    ProtocolKey::ReplyVtag,
                    &["reply-vtag"],
                    "value",
                    ".oRoR.",
                    "verification tag of the reply direction"
                )
            ]
        ),
        pairs: PORT_PAIRS,
    },
    ProtocolSpec {
        name: "dccp",
        number: protocol::DCCP,
        options: ports!(
            [state("NONE, REQUEST, RESPOND, PARTOPEN, OPEN, CLOSEREQ, CLOSING, TIMEWAIT, IGNORE or INVALID")],
            [option(
                ProtocolKey::Role,
                &["role"],
                "role",
                "..R.R.",
                "what the original direction's sender is: client or server"
            )]
        ),
        // These are not the names of the options, but those in the messages of `conntrack`.
        pairs: [("sport", "dport"), ("reply-port-src", "report-port-dst")],
    },
    ProtocolSpec {
        name: "icmp",
        number: protocol::ICMP,
        options: &[
            option(ProtocolKey::IcmpType, &["icmp-type"], "number", "ooRR..", "type, such as 8 for an echo request"),
            option(ProtocolKey::IcmpCode, &["icmp-code"], "number", "ooRR..", "code"),
            option(ProtocolKey::IcmpId, &["icmp-id"], "number", "oooo..", "identifier"),
        ],
        pairs: [("", ""), ("", "")],
    },
    ProtocolSpec {
        name: "icmpv6",
        number: protocol::ICMPV6,
        options: &[
            option(
                ProtocolKey::IcmpType,
                &["icmpv6-type"],
                "number",
                "ooRR..",
                "type, such as 128 for an echo request",
            ),
            option(ProtocolKey::IcmpCode, &["icmpv6-code"], "number", "ooRR..", "code"),
            option(ProtocolKey::IcmpId, &["icmpv6-id"], "number", "oooo..", "identifier"),
        ],
        pairs: [("", ""), ("", "")],
    },
    ProtocolSpec {
        name: "gre",
        number: protocol::GRE,
        options: &[
            option(
                ProtocolKey::Source,
                &["srckey", "orig-key-src"],
                "key",
                "ooTTRR",
                "source key of the original direction",
            ),
            option(
                ProtocolKey::Destination,
                &["dstkey", "orig-key-dst"],
                "key",
                "ooTTRR",
                "destination key of the original direction",
            ),
            option(ProtocolKey::ReplySource, &["reply-key-src"], "key", "ooTTRR", "source key of the reply direction"),
            option(
                ProtocolKey::ReplyDestination,
                &["reply-key-dst"],
                "key",
                "ooTTRR",
                "destination key of the reply direction",
            ),
            option(
                ProtocolKey::MaskSource,
                &["mask-key-src"],
                "key",
                "....R.",
                "mask of the source key of an expected flow",
            ),
            option(
                ProtocolKey::MaskDestination,
                &["mask-key-dst"],
                "key",
                "....R.",
                "mask of the destination key of an expected flow",
            ),
            option(ProtocolKey::TupleSource, &["tuple-key-src"], "key", "....R.", "source key of an expected flow"),
            option(
                ProtocolKey::TupleDestination,
                &["tuple-key-dst"],
                "key",
                "....R.",
                "destination key of an expected flow",
            ),
        ],
        pairs: [("srckey", "dstkey"), ("reply-src-key", "reply-dst-key")],
    },
];
