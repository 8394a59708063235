//! Deflate both ways.

use understudy_client::qat::message::{command, compression_flag as flag};
use understudy_client::qat::{CompressionCall, CompressionResult, status};

use super::{TestDriver, counter, driver, pattern};

const OVERFLOW: i8 = -11;
const FATAL: i8 = -13;

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

fn decompress(driver: &mut TestDriver, source: &[u8], room: usize) -> CompressionResult {
    let flags = flag::START | flag::END;
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
            let found = decompress(&mut driver, &packed.data, source.len());
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
    // Input that ends early is no failure, and no end.
    let found = decompress(&mut driver, &packed[..packed.len() / 2], 10_000);
    assert_eq!(found.response.status(), 0);
    assert!(source.starts_with(&found.data));
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

#[test]
fn decompression_goes_on_in_a_session_with_state() {
    let mut driver = driver();
    let source = [text(40_000), pattern(2000, 0)].concat();
    let packed = compress(&mut driver, command::DYNAMIC, &source, 50_000).data;
    let mut found: Vec<u8> = Vec::new();
    let (mut at, mut first) = (0, true);
    loop {
        let flags = if first { flag::START } else { 0 };
        let call = CompressionCall {
            command: command::DECOMPRESS,
            state: Some(0x1000),
            depth: 0,
            source: &packed[at..(at + 700).min(packed.len())],
            room: 3000,
            flags,
        };
        let result = driver.compression(&call).unwrap();
        first = false;
        at += usize::try_from(result.consumed).unwrap();
        found.extend(&result.data);
        match failed(&result) {
            (false, 0) | (true, OVERFLOW) => {}
            other => panic!("{other:?}"),
        }
        if result.response.status() & status::END_OF_LAST_BLOCK != 0 {
            break;
        }
    }
    assert_eq!(found, source);
    assert_eq!(at, packed.len());
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
