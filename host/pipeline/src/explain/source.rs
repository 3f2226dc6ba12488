//! The explanation of a source.

use std::fmt::Write as _;

use super::{EventsExplanation, SourceExplanation, table_name};
use crate::spec::{Dump, Events, Source, Spec};
use flowgate_base::text::clean;
use flowgate_model::{EventGroups, Table, family};
use flowgate_netlink::{Deletion, DumpKind, Request, Statistics, group, listener};
use flowgate_recording::RecordingKind;

/// The groups of events and their names.
const GROUPS: [(u32, &str); 6] = [
    (group::NEW, "NFNLGRP_CONNTRACK_NEW"),
    (group::UPDATE, "NFNLGRP_CONNTRACK_UPDATE"),
    (group::DESTROY, "NFNLGRP_CONNTRACK_DESTROY"),
    (group::EXPECTATION_NEW, "NFNLGRP_CONNTRACK_EXP_NEW"),
    (group::EXPECTATION_UPDATE, "NFNLGRP_CONNTRACK_EXP_UPDATE"),
    (group::EXPECTATION_DESTROY, "NFNLGRP_CONNTRACK_EXP_DESTROY"),
];

/// Explains the source of a spec, for which the kernel gets these requests.
pub(super) fn explain(spec: &Spec, requests: &[Request]) -> SourceExplanation {
    let source = &spec.source;
    let of = if source.is_about_expectations() { "expectations" } else { "flows" };
    let mut events = None;
    let (kind, requests, family, text) = match source {
        Source::Dump(dump) => {
            ("dump", dump_requests(*dump, requests), dump_family(spec, *dump), dump_text(*dump, requests.len(), of))
        }
        Source::Lookup(_) => {
            let name = if of == "flows" { "IPCTNL_MSG_CT_GET" } else { "IPCTNL_MSG_EXP_GET" };
            let requests = requests.iter().map(|request| named(name, request)).collect();
            ("lookup", requests, "both", "the one entry with the tuple of the command line".to_string())
        }
        Source::Given(_) => {
            ("given", Vec::new(), "both", "the entry that the command line describes; nothing is read".to_string())
        }
        Source::Events(source) => {
            events = Some(explain_events(source));
            ("events", Vec::new(), "both", events_text(source, of))
        }
        Source::Recording(recording) => {
            if recording.kind == RecordingKind::Events && recording.table != Table::Expect {
                events = Some(EventsExplanation {
                    events: event_names(recording.groups),
                    buffer: None,
                    resync: false,
                    reliable: false,
                });
            }
            let what = if recording.kind == RecordingKind::Events { "events" } else { "a dump" };
            let text = format!("the recording {}: {what} of {of}", clean(&recording.file.display().to_string()));
            ("recording", Vec::new(), family_name(recording.family), text)
        }
        Source::Statistics(statistics) => explain_statistics(*statistics),
        Source::Deletion(deletion) => explain_deletion(deletion, spec),
    };
    SourceExplanation { kind, table: table_name(source), requests, family, text, events }
}

fn named(name: &str, request: &Request) -> String {
    format!("{name} ({} bytes)", request.len())
}

fn family_name(number: Option<u8>) -> &'static str {
    match number {
        Some(family::IPV4) => "IPv4",
        Some(family::IPV6) => "IPv6",
        _ => "both",
    }
}

fn dump_family(spec: &Spec, dump: Dump) -> &'static str {
    family_name(dump.family.or(spec.kernel_selection().family))
}

fn dump_requests(dump: Dump, dumps: &[Request]) -> Vec<String> {
    let name = match dump.kind() {
        DumpKind::FlowsAndZero => "IPCTNL_MSG_CT_GET_CTRZERO, dump",
        DumpKind::Table(Table::Conntrack) => "IPCTNL_MSG_CT_GET, dump",
        DumpKind::Table(Table::Dying) => "IPCTNL_MSG_CT_GET_DYING, dump",
        DumpKind::Table(Table::Unconfirmed) => "IPCTNL_MSG_CT_GET_UNCONFIRMED, dump",
        DumpKind::Table(Table::Expect) => "IPCTNL_MSG_EXP_GET, dump",
        DumpKind::CpuStatistics => "IPCTNL_MSG_CT_GET_STATS_CPU, dump",
        DumpKind::ExpectationStatistics => "IPCTNL_MSG_EXP_GET_STATS_CPU, dump",
    };
    let count = (dump.kind() == DumpKind::FLOWS)
        .then(|| named("IPCTNL_MSG_CT_GET_STATS, and no dump if there are no flows", &Request::global_statistics()));
    count.into_iter().chain(dumps.iter().map(|request| named(name, request))).collect()
}

