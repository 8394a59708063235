//! Names for errno values in replies.

use rustix::io::Errno;

pub(crate) const EEXIST: u32 = 17;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOTTY: u32 = 25;

/// `EINVAL`-like text for the errno of an error reply.
pub(crate) fn name(errno: u32) -> String {
    i32::try_from(errno).map_or_else(
        |_| format!("errno {errno}"),
        |raw| format!("{:?} ({errno})", Errno::from_raw_os_error(raw)),
    )
}
