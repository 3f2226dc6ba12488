//! Addresses of the host names that sinks connect to.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Once,
};

/// Looks up the addresses of `HOST:PORT`.
///
/// # Errors
/// The address is not of this form, or the name cannot be looked up.
pub(super) fn addresses(address: &str) -> io::Result<impl Iterator<Item = SocketAddr>> {
    keep_to_built_in_services();
    address.to_socket_addrs()
}

/// Has a statically linked program look names up in /etc/hosts and in the DNS only, both of which are part of the C
/// library. It would load the shared objects of other services that /etc/nsswitch.conf names, and with them the shared
/// C library of the machine it runs on, which need not be of the version that this program has.
pub fn keep_to_built_in_services() {
    sys::keep_to_built_in_services();
}

/// The C library's choice of name services, the only `unsafe` code of sinks.
#[allow(unsafe_code)]
#[cfg(target_env = "gnu")]
mod sys {
    use super::Once;

    unsafe extern "C" {
        /// nss.h of glibc: uses the services of `line` for `database`, whatever /etc/nsswitch.conf says.
        fn __nss_configure_lookup(database: *const libc::c_char, line: *const libc::c_char) -> libc::c_int;
    }

    pub(super) fn keep_to_built_in_services() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: reads the auxiliary vector. It has no base address of a dynamic loader where there is none.
            if unsafe { libc::getauxval(libc::AT_BASE) } == 0 {
                // SAFETY: both texts end with NUL and are only read. It is called once, and locks what it changes. A
                // failure leaves the services as they are, which may still work.
                let _ = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
            }
        });
    }
}

#[cfg(not(target_env = "gnu"))]
mod sys {
    pub(super) fn keep_to_built_in_services() {}
}
