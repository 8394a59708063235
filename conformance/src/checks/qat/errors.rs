//! What is refused, and how: the status bits and error codes of each service.

use understudy_client::platform::Platform;
use understudy_client::qat::content::Hash;
use understudy_client::qat::message::{
    Buffers, Compression, Symmetric, cipher, command, compression_flag, flag, hash, mode,
};
use understudy_client::qat::{
    CompressionCall, Content, PublicKey, Response, SymmetricCall, status,
};

use super::public_key::{fails, wide};
use super::{COMPRESSION, PUBLIC_KEY, Qat, SYMMETRIC, null, pattern, started, works};
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome};

crate::checks::group!("qat/errors":
    [1, "A symmetric command that does not exist is unsupported", "DPDK icp_qat_fw.h, QAT_COMN_RESP_UNSUPPORTED_REQUEST_BITPOS; Linux icp_qat_fw_la.h, icp_qat_fw_la_cmd_id", symmetric_command],
    [2, "A cipher or mode that does not exist is a failure", "Linux icp_qat_fw.h, QAT_COMN_RESP_CRYPTO_STATUS_BITPOS; icp_qat_hw.h, ICP_QAT_HW_CIPHER_DELIMITER", unknown_cipher],
    [3, "A hash or mode that does not exist is a failure", "Linux icp_qat_fw.h, QAT_COMN_RESP_CRYPTO_STATUS_BITPOS; icp_qat_hw.h, ICP_QAT_HW_AUTH_RESERVED_1", unknown_hash],
    [4, "Lengths and offsets beyond the buffers are a failure, and change nothing beside them", "Linux icp_qat_fw.h, QAT_COMN_RESP_CRYPTO_STATUS_BITPOS", impossible_lengths],
    [5, "CBC of no whole number of blocks is a failure", "Linux icp_qat_fw.h, QAT_COMN_RESP_CRYPTO_STATUS_BITPOS; SP 800-38A §5.2", no_whole_blocks],
    [6, "Keys and states beyond the content descriptor are a failure", "Linux icp_qat_fw_la.h, icp_qat_fw_cipher_auth_cd_ctrl_hdr (cipher_cfg_offset, hash_cfg_offset)", beyond_content],
    [7, "Symmetric data, descriptor, IV or digest out of reach is a failure of one request", "DPDK icp_qat_fw.h, ERR_CODE_ENDPOINT_ERROR", symmetric_reach],
    [8, "A list of more pieces than it can have is a failure", "Linux qat_bl.h, struct qat_alg_buf_list (num_bufs)", endless_list],
    [9, "A public-key function that does not exist is a failure", "Linux icp_qat_fw_pke.h, QAT_COMN_RESP_PKE_STATUS_BITPOS", unknown_function],
    [10, "A public-key request with other numbers of operands or results is a failure", "Linux icp_qat_fw_pke.h, icp_qat_fw_pke_request (input_param_count, output_param_count)", operand_counts],
    [11, "Public-key operands, results or tables out of reach are a failure of one request", "DPDK icp_qat_fw.h, ERR_CODE_ENDPOINT_ERROR", public_key_reach],
    [12, "A modulus of 0 is a failure", "qatlib icp_qat_fw_mmp.h, icp_qat_fw_maths_modexp_l512_input_s (modulus > 0)", no_modulus],
    [13, "A compression command that does not exist is a failure", "Linux icp_qat_fw_comp.h, icp_qat_fw_comp_cmd_id; icp_qat_fw.h, ERR_CODE_FATAL_ERROR", compression_command],
    [14, "Compression data out of reach is an endpoint error of one request", "DPDK icp_qat_fw.h, ERR_CODE_ENDPOINT_ERROR", compression_reach],
    [15, "A length beyond the source is a failure of compression", "Linux icp_qat_fw_comp.h, icp_qat_fw_comp_req_params (comp_len)", beyond_source],
    [16, "A service that does not exist is answered with a failure", "Linux icp_qat_fw.h, icp_qat_fw_comn_request_id", unknown_service],
    [17, "A request without the valid flag is not executed", "Linux icp_qat_fw.h, ICP_QAT_FW_COMN_VALID_FLAG_BITPOS", not_valid],
    [18, "Requests of noise are all answered, and the next request is served", "Linux adf_transport.c, adf_handle_response (one response for each request)", noise],
    [19, "State that is not there is a failure of decompression", "DPDK icp_qat_fw_comp.h, ICP_QAT_FW_COMP_STATEFUL_SESSION", no_state],
);

/// Nothing is mapped there.
const NOWHERE: u64 = 0x10;

