//! Deflate: codes, counts, checksums, verification, overflow.

use understudy_client::platform::DmaBuffer;
use understudy_client::qat::message::{Buffers, Compression, command, compression_flag as flag};
use understudy_client::qat::{CompressionCall, CompressionResult, status};

use super::{PIECES, Qat, len32, pattern, started, succeeded};
use crate::bytes::crc32;
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/compression":
    [1, "Any inflater gets back what was compressed, flat and in pieces", "Linux icp_qat_fw_comp.h, ICP_QAT_FW_COMP_CMD_STATIC, ICP_QAT_FW_COMP_CMD_DYNAMIC; RFC 1951", inflates],
    [2, "A response tells the bytes that were consumed and produced", "Linux icp_qat_fw_comp.h, icp_qat_fw_comp_resp (icp_qat_fw_resp_comp_pars)", counts],
    [3, "A response tells CRC-32 and Adler-32 of the uncompressed data, both ways", "Linux icp_qat_fw_comp.h, icp_qat_fw_resp_comp_pars (curr_crc32, curr_adler_32)", checksums],
    [4, "Static compression uses fixed codes, and makes text smaller", "Linux icp_qat_fw_comp.h, ICP_QAT_FW_COMP_CMD_STATIC; RFC 1951 §3.2.6", fixed_codes],
    [5, "Dynamic compression makes text smaller still", "Linux icp_qat_fw_comp.h, ICP_QAT_FW_COMP_CMD_DYNAMIC; RFC 1951 §3.2.7", dynamic_codes],
    [6, "With compress-and-verify, the response says that the output was verified", "Linux icp_qat_fw.h, ICP_QAT_FW_COMN_CNV_FLAG_GET; qat_compression.c", verified],
    [7, "The last block is final if the request says so, and only then", "Linux icp_qat_fw_comp.h, ICP_QAT_FW_COMP_BFINAL; RFC 1951 §3.2.3", final_block],
    [8, "Output that does not fit is an overflow, told with counts and checksums of what did", "Linux icp_qat_fw.h, ERR_CODE_OVERFLOW_ERROR", overflow],
    [9, "Output that fits exactly is no overflow", "Linux icp_qat_fw_comp.h, icp_qat_fw_comp_req_params (out_buffer_sz)", exact],
    [10, "All search depths work", "Linux icp_qat_hw.h, icp_qat_hw_compression_depth", depths],
    [11, "64 KiB and 1 MiB go both ways", "Linux qat_comp_algs.c, qat_comp_alg_compress, qat_comp_alg_decompress", large],
    [12, "Nothing, and single bytes, go both ways", "Linux icp_qat_fw_comp.h, icp_qat_fw_comp_req_params (comp_len)", tiny],
);

/// Text that compresses.
pub(super) fn text(len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["engine", "ring", "bundle", "mailbox", "of ", "the ", "\n", "7f7f"];
    let mut seed = 1_u32;
    let mut text = Vec::new();
    while text.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = usize::try_from(seed >> 29).unwrap_or(0);
        text.extend(WORDS[word].as_bytes());
    }
    text.truncate(len);
    text
}

/// A request over memory that is there already: 30000 bytes into 40000.
pub(super) fn flat(opaque: u64, source: DmaBuffer, destination: DmaBuffer) -> Vec<u8> {
    let word = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let buffers = Buffers {
        opaque,
        source: source.iova,
        destination: destination.iova,
        source_len: word(source.len),
        destination_len: word(destination.len),
        lists: false,
    };
    Compression {
        command: command::DYNAMIC,
        state: None,
        depth: 1,
        buffers,
        len: word(source.len),
        room: word(destination.len),
        flags: flag::START | flag::END | flag::FINAL_BLOCK,
    }
    .encode()
}

pub(super) fn compress(
    driver: &mut Qat,
    command: u8,
    source: &[u8],
    room: usize,
) -> Result<CompressionResult, Stop> {
    let flags = flag::START | flag::END | flag::FINAL_BLOCK | flag::VERIFY;
    let call = CompressionCall { command, state: None, depth: 1, source, room, flags };
    Ok(driver.compression(&call)?)
}

