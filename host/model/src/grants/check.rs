//! Checks requested actions against grants.

use super::Grants;
use crate::{Flows, action, batch::text, field};

/// Fields that identify a flow or go with its identity; an update does not change them.
const IDENTITY: u64 = field::TUPLES | field::ZONES | field::ID;

impl Grants {
    /// Returns true if an action on flows is granted: on a row of the batch, with a row of values, or both. Unknown
    /// kinds never are.
    #[must_use]
    pub fn allow(&self, kind: u8, target: Option<(&Flows, usize)>, values: Option<(&Flows, usize)>) -> bool {
        match kind {
            action::DELETE => self.delete,
            action::UPDATE => values.is_some_and(|values| self.allows_update(target, values)),
            action::CREATE => self.create,
            action::CREATE_OR_UPDATE => {
                self.create && values.or(target).is_some_and(|values| self.allows_update(target, values))
            }
            _ => false,
        }
    }

    /// Returns true if an action on expectations is granted. The kernel cannot change parts of an expectation.
    #[must_use]
    pub fn allow_expectation(&self, kind: u8) -> bool {
        match kind {
            action::DELETE => self.delete,
            action::CREATE => self.create,
            action::CREATE_OR_UPDATE => self.create && self.delete,
            _ => false,
        }
    }

    /// Returns true if every field that these values set may be set.
    fn allows_update(&self, target: Option<(&Flows, usize)>, (values, row): (&Flows, usize)) -> bool {
        let update = &self.update;
        let has = values.has.get(row).copied().unwrap_or(0);
        if has & !IDENTITY & !update.fields != 0 {
            return false;
        }
        let number = |column: &[u32]| column.get(row).copied().unwrap_or(0);
        let rare = values.rare.as_ref();
        if has & field::MARK != 0 {
            let mask = match rare {
                Some(rare) if has & field::MARK_MASK != 0 => number(&rare.mark_mask),
                _ => u32::MAX,
            };
            // The kernel computes (old & !mask) ^ mark.
            if (mask | number(&values.mark)) & !update.mark != 0 {
                return false;
            }
        }
        if has & field::STATUS != 0 {
            let old = target
                .filter(|(flows, row)| flows.has.get(*row).is_some_and(|has| has & field::STATUS != 0))
                .and_then(|(flows, row)| flows.status.get(row).copied())
                .unwrap_or(0);
            if number(&values.status) & !old & !update.status != 0 {
                return false;
            }
        }
        if has & field::TIMEOUT != 0 {
            let (least, most) = update.timeout;
            if !(least..=most).contains(&number(&values.timeout)) {
                return false;
            }
        }
        if has & (field::LABELS | field::LABELS_MASK) != 0 {
            let bytes = |fields: u64, column: fn(&crate::Rare) -> &crate::SparseTexts| {
                rare.filter(|_| has & fields != 0).map(column).and_then(|column| {
                    let item = column.rows.binary_search(&(row as u32)).ok()?;
                    Some(text(&column.texts, item))
                })
            };
            let set = bytes(field::LABELS, |rare| &rare.labels);
            let mask = bytes(field::LABELS_MASK, |rare| &rare.labels_mask).map_or(u128::MAX, label_bits);
            // The kernel clears words that are not given, whatever the mask (`nf_connlabels_replace`).
            let cleared = set.map_or(0, |set| label_bits_after(set.len()));
            if (set.map_or(0, label_bits) | mask | cleared) & !update.labels != 0 {
                return false;
            }
        }
        true
    }
}

/// Returns labels as a number: label 0 is the lowest bit of the first byte. A bit beyond the kernel's 128 counts as all
/// labels.
fn label_bits(bytes: &[u8]) -> u128 {
    let mut all = [0; 16];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    if bytes.iter().skip(16).any(|&byte| byte != 0) { u128::MAX } else { u128::from_le_bytes(all) }
}