/// A failure of this service, and the device goes on.
fn refused(driver: &mut Qat, pair: u16, response: &Response, bit: u8, what: &str) -> Outcome {
    super::well_formed(response).map_err(|stop| stop.during(what))?;
    expect_hex(&format!("{what}: the status"), response.status() & bit, bit)?;
    crate::log::refused(format!("{what}, with status {:#x}", response.status()));
    works(driver, pair).map_err(|stop| stop.during(&format!("after {what}")))
}

fn call(source: &[u8]) -> SymmetricCall<'_> {
    SymmetricCall { source, cipher: (0, 16), auth: (0, 16), ..SymmetricCall::default() }
}

/// The call must fail. In place, nothing may have changed.
fn symmetric(driver: &mut Qat, content: &Content, call: &SymmetricCall<'_>, what: &str) -> Outcome {
    let result = driver.symmetric(content, call)?;
    refused(driver, SYMMETRIC, &result.response, status::CRYPTO, what)?;
    if call.destination.is_none() {
        expect_bytes(&format!("{what}: the data"), &result.data, call.source)?;
    }
    Ok(())
}

fn cbc() -> Content {
    Content::default().cipher(cipher::AES_128, mode::CBC, false, &[0; 16])
}

fn symmetric_command(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(16, 0);
    // 4 to 12 are key derivation and others, which a part may have.
    for command in [13, 100, 255] {
        let call = SymmetricCall { command, ..call(&data) };
        let result = driver.symmetric(&cbc(), &call)?;
        let bits = status::CRYPTO | status::UNSUPPORTED;
        refused(&mut driver, SYMMETRIC, &result.response, bits, &format!("command {command}"))?;
        expect_bytes("the data", &result.data, &data)?;
    }
    Ok(())
}

fn unknown_cipher(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(16, 0);
    for (algorithm, mode) in
        [(10, 1), (15, 1), (cipher::AES_128, 7), (cipher::AES_128, 15), (cipher::DES, 6)]
    {
        let content = Content::default().cipher(algorithm, mode, false, &[0; 32]);
        let what = format!("cipher {algorithm} in mode {mode}");
        symmetric(&mut driver, &content, &call(&data), &what)?;
    }
    Ok(())
}

fn unknown_hash(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(16, 0);
    for (algorithm, mode) in [(15, 0), (15, 1), (hash::SHA_1, 3), (hash::SHA_256, 15)] {
        let content = Content::default().auth(algorithm, mode, 64, [&[0; 64], &[0; 64]], 16);
        let flags = flag::RETURN_DIGEST;
        let call =
            SymmetricCall { command: command::AUTH, flags, digest: &[0xa5; 16], ..call(&data) };
        symmetric(&mut driver, &content, &call, &format!("hash {algorithm} in mode {mode}"))?;
    }
    Ok(())
}

/// A chain that is in order.
fn chain() -> Content {
    cbc().hmac(Hash::Sha256, b"key", 32)
}

fn chained(source: &[u8]) -> SymmetricCall<'_> {
    SymmetricCall {
        command: command::CIPHER_HASH,
        flags: flag::RETURN_DIGEST,
        source,
        cipher: (0, 64),
        auth: (0, 64),
        digest: &[0xa5; 32],
        ..SymmetricCall::default()
    }
}

fn impossible_lengths(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(64, 0);
    let bad = [
        ((64, 16), (0, 64)),
        ((0, 64), (1, 64)),
        ((0, 80), (0, 64)),
        ((u32::MAX, 16), (0, 64)),
        ((0, 0xffff_fff0), (0, 64)),
        ((0, 16), (0, u32::MAX)),
        ((0, 16), (u32::MAX, u32::MAX)),
    ];
    for piece in [None, Some(16)] {
        driver.set_piece(piece);
        for (cipher, auth) in bad {
            let call = SymmetricCall { cipher, auth, ..chained(&data) };
            symmetric(&mut driver, &chain(), &call, &format!("cipher {cipher:?}, hash {auth:?}"))?;
        }
        let small = SymmetricCall { destination: Some(32), ..chained(&data) };
        symmetric(&mut driver, &chain(), &small, "a destination of half the length")?;
    }
    Ok(())
}

fn no_whole_blocks(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(64, 0);
    for len in [1, 15, 17, 63] {
        let call = SymmetricCall { cipher: (0, len), ..call(&data) };
        symmetric(&mut driver, &cbc(), &call, &format!("{len} bytes"))?;
    }
    Ok(())
}

fn beyond_content(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(64, 0);
    for (at, name) in [(2, "cipher"), (6, "hash"), (14, "second state")] {
        let mut content = chain();
        content.control[at] = 200;
        symmetric(
            &mut driver,
            &content,
            &chained(&data),
            &format!("{name} beyond the descriptor"),
        )?;
    }
    let mut cut = cbc();
    cut.bytes.truncate(16);
    symmetric(&mut driver, &cut, &call(&data), "a descriptor that ends within the key")
}

