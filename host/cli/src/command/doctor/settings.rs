//! Sysctls for accounting, time stamps, events and the size of the table.

use super::{Finding, Patient, kernel::Counts};

/// Receive buffer that `-E` asks for, in bytes.
const WANTED_BUFFER: u64 = 8 << 20;
/// Bytes of the buffer that an event occupies.
const EVENT: u64 = 1_280;

/// Checks the sysctls. `counts` are the kernel's counts from netlink, which replace settings that are hidden.
pub(super) fn examine(patient: &Patient<'_>, counts: Option<&Counts>) -> Vec<Finding> {
    let of = |name: &str| patient.sysctl(&format!("net.netfilter.nf_conntrack_{name}"));
    let set = |name: &str, value: u64| patient.command(&format!("sysctl -w net.netfilter.nf_conntrack_{name}={value}"));
    let mut findings = Vec::new();
    for (check, name, on, off) in [
        (
            "sysctl.nf_conntrack_acct",
            "acct",
            "packets and bytes are counted",
            "packets and bytes of new flows are not counted: listings have no counters, plugins see none",
        ),
        (
            "sysctl.nf_conntrack_timestamp",
            "timestamp",
            "flows have times",
            "new flows have no start and stop, and events no time of the kernel: -o ktimestamp shows nothing",
        ),
    ] {
        findings.extend(of(name).map(|value| match value {
            0 => Finding::warning(check, format!("nf_conntrack_{name}=0: {off}")).mend(set(name, 1)),
            value => Finding::ok(check, format!("nf_conntrack_{name}={value}: {on}")),
        }));
    }
    findings.extend(of("events").map(|value| {
        let check = "sysctl.nf_conntrack_events";
        match value {
            0 => Finding::problem(check, "nf_conntrack_events=0: the kernel sends no events, -E shows nothing")
                .mend(set("events", 1)),
            1 => Finding::ok(check, "nf_conntrack_events=1: all flows have events"),
            value => Finding::ok(
                check,
                format!(
                    "nf_conntrack_events={value}: only flows that begin while somebody listens have events; the end of older \
                     ones is not seen. {} changes that",
                    set("events", 1)
                ),
            ),
        }
    }));
    findings.extend(buffer(patient));
    let (flows, most) = counts.map_or((None, None), |counts| (counts.flows, counts.most));
    findings.extend(fill(of("count").or(flows), of("max").or(most), of("buckets")));
    findings
}

/// Checks the maximum size of the buffer for events.
fn buffer(patient: &Patient<'_>) -> Option<Finding> {
    let check = "sysctl.rmem_max";
    let most =
        patient.sysctl("net.core.rmem_max").or_else(|| Patient { namespace: None }.sysctl("net.core.rmem_max"))?;
    let standard = patient.sysctl("net.core.rmem_default").unwrap_or_default();
    let text = format!("net.core.rmem_max={most}, net.core.rmem_default={standard}");
    let forced = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap_or(false);
    Some(if most >= WANTED_BUFFER {
        Finding::ok(check, text)
    } else if forced {
        Finding::ok(check, format!("{text}; with CAP_NET_ADMIN -E goes beyond that"))
    } else {
        let events = most * 2 / EVENT;
        Finding::warning(check, format!("{text}: a burst of more than {events} events overruns the buffer of -E"))
            .mend(format!("sysctl -w net.core.rmem_max={WANTED_BUFFER}"))
    })
}

/// Checks how full the table is.
fn fill(count: Option<u64>, most: Option<u64>, buckets: Option<u64>) -> Vec<Finding> {
    let (Some(count), Some(most)) = (count, most) else { return Vec::new() };
    let check = "table.fill";
    let more = format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(2));
    let mut findings = Vec::new();
    findings.push(match (count.saturating_mul(100)).checked_div(most) {
        None => Finding::warning(check, format!("{count} flows; there is no limit (nf_conntrack_max=0)")),
        Some(percent) => {
            let text = format!("{count} of at most {most} flows, {percent} %");
            match percent {
                95.. => Finding::problem(check, format!("{text}: new flows are refused when it is full")).mend(more),
                80.. => Finding::warning(check, format!("{text}: new flows are refused when it is full")).mend(more),
                _ => Finding::ok(check, text),
            }
        }
    });
    if let Some(buckets) = buckets.filter(|&buckets| buckets > 0) {
        let check = "table.buckets";
        let text =
            format!("nf_conntrack_buckets={buckets}: a listing walks them all, about {} ms", buckets * 14 / 100_000);
        findings.push(if most / buckets > 8 {
            Finding::warning(
                check,
                format!("{text}; up to {} flows share one, which slows down every packet", most / buckets),
            )
            .mend(format!("sysctl -w net.netfilter.nf_conntrack_buckets={}", most / 2))
        } else {
            Finding::ok(check, text)
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;

    #[test]
    fn a_table_that_fills_up_is_reported() {
        let level = |count, most, buckets| -> Vec<Level> {
            fill(Some(count), Some(most), Some(buckets)).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(level(10, 100, 100), [Level::Ok, Level::Ok]);
        assert_eq!(level(80, 100, 100), [Level::Warning, Level::Ok]);
        assert_eq!(level(95, 100, 10), [Level::Problem, Level::Warning]);
        assert_eq!(level(95, 0, 0), [Level::Warning]);
        assert!(fill(None, Some(1), None).is_empty());
        let full = fill(Some(100), Some(100), None);
        assert_eq!(full[0].mend.as_deref(), Some("sysctl -w net.netfilter.nf_conntrack_max=200"));
    }
}
