//! VERSION: the first message, and what it agrees on.

use serde_json::{Value, json};

use crate::bytes::le16;
use crate::peer::{Message, Peer, command};
use crate::session::{nul_terminated, proposal, version_data, version_payload};
use crate::verdict::{expect, expect_eq};
use crate::{Check, Context, Outcome, Stop};

const CLAUSE: &str = "vfio-user, VFIO_USER_VERSION";

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/version/1",
        title: "The reply has the major version proposed, and no higher minor",
        clause: CLAUSE,
        run: major_and_minor,
    },
    Check {
        id: "vfio-user/version/2",
        title: "A client that proposes the highest minor version is served",
        clause: CLAUSE,
        run: highest_minor,
    },
    Check {
        id: "vfio-user/version/3",
        title: "A major version that the server does not know is not agreed to",
        clause: CLAUSE,
        run: unknown_major,
    },
    Check {
        id: "vfio-user/version/4",
        title: "The reply's version data is NUL-terminated JSON with a capabilities object",
        clause: CLAUSE,
        run: data_is_json,
    },
    Check {
        id: "vfio-user/version/5",
        title: "Version data is optional in the request",
        clause: CLAUSE,
        run: data_is_optional,
    },
    Check {
        id: "vfio-user/version/6",
        title: "Optional features that the client did not propose are not switched on",
        clause: CLAUSE,
        run: only_what_was_proposed,
    },
    Check {
        id: "vfio-user/version/7",
        title: "Capabilities in the reply have the types and ranges of the table",
        clause: "vfio-user, VFIO_USER_VERSION, Capabilities",
        run: types,
    },
    Check {
        id: "vfio-user/version/8",
        title: "Twin-socket mode, if agreed to, comes with a valid descriptor",
        clause: "vfio-user, VFIO_USER_VERSION, Reply",
        run: twin_socket,
    },
    Check {
        id: "vfio-user/version/9",
        title: "Version data without its NUL is refused, and the next client works",
        clause: CLAUSE,
        run: without_nul,
    },
    Check {
        id: "vfio-user/version/10",
        title: "Version data that is not JSON is refused, and the next client works",
        clause: CLAUSE,
        run: not_json,
    },
    Check {
        id: "vfio-user/version/11",
        title: "A capability of the wrong type is refused, and the next client works",
        clause: "vfio-user, VFIO_USER_VERSION, Capabilities",
        run: wrong_type,
    },
    Check {
        id: "vfio-user/version/12",
        title: "A VERSION too short for its version numbers is refused, and the next client works",
        clause: CLAUSE,
        run: too_short,
    },
    Check {
        id: "vfio-user/version/13",
        title: "A command before VERSION is refused, and the next client works",
        clause: "vfio-user, Connection Initiation",
        run: command_first,
    },
    Check {
        id: "vfio-user/version/14",
        title: "The reply is not larger than QEMU's request, whose buffer it must fit",
        clause: "QEMU 10.1 hw/vfio-user/proxy.c, vfio_user_validate_version",
        run: fits_qemu,
    },
    Check {
        id: "vfio-user/version/15",
        title: "Capabilities that no specification names are ignored",
        clause: CLAUSE,
        run: unknown_capability,
    },
];

/// Sends VERSION on a new connection and returns the connection.
fn propose(ctx: &Context<'_>, major: u16, minor: u16, data: Option<&[u8]>) -> Result<Peer, Stop> {
    let mut peer = ctx.connect()?;
    let payload = version_payload(major, minor, data);
    peer.send(&Peer::frame(1, command::VERSION, 0, &payload), &[])?;
    Ok(peer)
}

fn accepted(ctx: &Context<'_>, minor: u16, data: &Value) -> Result<(Peer, Message), Stop> {
    let mut peer = propose(ctx, 0, minor, Some(&nul_terminated(data)))?;
    let message = peer
        .receive("a reply to VERSION")?
        .ok_or_else(|| Stop::closed("a reply to VERSION", ""))?;
    expect(message.error == 0 && message.flags == 1, "VERSION is accepted", || {
        format!("flags {:#x}, errno {}", message.flags, message.error)
    })?;
    Ok((peer, message))
}

fn capabilities(message: &Message) -> Result<Value, Stop> {
    let data = version_data(&message.payload)?;
    Ok(data.get("capabilities").cloned().unwrap_or(Value::Null))
}

fn major_and_minor(ctx: &mut Context<'_>) -> Outcome {
    let (_peer, message) = accepted(ctx, 0, &proposal())?;
    expect_eq("major version", &le16(&message.payload, 0), &0)?;
    expect_eq("minor version", &le16(&message.payload, 2), &0)
}

fn highest_minor(ctx: &mut Context<'_>) -> Outcome {
    let (_peer, message) = accepted(ctx, u16::MAX, &proposal())?;
    expect_eq("major version", &le16(&message.payload, 0), &0)
}

fn unknown_major(ctx: &mut Context<'_>) -> Outcome {
    let mut peer = propose(ctx, 0x7fff, 0, Some(&nul_terminated(&proposal())))?;
    peer.refused_or_closed("major version 0x7fff")?;
    drop(peer);
    ctx.next_client_works()
}

fn data_is_json(ctx: &mut Context<'_>) -> Outcome {
    let (_peer, message) = accepted(ctx, 0, &proposal())?;
    let capabilities = capabilities(&message)?;
    expect(capabilities.is_object() || capabilities.is_null(), "capabilities are an object", || {
        capabilities.to_string()
    })
}

