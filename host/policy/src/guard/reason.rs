//! Why an action is refused.

use crate::scope::Outside;
use flowgate_base::text::clean;
use flowgate_netlink::EncodeError;

/// A refusal: the result for the plugin, and the reason, which only the operator learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Result for the plugin: see [`flowgate_model::result`].
    pub result: u8,
    /// Error number of the result.
    pub errno: u32,
    /// The reason.
    pub reason: Reason,
}

/// The reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The plugin was not granted this.
    #[error("the plugin was not granted this action, or not this field, mark, timeout, status or label")]
    NotGranted,
    /// A new flow would have a property that the plugin may not set.
    #[error("a new flow would have a mark, timeout, status, state, label or helper that the plugin may not give")]
    Bounds,
    /// No flow is named.
    #[error("the action does not name a flow completely")]
    Nameless,
    /// It could not be proposed as a request.
    #[error("it cannot be proposed to the kernel: {}", clean(.0))]
    Unproposed(String),
    /// It cannot be encoded as a request.
    #[error("it cannot be asked of the kernel: {0}")]
    Unspeakable(EncodeError),
    /// The flow is not the tenant's.
    #[error("{0}")]
    Outside(#[from] Outside),
    /// The flow would no longer be the tenant's.
    #[error("the flow would leave the tenant's scope")]
    WouldLeave,
    /// The new flow would not be the tenant's.
    #[error("the new flow would be outside the tenant's scope")]
    WouldBeOutside,
    /// The name is the reply of another flow.
    #[error("the flow that is named is the reply of another one")]
    ByReply,
    /// There is no such flow.
    #[error("there is no such flow any more")]
    Gone,
    /// Another flow has taken its place.
    #[error("another flow has taken its place: its id is a different one")]
    Replaced,
    /// A flow of the tenant is there already.
    #[error("there is such a flow already")]
    Exists,
    /// A flow that is not the tenant's is in the way.
    #[error("the new flow would collide with one outside the tenant's scope")]
    Collision,
    /// A related flow.
    #[error("a tenant cannot make a flow the child of another one")]
    Master,
    /// Translation of an existing flow.
    #[error("the translation of a flow cannot be changed")]
    Translation,
    /// Translation into a range.
    #[error("a new flow can be translated to one address and port at each end, not to a range or twice")]
    Range,
    /// A new flow whose replies are not the reverse of it.
    #[error("the new flow would be translated at its {0}, for which the plugin has no grant `create.translated`")]
    Reply(&'static str),
    /// Two updates of one call that change what the scope depends on.
    #[error("one call can change those bits of a flow's mark that the scope looks at once, not again")]
    Again,
    /// Too many actions in one call.
    #[error("more than `actions-in-flight` at once")]
    InFlight,
    /// Too many actions per second.
    #[error("more than `actions-per-second`")]
    Rate,
    /// The tenant has as many created flows as it may have.
    #[error("the tenant has made {0} flows that are alive, as many as `entries` allows")]
    Entries(u64),
    /// All tenants together have as many created flows as they may have.
    #[error(
        "all tenants together have made {0} flows that are alive, as many as `table-share` of nf_conntrack_max allows"
    )]
    TableShare(u64),
    /// The time of the call was over before all of its actions were judged.
    #[error("the time of the call was over before all its actions were decided about, so that nothing of it is done")]
    Time,
    /// The tenant is paused.
    #[error("the tenant is paused or in quarantine")]
    Paused,
    /// Another generation of the policy has taken over.
    #[error("a later generation of the policy has taken over, and what this one was granted has ended")]
    Superseded,
    /// The audit cannot be written.
    #[error("the audit cannot be written, so that nothing is done")]
    Unrecorded,
    /// The tenant has used up its share of the audit.
    #[error("the tenant has used up its share of the audit")]
    AuditShare,
    /// Its record would be longer than a line of the audit may be.
    #[error("the record of the action would be longer than a line of the audit may be")]
    Unrendered,
    /// The kernel did not answer the lookup.
    #[error("the kernel could not be asked for the entry: error {0}")]
    Unknown(i32),
}

impl Reason {
    /// Returns the code for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Reason::NotGranted => "not-granted",
            Reason::Bounds => "bounds",
            Reason::Nameless => "nameless",
            Reason::Unproposed(_) => "unproposed",
            Reason::Unspeakable(_) => "invalid",
            Reason::Outside(Outside::Scope) => "out-of-scope",
            // The same for a program: the peer is not the one that the scope has.
            Reason::Outside(Outside::Peer(_)) | Reason::Reply(_) => "translated-peer",
            Reason::WouldLeave => "would-leave-scope",
            Reason::WouldBeOutside => "would-be-out-of-scope",
            Reason::ByReply => "named-by-reply",
            Reason::Gone => "gone",
            Reason::Replaced => "replaced",
            Reason::Exists => "exists",
            Reason::Collision => "collision",
            Reason::Master => "master",
            Reason::Translation => "translation",
            Reason::Range => "translation-range",
            Reason::Again => "mark-twice",
            Reason::InFlight => "in-flight",
            Reason::Rate => "rate",
            Reason::Entries(_) => "entries",
            Reason::TableShare(_) => "table-share",
            Reason::Time => "time",
            Reason::Paused => "paused",
            Reason::Superseded => "superseded",
            Reason::Unrecorded => "unrecorded",
            Reason::AuditShare => "audit-share",
            Reason::Unrendered => "unrendered",
            Reason::Unknown(_) => "unknown",
        }
    }
}
