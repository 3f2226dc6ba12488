//! Metrics: what runs, in numbers, as Prometheus reads them over HTTP.
//!
//! [`serve_tenants`] serves what is known of a policy service. [`serve`] needs a [`Board`] (what each stage did) and [`Counters`] (what was received), and changes neither: all that is
//! exported is read when it is asked for. docs/METRICS.md describes each metric.

mod export;
mod server;
mod tenants;

pub use export::{names, text};
pub use server::{Server, serve, serve_tenants};
pub use tenants::{Look, PolicyFigures, STATES, TenantFigures, tenant_names};

use flowgate_base::io_error::error_text;
#[cfg(doc)]
use flowgate_pipeline::{counters::Counters, stats::Board};

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// An address that cannot be listened at.
    #[error("cannot serve metrics at {address}: {}", error_text(source))]
    Listen {
        /// The address.
        address: flowgate_base::address::ListenAddress,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that serves cannot be had.
    #[error("cannot start serving metrics: {}", error_text(.0))]
    Start(std::io::Error),
}
