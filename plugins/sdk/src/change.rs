//! Changes of what is shown of a flow.

use crate::{Key, field, values::Values};

/// A change of what later stages and the format see of a flow. The kernel's entry is not changed; for that see
/// [`crate::Update`].
///
/// ```
/// use flowgate_sdk::{Change, field};
///
/// // Another mark, and no labels.
/// let change = Change::new().mark(7).clear(field::LABELS);
/// # let _ = change;
/// ```
///
/// If the pipeline may act on the flows (by the command itself, or by a plugin with a grant to act), the host ignores
/// changes of what identifies a flow: tuples, zones, id.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub(crate) values: Values,
    pub(crate) original: Option<Key>,
    pub(crate) reply: Option<Key>,
    pub(crate) clear: u64,
}

impl Change {
    /// Makes a change of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows another mark.
    #[must_use]
    pub fn mark(mut self, mark: u32) -> Self {
        self.values.mark = Some(mark);
        self
    }

    /// Shows another timeout, in seconds.
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.values.timeout = Some(seconds);
        self
    }

    /// Shows other status bits, which replace all of them; see [`crate::status`].
    #[must_use]
    pub fn status(mut self, bits: u32) -> Self {
        self.values.status = Some(bits);
        self
    }

    /// Shows another protocol state, a number of the flow's protocol.
    #[must_use]
    pub fn state(mut self, state: u8) -> Self {
        self.values.state = Some(state);
        self
    }

    /// Shows other labels, which replace all of them; label 0 is the lowest bit of the first byte.
    #[must_use]
    pub fn labels(mut self, bits: &[u8]) -> Self {
        self.values.labels = Some(bits.to_vec());
        self
    }

    /// Shows another helper.
    #[must_use]
    pub fn helper(mut self, name: &str) -> Self {
        self.values.helper = Some(name.as_bytes().to_vec());
        self
    }

    /// Shows another original direction, for example with anonymised addresses.
    #[must_use]
    pub fn original(mut self, key: Key) -> Self {
        self.original = Some(key);
        self
    }

    /// Shows another reply direction.
    #[must_use]
    pub fn reply(mut self, key: Key) -> Self {
        self.reply = Some(key);
        self
    }

    /// Removes these fields (bits of [`field`]).
    #[must_use]
    pub fn clear(mut self, fields: u64) -> Self {
        self.clear |= fields & field::ALL;
        self
    }
}
