//! Names that stand for numbers.

use std::{collections::HashMap, fmt};

use crate::{protocols, services};

/// Where names of labels, services and protocols are looked up. Each function returns the number of a name.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Connection labels, as in `connlabel.conf`.
    pub labels: &'a dyn Fn(&str) -> Option<u16>,
    /// Services, as in `/etc/services`. They are asked before [`services::known`].
    pub services: &'a dyn Fn(&str) -> Option<u16>,
    /// Layer-4 protocols, as in `/etc/protocols`. They are asked after [`protocols::known`].
    pub protocols: &'a dyn Fn(&str) -> Option<u8>,
}

impl Context<'_> {
    /// The names that this crate knows: no labels, the best-known services, common protocols.
    pub const NAMES: Context<'static> =
        Context { labels: &|_| None, services: &services::known, protocols: &protocols::known };

    /// Returns the port of a service.
    pub(crate) fn service(&self, name: &str) -> Option<u16> {
        (self.services)(name).or_else(|| services::known(name))
    }

    /// Returns the number of a protocol. Names that are printed mean the same everywhere.
    pub(crate) fn protocol(&self, name: &str) -> Option<u8> {
        protocols::known(name).or_else(|| (self.protocols)(name))
    }
}

/// Reads a file of names like `/etc/services`: a name, a number, and aliases. Of several lines with a name, the first
/// one is taken. Lines whose number is not understood are left out.
pub(crate) fn database<T: Copy>(text: &str, number: impl Fn(&str) -> Option<T>) -> HashMap<String, T> {
    let mut numbers = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let (Some(name), Some(number)) = (words.next(), words.next().and_then(&number)) else { continue };
        for name in words.chain([name]) {
            numbers.entry(name.to_owned()).or_insert(number);
        }
    }
    numbers
}

impl Default for Context<'static> {
    fn default() -> Self {
        Context::NAMES
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Context").finish_non_exhaustive()
    }
}
