//! Symmetric requests: buffers, placement, IVs, sizes, keys.

use understudy_client::platform::Platform;
use understudy_client::qat::content::{Hash, aes};
use understudy_client::qat::message::{Buffers, Symmetric, cipher, command, flag, hash, mode};
use understudy_client::qat::{Content, SymmetricCall};
use understudy_oracle::{self as oracle, Direction};

use super::{PIECES, Qat, SYMMETRIC, byte, len32, pattern, started, succeeded};
use crate::verdict::{expect, expect_bytes, expect_eq};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/symmetric":
    [1, "In place and out of place give the same, flat and in pieces of any size", "Linux icp_qat_fw.h, QAT_COMN_PTR_TYPE_SGL; qat_bl.c, qat_alg_buf_list", placement],
    [2, "Only what the cipher covers is changed; what comes before goes along", "Linux icp_qat_fw_la.h, icp_qat_fw_la_cipher_req_params (cipher_offset, cipher_length)", covered],
    [3, "The IV may be behind a pointer", "Linux icp_qat_fw_la.h, ICP_QAT_FW_CIPH_IV_64BIT_PTR", iv_pointer],
    [4, "Counter mode carries into all 16 bytes of the counter block", "Linux qat_algs.c, ctr(aes); SP 800-38A §B.1", counter_carry],
    [5, "Data of any size, in CTR and CBC, up to 1 MiB", "Linux icp_qat_fw.h, icp_qat_fw_comn_req_mid (src_length)", any_size],
    [6, "A list has pieces of any length, and may have empty ones", "Linux qat_bl.h, struct qat_alg_buf (len)", ragged],
    [7, "Source and destination may be cut into pieces in different ways", "Linux qat_bl.c, qat_bl_sgl_to_bufl (sgl, sglout)", cut_differently],
    [8, "A request takes its key from its own descriptor, every time", "Linux icp_qat_fw.h, icp_qat_fw_comn_req_hdr_cd_pars (content_desc_addr)", own_keys],
    [9, "The null cipher and the null hash leave data alone", "Linux icp_qat_hw.h, ICP_QAT_HW_CIPHER_ALGO_NULL, ICP_QAT_HW_AUTH_ALGO_NULL", nulls],
    [10, "A response echoes service and command", "Linux icp_qat_fw.h, icp_qat_fw_comn_resp_hdr (response_type, cmd_id)", echoes],
    [11, "Sixty requests in flight all come back right, in order", "DPDK qat_qp.c, qat_enqueue_op_burst", in_flight],
    [12, "Descriptors may have cipher and hash in either order", "Linux qat_algs.c, qat_enc_cd, qat_dec_cd", descriptor_order],
    [13, "A digest may be written behind the data it covers, or elsewhere", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_DIGEST_IN_BUFFER", digest_places],
    [14, "All three AES key lengths, both ways", "Linux icp_qat_hw.h, ICP_QAT_HW_CIPHER_ALGO_AES128, _AES192, _AES256", key_lengths],
);

/// A mode of AES.
#[derive(Clone, Copy)]
enum Cipher {
    Ecb,
    Cbc,
    Ctr,
}

/// What the standard's cipher makes of data.
fn expected(algorithm: Cipher, key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Stop> {
    let made = match algorithm {
        Cipher::Ecb => data.chunks_exact(16).try_fold(Vec::new(), |mut made, block| {
            made.extend(oracle::aes_block(key, block.try_into().ok()?)?);
            Some(made)
        }),
        Cipher::Cbc => oracle::aes_cbc(Direction::Encrypt, key, iv, data),
        Cipher::Ctr => oracle::aes_ctr(key, iv, data),
    };
    made.ok_or_else(|| Stop::skip("the check cannot compute what to expect"))
}

fn ctr(key: &[u8]) -> Content {
    Content::default().cipher(aes(key.len()), mode::CTR, false, key)
}

fn call<'a>(iv: &'a [u8], source: &'a [u8]) -> SymmetricCall<'a> {
    let cipher = (0, len32(source));
    SymmetricCall { command: command::CIPHER, iv, source, cipher, ..SymmetricCall::default() }
}

/// The whole result must be this.
fn gives(driver: &mut Qat, content: &Content, call: &SymmetricCall<'_>, wanted: &[u8]) -> Outcome {
    let result = driver.symmetric(content, call)?;
    succeeded(&result.response)?;
    expect_bytes("the result", &result.data, wanted)
}

fn placement(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv, data) = (pattern(16, 1), pattern(16, 2), pattern(3000, 3));
    let wanted = expected(Cipher::Ctr, &key, &iv, &data)?;
    for piece in [None, Some(1), Some(15), Some(16), Some(17), Some(1000), Some(4096)] {
        driver.set_piece(piece);
        let len = if piece == Some(1) { 200 } else { data.len() };
        for destination in [None, Some(len)] {
            let call = SymmetricCall { destination, ..call(&iv, &data[..len]) };
            let what = format!("pieces of {piece:?}, destination {destination:?}");
            gives(&mut driver, &ctr(&key), &call, &wanted[..len])
                .map_err(|stop| stop.during(&what))?;
        }
    }
    Ok(())
}

