//! Inflate: published streams, bad ones, and those that come in parts.

use understudy_client::platform::Platform;
use understudy_client::qat::message::{command, compression_flag as flag};
use understudy_client::qat::{CompressionCall, CompressionResult, status};

use super::compression::{adler32, compress, decompress, decompress_as, packed, text};
use super::{PIECES, pattern, started, succeeded, well_formed};
use crate::bytes::crc32;
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/inflate":
    [1, "A published stream is inflated", "Linux crypto/testmgr.h, deflate_decomp_tv_template; RFC 1951", published],
    [2, "Stored, fixed and dynamic blocks are inflated, of whatever compressor", "RFC 1951 §3.2.4 to §3.2.7", of_others],
    [3, "The end of the last block is told", "Linux icp_qat_fw.h, QAT_COMN_RESP_CMP_END_OF_LAST_BLK_BITPOS", end_is_told],
    [4, "Output that does not fit is an overflow", "Linux icp_qat_fw.h, ERR_CODE_OVERFLOW_ERROR", overflow],
    [5, "A block of type 3 is an invalid block type", "Linux icp_qat_fw.h, ERR_CODE_INVALID_BLOCK_TYPE", |ctx| bad(ctx, &["07"], &[-1])],
    [6, "A stored block whose lengths do not match is told", "Linux icp_qat_fw.h, ERR_CODE_NO_MATCH_ONES_COMP", |ctx| bad(ctx, &["0000000000"], &[-2])],
    [7, "Too many codes are told", "Linux icp_qat_fw.h, ERR_CODE_TOO_MANY_LEN_OR_DIS", |ctx| bad(ctx, &["fc0000"], &[-3])],
    [8, "An incomplete set of code lengths is told", "Linux icp_qat_fw.h, ERR_CODE_INCOMPLETE_LEN", |ctx| bad(ctx, &["0400feff"], &[-4])],
    [9, "A repeat without a length before it, or beyond the end, is told", "Linux icp_qat_fw.h, ERR_CODE_RPT_LEN_NO_FIRST_LEN, ERR_CODE_RPT_GT_SPEC_LEN", |ctx| bad(ctx, &["0400244900", "040024e9ffff"], &[-5, -6])],
    [10, "Bad literal and length codes are told", "Linux icp_qat_fw.h, ERR_CODE_INV_LIT_LEN_CODE_LEN", |ctx| bad(ctx, &["040024e9ff6d", "048049922449922471ffff931100"], &[-7])],
    [11, "Bad distance codes are told", "Linux icp_qat_fw.h, ERR_CODE_INV_DIS_CODE_LEN", |ctx| bad(ctx, &["04804992244992240fb4ffffc384"], &[-8])],
    [12, "A code that stands for nothing is told", "Linux icp_qat_fw.h, ERR_CODE_INV_LIT_LEN_DIS_IN_BLK", |ctx| bad(ctx, &["04c0810800000000207feb0b0000", "027effff"], &[-9])],
    [13, "A distance before the beginning is told", "Linux icp_qat_fw.h, ERR_CODE_DIS_TOO_FAR_BACK", |ctx| bad(ctx, &["0cc081000000000090ff6b04"], &[-10])],
    [14, "A stream that is cut short is incomplete, and what is there is inflated", "DPDK icp_qat_fw.h, ERR_CODE_HW_INCOMPLETE_FILE; qatlib cpa_dc.h, CPA_DC_INCOMPLETE_FILE_ERR", cut_short],
    [15, "With state, a stream goes on in the next request", "DPDK icp_qat_fw_comp.h, ICP_QAT_FW_COMP_STATEFUL_SESSION", stateful],
    [16, "Compressed data that was changed never comes back as the original", "Linux icp_qat_fw_comp.h, icp_qat_fw_resp_comp_pars (curr_crc32)", changed],
    [17, "Input that need not end succeeds, also if its output fits exactly", "DPDK icp_qat_fw_comp.h, ICP_QAT_FW_COMP_NOT_BFINAL; icp_qat_fw_comp_req_params (out_buffer_sz)", goes_on],
    [18, "With state, checksums are those of all of the stream", "DPDK qat_comp.c, qat_comp_process_response (output_chksum); icp_qat_fw_comp.h, icp_qat_fw_resp_comp_pars", checksums_go_on],
);

