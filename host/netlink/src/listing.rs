//! Listings: requests for dumps of a table, and fallbacks for kernels that refuse them.
//!
//! Kernels before 5.8 ignore a filter, 5.8 to 6.11 answer EOPNOTSUPP to some filters, and some vendors' kernels refuse
//! family 0 (AF_UNSPEC), which stands for both families. A fallback always yields at least the same entries. The caller
//! checks the whole selection on the entries that arrive, as is necessary anyway, and gets the same result.

use super::{DumpFilter, DumpKind, Request};
use flowgate_model::family;

/// A table and the filter with which it is dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    kind: DumpKind,
    filter: DumpFilter,
    /// True if it is one of two dumps that replace a dump of both families; the kernel may lack this family.
    is_one_family_of_two: bool,
}

impl Listing {
    /// Returns a listing of the entries of a table that pass a filter.
    #[must_use]
    pub fn new(kind: DumpKind, filter: DumpFilter) -> Self {
        Listing { kind, filter, is_one_family_of_two: false }
    }

    /// Returns the encoded request.
    #[must_use]
    pub fn request(&self) -> Request {
        Request::dump(self.kind, &self.filter)
    }

    /// Returns the listings that replace this one after the kernel has refused it with an error number. Empty if they
    /// would be refused for the same reason, or would make the kernel modify entries that the filter excludes.
    #[must_use]
    pub fn fallbacks(&self, errno: i32) -> Vec<Listing> {
        if !is_unsupported(errno) {
            return Vec::new();
        }
        let family = self.filter.family();
        let of = |family: u8, is_one_family_of_two: bool| Listing {
            filter: DumpFilter::family_only(family),
            is_one_family_of_two,
            ..self.clone()
        };
        match self.kind {
            // The kernel zeroes the counters of all entries that it lists.
            DumpKind::FlowsAndZero if self.filter != DumpFilter::family_only(family) => Vec::new(),
            _ if self.filter != DumpFilter::family_only(family) => vec![of(family, self.is_one_family_of_two)],
            // One request covers all CPUs, whatever the family.
            DumpKind::CpuStatistics | DumpKind::ExpectationStatistics => Vec::new(),
            _ if family == 0 => vec![of(family::IPV4, true), of(family::IPV6, true)],
            _ => Vec::new(),
        }
    }

    /// Returns true if a refusal with this error number means that there is nothing to list: the kernel lacks this one
    /// of the two families.
    #[must_use]
    pub fn means_empty(&self, errno: i32) -> bool {
        self.is_one_family_of_two && errno == libc::EAFNOSUPPORT
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
        let listing = Listing::new(DumpKind::FLOWS, narrow.clone());
        let of_ipv4 = Listing::new(DumpKind::FLOWS, DumpFilter::family_only(family::IPV4));
        assert_eq!(listing.fallbacks(libc::EOPNOTSUPP), std::slice::from_ref(&of_ipv4));
        assert_eq!(of_ipv4.fallbacks(libc::EOPNOTSUPP), []);
        let marked =
            Listing::new(DumpKind::FLOWS, filter(|selection| selection.mark = Some(Masked { value: 1, mask: 1 })));
        let [all] = marked.fallbacks(libc::EINVAL).try_into().unwrap();
        assert_eq!(all, Listing::new(DumpKind::FLOWS, DumpFilter::all()));
        let [four, six] = all.fallbacks(libc::EAFNOSUPPORT).try_into().unwrap();
        assert_eq!([four.filter.family(), six.filter.family()], [family::IPV4, family::IPV6]);
        assert!(six.means_empty(libc::EAFNOSUPPORT) && !six.means_empty(libc::EINVAL));
        assert!(!of_ipv4.means_empty(libc::EAFNOSUPPORT), "it was asked for");
        for errno in [libc::EPERM, libc::ENOMEM, libc::EBUSY, libc::EINTR] {
            assert_eq!(listing.fallbacks(errno), [], "{errno} is no matter of how it is asked for");
        }
    }

    #[test]
    fn counters_of_other_flows_are_not_zeroed() {
        let narrow = filter(|selection| selection.mark = Some(Masked { value: 1, mask: 1 }));
        assert_eq!(Listing::new(DumpKind::FlowsAndZero, narrow).fallbacks(libc::EOPNOTSUPP), []);
        assert_eq!(Listing::new(DumpKind::FlowsAndZero, DumpFilter::all()).fallbacks(libc::EOPNOTSUPP).len(), 2);
        assert_eq!(Listing::new(DumpKind::CpuStatistics, DumpFilter::all()).fallbacks(libc::EOPNOTSUPP), []);
    }
}
