//! Deflate both ways.

use understudy_client::qat::message::{command, compression_flag as flag};
use understudy_client::qat::{CompressionCall, CompressionResult, status};

use super::{TestDriver, counter, driver, pattern};

const OVERFLOW: i8 = -11;
const FATAL: i8 = -13;
const INCOMPLETE: i8 = -15;

/// Text that compresses.
fn text(len: usize) -> Vec<u8> {
    let words = ["engine", "ring", "bundle", "mailbox", "of ", "the ", "\n", "7f7f"];
    let mut seed = 1_u32;
    let mut text = Vec::new();
    while text.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend(words[usize::try_from(seed >> 29).unwrap()].as_bytes());
    }
    text.truncate(len);
    text
}

fn compress(driver: &mut TestDriver, command: u8, source: &[u8], room: usize) -> CompressionResult {
    let flags = flag::START | flag::END | flag::FINAL_BLOCK | flag::VERIFY;
    let call = CompressionCall { command, state: None, depth: 1, source, room, flags };
    driver.compression(&call).unwrap()
}

/// With the flags of drivers.
fn decompress(driver: &mut TestDriver, source: &[u8], room: usize) -> CompressionResult {
    decompress_as(driver, source, room, flag::FINAL_BLOCK | flag::VERIFY)
}

fn decompress_as(
    driver: &mut TestDriver,
    source: &[u8],
    room: usize,
    flags: u32,
) -> CompressionResult {
    let flags = flag::START | flag::END | flags;
    let (command, state) = (command::DECOMPRESS, None);
    let call = CompressionCall { command, state, depth: 0, source, room, flags };
    driver.compression(&call).unwrap()
}

fn failed(result: &CompressionResult) -> (bool, i8) {
    (result.response.status() & status::COMPRESSION != 0, result.response.error())
}

#[test]
fn data_survives_both_ways() {
    let mut driver = driver();
    for piece in [None, Some(1000), Some(61)] {
        driver.set_piece(piece);
        for command in [command::STATIC, command::DYNAMIC] {
            for source in [vec![], vec![7], text(5000), text(100_000), pattern(3000, 0)] {
                let packed = compress(&mut driver, command, &source, source.len() + 1000);
                assert_eq!(failed(&packed), (false, 0));
                assert_eq!(packed.response.flags(), 0xc0, "verified");
                assert_eq!(usize::try_from(packed.consumed).unwrap(), source.len());
                assert_eq!(packed.crc32, crc32(&source));
                assert_eq!(packed.adler32, adler32(&source));

                let found = decompress(&mut driver, &packed.data, source.len() + 1);
                assert_eq!(found.response.status(), status::END_OF_LAST_BLOCK);
                assert_eq!(found.data, source);
                assert_eq!(usize::try_from(found.consumed).unwrap(), packed.data.len());
                assert_eq!((found.crc32, found.adler32), (packed.crc32, packed.adler32));
            }
        }
    }
}

/// RFC 1952 §8, bit by bit.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// RFC 1950 §8.2.
fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

#[test]
fn codes_are_as_asked_for() {
    let mut driver = driver();
    let source = text(20_000);
    let sizes = [command::STATIC, command::DYNAMIC].map(|command| {
        let packed = compress(&mut driver, command, &source, 30_000);
        // The type of the first block: 1 for fixed codes, 2 for dynamic ones.
        assert_eq!(packed.data[0] >> 1 & 3, command + 1);
        packed.data.len()
    });
    assert!(sizes[1] < sizes[0] && sizes[0] < source.len(), "{sizes:?}");
}

#[test]
fn without_a_final_block_more_can_follow() {
    let mut driver = driver();
    let parts = [text(3000), text(500), vec![], pattern(700, 1)];
    let mut stream = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let flags = if at == 3 { flag::FINAL_BLOCK } else { 0 };
        let call = CompressionCall {
            command: command::DYNAMIC,
            state: None,
            depth: 4,
            source: part,
            room: 5000,
            flags,
        };
        let packed = driver.compression(&call).unwrap();
        assert_eq!(packed.response.flags(), 0x80, "not verified");
        stream.extend(packed.data);
    }
    let found = decompress(&mut driver, &stream, 10_000);
    assert_eq!(found.response.status(), status::END_OF_LAST_BLOCK);
    assert_eq!(found.data, parts.concat());
}