fn published(ctx: &mut Context<'_>) -> Outcome {
    let stream =
        hex::decode("f3cacfcc53282d56c8cb2f5748cc4b5128ce482c4a5528c9485528ce4f2b290771bc082b0100");
    let stream = stream.map_err(|error| Stop::skip(error.to_string()))?;
    let plain = "Join us now and share the software ".repeat(2);
    let mut driver = started(ctx)?;
    for piece in PIECES {
        driver.set_piece(piece);
        let found = decompress(&mut driver, &stream, 100)?;
        succeeded(&found.response)?;
        expect_bytes("the data", &found.data, plain.as_bytes())?;
    }
    Ok(())
}

fn of_others(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = [text(9000), pattern(2000, 3), vec![7; 3000]].concat();
    for level in [0, 1, 6, 9] {
        let stream = miniz_oxide::deflate::compress_to_vec(&source, level);
        let found = decompress(&mut driver, &stream, source.len())?;
        succeeded(&found.response)?;
        expect_bytes(&format!("the data, of level {level}"), &found.data, &source)?;
        expect_hex("CRC-32", found.crc32, crc32(&source))?;
        expect_hex("Adler-32", found.adler32, adler32(&source))?;
    }
    // One stored block, by hand.
    let found = decompress(&mut driver, &[1, 3, 0, 0xfc, 0xff, b'a', b'b', b'c'], 10)?;
    succeeded(&found.response)?;
    expect_bytes("a stored block", &found.data, b"abc")
}

fn end(found: &CompressionResult) -> u8 {
    found.response.status() & status::END_OF_LAST_BLOCK
}

fn end_is_told(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(700);
    let stream = packed(&mut driver, command::STATIC, &source)?.data;
    let found = decompress(&mut driver, &stream, 800)?;
    expect_hex("the end of the last block", end(&found), status::END_OF_LAST_BLOCK)?;
    // A block that is not the last: stored, three bytes.
    let found = decompress_as(&mut driver, &[0, 3, 0, 0xfc, 0xff, b'a', b'b', b'c'], 10, 0)?;
    succeeded(&found.response)?;
    expect_hex("the end of the last block, of another", end(&found), 0)?;
    let compressed = compress(&mut driver, command::STATIC, &source, 2000)?;
    expect_hex("the same bit when compressing", end(&compressed), 0)
}

fn overflow(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(10_000);
    let stream = packed(&mut driver, command::DYNAMIC, &source)?.data;
    for room in [1, 9_999] {
        let found = decompress(&mut driver, &stream, room)?;
        failed(&found, &[-11])?;
        expect(found.data.len() <= room, "no more than fits", || found.data.len().to_string())?;
        let wanted = source.get(..found.data.len()).unwrap_or_default();
        expect_bytes("what did fit", &found.data, wanted)?;
    }
    Ok(())
}

/// Fails the check unless the response has the status of a failure and one of these codes.
fn failed(found: &CompressionResult, codes: &[i8]) -> Outcome {
    well_formed(&found.response)?;
    let bits = found.response.status();
    expect_hex("the status", bits & status::COMPRESSION, status::COMPRESSION)?;
    let code = found.response.error();
    crate::log::refused(format!("a stream, with error code {code}"));
    expect(codes.contains(&code), &format!("one of the error codes {codes:?}"), || code.to_string())
}

/// From zlib's `test/infcover.c`.
fn bad(ctx: &mut Context<'_>, streams: &[&str], codes: &[i8]) -> Outcome {
    let mut driver = started(ctx)?;
    for text in streams {
        let stream = hex::decode(text).map_err(|error| Stop::skip(error.to_string()))?;
        let found = decompress(&mut driver, &stream, 1000)?;
        failed(&found, codes).map_err(|stop| stop.during(&format!("stream {text}")))?;
    }
    // And the next stream is inflated.
    let stream = packed(&mut driver, command::STATIC, b"abc")?.data;
    succeeded(&decompress(&mut driver, &stream, 10)?.response)
}

