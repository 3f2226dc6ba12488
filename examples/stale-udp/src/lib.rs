//! Deletes the UDP flows to a backend that is gone.
//!
//! A flow with DNAT to a backend (a load balancer, a Kubernetes service) keeps going there as long as packets keep its
//! entry alive, even after the backend was removed from the rules: UDP has no end that the kernel could see. Whatever
//! removes a backend must therefore delete its entries, as kube-proxy does. With `direct=true`, flows that were
//! addressed to the backend itself are deleted too.

use std::{net::IpAddr, str::FromStr};

use flowgate_sdk::{address, prelude::*};

struct StaleUdp {
    backends: Vec<Endpoint>,
    services: Vec<Endpoint>,
    direct: bool,
}

/// An address as a number, with a port or any port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    address: u128,
    port: Option<u16>,
}

impl Endpoint {
    fn is(&self, address: u128, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|own| own == port)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no ADDRESS or ADDRESS:PORT, such as 10.0.0.7, 10.0.0.7:53 or [2001:db8::7]:53");
        let make = |address: IpAddr, port| Endpoint { address: address::bits(address), port };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(make(address, None));
        }
        let socket: std::net::SocketAddr = text.parse().map_err(|_| wrong())?;
        Ok(make(socket.ip(), Some(socket.port())))
    }
}

/// Parses the endpoints of an option, separated by commas or blanks.
fn endpoints(setup: &Setup, name: &str) -> Result<Vec<Endpoint>, String> {
    let words = setup.text(name).unwrap_or_default().split([',', ' ', '\n', '\t']).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|error| format!("option {name}: {error}"))).collect()
}

impl Plugin for StaleUdp {
    fn describe() -> Description {
        Description::new("stale-udp", "1.0.0", "Removes UDP flows to a backend that has gone")
            .required("backend", "ADDR[:PORT],...", "backends that have gone")
            .option("service", "ADDR[:PORT],...", "only flows to these services", None)
            .option("direct", "true|false", "also flows that were addressed to the backend itself", Some("false"))
            .reads(field::TUPLES)
            .wants("delete")
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let backends = endpoints(setup, "backend")?;
        if backends.is_empty() {
            return Err("option backend: names no backend; give ADDRESS or ADDRESS:PORT".into());
        }
        Ok(StaleUdp { backends, services: endpoints(setup, "service")?, direct: setup.switch("direct")? })
    }
}

impl Filter for StaleUdp {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        if flow.protocol() != protocol::UDP || !flow.has(field::TUPLES) {
            return false;
        }
        // Replies come from the backend, whatever address the client used.
        let (original, reply) = (flow.original(), flow.reply());
        let (asked, asked_port) = (original.destination_bits(), original.destination_port());
        let (answers, answers_port) = (reply.source_bits(), reply.source_port());
        let translated = (asked, asked_port) != (answers, answers_port);
        let stale = (translated || self.direct)
            && self.backends.iter().any(|backend| backend.is(answers, answers_port))
            && (self.services.is_empty() || self.services.iter().any(|service| service.is(asked, asked_port)));
        // A flow that has ended cannot be deleted.
        if stale && flow.event() != flowgate_sdk::event::DESTROY {
            notes.delete(flow);
        }
        stale
    }
}

flowgate_sdk::filter!(StaleUdp);

#[cfg(test)]
mod tests {
    use flowgate_sdk::{
        FlowStage, action,
        testing::{Row, batch, setup},
    };

    use super::*;

    fn flows() -> Flows {
        let to_service = |number| Row::ipv4(number).original("10.0.0.1", "10.96.0.10", 4000, 53);
        batch([
            to_service(protocol::UDP).reply("10.1.0.7", "10.0.0.1", 5353, 4000),
            to_service(protocol::UDP).reply("10.1.0.8", "10.0.0.1", 5353, 4000),
            to_service(protocol::TCP).reply("10.1.0.7", "10.0.0.1", 5353, 4000),
            Row::ipv4(protocol::UDP).original("10.0.0.1", "10.1.0.7", 4001, 5353),
            Row::ipv6(protocol::UDP).original("2001:db8::1", "2001:db8:96::10", 4000, 53).reply(
                "2001:db8:1::7",
                "2001:db8::1",
                5353,
                4000,
            ),
        ])
    }

    fn rows(options: &[(&str, &str)]) -> Vec<u32> {
        let outcome = StaleUdp::configure(&setup(options)).unwrap().process(&flows());
        let actions = outcome.actions.unwrap_or_default();
        assert!(actions.kinds.iter().all(|&kind| kind == action::DELETE));
        let kept: Vec<u32> = (0..).zip(&outcome.verdicts).filter(|(_, v)| **v == 1).map(|(row, _)| row).collect();
        assert_eq!(kept, actions.rows);
        actions.rows
    }

    #[test]
    fn flows_to_the_backend_go_and_no_others() {
        assert_eq!(rows(&[("backend", "10.1.0.7")]), [0]);
        assert_eq!(rows(&[("backend", "10.1.0.7:5353, [2001:db8:1::7]:5353")]), [0, 4]);
        assert_eq!(rows(&[("backend", "10.1.0.7:53")]), [] as [u32; 0]);
        assert_eq!(rows(&[("backend", "10.1.0.7"), ("direct", "true")]), [0, 3]);
        assert_eq!(rows(&[("backend", "10.1.0.7"), ("service", "10.96.0.10:54")]), [] as [u32; 0]);
        assert_eq!(rows(&[("backend", "10.1.0.7"), ("service", "10.96.0.10:53")]), [0]);
    }

    #[test]
    fn what_has_ended_is_not_removed() {
        let ended = Row::ipv4(protocol::UDP).original("10.0.0.1", "10.96.0.10", 4000, 53);
        let ended = ended.reply("10.1.0.7", "10.0.0.1", 53, 4000).event(flowgate_sdk::event::DESTROY);
        let mut plugin = StaleUdp::configure(&setup(&[("backend", "10.1.0.7")])).unwrap();
        assert!(plugin.process(&batch([ended])).actions.is_none());
    }

    #[test]
    fn wrong_options_are_named() {
        let error = |text| StaleUdp::configure(&setup(&[("backend", text)])).err().unwrap();
        assert!(error("10.1.0").contains("option backend: \"10.1.0\""));
        assert!(error("10.1.0.7:99999").contains("99999"));
        assert!(error(" ").contains("names no backend"));
    }
}