/// Returns the labels after a set of `bytes` bytes, which is sent in words of four bytes, and at least one.
fn label_bits_after(bytes: usize) -> u128 {
    let bits = u32::try_from(bytes.next_multiple_of(4).max(4)).unwrap_or(u32::MAX).saturating_mul(8);
    u128::MAX.checked_shl(bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rare, SparseTexts, batch::push_sparse};

    fn values(has: u64) -> Flows {
        let mut labels = SparseTexts::default();
        push_sparse(&mut labels, 0, &[0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Flows {
            length: 1,
            has: vec![has],
            family: vec![2],
            mark: vec![0x100],
            timeout: vec![60],
            status: vec![0xe],
            rare: Some(Rare {
                mark_mask: vec![0xff00],
                labels: labels.clone(),
                labels_mask: labels,
                ..Rare::default()
            }),
            ..Flows::default()
        }
    }

    fn granted(grants: &str, has: u64) -> bool {
        let grants: Grants = grants.parse().unwrap();
        grants.allow(action::UPDATE, None, Some((&values(has), 0)))
    }

    #[test]
    fn updates_are_granted_field_by_field() {
        let mark = field::MARK | field::MARK_MASK | field::TUPLES | field::ZONE;
        assert!(granted("update", mark) && granted("update.mark", mark) && granted("update.mark=0xff00", mark));
        assert!(!granted("", mark) && !granted("delete,create", mark) && !granted("update.timeout", mark));
        assert!(!granted("update.mark=0xf000", mark), "the mask is wider");
        assert!(!granted("update.mark=0xff00", field::MARK), "without mask the whole mark is set");
        assert!(!granted("update.mark", mark | field::TIMEOUT), "each field needs its own");
        assert!(granted("update.timeout=60..60", field::TIMEOUT) && !granted("update.timeout=61..", field::TIMEOUT));
        assert!(granted("update.status=SEEN_REPLY|ASSURED|CONFIRMED", field::STATUS));
        assert!(!granted("update.status=ASSURED", field::STATUS));
        let labels = field::LABELS | field::LABELS_MASK;
        assert!(granted("update.labels=3", labels) && !granted("update.labels=4", labels));
        assert!(!granted("update.labels=3", field::LABELS), "without mask all labels are set");
        assert!(!granted("update.mark,update.timeout,update.labels", field::UNKNOWN));
    }

    #[test]
    fn labels_that_are_not_given_are_cleared() {
        let granted = |bytes: usize, grants: &str| {
            let (mut labels, mut mask) = (SparseTexts::default(), SparseTexts::default());
            push_sparse(&mut labels, 0, &vec![0; bytes]);
            push_sparse(&mut mask, 0, &vec![0; bytes]);
            let mut values = values(field::LABELS | field::LABELS_MASK);
            values.rare = Some(Rare { labels, labels_mask: mask, ..Rare::default() });
            let grants: Grants = grants.parse().unwrap();
            grants.allow(action::UPDATE, None, Some((&values, 0)))
        };
        for (bytes, complete) in [(0, false), (4, false), (12, false), (13, true), (16, true), (20, true)] {
            assert_eq!(granted(bytes, "update.labels=3"), complete, "{bytes} bytes");
            assert!(granted(bytes, "update.labels"));
        }
    }

    #[test]
    fn status_bits_that_the_flow_has_need_no_grant() {
        let grants: Grants = "update.status=ASSURED".parse().unwrap();
        let old = Flows { length: 1, has: vec![field::STATUS], status: vec![0xa], ..Flows::default() };
        assert!(grants.allow(action::UPDATE, Some((&old, 0)), Some((&values(field::STATUS), 0))));
    }

    #[test]
    fn kinds_need_their_grant_and_unknown_ones_have_none() {
        let row = values(field::TUPLES);
        let all = Grants::ALL;
        assert!(all.allow(action::DELETE, Some((&row, 0)), None) && all.allow(action::CREATE, None, Some((&row, 0))));
        assert!(!all.allow(99, Some((&row, 0)), None) && !all.allow(0, Some((&row, 0)), None));
        let create: Grants = "create".parse().unwrap();
        let mark = values(field::TUPLES | field::MARK);
        assert!(create.allow(action::CREATE, None, Some((&mark, 0))));
        assert!(!create.allow(action::CREATE_OR_UPDATE, None, Some((&mark, 0))), "it might change a mark");
        assert!(!all.allow(action::UPDATE, Some((&row, 0)), None), "nothing says what is to be set");
    }
}
