//! What simulated agents run: nothing. They report that it is well, or that it is not.

use flowgate_fleet::running::{Health, Job, Runner, Service, ServiceState};

/// Pretends to run what is rolled out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pretender {
    /// True if a plugin of whatever is run is in quarantine.
    pub fails: bool,
}

/// What pretends to run.
#[derive(Debug)]
pub(super) struct Pretended(Health);

impl Runner for Pretender {
    type Service = Pretended;

    fn start(&mut self, _: &Job) -> Result<Pretended, String> {
        let quarantined = if self.fails { vec!["simulated".to_owned()] } else { Vec::new() };
        Ok(Pretended(Health { quarantined, ..Health::of(ServiceState::Running) }))
    }
}

impl Service for Pretended {
    fn health(&mut self) -> Health {
        self.0.clone()
    }

    fn stop(self) {}
}