/// From the kernel's `crypto/testmgr.h`.
#[test]
fn a_published_stream_is_decompressed() {
    let stream = hex::decode(
        "f3cacfcc53282d56c8cb2f5748cc4b5128ce482c4a5528c94855\
         28ce4f2b290771bc082b0100",
    );
    let plain = "Join us now and share the software ".repeat(2);
    let found = decompress(&mut driver(), &stream.unwrap(), 100);
    assert_eq!(found.data, plain.as_bytes());
}

#[test]
fn output_that_does_not_fit_is_cut_where_it_can_go_on() {
    let mut driver = driver();
    for command in [command::STATIC, command::DYNAMIC] {
        for (source, room) in [
            (text(60_000), 4000),
            (text(60_000), 1),
            (pattern(20_000, 0), 300),
            (vec![0x55; 4096], 5),
        ] {
            let packed = compress(&mut driver, command, &source, room);
            assert_eq!(failed(&packed), (true, OVERFLOW));
            let consumed = usize::try_from(packed.consumed).unwrap();
            assert!(packed.data.len() <= room && consumed < source.len());
            assert_eq!(packed.crc32, crc32(&source[..consumed]));
            let found = decompress_as(&mut driver, &packed.data, source.len(), 0);
            assert_eq!(failed(&found), (false, 0));
            assert_eq!(found.data, source[..consumed]);
        }
    }
    assert_eq!(counter(&mut driver, "compress.errors"), 8);
}

#[test]
fn decompression_stops_where_the_room_ends() {
    let mut driver = driver();
    let source = text(10_000);
    let packed = compress(&mut driver, command::DYNAMIC, &source, 10_000).data;
    for room in [0, 1, 9_999] {
        let found = decompress(&mut driver, &packed, room);
        assert_eq!(failed(&found), (true, OVERFLOW), "{room}");
        assert_eq!(found.data, source[..room]);
        assert_eq!(found.adler32, adler32(&source[..room]));
    }
    // Exactly enough is enough.
    let found = decompress(&mut driver, &packed, 10_000);
    assert_eq!(found.response.status(), status::END_OF_LAST_BLOCK);
}

#[test]
fn input_that_ends_early_is_incomplete_if_it_should_end() {
    let mut driver = driver();
    let source = text(10_000);
    let packed = compress(&mut driver, command::DYNAMIC, &source, 10_000).data;
    for len in [0, 1, packed.len() / 2, packed.len() - 1] {
        let found = decompress(&mut driver, &packed[..len], 10_000);
        assert_eq!(found.response.status(), status::COMPRESSION);
        assert_eq!(found.response.error(), INCOMPLETE);
        // All the same, it is there.
        assert!(source.starts_with(&found.data));
        assert_eq!(usize::try_from(found.consumed).unwrap(), len);
        assert_eq!(found.crc32, crc32(&found.data));
        assert_eq!(found.adler32, adler32(&found.data));
        assert_eq!(found.data.len() > 1000, len > 1);

        let part = decompress_as(&mut driver, &packed[..len], 10_000, 0);
        assert_eq!((part.response.status(), part.response.error()), (0, 0));
        assert_eq!(part.data, found.data);
    }
    assert_eq!(counter(&mut driver, "decompress.errors"), 4);
}

#[test]
fn output_that_fits_exactly_is_no_overflow_where_the_stream_goes_on() {
    let mut driver = driver();
    let source = text(240);
    let (command, state, room) = (command::DYNAMIC, None, 400);
    let call = CompressionCall { command, state, depth: 1, source: &source, room, flags: 0 };
    let packed = driver.compression(&call).unwrap().data;
    for (room, flags, code) in [
        (239, 0, OVERFLOW),
        (240, 0, 0),
        (241, 0, 0),
        (239, flag::FINAL_BLOCK, OVERFLOW),
        (240, flag::FINAL_BLOCK, INCOMPLETE),
    ] {
        let found = decompress_as(&mut driver, &packed, room, flags);
        assert_eq!(failed(&found), (code != 0, code), "{room}");
        assert_eq!(found.data, source[..room.min(240)]);
    }
}

