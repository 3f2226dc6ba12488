//! The roles of plugins.

use flowgate_runtime::Capabilities;

/// What a plugin is to do in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look at flows.
    FlowStage,
    /// Look at expectations.
    ExpectationStage,
    /// Show flows.
    FlowFormat,
    /// Show expectations.
    ExpectationFormat,
    /// Show statistics.
    StatisticsFormat,
}

impl Role {
    /// Returns true if a component can play it.
    #[must_use]
    pub fn is_within(self, can: Capabilities) -> bool {
        match self {
            Role::FlowStage => can.flow_stage,
            Role::ExpectationStage => can.expectation_stage,
            Role::FlowFormat => can.flow_format,
            Role::ExpectationFormat => can.expectation_format,
            Role::StatisticsFormat => can.statistics_format,
        }
    }

    /// The interface that a plugin in this role exports.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Role::FlowStage => "flow-stage",
            Role::ExpectationStage => "expectation-stage",
            Role::FlowFormat => "flow-format",
            Role::ExpectationFormat => "expectation-format",
            Role::StatisticsFormat => "statistics-format",
        }
    }
}
