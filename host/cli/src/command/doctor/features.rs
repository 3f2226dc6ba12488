//! Capabilities of this kernel, tested with a few flows in a temporary network namespace.

use std::{ffi::OsString, fs, thread, time::Duration};

use netlink_packet_core::NlasIterator;
use nix::sched::{CloneFlags, unshare};

use super::Finding;
use crate::args::{self, Invocation};
use flowgate_base::io_error::{errno_text, error_text};
use flowgate_model::{Flows, Rare, batch, field};
use flowgate_netlink::{
    BatchSender, Dump, DumpFilter, DumpKind, FlowEntry, RECEIVE_LENGTH, Request, RequestResult, Socket, SocketOptions,
    WakeReason,
    encode::flows::{self, IfExists},
    entries,
    filter::ExactFilter,
    group,
    message::Messages,
    wire::flow,
};
use flowgate_syntax::Settings;

/// The flows: without reply, with reply, in a zone, IPv6.
const FLOWS: [&str; 4] = [
    "-I -t 60 -p udp -s 192.0.2.1 -d 192.0.2.9 --sport 1 --dport 53 -m 1",
    "-I -t 60 -p udp -s 192.0.2.2 -d 192.0.2.9 --sport 1 --dport 53 -m 2 -u SEEN_REPLY,ASSURED",
    "-I -t 60 -p udp -s 192.0.2.3 -d 192.0.2.9 --sport 1 --dport 53 -m 2 -w 7",
    "-I -t 60 -p udp -s 2001:db8::1 -d 2001:db8::9 --sport 1 --dport 53 -m 2",
];

/// Selectors that the kernel can check: the check, the name, the listing, and the number of flows that match.
const FILTERS: [(&str, &str, &str, usize); 5] = [
    ("feature.filter.family", "family", "-L -f ipv4", 3),
    ("feature.filter.mark", "mark", "-L -m 1", 1),
    ("feature.filter.status", "status", "-L -u ASSURED", 1),
    ("feature.filter.zone", "zone", "-L -w 7", 1),
    ("feature.filter.tuple", "addresses and ports (CTA_FILTER)", "-L -f ipv4 -p udp -s 192.0.2.1", 1),
];

/// The reason why something could not be tested.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Runs the tests in a network namespace of their own.
pub(super) fn examine() -> Vec<Finding> {
    let laboratory = thread::Builder::new().name("laboratory".into()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| error_text(&errno.into()))?;
        laboratory()
    });
    let result = laboratory
        .map_err(|error| Problem::from(error_text(&error)))
        .and_then(|thread| thread.join().unwrap_or_else(|_| Err("the thread that tries it out failed".into())));
    match result {
        Ok(findings) => findings,
        Err(error) => vec![
            Finding::warning(
                "features",
                format!(
                    "what the kernel can do was not tried out, which takes a network namespace of its own: {error}"
                ),
            )
            .mend("sudo flowgate doctor"),
        ],
    }
}

/// Runs the tests; the thread is in an empty network namespace.
fn laboratory() -> Result<Vec<Finding>, Problem> {
    let mut batches = BatchSender::new(Socket::open(&SocketOptions::default())?);
    let mut templates = Vec::new();
    for line in FLOWS {
        templates.push(settings(line)?.template);
    }
    for template in &templates {
        must(&mut batches, flows::create(FlowEntry::new(template, 0)?, IfExists::Fail)?)?;
    }
    let mut findings = Vec::new();
    for (check, what, line, expected) in FILTERS {
        findings.push(filter(check, what, settings(line)?.as_ref(), expected)?);
    }
    findings.extend(templates.first().map(|template| labels(&mut batches, template)).transpose()?);
    findings.push(event_times(&mut batches, &templates)?);
    findings.push(all_namespaces());
    let refused =
        attempt(&mut batches, flows::delete_matching(&ExactFilter::for_family(flowgate_model::family::IPV6)))?;
    let left = (count(&DumpFilter::family_only(2))?, count(&DumpFilter::family_only(10))?);
    findings.push(match (refused, left) {
        (0, (3, 0)) => Finding::ok("feature.flush", "-F -f empties the table of one family at once"),
        (0, (rest, _)) => Finding::warning(
            "feature.flush",
            format!("-F -f ipv6 empties the table of IPv4 too ({rest} of 3 flows were left): this kernel does not heed the family"),
        ),
        _ => Finding::ok("feature.flush", "-F -f lists one family and deletes its flows: before Linux 6.12 the kernel does not"),
    });
    Ok(findings)
}

/// Parses a command line of this file.
fn settings(line: &str) -> Result<Box<Settings>, Problem> {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    match args::parse(
        &flowgate_syntax::ProgramName::of("conntrack".as_ref()),
        &words,
        &flowgate_syntax::SystemEnvironment,
    )
    .result?
    {
        Invocation::Run(settings) => Ok(settings),
        _ => Err("it is no command".into()),
    }
}

