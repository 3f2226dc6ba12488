//! The capabilities of the calling thread (`capabilities(7)`), read and set by one system call each.
#![allow(unsafe_code)]

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: sets of 64 bits, in two halves.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    /// 0 for the calling thread.
    pid: i32,
}

/// `struct __user_cap_data_struct`: one half of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets of capabilities as bits. The ambient set is a subset of both the permitted and the inheritable one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CapabilitySets {
    /// The effective set, which the kernel checks.
    pub effective: u64,
    /// The permitted set.
    pub permitted: u64,
    /// The inheritable set.
    pub inheritable: u64,
}

impl CapabilitySets {
    /// Returns the sets of the calling thread.
    ///
    /// # Errors
    /// EPERM or ENOSYS if a system-call filter refuses.
    pub(crate) fn read() -> io::Result<Self> {
        let mut header = CapabilityHeader { version: VERSION, pid: 0 };
        let mut halves = [CapabilityData::default(); 2];
        // SAFETY: the kernel reads the header and writes two halves for this version.
        let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let [low, high] = halves;
        let whole = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Ok(CapabilitySets {
            effective: whole(low.effective, high.effective),
            permitted: whole(low.permitted, high.permitted),
            inheritable: whole(low.inheritable, high.inheritable),
        })
    }

    /// Replaces the sets of the calling thread.
    ///
    /// # Errors
    /// EPERM if they exceed what the thread has; EPERM or ENOSYS if a system-call filter refuses.
    #[allow(clippy::cast_possible_truncation, reason = "a half is what is wanted")]
    pub(crate) fn apply(self) -> io::Result<()> {
        let half = |shift: u32| CapabilityData {
            effective: (self.effective >> shift) as u32,
            permitted: (self.permitted >> shift) as u32,
            inheritable: (self.inheritable >> shift) as u32,
        };
        let mut header = CapabilityHeader { version: VERSION, pid: 0 };
        let halves = [half(0), half(32)];
        // SAFETY: the kernel reads the header and two halves.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Returns the intersection of each set with `kept`.
    #[must_use]
    pub(crate) fn only(self, kept: u64) -> Self {
        CapabilitySets {
            effective: self.effective & kept,
            permitted: self.permitted & kept,
            inheritable: self.inheritable & kept,
        }
    }
}
