//! Priorities of drivers in the kernel's crypto core, over its netlink socket (`crypto_user`).

use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use serde_json::{Value, json};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{Failure, crypto_list};

/// `CRYPTO_MSG_UPDATEALG` of `linux/cryptouser.h`.
const UPDATE_ALGORITHM: u16 = 0x12;
/// `NLM_F_REQUEST | NLM_F_ACK`
const FLAGS: u16 = 5;
/// `CRYPTOCFGA_PRIORITY_VAL`
const PRIORITY: u16 = 1;
/// `NLMSG_ERROR`, which also acknowledges.
const ERROR: u16 = 2;

/// `struct nlmsghdr`, `struct crypto_user_alg`, and one attribute.
#[derive(IntoBytes, FromZeros, Immutable)]
#[repr(C)]
struct Message {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    name: [u8; 64],
    driver: [u8; 64],
    module: [u8; 64],
    numbers: [u32; 4],
    attribute_len: u16,
    attribute: u16,
    priority: u32,
}

/// Gives a driver another priority; the kernel then chooses the highest anew.
pub(super) fn set(driver: &str, priority: u32) -> Result<Value, Failure> {
    let failed = |what: &str, why: String| format!("crypto_user: {what}: {why}");
    let mut message = Message::new_zeroed();
    message.len = u32::try_from(size_of::<Message>()).unwrap_or_default();
    message.kind = UPDATE_ALGORITHM;
    message.flags = FLAGS;
    // The last byte stays the terminator.
    let name = message.driver.get_mut(..driver.len()).filter(|name| name.len() < 64);
    name.ok_or_else(|| failed(driver, "the name is too long".to_owned()))?
        .copy_from_slice(driver.as_bytes());
    message.attribute_len = 8;
    message.attribute = PRIORITY;
    message.priority = priority;
    let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkCrypto);
    let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol)
        .map_err(|e| failed("socket", e.to_string()))?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), message.as_bytes(), &kernel, MsgFlags::empty())
        .map_err(|e| failed("send", e.to_string()))?;
    let mut answer = [0; 4096];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())
        .map_err(|e| failed("receive", e.to_string()))?;
    let kind = answer[4..].first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    let code = answer[16..].first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    match (kind, code) {
        (Some(ERROR), Some(0)) => {}
        (_, code) => return Err(failed(driver, format!("answer {kind:?} {code:?}"))),
    }
    let found = crypto_list::find(driver)?.priority;
    if u32::try_from(found) == Ok(priority) {
        return Ok(json!({ "driver": driver, "priority": priority }));
    }
    Err(format!("{driver} still has priority {found}"))
}