fn must(batches: &mut BatchSender, request: Request) -> Result<(), Problem> {
    match attempt(batches, request)? {
        0 => Ok(()),
        errno => Err(errno_text(errno).into()),
    }
}

/// Sends a request and returns the error number of the answer; 0 if there is none.
fn attempt(batches: &mut BatchSender, request: Request) -> Result<i32, Problem> {
    let mut results = Vec::new();
    batches.submit(&[request], &mut results)?;
    Ok(match results.pop() {
        Some(RequestResult::Done) => 0,
        Some(RequestResult::Refused { errno, .. }) => errno,
        _ => libc::ENOBUFS,
    })
}

/// Returns the number of flows in a dump.
fn count(filter: &DumpFilter) -> Result<usize, Problem> {
    let mut dump = Dump::start(Socket::open(&SocketOptions::default())?, &Request::dump(DumpKind::FLOWS, filter))?;
    let (sequence, mut buffer, mut found) = (dump.sequence(), vec![0; RECEIVE_LENGTH], 0);
    while let Some(length) = dump.next(&mut buffer, None)? {
        found += entries(buffer.get(..length).unwrap_or_default(), sequence).count();
    }
    Ok(found)
}

/// Checks that the kernel's filter returns the expected number of flows.
fn filter(check: &'static str, what: &str, settings: &Settings, expected: usize) -> Result<Finding, Problem> {
    let found = match count(&DumpFilter::plan(&settings.selection).filter) {
        Ok(found) => found,
        Err(error) => {
            return Ok(Finding::problem(check, format!("the kernel refuses to select listings by {what}: {error}")));
        }
    };
    Ok(if found == expected {
        Finding::ok(check, format!("the kernel selects listings by {what}"))
    } else if found == FLOWS.len() {
        Finding::warning(
            check,
            format!(
                "the kernel does not select listings by {what}: flowgate does, after all flows have been sent to it"
            ),
        )
    } else {
        Finding::problem(
            check,
            format!("the kernel selects listings by {what} in a wrong way: {found} instead of {expected} flows"),
        )
    })
}

/// Checks that the kernel supports labels. A flow cannot have any before a rule uses them, which does not mean that the
/// kernel lacks them.
fn labels(batches: &mut BatchSender, template: &Flows) -> Result<Finding, Problem> {
    let mut change = template.clone();
    for has in &mut change.has {
        *has = *has & !(field::TIMEOUT | field::MARK | field::MARK_MASK | field::STATUS) | field::LABELS;
    }
    batch::push_sparse(&mut change.rare.get_or_insert_with(Rare::default).labels, 0, &[1; 16]);
    let check = "feature.labels";
    Ok(match attempt(batches, flows::update(FlowEntry::new(template, 0)?, FlowEntry::new(&change, 0)?)?)? {
        0 | libc::ENOSPC => Finding::ok(
            check,
            "flows can have labels, once a rule uses them (nft: ct label set, iptables: -m connlabel --set)",
        ),
        errno => Finding::warning(check, format!("flows cannot have labels: {}", errno_text(errno))),
    })
}

/// Checks that events carry a time.
fn event_times(batches: &mut BatchSender, templates: &[Flows]) -> Result<Finding, Problem> {
    let check = "feature.event_time";
    let Some(template) = templates.first() else { return Err("there is no flow".into()) };
    fs::write("/proc/sys/net/netfilter/nf_conntrack_timestamp", "1")?;
    let socket = Socket::open(&SocketOptions { groups: group::NEW, ..SocketOptions::default() })?;
    must(batches, flows::delete(FlowEntry::new(template, 0)?)?)?;
    must(batches, flows::create(FlowEntry::new(template, 0)?, IfExists::Fail)?)?;
    let mut buffer = vec![0; RECEIVE_LENGTH];
    if socket.wait(None, Some(Duration::from_secs(1)))? != WakeReason::Readable {
        return Ok(Finding::problem(check, "the kernel sends no events, although somebody listens"));
    }
    let length = socket.receive(&mut buffer)?.length;
    let stamped = Messages::new(buffer.get(..length).unwrap_or_default())
        .flatten()
        .filter_map(|message| message.netfilter())
        .flat_map(|body| NlasIterator::new(body.attributes).flatten().map(|attribute| attribute.kind()))
        .any(|kind| kind == flow::TIMESTAMP_EVENT);
    Ok(if stamped {
        Finding::ok(check, "events carry the kernel's time, where nf_conntrack_timestamp is on")
    } else {
        Finding::ok(
            check,
            "events do not carry the kernel's time, as those of newer kernels do: -o timestamp shows when they arrived",
        )
    })
}

fn all_namespaces() -> Finding {
    let check = "feature.all_netns";
    let options = SocketOptions { groups: group::NEW, all_namespaces: true, ..SocketOptions::default() };
    match Socket::open(&options) {
        Ok(_) => Finding::ok(check, "events of all network namespaces can be listened to (--all-netns)"),
        Err(error) => Finding::warning(check, format!("--all-netns does not work: {error}")),
    }
}
