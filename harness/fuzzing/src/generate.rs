//! Programs from a seed, and programs from programs.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::program::{Act, Call, Edit, MAX_PARTS, Program, What};

/// Numbers at which code tends to break.
const NUMBERS: [u32; 16] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0xf,
    0x10,
    0x40,
    0xff,
    0x100,
    0x1000,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
];
/// Kinds of acts; a program uses some of them.
const KINDS: u32 = 17;

/// Small numbers more often than large ones, below `1 << bits`.
fn small(random: &mut ChaCha8Rng, bits: u32) -> u16 {
    let width = random.random_range(0..=bits);
    random.random_range(0..=(1u32 << width) - 1).try_into().unwrap_or(u16::MAX)
}

/// A new program: 8 to 128 acts of some kinds, 1 to 16 calls.
pub(crate) fn program(random: &mut ChaCha8Rng, calls: u8) -> Program {
    // Few kinds at a time go deeper than all of them at once.
    let kinds: u32 = random.random::<u32>() & random.random::<u32>();
    let kinds = if kinds.is_multiple_of(1 << KINDS) { u32::MAX } else { kinds };
    let honest = if random.random_ratio(1, 3) { 0 } else { u32::from(small(random, 9)) };
    let count = random.random_range(8..=128);
    let mut acts = Vec::with_capacity(count);
    while acts.len() < count {
        let kind = random.random_range(0..KINDS);
        if kinds >> kind & 1 != 0 {
            acts.push(Act {
                nth: small(random, 9),
                times: times(random),
                what: what(random, kind),
            });
        }
    }
    let count = random.random_range(1..=16);
    let calls = (0..count).map(|_| call(random, calls)).collect();
    Program { honest, acts, calls }
}

fn times(random: &mut ChaCha8Rng) -> u8 {
    match random.random_range(0..16) {
        0 => u8::MAX,
        1..=3 => random.random_range(2..=32),
        _ => 0,
    }
}

fn call(random: &mut ChaCha8Rng, calls: u8) -> Call {
    Call(random.random_range(0..calls.max(1)), small(random, 12))
}

fn what(random: &mut ChaCha8Rng, kind: u32) -> What {
    match kind {
        0 => What::Config(edit(random)),
        1 => What::Register(edit(random)),
        2 => What::Look(edit(random)),
        3 => What::DeviceRead(edit(random)),
        4 => What::ReadFault,
        5 => What::DeviceWrite(edit(random)),
        6 => What::WriteLost,
        7 => What::Entry(edit(random)),
        8 => What::EntryLost,
        9 => What::EntryTwice,
        10 => What::EntryLater,
        11 => What::InterruptLost,
        12 => What::Interrupt(random.random_range(0..4)),
        13 => What::Stall,
        14 => What::Scribble(random.random_range(0..16), small(random, 12), edit(random)),
        15 => What::Reset,
        _ if random.random_ratio(1, 4) => What::Gone,
        _ => What::Look(edit(random)),
    }
}

fn number(random: &mut ChaCha8Rng) -> u32 {
    if random.random_ratio(1, 4) {
        return random.random();
    }
    NUMBERS.get(random.random_range(0..NUMBERS.len())).copied().unwrap_or(0)
}

fn edit(random: &mut ChaCha8Rng) -> Edit {
    let at = small(random, 5);
    match random.random_range(0..10) {
        0 | 1 => Edit::Flip(at, random.random_range(0..8)),
        2 => Edit::Byte(at, random.random()),
        3 => Edit::Half(at, u16::try_from(number(random) & 0xffff).unwrap_or(0)),
        4 | 5 => Edit::Word(at, number(random)),
        6 => Edit::Plus(at, random.random_range(-64..=64)),
        7 => Edit::HalfPlus(at, random.random_range(-8..=8)),
        8 if random.random() => Edit::Ones,
        8 => Edit::Zeros,
        _ => Edit::Stale,
    }
}

/// Changes a program a little, perhaps with parts of another.
pub(crate) fn mutate(
    random: &mut ChaCha8Rng,
    program: &Program,
    other: &Program,
    calls: u8,
) -> Program {
    let mut program = program.clone();
    for _ in 0..=small(random, 3) {
        let acts = program.acts.len();
        match random.random_range(0..12) {
            0 => program.honest = u32::from(small(random, 9)),
            1 | 2 => {
                let kind = random.random_range(0..KINDS);
                let what = what(random, kind);
                program.acts.push(Act { nth: small(random, 9), times: times(random), what });
            }
            3 if acts > 1 => {
                program.acts.swap_remove(random.random_range(0..acts));
            }
            4 if acts > 0 => {
                let at = random.random_range(0..acts);
                program.acts[at].nth = small(random, 9);
            }
            5 if acts > 0 => {
                let at = random.random_range(0..acts);
                let nth = program.acts[at].nth;
                program.acts[at].nth = nth.wrapping_add_signed(random.random_range(-4..=4)) % 1024;
            }
            6 | 7 if acts > 0 => {
                let at = random.random_range(0..acts);
                if let Some(edit) = program.acts[at].what.edit_mut() {
                    *edit = self::edit(random);
                }
            }
            8 if acts > 0 => {
                let at = random.random_range(0..acts);
                program.acts[at].times = times(random);
            }
            9 => program.calls.push(call(random, calls)),
            10 if !program.calls.is_empty() => {
                let at = random.random_range(0..program.calls.len());
                program.calls[at] = call(random, calls);
            }
            _ if !other.acts.is_empty() => {
                let from = random.random_range(0..other.acts.len());
                let count = random.random_range(1..=8);
                program.acts.extend(other.acts.iter().skip(from).take(count).cloned());
            }
            _ => {}
        }
    }
    program.acts.truncate(MAX_PARTS);
    program.calls.truncate(32);
    program
}

/// For engines that bring their own corpus and feedback: makes another program of the one in the
/// first `size` bytes of `data`, in the same place, as JSON. What is not JSON is replaced by a new
/// program. Returns how many bytes it takes, at most the length of `data`; `size` if none fits.
pub fn mutate_bytes(data: &mut [u8], size: usize, seed: u32) -> usize {
    const CALLS: u8 = 8;
    let mut random = ChaCha8Rng::seed_from_u64(seed.into());
    let given = data.get(..size).and_then(|bytes| serde_json::from_slice::<Program>(bytes).ok());
    let mut program = match &given {
        Some(given) => {
            let others = (0..8).map(|_| mutate(&mut random, given, given, CALLS));
            others.into_iter().find(|other| other != given).unwrap_or_default()
        }
        None => self::program(&mut random, CALLS),
    };
    loop {
        let text = serde_json::to_vec(&program).unwrap_or_default();
        if let Some(place) = data.get_mut(..text.len()) {
            place.copy_from_slice(&text);
            return text.len();
        }
        if program.parts() == 0 {
            return size.min(data.len());
        }
        program.acts.truncate(program.acts.len() / 2);
        if program.acts.is_empty() {
            program.calls.truncate(program.calls.len() / 2);
        }
    }
}