fn data_is_optional(ctx: &mut Context<'_>) -> Outcome {
    let mut peer = ctx.connect()?;
    let payload = version_payload(0, 0, None);
    let reply = peer.call(command::VERSION, &payload, &[])?.ok()?;
    version_data(&reply).map(|_| ())
}

fn only_what_was_proposed(ctx: &mut Context<'_>) -> Outcome {
    let (_peer, message) = accepted(ctx, 0, &json!({"capabilities": {}}))?;
    let capabilities = capabilities(&message)?;
    let on = |pointer: &str| capabilities.pointer(pointer) == Some(&Value::Bool(true));
    expect(!on("/write_multiple"), "write_multiple is not agreed to", || capabilities.to_string())?;
    expect(!on("/twin_socket/supported"), "twin_socket is not agreed to", || {
        capabilities.to_string()
    })
}

fn types(ctx: &mut Context<'_>) -> Outcome {
    let (_peer, message) = accepted(ctx, 0, &proposal())?;
    let capabilities = capabilities(&message)?;
    let number = |name: &str, low: u64, high: u64| match capabilities.get(name) {
        None => Ok(()),
        Some(value) => expect(
            value.as_u64().is_some_and(|n| (low..=high).contains(&n)),
            &format!("{name} is a number of {low} to {high}"),
            || value.to_string(),
        ),
    };
    number("max_msg_fds", 0, u64::from(u32::MAX))?;
    number("max_data_xfer_size", 1, u64::from(u32::MAX))?;
    number("max_dma_maps", 1, u64::from(u32::MAX))?;
    if let Some(sizes) = capabilities.get("pgsizes") {
        let whole = sizes.as_u64().is_some_and(|bits| bits != 0 && bits % 4096 == 0);
        expect(whole, "pgsizes ors page sizes of 4096 bytes and more", || sizes.to_string())?;
    }
    if let Some(multiple) = capabilities.get("write_multiple") {
        expect(multiple.is_boolean(), "write_multiple is a boolean", || multiple.to_string())?;
    }
    Ok(())
}

fn twin_socket(ctx: &mut Context<'_>) -> Outcome {
    let wanted = json!({"capabilities": {"max_msg_fds": 8, "twin_socket": {"supported": true}}});
    let (_peer, message) = accepted(ctx, 0, &wanted)?;
    let capabilities = capabilities(&message)?;
    if capabilities.pointer("/twin_socket/supported") != Some(&Value::Bool(true)) {
        return Err(Stop::skip("the server does not offer twin-socket mode"));
    }
    let index = capabilities.pointer("/twin_socket/fd_index").and_then(Value::as_u64);
    expect(
        index.is_some_and(|index| index < message.fds.len() as u64),
        "fd_index names a descriptor of the reply",
        || format!("{index:?} of {} descriptors", message.fds.len()),
    )
}

fn refused(ctx: &Context<'_>, what: &str, data: &[u8]) -> Outcome {
    let mut peer = propose(ctx, 0, 0, Some(data))?;
    peer.refused_or_closed(what)?;
    drop(peer);
    ctx.next_client_works()
}

fn without_nul(ctx: &mut Context<'_>) -> Outcome {
    refused(ctx, "version data without NUL", proposal().to_string().as_bytes())
}

fn not_json(ctx: &mut Context<'_>) -> Outcome {
    refused(ctx, "version data that is not JSON", b"{\"capabilities\": {,}}\0")
}

fn wrong_type(ctx: &mut Context<'_>) -> Outcome {
    let data = nul_terminated(&json!({"capabilities": {"max_msg_fds": "eight"}}));
    refused(ctx, "max_msg_fds as a string", &data)
}

fn too_short(ctx: &mut Context<'_>) -> Outcome {
    let mut peer = ctx.connect()?;
    peer.send(&Peer::frame(1, command::VERSION, 0, &[0, 0]), &[])?;
    peer.refused_or_closed("VERSION with two bytes")?;
    drop(peer);
    ctx.next_client_works()
}

fn command_first(ctx: &mut Context<'_>) -> Outcome {
    let mut peer = ctx.connect()?;
    let request = crate::bytes::Bytes::new().u32(16).pad(16);
    peer.send(&Peer::frame(1, command::GET_INFO, 0, &request.0), &[])?;
    peer.refused_or_closed("DEVICE_GET_INFO before VERSION")?;
    drop(peer);
    ctx.next_client_works()
}

/// The request as QEMU writes it: its buffer for the reply is as large as the request.
fn fits_qemu(ctx: &mut Context<'_>) -> Outcome {
    let wanted = json!({"capabilities": {
        "max_msg_fds": 8, "max_data_xfer_size": 1_048_576, "max_dma_maps": 65535,
        "pgsizes": 4096, "write_multiple": true,
    }});
    let request = version_payload(0, 0, Some(&nul_terminated(&wanted)));
    let (_peer, message) = accepted(ctx, 0, &wanted)?;
    expect(
        message.payload.len() <= request.len(),
        &format!("at most {} bytes", request.len()),
        || message.payload.len().to_string(),
    )
}

fn unknown_capability(ctx: &mut Context<'_>) -> Outcome {
    accepted(ctx, 0, &json!({"capabilities": {"x_not_a_capability": [1, 2]}})).map(|_| ())
}