/// From zlib's `test/infcover.c`.
#[test]
fn each_defect_of_a_stream_has_its_code() {
    let mut driver = driver();
    for (stream, code) in [
        ("07", -1),
        ("0000000000", -2),
        ("fc0000", -3),
        ("0400feff", -4),
        ("0400244900", -6),
        ("040024e9ffff", -6),
        ("040024e9ff6d", -7),
        ("048049922449922471ffff931100", -7),
        ("04804992244992240fb4ffffc384", -8),
        ("04c0810800000000207feb0b0000", -9),
        ("027effff", -9),
        ("0cc081000000000090ff6b04", -10),
    ] {
        let stream = hex::decode(stream).unwrap();
        let found = decompress(&mut driver, &stream, 1000);
        assert_eq!(failed(&found), (true, code), "{stream:02x?}");
        assert_eq!((found.consumed, found.data.len()), (0, 0));
    }
    assert_eq!(counter(&mut driver, "decompress.errors"), 12);
}

/// The part of a stream with state at 0x1000.
fn part(driver: &mut TestDriver, source: &[u8], room: usize, flags: u32) -> CompressionResult {
    let (command, state) = (command::DECOMPRESS, Some(0x1000));
    let call = CompressionCall { command, state, depth: 0, source, room, flags };
    driver.compression(&call).unwrap()
}

#[test]
fn decompression_goes_on_in_a_session_with_state() {
    let mut driver = driver();
    // With little room, some rooms end where the input does.
    for (len, step, room) in [(40_000, 700, 3000), (400, 1, 5), (400, 3, 1), (400, 5000, 1)] {
        let source = [text(len), pattern(len / 20, 0)].concat();
        let whole = compress(&mut driver, command::DYNAMIC, &source, 50_000);
        let packed = &whole.data;
        let mut found: Vec<u8> = Vec::new();
        let (mut at, mut first) = (0, true);
        loop {
            let flags = if first { flag::START } else { 0 };
            let source = &packed[at..(at + step).min(packed.len())];
            let result = part(&mut driver, source, room, flags);
            first = false;
            at += usize::try_from(result.consumed).unwrap();
            found.extend(&result.data);
            match failed(&result) {
                (false, 0) | (true, OVERFLOW) => {}
                other => panic!("{other:?}"),
            }
            if result.response.status() & status::END_OF_LAST_BLOCK != 0 {
                // Of all of the stream, though each request named where to start.
                assert_eq!((result.crc32, result.adler32), (whole.crc32, whole.adler32));
                break;
            }
        }
        assert_eq!(found, source);
        assert_eq!(at, packed.len());
    }
}

#[test]
fn each_stream_with_state_has_checksums_of_its_own() {
    let mut driver = driver();
    let source = text(5000);
    let packed = compress(&mut driver, command::STATIC, &source, 6000).data;
    let (one, two) = packed.split_at(packed.len() / 2);
    let first = part(&mut driver, one, 6000, flag::START);
    assert_eq!(failed(&first), (false, 0));
    assert_eq!(first.crc32, crc32(&first.data));
    // One without state, in between.
    let found = decompress(&mut driver, &packed, 6000);
    assert_eq!((found.crc32, found.adler32), (crc32(&source), adler32(&source)));
    let second = part(&mut driver, two, 6000, flag::END);
    assert_eq!(second.response.status(), status::END_OF_LAST_BLOCK);
    assert_eq!([first.data, second.data].concat(), source);
    assert_eq!((second.crc32, second.adler32), (crc32(&source), adler32(&source)));
    // And another from the start.
    let again = part(&mut driver, one, 6000, flag::START | flag::END);
    assert_eq!((again.crc32, failed(&again)), (first.crc32, (false, 0)));
    let short = part(&mut driver, &two[..10], 6000, flag::END | flag::FINAL_BLOCK);
    assert_eq!(failed(&short), (true, INCOMPLETE));
}

#[test]
fn state_that_is_not_there_is_an_error() {
    let mut driver = driver();
    let source = text(100);
    let call = |command, flags| CompressionCall {
        command,
        state: Some(0x2000),
        depth: 0,
        source: &source,
        room: 1000,
        flags,
    };
    // The second has no first; compression has no state at all.
    for (command, flags, bit) in [
        (command::DECOMPRESS, 0, status::INVALID),
        (command::STATIC, flag::START, status::UNSUPPORTED),
    ] {
        let result = driver.compression(&call(command, flags)).unwrap();
        assert_eq!(result.response.status(), status::COMPRESSION | bit);
        assert_eq!(result.response.error(), FATAL);
    }
}

#[test]
fn commands_that_are_none_are_refused() {
    let mut driver = driver();
    for command in [3, 255] {
        let result = compress(&mut driver, command, b"abc", 100);
        assert_eq!(failed(&result), (true, FATAL));
    }
    assert_eq!(counter(&mut driver, "unknown.errors"), 2);
}
