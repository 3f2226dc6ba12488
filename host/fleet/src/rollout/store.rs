//! Bundles on the server: in parts of one size, each the value of a key with the digest and the number of the part.
//! Agents fetch them by direct gets, without a consumer.

use std::collections::BTreeSet;

use futures_util::stream::{StreamExt as _, TryStreamExt as _};

use super::{Rollout, RolloutError};
use crate::{
    bundle::Bundle,
    bus::{Bus, BusError},
    collector::Member,
    names::{self, Digest},
    running::Version,
};

/// The bytes of a part, but for the last one.
pub const PART: usize = 256 << 10;
/// Parts that are sent at a time.
const AT_A_TIME: usize = 4;

/// Returns the key of a part of a bundle.
#[must_use]
pub fn part(digest: &Digest, number: usize) -> String {
    format!("{digest}.{number}")
}

/// Puts a bundle on the server, as far as it is not there. When this returns, the server has stored it.
///
/// # Errors
/// [`BusError`]
pub async fn upload<B: Bus>(bus: &B, bundle: &Bundle) -> Result<(), BusError> {
    let digest = &bundle.digest();
    let count = bundle.bytes().len().div_ceil(PART);
    let sent = futures_util::stream::iter(0..count).map(|number| async move {
        let content = bundle.bytes().chunks(PART).nth(number).unwrap_or_default();
        let key = part(digest, number);
        match bus.get(names::BUNDLES, &key).await? {
            Some(found) if found == content => Ok::<(), BusError>(()),
            _ => bus.put(names::BUNDLES, &key, content.to_vec()).await,
        }
    });
    sent.buffer_unordered(AT_A_TIME).try_collect().await
}

/// Removes the bundles that neither an agent of the registry has taken nor the last rollout is about.
///
/// # Errors
/// [`RolloutError`]
pub async fn prune<B: Bus>(bus: &B, members: &[Member], also: Option<&Digest>) -> Result<(), RolloutError> {
    let mut wanted: BTreeSet<String> = also.map(ToString::to_string).into_iter().collect();
    if let Some((rollout, _)) = Rollout::load(bus).await? {
        wanted.extend(rollout.release()?.bundle.map(|bundle| bundle.digest.to_string()));
    }
    for member in members {
        // What cannot be read may want any of them.
        let Some(entry) = &member.entry else { return Ok(()) };
        let Some(running) = &entry.running else { continue };
        let versions = [&running.desired, &running.trial, &running.applied].into_iter().flatten();
        wanted.extend(versions.filter_map(|Version { digest, .. }| digest.as_ref().map(ToString::to_string)));
    }
    for key in bus.keys(names::BUNDLES).await? {
        let digest = key.split('.').next().unwrap_or_default();
        if !wanted.contains(digest) {
            bus.remove(names::BUNDLES, &key).await?;
        }
    }
    Ok(())
}
