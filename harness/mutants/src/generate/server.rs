//! Mutants of a vfio-user server, whatever its device is.

use crate::wire::{Change, Wrong};
use crate::{How, Mutant};

/// Commands by number and name.
const COMMANDS: &[(u16, &str)] = &[
    (1, "version"),
    (2, "dma-map"),
    (3, "dma-unmap"),
    (4, "info"),
    (5, "region-info"),
    (6, "region-io-fds"),
    (7, "irq-info"),
    (8, "set-irqs"),
    (9, "region-read"),
    (10, "region-write"),
    (13, "reset"),
    (15, "write-multi"),
    (16, "feature"),
];

/// Fields of replies that a client relies on: command, byte of the message, bits, what it is.
const FIELDS: &[(u16, usize, u8, &str)] = &[
    (1, 16, 0x01, "major"),
    (1, 18, 0x40, "minor"),
    (1, 20, 0x40, "json-start"),
    (1, 30, 0x80, "json-inside"),
    (4, 16, 0x01, "argsz"),
    (4, 20, 0x01, "flag-reset"),
    (4, 20, 0x02, "flag-pci"),
    (4, 24, 0x01, "regions"),
    (4, 28, 0x01, "irqs"),
    (5, 16, 0x40, "argsz"),
    (5, 20, 0x01, "flag-read"),
    (5, 20, 0x02, "flag-write"),
    (5, 20, 0x04, "flag-mmap"),
    (5, 24, 0x01, "index"),
    (5, 32, 0x01, "size-odd"),
    (5, 33, 0x01, "size"),
    (7, 20, 0x01, "flag-eventfd"),
    (7, 20, 0x02, "flag-maskable"),
    (7, 20, 0x04, "flag-automasked"),
    (7, 24, 0x01, "index"),
    (7, 28, 0x01, "count"),
    (9, 16, 0x01, "offset"),
    (9, 24, 0x01, "region"),
    (9, 28, 0x01, "count"),
    (9, 32, 0x01, "data"),
    (10, 16, 0x01, "offset"),
    (10, 24, 0x01, "region"),
    (10, 28, 0x01, "count"),
    (15, 16, 0x01, "count"),
    (11, 16, 0x01, "address"),
    (11, 24, 0x80, "count"),
    (12, 16, 0x01, "address"),
    (12, 32, 0x01, "data"),
];

/// Fields of requests that a server heeds, as in [`FIELDS`].
const HEEDED: &[(u16, usize, u8, &str)] = &[
    (2, 20, 0x02, "flags-write"),
    (2, 24, 0x10, "offset"),
    (2, 33, 0x10, "address"),
    (2, 41, 0x10, "size"),
    (3, 25, 0x10, "address"),
    (5, 24, 0x01, "index"),
    (7, 24, 0x01, "index"),
    (8, 20, 0x20, "flags-trigger"),
    (8, 20, 0x04, "flags-eventfd"),
    (8, 24, 0x01, "index"),
    (8, 28, 0x01, "start"),
    (8, 36, 0x01, "data"),
    (9, 16, 0x04, "offset"),
    (10, 16, 0x04, "offset"),
    (10, 32, 0x02, "data"),
    (15, 24, 0x04, "offset"),
    (15, 40, 0x02, "data"),
];

/// Wrongs of one command each, with what they are called.
const BY_COMMAND: &[(Wrong, &str, &str)] = &[
    (Wrong::Reply(0, 1), "reply-id", "the reply carries another id"),
    (Wrong::Reply(2, 0x10), "reply-command", "the reply carries another command"),
    (Wrong::Accepted, "accepts", "what is wrong is answered as if it were done"),
    (Wrong::Refused, "refuses", "what is right is refused"),
    (Wrong::ErrorPayload, "error-payload", "an error reply carries a payload"),
    (Wrong::Silent, "silent", "there is no reply"),
    (Wrong::Undone, "undone", "it is answered, and not done"),
    (Wrong::Longer(8), "longer", "the reply is 8 bytes longer"),
    (Wrong::Shorter(4), "shorter", "the reply is 4 bytes shorter"),
    (Wrong::Hangup, "hangup", "an error ends the connection"),
];

/// Wrongs with commands of their own.
const SINGLE: &[(u16, Wrong, &str, &str)] = &[
    (0, Wrong::Answered, "posted/answered", "posted commands are answered"),
    (0, Wrong::PostLost, "posted/lost", "posted commands are not done"),
    (0, Wrong::Late, "all/late", "replies come in another order"),
    (0, Wrong::Keeps, "all/keeps", "state of a client stays for the next"),
    (0, Wrong::AnyType, "all/any-type", "messages of unknown types are taken for commands"),
    (0, Wrong::Impatient, "all/impatient", "a message that comes in pieces ends the connection"),
    (2, Wrong::Errno(22), "dma-map/errno", "overlapping mappings are refused with EINVAL"),
    (16, Wrong::Errno(5), "feature/errno", "features that do not exist are refused with EIO"),
    (2, Wrong::NoRequestFds, "dma-map/no-fds", "descriptors of mappings are ignored"),
    (8, Wrong::NoRequestFds, "set-irqs/no-fds", "eventfds are ignored"),
    (
        5,
        Wrong::NoReplyFds,
        "region-info/no-fds",
        "regions that can be mapped come without descriptor",
    ),
    (8, Wrong::Twice, "set-irqs/twice", "interrupts are triggered twice"),
    (10, Wrong::Twice, "region-write/twice", "writes are done twice"),
    (15, Wrong::Twice, "write-multi/twice", "batches are done twice"),
    (17, Wrong::Accepted, "mig-read/accepts", "migration data are read outside of a migration"),
    (18, Wrong::Accepted, "mig-write/accepts", "migration data are written outside of a migration"),
    (11, Wrong::Accepted, "dma-read/accepts", "the server takes its own commands"),
    (12, Wrong::Accepted, "dma-write/accepts", "the server takes its own commands"),
    (14, Wrong::Accepted, "unknown/accepts", "a command that does not exist is taken"),
    (0, Wrong::Accepted, "all/accepts", "nothing is ever refused"),
    (0, Wrong::ErrorPayload, "all/error-payload", "every error reply carries a payload"),
];

/// Mutants of any server.
#[must_use]
pub fn of_server() -> Vec<Mutant> {
    let mut mutants = Vec::new();
    let mut add = |id: String, what: String, command: u16, wrong: Wrong| {
        mutants.push(Mutant { id, what, how: How::Wire(Change { command, wrong }) });
    };
    for (command, name) in COMMANDS {
        for (wrong, id, what) in BY_COMMAND {
            add(format!("{id}/{name}"), format!("{name}: {what}"), *command, *wrong);
        }
    }
    for (command, at, bits, field) in FIELDS {
        let name = name(*command);
        let what = format!("{name}: bits {bits:#x} of {field} in the reply are wrong");
        add(format!("reply/{name}/{field}"), what, *command, Wrong::Reply(*at, *bits));
    }
    for (command, at, bits, field) in HEEDED {
        let name = name(*command);
        let what = format!("{name}: bits {bits:#x} of {field} in the request are misread");
        add(format!("request/{name}/{field}"), what, *command, Wrong::Request(*at, *bits));
    }
    for (command, wrong, id, what) in SINGLE {
        add((*id).to_owned(), (*what).to_owned(), *command, *wrong);
    }
    mutants
}

fn name(command: u16) -> &'static str {
    match command {
        11 => "dma-read",
        12 => "dma-write",
        _ => COMMANDS.iter().find(|(number, _)| *number == command).map_or("?", |(_, name)| name),
    }
}
