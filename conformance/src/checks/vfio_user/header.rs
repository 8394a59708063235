//! The header before every message, and how the stream stays in step.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::bytes::Bytes;
use crate::peer::{Aftermath, NO_REPLY, Peer, command};
use crate::session::{CONFIG, Event, Session};
use crate::verdict::expect;
use crate::{Check, Context, Outcome, Stop};

const CLAUSE: &str = "vfio-user, Header";

/// Between two bytes of a slow client.
const SLOW: Duration = Duration::from_millis(1);

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-user/header/1",
        title: "Replies echo message id and command, whatever the id",
        clause: CLAUSE,
        run: echo,
    },
    Check {
        id: "vfio-user/header/2",
        title: "The same message id may be used again",
        clause: CLAUSE,
        run: same_id,
    },
    Check {
        id: "vfio-user/header/3",
        title: "An unknown command gets an error reply, its payload is drained",
        clause: "vfio-user, Commands",
        run: unknown_command,
    },
    Check {
        id: "vfio-user/header/4",
        title: "Commands that only the server sends are refused",
        clause: "vfio-user, Commands",
        run: server_commands,
    },
    Check {
        id: "vfio-user/header/5",
        title: "No_reply suppresses the reply of a command that succeeds",
        clause: CLAUSE,
        run: no_reply,
    },
    Check {
        id: "vfio-user/header/6",
        title: "No_reply suppresses the reply of a command that fails",
        clause: CLAUSE,
        run: no_reply_to_failure,
    },
    Check {
        id: "vfio-user/header/7",
        title: "The error field of a command is reserved, and ignored",
        clause: CLAUSE,
        run: reserved_error,
    },
    Check {
        id: "vfio-user/header/8",
        title: "A message size below 16 is refused, and the next client works",
        clause: CLAUSE,
        run: size_too_small,
    },
    Check {
        id: "vfio-user/header/9",
        title: "A message size of 4 GiB is refused without waiting for it, the next client works",
        clause: CLAUSE,
        run: size_too_big,
    },
    Check {
        id: "vfio-user/header/10",
        title: "A message that arrives byte by byte is served",
        clause: CLAUSE,
        run: byte_by_byte,
    },
    Check {
        id: "vfio-user/header/11",
        title: "Commands that arrive together are served in order",
        clause: "vfio-user, Command Concurrency",
        run: pipelined,
    },
    Check {
        id: "vfio-user/header/12",
        title: "A message of a type that is neither command nor reply is not executed",
        clause: CLAUSE,
        run: unknown_type,
    },
    Check {
        id: "vfio-user/header/13",
        title: "Every command shorter than its fixed part is refused, in step",
        clause: "vfio-user, Commands (each request's table)",
        run: short_payloads,
    },
    Check {
        id: "vfio-user/header/14",
        title: "Descriptors that a command does not take leave the stream in step",
        clause: "vfio-user, Commands (each request's table)",
        run: stray_descriptors,
    },
];

fn vendor_read(id: u16, flags: u32) -> Vec<u8> {
    Peer::frame(id, command::REGION_READ, flags, &Session::access(CONFIG, 0, 4).0)
}

fn echo(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for id in [0, 1, 0x7fff, 0xffff] {
        session.peer.send(&vendor_read(id, 0), &[])?;
        session.peer.reply(id, command::REGION_READ)?.ok()?;
    }
    Ok(())
}

fn same_id(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let twice = [vendor_read(9, 0), vendor_read(9, 0)].concat();
    session.peer.send(&twice, &[])?;
    session.peer.reply(9, command::REGION_READ)?.ok()?;
    session.peer.reply(9, command::REGION_READ)?.ok().map(|_| ())
}

fn unknown_command(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for number in [0, 14, 19, 0x1234, 0xffff] {
        session.peer.call(number, &[0xa5; 40], &[])?.refused()?;
        session.in_step()?;
    }
    Ok(())
}

fn server_commands(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for number in [command::DMA_READ, command::DMA_WRITE] {
        let request = Bytes::new().u64(0x1000).u64(4).u32(0);
        session.peer.call(number, &request.0, &[])?.refused()?;
        session.in_step()?;
    }
    Ok(())
}

/// After the messages sent, the next thing to arrive must be the reply to a command sent last.
fn nothing_before(session: &mut Session) -> Outcome {
    session.peer.send(&vendor_read(0x77, 0), &[])?;
    session.peer.reply(0x77, command::REGION_READ)?.ok().map(|_| ())
}