fn covered(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv, data) = (pattern(16, 1), [9; 16], pattern(100, 2));
    let mut wanted = data.clone();
    wanted[17..67].copy_from_slice(&expected(Cipher::Ctr, &key, &iv, &data[17..67])?);
    for piece in PIECES {
        driver.set_piece(piece);
        let in_place = SymmetricCall { cipher: (17, 50), ..call(&iv, &data) };
        gives(&mut driver, &ctr(&key), &in_place, &wanted)?;
        let moved = SymmetricCall { destination: Some(100), ..in_place };
        let result = driver.symmetric(&ctr(&key), &moved)?;
        succeeded(&result.response)?;
        let found = result.data.get(17..67).unwrap_or_default();
        expect_bytes("what the cipher covers, out of place", found, &wanted[17..67])?;
    }
    Ok(())
}

fn iv_pointer(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv, data) = (pattern(16, 1), pattern(16, 2), pattern(96, 3));
    let wanted = expected(Cipher::Cbc, &key, &iv, &data)?;
    let content = Content::default().cipher(cipher::AES_128, mode::CBC, false, &key);
    let memory = driver.platform.dma_alloc(4096, 4096)?;
    for (at, bytes) in [(0, &content.bytes), (1024, &iv), (2048, &data)] {
        driver.platform.dma_write(memory.at(at), bytes)?;
    }
    let mut pointer = [0; 16];
    pointer[..8].copy_from_slice(&memory.at(1024).to_le_bytes());
    let place = memory.at(2048);
    let buffers = Buffers {
        opaque: 1,
        source: place,
        destination: place,
        source_len: 96,
        destination_len: 96,
        lists: false,
    };
    let request = Symmetric {
        command: command::CIPHER,
        content: memory.iova,
        content_len: content.bytes.len(),
        control: content.control,
        buffers,
        cipher: (0, 96),
        iv: pointer,
        ..Symmetric::default()
    };
    succeeded(&driver.run(SYMMETRIC, &request.encode())?)?;
    let mut found = [0; 96];
    driver.platform.dma_read(place, &mut found)?;
    expect_bytes("the ciphertext", &found, &wanted)
}

fn counter_carry(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, data) = (pattern(16, 1), pattern(80, 3));
    for from in [12, 8, 0] {
        let mut iv = pattern(16, 2);
        iv[from..].fill(0xff);
        let wanted = expected(Cipher::Ctr, &key, &iv, &data)?;
        gives(&mut driver, &ctr(&key), &call(&iv, &data), &wanted)
            .map_err(|stop| stop.during(&format!("bytes from {from} full")))?;
    }
    Ok(())
}

fn any_size(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv, data) = (pattern(32, 1), pattern(16, 2), pattern(1 << 20, 3));
    let cbc = Content::default().cipher(cipher::AES_256, mode::CBC, false, &key);
    for len in [1, 2, 15, 16, 17, 63, 64, 65, 255, 4095, 4096, 65_536, 65_537, 1 << 20] {
        let what = |stop: Stop| stop.during(&format!("{len} bytes"));
        let wanted = expected(Cipher::Ctr, &key, &iv, &data[..len])?;
        gives(&mut driver, &ctr(&key), &call(&iv, &data[..len]), &wanted).map_err(what)?;
        if len % 16 == 0 {
            let wanted = expected(Cipher::Cbc, &key, &iv, &data[..len])?;
            gives(&mut driver, &cbc, &call(&iv, &data[..len]), &wanted).map_err(what)?;
        }
    }
    Ok(())
}

