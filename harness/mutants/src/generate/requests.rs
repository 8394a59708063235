//! Mutants of rings, requests, DMA and interrupts.

use understudy_device::{DeviceModel, Field, Requests, Tap, Verdict, Vocabulary};

use crate::change::{Change, Damage, Interrupts};
use crate::{How, Mutant};

/// Algorithms of a virtio-crypto device by service: the opcode that creates sessions, what the
/// service is called, and the fields of its configuration that have a bit for each algorithm that
/// the device offers (virtio 1.3 §5.9.4).
const ALGORITHMS: &[(u64, &str, [&str; 2])] = &[
    (0x002, "cipher", ["config.cipher_algo_l", "config.cipher_algo_h"]),
    (0x102, "hash", ["config.hash_algo", ""]),
    (0x202, "mac", ["config.mac_algo_l", "config.mac_algo_h"]),
    (0x302, "aead", ["config.aead_algo", ""]),
];

pub(super) fn of(model: &dyn DeviceModel, words: &'static Vocabulary) -> Vec<Mutant> {
    let mut all = Vec::new();
    let mut add = |id: String, what: String, change| {
        all.push(Mutant { id, what, how: How::Function(change) });
    };
    rings(words, &mut add);
    opcodes(words, &mut add);
    statuses(words, &mut add);
    data(&mut add);
    interrupts(&mut add, model.identity().interrupt_pin != 0);
    if words.opcodes.iter().any(|named| named.name == "cipher.create_session") {
        algorithms(model, &mut add);
    }
    let state = model.inspect();
    let ends = [state.queues.first(), state.queues.last()];
    for queue in ends.into_iter().flatten() {
        let what = format!("{} is never served", queue.name);
        add(format!("queue/{}/unserved", queue.index), what, Change::NoFetch(queue.index));
    }
    add("device/no-reset".into(), "A reset does nothing".into(), Change::NoReset);
    add("device/no-jobs".into(), "Heavy work never ends".into(), Change::NoJobs);
    add("device/asleep".into(), "The device never works".into(), Change::Asleep);
    all
}

type Add<'a> = &'a mut dyn FnMut(String, String, Change);

fn rings(words: &Vocabulary, add: Add<'_>) {
    let points = [(Tap::Fetched, "requests"), (Tap::Completing, "completions")];
    for (point, name) in points {
        for (verdict, word) in
            [(Verdict::Drop, "lost"), (Verdict::Duplicate, "doubled"), (Verdict::Reorder, "late")]
        {
            for (every, which) in [(1, "all"), (2, "every second of"), (7, "every seventh of")] {
                // Requests may be done in any order, and be done again where that is not seen.
                add(
                    format!("ring/{name}/{word}-{every}"),
                    format!("{which} {name}: {word}"),
                    Change::Entry { point, queue: None, every, verdict },
                );
            }
        }
    }
    let mut fields: Vec<(&str, Tap, Field)> = Vec::new();
    fields.extend(words.tag.map(|tag| ("tag", Tap::Completing, tag)));
    match words.requests {
        Requests::Inline { opcode, tag } => {
            fields.push(("opcode", Tap::Fetched, opcode));
            fields.extend(tag.map(|tag| ("request-tag", Tap::Fetched, tag)));
        }
        Requests::Virtqueue { .. } => {
            fields.push(("length", Tap::Completing, Field::new(4, 4)));
            fields.push(("address", Tap::Fetched, Field::new(0, 8)));
            fields.push(("segment", Tap::Fetched, Field::new(8, 4)));
            fields.push(("flags", Tap::Fetched, Field::new(12, 2)));
        }
    }
    for (name, point, field) in fields {
        for flip in [1, 2] {
            add(
                format!("field/{name}/{flip}"),
                format!("{name} of ring entries: bits {flip:#x} are wrong"),
                Change::Field { point, field, flip },
            );
        }
    }
}

