//! Names for errno values in replies.

pub(crate) const EEXIST: u32 = 17;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOTTY: u32 = 25;

/// Those that servers have been seen to answer with (Linux, x86-64).
const NAMES: &[(u32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (5, "EIO"),
    (7, "E2BIG"),
    (9, "EBADF"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (EEXIST, "EEXIST"),
    (19, "ENODEV"),
    (EINVAL, "EINVAL"),
    (24, "EMFILE"),
    (ENOTTY, "ENOTTY"),
    (28, "ENOSPC"),
    (34, "ERANGE"),
    (71, "EPROTO"),
    (75, "EOVERFLOW"),
    (90, "EMSGSIZE"),
    (95, "EOPNOTSUPP"),
];

/// Text for the errno of an error reply, such as `EINVAL (22)`.
pub(crate) fn name(errno: u32) -> String {
    let known = NAMES.iter().find(|(number, _)| *number == errno);
    known.map_or_else(|| format!("errno {errno}"), |(_, name)| format!("{name} ({errno})"))
}