/// A list of pieces at these places: offset in memory, and length.
fn list(driver: &mut Qat, at: u64, memory: u64, pieces: &[(u64, u32)]) -> Outcome {
    let count = u32::try_from(pieces.len()).unwrap_or(0).to_le_bytes();
    let mut bytes = [[0; 4], [0; 4], count, count].concat();
    for (offset, len) in pieces {
        bytes.extend(len.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((memory + offset).to_le_bytes());
    }
    Ok(driver.platform.dma_write(at, &bytes)?)
}

/// CTR over lists of these pieces. The whole memory of the destination must be as expected.
fn over_lists(ctx: &Context<'_>, from: &[(u64, u32)], to: Option<&[(u64, u32)]>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv) = (pattern(16, 1), pattern(16, 2));
    let content = ctr(&key);
    let source = driver.platform.dma_alloc(8192, 4096)?;
    let target = driver.platform.dma_alloc(8192, 4096)?;
    let other = driver.platform.dma_alloc(4096, 4096)?;
    driver.platform.dma_write(other.iova, &content.bytes)?;
    let (mut before, after) = (pattern(8192, 5), vec![0xa5; 8192]);
    driver.platform.dma_write(source.iova, &before)?;
    driver.platform.dma_write(target.iova, &after)?;
    list(&mut driver, other.at(1024), source.iova, from)?;
    list(&mut driver, other.at(2048), target.iova, to.unwrap_or_default())?;
    let range = |&(offset, len): &(u64, u32)| {
        let start = usize::try_from(offset).unwrap_or(0);
        start..start + usize::try_from(len).unwrap_or(0)
    };
    let data: Vec<u8> = from.iter().flat_map(|piece| before[range(piece)].to_vec()).collect();
    let wanted = expected(Cipher::Ctr, &key, &iv, &data)?;
    let lists = [other.at(1024), if to.is_some() { other.at(2048) } else { other.at(1024) }];
    let [source_list, target_list] = lists;
    let buffers = Buffers {
        opaque: 4,
        source: source_list,
        destination: target_list,
        source_len: 0,
        destination_len: 0,
        lists: true,
    };
    let mut first = [0; 16];
    first.copy_from_slice(&iv);
    let request = Symmetric {
        command: command::CIPHER,
        flags: flag::IV_INLINE,
        content: other.iova,
        content_len: content.bytes.len(),
        control: content.control,
        buffers,
        cipher: (0, len32(&data)),
        iv: first,
        ..Symmetric::default()
    };
    succeeded(&driver.run(SYMMETRIC, &request.encode())?)?;
    let (place, mut image) =
        if to.is_some() { (target, after) } else { (source, std::mem::take(&mut before)) };
    let mut rest = wanted.as_slice();
    for piece in to.unwrap_or(from) {
        let range = range(piece);
        let (head, tail) = rest.split_at(range.len().min(rest.len()));
        image[range].iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        rest = tail;
    }
    let mut found = vec![0; 8192];
    driver.platform.dma_read(place.iova, &mut found)?;
    expect_bytes("all memory of the destination", &found, &image)
}

fn ragged(ctx: &mut Context<'_>) -> Outcome {
    // Backwards in memory, some of them empty.
    let pieces = [(4000, 33), (0, 0), (2000, 1), (1000, 511), (5000, 0), (100, 16), (6000, 7)];
    over_lists(ctx, &pieces, None)
}

fn cut_differently(ctx: &mut Context<'_>) -> Outcome {
    let from = [(4000, 33), (2000, 1), (1000, 511), (100, 16)];
    over_lists(ctx, &from, Some(&[(7000, 500), (10, 61)]))?;
    over_lists(ctx, &from, Some(&[(64, 7), (128, 7), (192, 7), (256, 540)]))
}

fn own_keys(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = [0; 16];
    for round in 0..60 {
        let mut key = vec![0; 16];
        key[15] = round % 30;
        let content = Content::default().cipher(cipher::AES_128, mode::ECB, false, &key);
        let wanted = expected(Cipher::Ecb, &key, &[], &data)?;
        gives(&mut driver, &content, &call(&[], &data), &wanted)?;
    }
    Ok(())
}

fn nulls(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(64, 0);
    let content = Content::default().cipher(cipher::NULL, mode::ECB, false, &[]);
    let moved = SymmetricCall { destination: Some(64), ..call(&[], &data) };
    gives(&mut driver, &content, &moved, &data)?;
    let content = content.auth(hash::NULL, 1, 0, [&[0; 8], &[]], 8);
    let chain = SymmetricCall {
        command: command::CIPHER_HASH,
        flags: flag::RETURN_DIGEST,
        auth: (0, 64),
        digest: &[0xff; 8],
        ..call(&[], &data)
    };
    gives(&mut driver, &content, &chain, &data)
}

fn echoes(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, data) = (pattern(16, 1), pattern(32, 2));
    let content = ctr(&key).auth(hash::NULL, 1, 0, [&[0; 8], &[]], 8);
    for command in [command::CIPHER, command::AUTH, command::CIPHER_HASH, command::HASH_CIPHER] {
        let call = SymmetricCall { command, auth: (0, 32), ..call(&[1; 16], &data) };
        let response = driver.symmetric(&content, &call)?.response;
        succeeded(&response)?;
        expect_eq("the type of the response", &response.service(), &4)?;
        expect_eq("the command in the response", &response.bytes[7], &command)?;
    }
    Ok(())
}