fn no_reply(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.peer.send(&vendor_read(5, NO_REPLY), &[])?;
    nothing_before(&mut session)
}

fn no_reply_to_failure(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let outside = Session::access(CONFIG, 1 << 40, 4);
    session.peer.post(command::REGION_READ, &outside.0)?;
    session.peer.post(0x1234, &[0; 8])?;
    nothing_before(&mut session)
}

fn reserved_error(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let mut frame = vendor_read(6, 0);
    frame.splice(12..16, [0xff; 4]);
    session.peer.send(&frame, &[])?;
    session.peer.reply(6, command::REGION_READ)?.ok().map(|_| ())
}

/// The length cannot be trusted, so the stream cannot go on; the server must still not hang.
fn bad_size(ctx: &Context<'_>, size: u32) -> Outcome {
    let mut session = ctx.attach()?;
    let mut frame = Peer::frame(1, command::GET_INFO, 0, &[]);
    frame.splice(4..8, size.to_le_bytes());
    session.peer.send(&frame, &[])?;
    session.peer.refused_or_closed(&format!("message size {size:#x}"))?;
    drop(session);
    ctx.next_client_works()
}

fn size_too_small(ctx: &mut Context<'_>) -> Outcome {
    bad_size(ctx, 15)?;
    bad_size(ctx, 0)
}

fn size_too_big(ctx: &mut Context<'_>) -> Outcome {
    bad_size(ctx, u32::MAX)
}

fn byte_by_byte(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    for byte in vendor_read(3, 0) {
        session.peer.send(&[byte], &[])?;
        // A slow client, so that the server does not find all of it at once.
        std::thread::sleep(SLOW);
    }
    session.peer.reply(3, command::REGION_READ)?.ok().map(|_| ())
}

fn pipelined(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let frames: Vec<u8> = (1..=32).flat_map(|id| vendor_read(id, 0)).collect();
    session.peer.send(&frames, &[])?;
    for id in 1..=32 {
        session.peer.reply(id, command::REGION_READ)?.ok()?;
    }
    Ok(())
}

fn unknown_type(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    session.peer.send(&vendor_read(8, 0x2), &[])?;
    session.peer.send(&vendor_read(9, 0), &[])?;
    loop {
        match session.peer.aftermath()? {
            Aftermath::Closed => break,
            Aftermath::Replied(message) if message.id == 9 => return Ok(()),
            Aftermath::Replied(message) => {
                expect(message.error != 0 || message.payload.is_empty(), "an error", || {
                    format!("{} bytes of payload", message.payload.len())
                })?;
            }
        }
    }
    drop(session);
    ctx.next_client_works()
}

fn short_payloads(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let fixed_parts = [
        (command::DMA_MAP, 32),
        (command::DMA_UNMAP, 24),
        (command::GET_INFO, 16),
        (command::GET_REGION_INFO, 32),
        (command::GET_REGION_IO_FDS, 16),
        (command::GET_IRQ_INFO, 16),
        (command::SET_IRQS, 20),
        (command::REGION_READ, 16),
        (command::REGION_WRITE, 16),
        (command::WRITE_MULTI, 8),
        (command::FEATURE, 8),
        (command::MIG_DATA_READ, 8),
        (command::MIG_DATA_WRITE, 8),
    ];
    for (number, fixed) in fixed_parts {
        for len in [0, 1, fixed / 2, fixed - 1] {
            let reply = session.peer.call(number, &vec![0; len], &[])?;
            reply.refused().map_err(|stop| stop.during(&format!("{len} bytes of payload")))?;
        }
        session.in_step()?;
    }
    Ok(())
}

fn stray_descriptors(ctx: &mut Context<'_>) -> Outcome {
    let mut session = ctx.attach()?;
    let event = Event::new()?;
    let request = Session::access(CONFIG, 0, 4);
    for _ in 0..4 {
        let fds = [event.as_fd()];
        // Whether the read itself is refused is the server's choice.
        session.peer.call(command::REGION_READ, &request.0, &fds)?;
        session.in_step()?;
    }
    expect(!session.peer.has_input(), "one reply to each command", || "another message".into())
        .map_err(|stop: Stop| stop.during("after stray descriptors"))
}