fn opcodes(words: &Vocabulary, add: Add<'_>) {
    for named in words.opcodes {
        let (opcode, name) = (Some(named.value), named.name);
        if !name.contains("session") {
            add(
                format!("output/{name}"),
                format!("{name}: the first byte of the result is wrong"),
                Change::Output { opcode, algorithm: None, least: 1, damage: Damage::First },
            );
        }
        if let Some(bad) = words.statuses.first() {
            add(
                format!("refuses/{name}"),
                format!("{name}: good requests end with status {}", bad.name),
                Change::Status { opcode, from: Some(words.good), to: bad.value },
            );
        }
        if !words.statuses.is_empty() {
            add(
                format!("accepts/{name}"),
                format!("{name}: every request ends well"),
                Change::Status { opcode, from: None, to: words.good },
            );
        }
    }
}

fn statuses(words: &Vocabulary, add: Add<'_>) {
    for named in words.statuses {
        let from = Some(named.value);
        add(
            format!("status/{}-is-good", named.name),
            format!("requests end well instead of with {}", named.name),
            Change::Status { opcode: None, from, to: words.good },
        );
        add(
            format!("status/{}-is-unknown", named.name),
            format!("requests end with an unknown status instead of {}", named.name),
            Change::Status { opcode: None, from, to: words.status_mask & 0x55 },
        );
    }
    let to = words.status_mask & 0x55;
    add(
        "status/good-is-unknown".into(),
        "good requests end with an unknown status".into(),
        Change::Status { opcode: None, from: Some(words.good), to },
    );
}

fn data(add: Add<'_>) {
    let damages = [
        (Damage::First, "the first byte is wrong"),
        (Damage::Last, "the last byte is wrong"),
        (Damage::Zero, "all bytes are zero"),
        (Damage::Lost, "nothing is transferred"),
        (Damage::Short, "the last byte is not transferred"),
        (Damage::Long, "a byte too much is transferred"),
        (Damage::Shifted, "the next address is used"),
        (Damage::OnePage, "only the first page is transferred"),
    ];
    for (damage, what) in damages {
        for least in [1, 4096] {
            let size = if least == 1 { "writes" } else { "writes of 4 KiB or more" };
            add(
                format!("write/{damage:?}-{least}").to_lowercase(),
                format!("{size}: {what}"),
                Change::Output { opcode: None, algorithm: None, least, damage },
            );
            // What a read gets beyond its end nobody sees, and a read is not cut at pages.
            if !matches!(damage, Damage::Long | Damage::OnePage | Damage::Lost) {
                let size = if least == 1 { "reads" } else { "reads of 4 KiB or more" };
                add(
                    format!("read/{damage:?}-{least}").to_lowercase(),
                    format!("{size}: {what}"),
                    Change::Input { least, damage },
                );
            }
        }
    }
}

fn interrupts(add: Add<'_>, has_line: bool) {
    for (wrong, name, what) in [
        (Interrupts::Lost, "lost", "no interrupt comes"),
        (Interrupts::Half, "half", "every second interrupt does not come"),
        (Interrupts::Next, "next-vector", "interrupts come as the next vector"),
        (Interrupts::First, "vector-0", "interrupts come as vector 0"),
        (Interrupts::Unasked, "unasked", "an interrupt comes with every completion"),
        (Interrupts::NoLine, "no-line", "the INTx line is never asserted"),
        (Interrupts::StuckLine, "stuck-line", "the INTx line stays asserted"),
    ] {
        let of_line = matches!(wrong, Interrupts::NoLine | Interrupts::StuckLine);
        if of_line && !has_line {
            continue;
        }
        add(format!("interrupt/{name}"), what.to_owned(), Change::Interrupt(wrong));
    }
}

fn algorithms(model: &dyn DeviceModel, add: Add<'_>) {
    let registers = model.inspect().registers;
    let value = |name: &str| {
        registers.iter().find(|register| register.name == name).map_or(0, |it| it.value)
    };
    for (create, service, [low, high]) in ALGORITHMS {
        let offered = value(low) & 0xffff_ffff | value(high) << 32;
        // Bit 0 is for no algorithm at all.
        for number in (1..64).filter(|number| offered >> number & 1 != 0) {
            add(
                format!("algorithm/{service}/{number}"),
                format!("{service} algorithm {number} computes something else"),
                Change::Output {
                    opcode: None,
                    algorithm: Some((*create, number)),
                    least: 1,
                    damage: Damage::First,
                },
            );
        }
    }
}
