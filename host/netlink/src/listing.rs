//! Listings: what is dumped of a table, and fallbacks for kernels that refuse the request.
//!
//! Kernels before 5.8 ignore a filter, 5.8 to 6.11 answer EOPNOTSUPP to some filters, and some vendors' kernels refuse
//! family 0 (AF_UNSPEC), which stands for both families. A fallback always yields at least the same entries. The caller
//! checks the whole selection on the entries that arrive, as is necessary anyway, and gets the same result.

use super::{DumpFilter, Request, Table};
use flowgate_model::family;

/// A table and the filter with which it is dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    table: Table,
    filter: DumpFilter,
    /// True if it is one of two dumps that replace a dump of both families; the kernel may lack this family.
    half: bool,
}

impl Listing {
    /// Returns a listing of the entries of a table that pass a filter.
    #[must_use]
    pub fn new(table: Table, filter: DumpFilter) -> Self {
        Listing { table, filter, half: false }
    }

    /// Returns the encoded request.
    #[must_use]
    pub fn request(&self) -> Request {
        Request::dump(self.table, &self.filter)
    }

    /// Returns the listings that replace this one after the kernel has refused it with an error number. Empty if they
    /// would be refused for the same reason, or would make the kernel modify entries that the filter excludes.
    #[must_use]
    pub fn instead(&self, errno: i32) -> Vec<Listing> {
        if !is_unsupported(errno) {
            return Vec::new();
        }
        let family = self.filter.family();
        let of = |family: u8, half: bool| Listing { filter: DumpFilter::family_only(family), half, ..self.clone() };
        match self.table {
            // The kernel zeroes the counters of all entries that it lists.
            Table::FlowsAndZero if self.filter != DumpFilter::family_only(family) => Vec::new(),
            _ if self.filter != DumpFilter::family_only(family) => vec![of(family, self.half)],
            // One request covers all CPUs, whatever the family.
            Table::CpuStatistics | Table::ExpectationStatistics => Vec::new(),
            _ if family == 0 => vec![of(family::IPV4, true), of(family::IPV6, true)],
            _ => Vec::new(),
        }
    }

    /// Returns true if a refusal with this error number means that there is nothing to list: the kernel lacks this one
    /// of the two families.
    #[must_use]
    pub fn is_nothing(&self, errno: i32) -> bool {
        self.half && errno == libc::EAFNOSUPPORT
    }
}

/// Returns true if an error number says that the kernel does not support the request in this form.
#[must_use]
pub fn is_unsupported(errno: i32) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::EINVAL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::{Masked, Selection, protocol};

    fn filter(change: impl FnOnce(&mut Selection)) -> DumpFilter {
        let mut selection = Selection::default();
        change(&mut selection);
        DumpFilter::plan(&selection).filter
    }

    #[test]
    fn less_is_asked_for_step_by_step() {
        let narrow = filter(|selection| {
            (selection.family, selection.protocol) = (Some(family::IPV4), Some(protocol::UDP));
            selection.mark = Some(Masked { value: 1, mask: 1 });
        });
        let listing = Listing::new(Table::Flows, narrow.clone());
        let of_ipv4 = Listing::new(Table::Flows, DumpFilter::family_only(family::IPV4));
        assert_eq!(listing.instead(libc::EOPNOTSUPP), std::slice::from_ref(&of_ipv4));
        assert_eq!(of_ipv4.instead(libc::EOPNOTSUPP), []);
        let marked =
            Listing::new(Table::Flows, filter(|selection| selection.mark = Some(Masked { value: 1, mask: 1 })));
        let [all] = marked.instead(libc::EINVAL).try_into().unwrap();
        assert_eq!(all, Listing::new(Table::Flows, DumpFilter::all()));
        let [four, six] = all.instead(libc::EAFNOSUPPORT).try_into().unwrap();
        assert_eq!([four.filter.family(), six.filter.family()], [family::IPV4, family::IPV6]);
        assert!(six.is_nothing(libc::EAFNOSUPPORT) && !six.is_nothing(libc::EINVAL));
        assert!(!of_ipv4.is_nothing(libc::EAFNOSUPPORT), "it was asked for");
        for errno in [libc::EPERM, libc::ENOMEM, libc::EBUSY, libc::EINTR] {
            assert_eq!(listing.instead(errno), [], "{errno} is no matter of how it is asked for");
        }
    }

    #[test]
    fn counters_of_other_flows_are_not_zeroed() {
        let narrow = filter(|selection| selection.mark = Some(Masked { value: 1, mask: 1 }));
        assert_eq!(Listing::new(Table::FlowsAndZero, narrow).instead(libc::EOPNOTSUPP), []);
        assert_eq!(Listing::new(Table::FlowsAndZero, DumpFilter::all()).instead(libc::EOPNOTSUPP).len(), 2);
        assert_eq!(Listing::new(Table::CpuStatistics, DumpFilter::all()).instead(libc::EOPNOTSUPP), []);
    }
}
