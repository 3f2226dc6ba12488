//! Finds established TCP flows that have been idle for long, and deletes them.
//!
//! Every packet resets an entry's timeout, for an established TCP flow to nf_conntrack_tcp_timeout_established (five
//! days by default). The difference to that value is therefore the time for which the flow has been silent. Entries
//! whose peers have vanished stay for all that time and fill the table; this plugin deletes them earlier, and only
//! them, whereas a lower timeout would also end flows that are merely slow.

use flowgate_sdk::{prelude::*, services};

struct IdleTcp {
    idle: u32,
    established: u32,
    unacknowledged: u32,
    delete: bool,
    found: u64,
}

impl Plugin for IdleTcp {
    fn describe() -> Description {
        Description::new("idle-tcp", "1.0.0", "Removes established TCP flows that have been idle for long")
            .option("idle", "SECONDS", "flows that have been silent for at least this long", Some("7200"))
            .option("established", "SECONDS", "nf_conntrack_tcp_timeout_established of the host", Some("432000"))
            .option(
                "unacknowledged",
                "SECONDS",
                "leave flows alone that have no longer to live: the greater of nf_conntrack_tcp_timeout_unacknowledged and \
                 _max_retrans",
                Some("300"),
            )
            .option("delete", "true|false", "remove what is found, or only show it", Some("true"))
            .reads(field::PROTOCOL | field::STATE | field::STATUS | field::TIMEOUT)
            .wants("delete")
            .wants("log")
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let number = |name, default| setup.option::<u32>(name).map(|value| value.unwrap_or(default));
        let (idle, established) = (number("idle", 7200)?, number("established", 432_000)?);
        if idle == 0 || idle >= established {
            return Err(format!(
                "option idle: {idle} is not between 1 and the timeout of established flows, {established} seconds"
            ));
        }
        let delete = setup.text("delete").is_none() || setup.switch("delete")?;
        Ok(IdleTcp { idle, established, unacknowledged: number("unacknowledged", 300)?, delete, found: 0 })
    }
}

impl Filter for IdleTcp {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        // With a fixed timeout, packets do not refresh it; an offloaded flow has none, and is not idle.
        let fixed = flow.status().is_some_and(|bits| bits & status::FIXED_TIMEOUT != 0);
        let Some(left) = flow.timeout().filter(|_| flow.established() && !fixed) else { return false };
        // Data without an answer gives an established flow a shorter timeout: the flow is busy, or its peer is slow.
        let idle = self.established.saturating_sub(left);
        if idle < self.idle || left <= self.unacknowledged {
            return false;
        }
        notes.annotate(flow, "idle_seconds", idle);
        if self.delete {
            notes.delete(flow);
        }
        self.found += 1;
        true
    }

    fn finish(&mut self, _notes: &mut Notes) {
        services::info(format_args!("{} established TCP flows idle for {} s or more", self.found, self.idle));
    }
}

flowgate_sdk::filter!(IdleTcp);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        FlowStage,
        testing::{Row, batch, setup},
    };

    use super::*;

    fn tcp(state: u8, left: u32) -> Row {
        Row::ipv4(protocol::TCP)
            .original("10.0.0.1", "10.0.0.2", 4000, 80)
            .set(field::STATE, |row| row.state = state)
            .set(field::TIMEOUT, |row| row.timeout = left)
            .set(field::STATUS, |row| row.status = status::SEEN_REPLY | status::ASSURED)
    }

    #[test]
    fn idle_flows_are_removed_and_no_others() {
        let flows = batch([
            tcp(state::TCP_ESTABLISHED, 432_000),
            tcp(state::TCP_ESTABLISHED, 424_801),
            tcp(state::TCP_ESTABLISHED, 424_800),
            tcp(state::TCP_TIME_WAIT, 100),
            tcp(state::TCP_ESTABLISHED, 300),
            tcp(state::TCP_ESTABLISHED, 1000).set(field::STATUS, |row| row.status |= status::FIXED_TIMEOUT),
            tcp(state::TCP_ESTABLISHED, 0).without(field::TIMEOUT),
            tcp(state::TCP_ESTABLISHED, 500_000),
        ]);
        let mut plugin = IdleTcp::configure(&setup(&[])).unwrap();
        let outcome = plugin.process(&flows);
        assert_eq!(outcome.verdicts, [0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(outcome.actions.unwrap().rows, [2]);
        assert_eq!(outcome.annotations.unwrap().values.get(0), Some(&b"7200"[..]));
        FlowStage::finish(&mut plugin);
        assert!(services::native::take_lines()[0].1.starts_with("1 established"));

        let mut shows = IdleTcp::configure(&setup(&[("delete", "false")])).unwrap();
        assert!(shows.process(&flows).actions.is_none());
    }

    #[test]
    fn an_idle_time_that_cannot_be_is_refused() {
        for idle in ["0", "432000"] {
            let error = IdleTcp::configure(&setup(&[("idle", idle)])).err().unwrap();
            assert!(error.contains(idle) && error.contains("432000"), "{error}");
        }
    }
}