fn dump_text(dump: Dump, dumps: usize, of: &str) -> String {
    let text = match dump.table {
        Table::Dying => "a dump of the flows that are being removed".to_string(),
        Table::Unconfirmed => "a dump of the flows that are not in the table yet".to_string(),
        _ if dumps > 1 => format!("a dump of the {of} of IPv4, then one of those of IPv6"),
        _ => format!("a dump of the {of}"),
    };
    if dump.zero { text + ", whose counters are set to zero" } else { text }
}

fn event_names(groups: EventGroups) -> Vec<&'static str> {
    let EventGroups { new, update, destroy } = groups;
    let names = [(new, "new"), (update, "update"), (destroy, "destroy")];
    names.iter().filter(|(shown, _)| *shown).map(|(_, name)| *name).collect()
}

fn explain_events(events: &Events) -> EventsExplanation {
    let Events { expectations, groups, buffer, resync, reliable, .. } = *events;
    let events = event_names(if expectations { EventGroups::ALL } else { groups });
    EventsExplanation { events, buffer, resync, reliable }
}

fn events_text(events: &Events, of: &str) -> String {
    // Additional groups for a resync are not shown.
    let shown = Events { resync: false, ..events.clone() }.joined_groups();
    let names: Vec<&str> = GROUPS.iter().filter(|(bit, _)| shown & bit != 0).map(|(_, name)| *name).collect();
    let mut text = format!("events of {of}, as long as no signal ends it: the groups {}", names.join(", "));
    if names.is_empty() {
        text = format!("events of {of}, but of no group: nothing will come");
    }
    if events.all_namespaces {
        text.push_str("; of all network namespaces that have an id here (NETLINK_LISTEN_ALL_NSID)");
    }
    let bytes = events.buffer.unwrap_or(listener::EVENT_BUFFER);
    let most = events.buffer_max.unwrap_or(listener::EVENT_BUFFER_MAX).max(bytes);
    // Writing to a string cannot fail.
    let _ = write!(text, "; a receive buffer of {bytes} bytes is asked for");
    if most > bytes {
        let _ = write!(text, ", which may grow to {most}");
    }
    if events.reliable {
        text.push_str("; the kernel keeps what it cannot deliver (NETLINK_BROADCAST_ERROR)");
    }
    if events.resync {
        text.push_str("; after a gap the table is dumped, and the difference is reported as synthetic events");
    }
    text
}

type Parts = (&'static str, Vec<String>, &'static str, String);

fn explain_statistics(statistics: Statistics) -> Parts {
    let request = statistics.request();
    match statistics {
        Statistics::FlowCount => {
            let text = "the kernel's own count of flows".to_string();
            ("count", vec![named("IPCTNL_MSG_CT_GET_STATS", &request)], "both", text)
        }
        Statistics::ExpectationCount => {
            let text = "a dump of the expectations, which are counted".to_string();
            ("count", vec![named("IPCTNL_MSG_EXP_GET, dump", &request)], "IPv4", text)
        }
        Statistics::FlowsPerCpu => {
            let text = "the kernel's counters of flows, of each CPU".to_string();
            ("statistics", vec![named("IPCTNL_MSG_CT_GET_STATS_CPU, dump", &request)], "both", text)
        }
        Statistics::ExpectationsPerCpu => {
            let text = "the kernel's counters of expectations, of each CPU".to_string();
            ("statistics", vec![named("IPCTNL_MSG_EXP_GET_STATS_CPU, dump", &request)], "both", text)
        }
    }
}

fn explain_deletion(deletion: &Deletion, spec: &Spec) -> Parts {
    let of = if matches!(deletion, Deletion::Expectations) { "expectations" } else { "flows" };
    let name = if of == "flows" { "IPCTNL_MSG_CT_DELETE" } else { "IPCTNL_MSG_EXP_DELETE" };
    let requests = deletion.requests().iter().map(|request| named(name, request)).collect();
    match deletion {
        Deletion::Matching(_) => {
            let text = "no entry is read: the kernel is asked to delete all flows that its filter lets through (Linux \
                        6.12 on; if it refuses to, the table is dumped and each flow deleted)";
            ("bulk", requests, family_name(spec.selection.family), text.into())
        }
        Deletion::Family(number) => {
            let family = family_name(Some(*number));
            let text = format!("no entry is read: the kernel is asked to remove all {of} of {family}");
            ("flush", requests, family, text)
        }
        Deletion::Flows | Deletion::Expectations => {
            ("flush", requests, "both", format!("no entry is read: the kernel is asked to remove all {of}"))
        }
    }
}
