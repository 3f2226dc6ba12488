//! The roles of plugins.

use flowgate_runtime::Capabilities;

/// The role of a plugin in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A stage that processes flows.
    FlowStage,
    /// A stage that processes expectations.
    ExpectationStage,
    /// A format of flows.
    FlowFormat,
    /// A format of expectations.
    ExpectationFormat,
    /// A format of statistics.
    StatisticsFormat,
    /// A plugin that groups flows.
    Aggregator,
    /// A format of groups of flows.
    GroupsFormat,
}

impl Role {
    /// Returns true if a component can play this role.
    #[must_use]
    pub fn is_within(self, can: Capabilities) -> bool {
        match self {
            Role::FlowStage => can.flow_stage,
            Role::ExpectationStage => can.expectation_stage,
            Role::FlowFormat => can.flow_format,
            Role::ExpectationFormat => can.expectation_format,
            Role::StatisticsFormat => can.statistics_format,
            Role::Aggregator => can.flow_aggregate,
            Role::GroupsFormat => can.groups_format,
        }
    }

    /// Returns the interface that a plugin in this role exports.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Role::FlowStage => "flow-stage",
            Role::ExpectationStage => "expectation-stage",
            Role::FlowFormat => "flow-format",
            Role::ExpectationFormat => "expectation-format",
            Role::StatisticsFormat => "statistics-format",
            Role::Aggregator => "flow-aggregate",
            Role::GroupsFormat => "groups-format",
        }
    }
}