/// Of a whole stream, as drivers do without state.
pub(super) fn decompress(
    driver: &mut Qat,
    source: &[u8],
    room: usize,
) -> Result<CompressionResult, Stop> {
    decompress_as(driver, source, room, flag::FINAL_BLOCK)
}

/// With these flags, and those of a request that is all there is.
pub(super) fn decompress_as(
    driver: &mut Qat,
    source: &[u8],
    room: usize,
    flags: u32,
) -> Result<CompressionResult, Stop> {
    let flags = flag::START | flag::END | flags;
    let (command, state) = (command::DECOMPRESS, None);
    let call = CompressionCall { command, state, depth: 0, source, room, flags };
    Ok(driver.compression(&call)?)
}

/// As [`compress`], of what must succeed with room to spare.
pub(super) fn packed(
    driver: &mut Qat,
    command: u8,
    source: &[u8],
) -> Result<CompressionResult, Stop> {
    let result = compress(driver, command, source, source.len() + source.len() / 8 + 512)?;
    succeeded(&result.response)?;
    Ok(result)
}

/// RFC 1950 §8.2.
pub(super) fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

/// What another inflater makes of a stream.
fn inflate(stream: &[u8], limit: usize) -> Result<Vec<u8>, Stop> {
    miniz_oxide::inflate::decompress_to_vec_with_limit(stream, limit)
        .map_err(|error| Stop::fail("a stream of RFC 1951", error.to_string()))
}

/// Data of several kinds.
fn samples() -> [Vec<u8>; 4] {
    [text(5000), pattern(3000, 0), vec![0x55; 9000], text(40_000)]
}

const COMMANDS: [u8; 2] = [command::STATIC, command::DYNAMIC];

fn inflates(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for piece in PIECES {
        driver.set_piece(piece.map(|len| len * 16));
        for command in COMMANDS {
            for source in samples() {
                let stream = packed(&mut driver, command, &source)?.data;
                expect_bytes("the inflated data", &inflate(&stream, source.len())?, &source)?;
            }
        }
    }
    Ok(())
}

fn counts(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for source in samples() {
        let result = packed(&mut driver, command::STATIC, &source)?;
        expect_eq("bytes consumed", &result.consumed, &len32(&source))?;
        let stream = result.data;
        // The driver took as many bytes as the response says are produced: all of a stream, no more.
        expect_bytes("the inflated data", &inflate(&stream, source.len())?, &source)?;
        let back = decompress(&mut driver, &[&stream[..], &[0xee; 40]].concat(), source.len() + 9)?;
        succeeded(&back.response)?;
        expect_eq("bytes consumed of a stream", &back.consumed, &len32(&stream))?;
        expect_bytes("the data", &back.data, &source)?;
    }
    Ok(())
}

fn checksums(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for source in samples() {
        for command in COMMANDS {
            let result = packed(&mut driver, command, &source)?;
            expect_hex("CRC-32", result.crc32, crc32(&source))?;
            expect_hex("Adler-32", result.adler32, adler32(&source))?;
            let back = decompress(&mut driver, &result.data, source.len())?;
            expect_hex("CRC-32, decompressing", back.crc32, crc32(&source))?;
            expect_hex("Adler-32, decompressing", back.adler32, adler32(&source))?;
        }
    }
    Ok(())
}

fn fixed_codes(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(20_000);
    let stream = packed(&mut driver, command::STATIC, &source)?.data;
    let kind = stream.first().map_or(0, |byte| byte >> 1 & 3);
    expect_eq("the type of the first block", &kind, &1)?;
    expect(stream.len() < source.len(), "fewer than 20000 bytes", || stream.len().to_string())
}

fn dynamic_codes(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(60_000);
    let fixed = packed(&mut driver, command::STATIC, &source)?.data.len();
    let dynamic = packed(&mut driver, command::DYNAMIC, &source)?.data.len();
    expect(dynamic < fixed, &format!("fewer than {fixed} bytes"), || dynamic.to_string())
}

