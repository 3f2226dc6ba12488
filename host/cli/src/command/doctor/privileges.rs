//! Privileges of the process, and its network namespace.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use caps::{CapSet, Capability, CapsHashSet};

use super::{Finding, Patient, file_of};
use flowgate_netlink::namespace::{self, OWN};

/// Checks capabilities and the namespace.
pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = match (caps::read(None, CapSet::Effective), caps::read(None, CapSet::Bounding)) {
        (Ok(effective), Ok(bounding)) => capabilities(&effective, &bounding),
        (Err(error), _) | (_, Err(error)) => {
            vec![Finding::warning("capabilities", format!("the capabilities of the process cannot be read: {error}"))]
        }
    };
    findings.push(network_namespace(patient));
    findings
}

/// Capabilities: name of the check, true if commands fail without it, and the consequence of its absence.
const WANTED: [(Capability, &str, bool, &str); 4] = [
    (Capability::CAP_NET_ADMIN, "capability.net_admin", true, "nothing can be listed, seen or changed"),
    (Capability::CAP_SYS_ADMIN, "capability.sys_admin", false, "--netns cannot enter other network namespaces"),
    (Capability::CAP_NET_BROADCAST, "capability.net_broadcast", false, "--all-netns is refused"),
    (
        Capability::CAP_SYS_PTRACE,
        "capability.sys_ptrace",
        false,
        "-E cannot name the programs of other users that change the table",
    ),
];

fn capabilities(effective: &CapsHashSet, bounding: &CapsHashSet) -> Vec<Finding> {
    WANTED
        .iter()
        .map(|(capability, check, needed, without)| {
            if effective.contains(capability) {
                return Finding::ok(check, format!("{capability} is in effect"));
            }
            let text = format!("{capability} is missing: {without}");
            let finding = if *needed { Finding::problem(check, text) } else { Finding::warning(check, text) };
            if bounding.contains(capability) {
                finding.mend("sudo flowgate ...")
            } else {
                let name = capability.to_string();
                let name = name.trim_start_matches("CAP_");
                Finding {
                    text: format!("{}, and not even root can have it here", finding.text),
                    ..finding.mend(format!(
                        "give the container or service the capability, as in docker run --cap-add={name}"
                    ))
                }
            }
        })
        .collect()
}

/// Identifies the network namespace.
fn network_namespace(patient: &Patient<'_>) -> Finding {
    let check = "namespace";
    let Some(inode) =
        patient.within(|| fs::metadata(OWN).map(|file| std::os::unix::fs::MetadataExt::ino(&file)).ok()).ok().flatten()
    else {
        return Finding::warning(check, "the network namespace cannot be determined: /proc is not mounted");
    };
    let named = namespace::names().into_iter().find(|name| {
        let path = Path::new(namespace::DIRECTORY).join(name);
        fs::metadata(path).is_ok_and(|file| std::os::unix::fs::MetadataExt::ino(&file) == inode)
    });
    let name = named.map(|name| format!(" ({name})")).unwrap_or_default();
    // Only the initial namespace may write settings that all namespaces share.
    let file = file_of("net.netfilter.nf_conntrack_max");
    let mode = patient.within(|| fs::metadata(&file).map(|file| file.permissions().mode()).ok()).ok().flatten();
    let which = match mode {
        Some(mode) if mode & 0o200 != 0 => "the initial one of the machine",
        Some(_) => "not the initial one of the machine: flows of the host and of containers are in tables of their own",
        None => "which cannot be distinguished from the initial one",
    };
    Finding::ok(check, format!("the network namespace is net:[{inode}]{name}, {which}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::Level;

    #[test]
    fn what_is_missing_is_told_with_a_way_out() {
        let all: CapsHashSet = WANTED.iter().map(|wanted| wanted.0).collect();
        assert!(capabilities(&all, &all).iter().all(|finding| finding.level == Level::Ok));
        let findings = capabilities(&CapsHashSet::new(), &all);
        assert_eq!(findings[0].level, Level::Problem);
        assert_eq!(findings[0].mend.as_deref(), Some("sudo flowgate ..."));
        assert!(findings[1..].iter().all(|finding| finding.level == Level::Warning));
        let findings = capabilities(&CapsHashSet::new(), &CapsHashSet::new());
        assert!(findings[0].text.ends_with("not even root can have it here"), "{findings:?}");
        assert!(findings[0].mend.as_deref().unwrap().ends_with("--cap-add=NET_ADMIN"));
    }
}