fn in_flight(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv) = (pattern(16, 1), [3; 16]);
    let content = ctr(&key);
    let memory = driver.platform.dma_alloc(64 * 1024, 4096)?;
    driver.platform.dma_write(memory.iova, &content.bytes)?;
    let place = |at: u64| memory.iova + 1024 + at * 1000;
    for at in 0..60 {
        driver.platform.dma_write(place(at), &pattern(900, byte(at.to_le_bytes()[0].into())))?;
        let (source, destination) = (place(at), place(at));
        let buffers = Buffers {
            opaque: at,
            source,
            destination,
            source_len: 900,
            destination_len: 900,
            lists: false,
        };
        let request = Symmetric {
            command: command::CIPHER,
            flags: flag::IV_INLINE,
            content: memory.iova,
            content_len: content.bytes.len(),
            control: content.control,
            buffers,
            cipher: (0, 900),
            iv,
            ..Symmetric::default()
        };
        driver.submit(SYMMETRIC, &request.encode())?;
    }
    for at in 0..60 {
        let response = driver.wait(SYMMETRIC)?;
        succeeded(&response)?;
        expect_eq("the next opaque value", &response.opaque(), &at)?;
        let mut found = vec![0; 900];
        driver.platform.dma_read(place(at), &mut found)?;
        let data = pattern(900, at.to_le_bytes()[0]);
        expect_bytes("the result", &found, &expected(Cipher::Ctr, &key, &iv, &data)?)?;
    }
    Ok(())
}

fn descriptor_order(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, iv, data) = (pattern(16, 1), pattern(16, 2), pattern(64, 3));
    let wanted = expected(Cipher::Cbc, &key, &iv, &data)?;
    let cipher = |content: Content| content.cipher(cipher::AES_128, mode::CBC, false, &key);
    let hash = |content: Content| content.hmac(Hash::Sha256, b"secret", 32);
    let mut digests = Vec::new();
    for content in [hash(cipher(Content::default())), cipher(hash(Content::default()))] {
        let call = SymmetricCall {
            command: command::CIPHER_HASH,
            flags: flag::RETURN_DIGEST,
            auth: (0, 64),
            digest: &[0; 32],
            ..call(&iv, &data)
        };
        let result = driver.symmetric(&content, &call)?;
        succeeded(&result.response)?;
        expect_bytes("the ciphertext", &result.data, &wanted)?;
        digests.push(result.digest);
    }
    expect(digests[0] != [0; 32], "a digest", || "none".into())?;
    expect_bytes("the digest of the other order", &digests[1], &digests[0])
}

fn digest_places(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = pattern(96, 3);
    let content = Content::default().plain_hash(Hash::Sha256, 32);
    for piece in PIECES {
        driver.set_piece(piece);
        let beside = super::algorithms::authentication(flag::RETURN_DIGEST, &data[..64], &[0; 32]);
        let result = driver.symmetric(&content, &beside)?;
        succeeded(&result.response)?;
        let wanted = [&data[..64], &result.digest].concat();
        let behind = SymmetricCall {
            flags: flag::RETURN_DIGEST | flag::DIGEST_IN_BUFFER,
            source: &data,
            digest: &[],
            ..beside
        };
        gives(&mut driver, &content, &behind, &wanted)?;
    }
    Ok(())
}

fn key_lengths(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (iv, data) = (pattern(16, 2), pattern(64, 3));
    for len in [16, 24, 32] {
        let key = pattern(len, 1);
        let algorithm = aes(len);
        let wanted = expected(Cipher::Cbc, &key, &iv, &data)?;
        let encrypt = Content::default().cipher(algorithm, mode::CBC, false, &key);
        gives(&mut driver, &encrypt, &call(&iv, &data), &wanted)?;
        let decrypt = Content::default().cipher(algorithm, mode::CBC, true, &key);
        gives(&mut driver, &decrypt, &call(&iv, &wanted), &data)?;
    }
    Ok(())
}