fn verified(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(3000);
    for (flags, wanted) in [(flag::VERIFY, 0x40), (0, 0)] {
        let flags = flags | flag::START | flag::END | flag::FINAL_BLOCK;
        let (command, room) = (command::STATIC, 4000);
        let call = CompressionCall { command, state: None, depth: 1, source: &source, room, flags };
        let response = driver.compression(&call)?.response;
        succeeded(&response)?;
        expect_hex("the verified flag", response.flags() & 0x40, wanted)?;
    }
    Ok(())
}

fn final_block(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let parts = [text(3000), text(500), pattern(700, 1), text(100)];
    for command in COMMANDS {
        let mut stream = Vec::new();
        for (at, source) in parts.iter().enumerate() {
            let flags = if at == 3 { flag::FINAL_BLOCK } else { 0 };
            let (room, depth) = (5000, 0);
            let call = CompressionCall { command, state: None, depth, source, room, flags };
            let result = driver.compression(&call)?;
            succeeded(&result.response)?;
            stream.extend(result.data);
        }
        expect_bytes("all parts", &inflate(&stream, 10_000)?, &parts.concat())?;
    }
    Ok(())
}

fn overflow(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (command, source, room) in [
        (command::STATIC, text(60_000), 4000),
        (command::DYNAMIC, text(60_000), 4000),
        (command::STATIC, pattern(20_000, 0), 300),
    ] {
        let result = compress(&mut driver, command, &source, room)?;
        let bits = result.response.status();
        expect_hex("the status", bits & status::COMPRESSION, status::COMPRESSION)?;
        expect_eq("the error code", &result.response.error(), &-11)?;
        crate::log::refused(format!("{room} bytes of room, with error code -11"));
        let consumed = usize::try_from(result.consumed).unwrap_or(usize::MAX);
        let sane = result.data.len() <= room && consumed < source.len();
        expect(sane, "counts below the lengths", || format!("{consumed}, {}", result.data.len()))?;
        expect_hex("CRC-32", result.crc32, crc32(&source[..consumed]))?;
    }
    Ok(())
}

fn exact(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(10_000);
    for command in COMMANDS {
        let needed = packed(&mut driver, command, &source)?.data;
        let result = compress(&mut driver, command, &source, needed.len())?;
        // A device may want to look ahead; one that succeeds must have all of it.
        if result.response.error() == 0 {
            expect_bytes("the inflated data", &inflate(&result.data, source.len())?, &source)?;
        }
        let back = decompress(&mut driver, &needed, source.len())?;
        succeeded(&back.response)?;
        expect_bytes("the data", &back.data, &source)?;
        let end = back.response.status() & status::END_OF_LAST_BLOCK;
        expect_hex("the end of the last block", end, status::END_OF_LAST_BLOCK)?;
    }
    Ok(())
}

fn depths(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(30_000);
    for depth in 0..5 {
        let flags = flag::START | flag::END | flag::FINAL_BLOCK;
        let (command, room) = (command::DYNAMIC, 40_000);
        let call = CompressionCall { command, state: None, depth, source: &source, room, flags };
        let result = driver.compression(&call)?;
        succeeded(&result.response)?;
        let found = inflate(&result.data, source.len())?;
        expect_bytes(&format!("the inflated data at depth {depth}"), &found, &source)?;
    }
    Ok(())
}

fn both_ways(driver: &mut Qat, source: &[u8]) -> Outcome {
    for command in COMMANDS {
        let stream = packed(driver, command, source)?.data;
        let back = decompress(driver, &stream, source.len() + 1)?;
        succeeded(&back.response)?;
        expect_bytes("the data", &back.data, source)?;
    }
    Ok(())
}

fn large(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for piece in [None, Some(4096)] {
        driver.set_piece(piece);
        for len in [65_536, 1 << 20] {
            both_ways(&mut driver, &text(len))?;
        }
    }
    Ok(())
}

fn tiny(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for source in [&[][..], &[0], &[0xff], b"ab"] {
        both_ways(&mut driver, source)
            .map_err(|stop| stop.during(&format!("{} bytes", source.len())))?;
    }
    Ok(())
}