fn symmetric_reach(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let content = chain();
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    driver.platform.dma_write(memory.iova, &content.bytes)?;
    let place = memory.at(2048);
    let buffers = Buffers {
        opaque: 5,
        source: place,
        destination: place,
        source_len: 64,
        destination_len: 64,
        lists: false,
    };
    let good = Symmetric {
        command: command::CIPHER_HASH,
        flags: flag::IV_INLINE | flag::RETURN_DIGEST,
        content: memory.iova,
        content_len: content.bytes.len(),
        control: content.control,
        buffers,
        cipher: (0, 64),
        auth: (0, 64),
        digest: memory.at(3072),
        ..Symmetric::default()
    };
    let source = Buffers { source: NOWHERE, ..buffers };
    let destination = Buffers { destination: NOWHERE, ..buffers };
    let lists = Buffers { source: NOWHERE, destination: NOWHERE, lists: true, ..buffers };
    let mut iv = [0; 16];
    iv[0] = 0x10;
    for (request, what) in [
        (Symmetric { content: NOWHERE, ..good }, "the descriptor out of reach"),
        (Symmetric { buffers: source, ..good }, "the source out of reach"),
        (Symmetric { buffers: destination, ..good }, "the destination out of reach"),
        (Symmetric { buffers: lists, ..good }, "the lists out of reach"),
        (Symmetric { digest: NOWHERE, ..good }, "the digest out of reach"),
        (Symmetric { flags: flag::RETURN_DIGEST, iv, ..good }, "the IV out of reach"),
    ] {
        let response = driver.run(SYMMETRIC, &request.encode())?;
        refused(&mut driver, SYMMETRIC, &response, status::CRYPTO, what)?;
    }
    super::succeeded(&driver.run(SYMMETRIC, &good.encode())?)
}

fn endless_list(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let content = cbc();
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    driver.platform.dma_write(memory.iova, &content.bytes)?;
    for count in [0_u32, 0x7fff_ffff, u32::MAX] {
        let header = [[0; 4], [0; 4], count.to_le_bytes(), [0; 4]].concat();
        driver.platform.dma_write(memory.at(2048), &header)?;
        let (source, destination) = (memory.at(2048), memory.at(2048));
        let buffers = Buffers {
            opaque: 6,
            source,
            destination,
            source_len: 0,
            destination_len: 0,
            lists: true,
        };
        let request = Symmetric {
            flags: flag::IV_INLINE,
            content: memory.iova,
            content_len: content.bytes.len(),
            control: content.control,
            buffers,
            cipher: (0, 64),
            ..Symmetric::default()
        };
        let response = driver.run(SYMMETRIC, &request.encode())?;
        let what = format!("a list of {count} pieces");
        refused(&mut driver, SYMMETRIC, &response, status::CRYPTO, &what)?;
    }
    Ok(())
}

fn unknown_function(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for function in [0, 0x1234_5678, u32::MAX] {
        let operands = vec![vec![1; 64]; 3];
        fails(&mut driver, function, operands, vec![64], &format!("function {function:#x}"))?;
    }
    works(&mut driver, PUBLIC_KEY)
}

fn operand_counts(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (inputs, results) in
        [(2, vec![64]), (3, vec![]), (3, vec![64; 2]), (0, vec![64]), (8, vec![64])]
    {
        let what = format!("{inputs} operands, {} results", results.len());
        fails(&mut driver, 0x150c_2327, vec![vec![1; 64]; inputs], results, &what)?;
    }
    works(&mut driver, PUBLIC_KEY)
}

fn public_key_reach(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    let number = |value: u8| wide(&[value], 64);
    for (at, bytes) in [(0, number(7)), (64, number(5)), (128, number(11))] {
        driver.platform.dma_write(memory.at(at), &bytes)?;
    }
    let table = |driver: &mut Qat, at: usize, addresses: &[u64]| -> Outcome {
        let bytes: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
        Ok(driver.platform.dma_write(memory.at(at), &bytes)?)
    };
    let (base, exponent, modulus) = (memory.at(0), memory.at(64), memory.at(128));
    table(&mut driver, 512, &[base, exponent, modulus])?;
    table(&mut driver, 576, &[base, NOWHERE, modulus])?;
    table(&mut driver, 640, &[memory.at(2048)])?;
    table(&mut driver, 704, &[NOWHERE])?;
    let request = PublicKey { function: 0x150c_2327, operands: vec![vec![]; 3], results: vec![64] };
    for (operands, results, what) in [
        (NOWHERE, memory.at(640), "the table of operands out of reach"),
        (memory.at(512), NOWHERE, "the table of results out of reach"),
        (memory.at(576), memory.at(640), "an operand out of reach"),
        (memory.at(512), memory.at(704), "the result out of reach"),
    ] {
        let response = driver.run(PUBLIC_KEY, &request.encode(7, operands, results))?;
        refused(&mut driver, PUBLIC_KEY, &response, status::PUBLIC_KEY, what)?;
    }
    let good = driver.run(PUBLIC_KEY, &request.encode(8, memory.at(512), memory.at(640)))?;
    expect_hex("the status once all is in reach", good.status(), 0)
}

