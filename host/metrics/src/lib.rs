//! Metrics of a running pipeline or service, for Prometheus over HTTP.
//!
//! [`serve_tenants`] serves the metrics of a policy service. [`serve`] takes a [`Board`] (statistics of stages) and
//! [`Counters`] (what was received) and changes neither: values are read when they are scraped. docs/METRICS.md
//! describes each metric.

mod export;
mod server;
mod tenants;

pub use export::{names, text};
pub use server::{Server, serve, serve_tenants};
pub use tenants::{MetricsProvider, PolicyMetrics, STATES, TenantMetrics, WORKER_STATES, tenant_names};

use flowgate_base::io_error::error_text;
#[cfg(doc)]
use flowgate_pipeline::{counters::Counters, stats::Board};

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be listened at.
    #[error("cannot serve metrics at {address}: {}", error_text(source))]
    Listen {
        /// The address.
        address: flowgate_base::address::ListenAddress,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The server's thread cannot be started.
    #[error("cannot start serving metrics: {}", error_text(.0))]
    Start(std::io::Error),
}