fn cut_short(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(5000);
    let stream = packed(&mut driver, command::DYNAMIC, &source)?.data;
    for len in [stream.len() / 2, stream.len() - 1] {
        let found = decompress(&mut driver, &stream[..len], 6000)?;
        failed(&found, &[-15])?;
        expect_hex("the end of the last block", end(&found), 0)?;
        let wanted = source.get(..found.data.len()).unwrap_or_default();
        expect_bytes("what is there", &found.data, wanted)?;
    }
    // And the next stream is inflated.
    succeeded(&decompress(&mut driver, &stream, 6000)?.response)
}

fn goes_on(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(240);
    let (command, state, room) = (command::DYNAMIC, None, 400);
    let call = CompressionCall { command, state, depth: 0, source: &source, room, flags: 0 };
    let packed = driver.compression(&call)?;
    succeeded(&packed.response)?;
    for room in [300, 241, 240] {
        let found = decompress_as(&mut driver, &packed.data, room, 0)?;
        succeeded(&found.response).map_err(|stop| stop.during(&format!("{room} bytes of room")))?;
        expect_hex("the end of the last block", end(&found), 0)?;
        expect_bytes("the data", &found.data, &source)?;
    }
    failed(&decompress_as(&mut driver, &packed.data, 239, 0)?, &[-11])
}

fn checksums_go_on(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(5000);
    let stream = packed(&mut driver, command::DYNAMIC, &source)?.data;
    let (first, second) = stream.split_at(stream.len() / 2);
    let memory = driver.platform.dma_alloc(65_536, 4096)?;
    let mut data = Vec::new();
    for (source, flags) in [(first, flag::START), (second, flag::END)] {
        let (command, state) = (command::DECOMPRESS, Some(memory.iova));
        let call = CompressionCall { command, state, depth: 0, source, room: 6000, flags };
        let found = driver.compression(&call)?;
        if flags == flag::START && found.response.status() & status::UNSUPPORTED != 0 {
            return Err(Stop::skip("the part has no state"));
        }
        succeeded(&found.response)?;
        data.extend_from_slice(&found.data);
        expect_hex("CRC-32 of all so far", found.crc32, crc32(&data))?;
        expect_hex("Adler-32 of all so far", found.adler32, adler32(&data))?;
    }
    expect_bytes("the data", &data, &source)
}

fn stateful(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = [text(20_000), pattern(2000, 0)].concat();
    let stream = packed(&mut driver, command::DYNAMIC, &source)?.data;
    let state = driver.platform.dma_alloc(65_536, 4096)?;
    let (mut at, mut found) = (0, Vec::new());
    for round in 0.. {
        let part = stream.get(at..stream.len().min(at + 700)).unwrap_or_default();
        let call = CompressionCall {
            command: command::DECOMPRESS,
            state: Some(state.iova),
            depth: 0,
            source: part,
            room: 3000,
            flags: if round == 0 { flag::START } else { 0 },
        };
        let result = driver.compression(&call)?;
        if round == 0 && result.response.status() & status::UNSUPPORTED != 0 {
            return Err(Stop::skip("the part has no state"));
        }
        at += usize::try_from(result.consumed).unwrap_or(usize::MAX);
        found.extend_from_slice(&result.data);
        let code = result.response.error();
        expect(matches!(code, 0 | -11), "error code 0 or -11", || code.to_string())?;
        if end(&result) != 0 {
            break;
        }
        expect(round < 200, "an end of the stream", || "none".into())?;
    }
    expect_eq("bytes consumed in all", &at, &stream.len())?;
    expect_bytes("the data", &found, &source)
}

fn changed(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let source = text(2000);
    let stream = packed(&mut driver, command::DYNAMIC, &source)?.data;
    for at in (0..stream.len()).step_by(stream.len().div_ceil(40)) {
        let mut other = stream.clone();
        other[at] ^= 0x10;
        let found = decompress(&mut driver, &other, 3000)?;
        well_formed(&found.response)?;
        if found.response.status() & status::COMPRESSION == 0 {
            expect_hex("CRC-32 of what came out", found.crc32, crc32(&found.data))?;
        }
    }
    Ok(())
}