fn no_modulus(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let operands = vec![wide(&[7], 64), wide(&[5], 64), wide(&[0], 64)];
    fails(&mut driver, 0x150c_2327, operands, vec![64], "modulus 0")?;
    works(&mut driver, PUBLIC_KEY)
}

fn compression_command(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for command in [3, 100, 255] {
        let (source, flags) = (&b"abc"[..], compression_flag::FINAL_BLOCK);
        let call = CompressionCall { command, state: None, depth: 0, source, room: 100, flags };
        let response = driver.compression(&call)?.response;
        let what = format!("command {command}");
        refused(&mut driver, COMPRESSION, &response, status::COMPRESSION, &what)?;
        expect(response.error() != 0, "an error code", || "0".into())?;
    }
    Ok(())
}

/// Static compression of 64 bytes into 256, from and to these addresses.
fn compression(source: u64, destination: u64, len: u32) -> Vec<u8> {
    let buffers = Buffers {
        opaque: 9,
        source,
        destination,
        source_len: 64,
        destination_len: 256,
        lists: false,
    };
    let flags = compression_flag::FINAL_BLOCK;
    Compression { command: command::STATIC, state: None, depth: 0, buffers, len, room: 256, flags }
        .encode()
}

fn compression_reach(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    for (source, destination, what) in [
        (NOWHERE, memory.at(1024), "the source out of reach"),
        (memory.iova, NOWHERE, "the destination out of reach"),
    ] {
        let response = driver.run(COMPRESSION, &compression(source, destination, 64))?;
        refused(&mut driver, COMPRESSION, &response, status::COMPRESSION, what)?;
        expect_eq(&format!("{what}: the error code"), &response.error(), &-17)?;
    }
    super::succeeded(&driver.run(COMPRESSION, &compression(memory.iova, memory.at(1024), 64))?)
}

fn beyond_source(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    for len in [65, 0x7fff_ffff, u32::MAX] {
        let response = driver.run(COMPRESSION, &compression(memory.iova, memory.at(1024), len))?;
        let what = format!("{len} bytes of 64");
        refused(&mut driver, COMPRESSION, &response, status::COMPRESSION, &what)?;
    }
    Ok(())
}

fn unknown_service(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for service in [1, 2, 7, 100, 255] {
        let mut message = null(0x77, 128);
        message[2] = service;
        let response = driver.run(SYMMETRIC, &message)?;
        let failed =
            response.bytes[6] & (status::CRYPTO | status::PUBLIC_KEY | status::COMPRESSION);
        expect(failed != 0, &format!("a failure for service {service}"), || "none".into())?;
        crate::log::refused(format!("service {service}, with status {failed:#x}"));
        works(&mut driver, SYMMETRIC)?;
    }
    Ok(())
}

fn not_valid(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    let mut message = compression(memory.iova, memory.at(1024), 64);
    message[3] = 0;
    let response = driver.run(COMPRESSION, &message)?;
    let bits = response.status() & status::COMPRESSION;
    expect_hex("the status of a request that is not valid", bits, status::COMPRESSION)?;
    crate::log::refused(format!("a request that is not valid, with status {bits:#x}"));
    let mut found = [0xff; 256];
    driver.platform.dma_read(memory.at(1024), &mut found)?;
    expect_bytes("the destination", &found, &[0; 256])
}

fn noise(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let mut seed = u32::try_from(ctx.seed() & 0xffff_ffff).unwrap_or(0) ^ 6;
    for round in 0..150 {
        for (pair, len) in super::PAIRS {
            let mut message = Vec::new();
            while message.len() < len {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                message.extend(&seed.to_be_bytes()[..2]);
            }
            // Most of them valid, and of a service that there is.
            message[2] = [4, 3, 9, 4][usize::from(round % 4_u8)];
            message[3] |= 0x80;
            driver.submit(pair, &message)?;
        }
        for (pair, _) in super::PAIRS {
            driver.wait(pair)?;
        }
    }
    super::PAIRS.into_iter().try_for_each(|(pair, _)| works(&mut driver, pair))
}

fn no_state(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let state = driver.platform.dma_alloc(65_536, 4096)?;
    let call = CompressionCall {
        command: command::DECOMPRESS,
        state: Some(state.iova),
        depth: 0,
        source: &[3, 0],
        room: 100,
        flags: 0,
    };
    let response = driver.compression(&call)?.response;
    refused(&mut driver, COMPRESSION, &response, status::COMPRESSION, "a stream that was not begun")
}
