//! Cipher and hash in one request, in both orders, as the kernel's `authenc` and DPDK have them.

use understudy_client::qat::content::Hash;
use understudy_client::qat::message::{cipher as number, command, flag, mode};
use understudy_client::qat::{Content, SymmetricCall, status};
use understudy_oracle::{self as oracle, Direction};

use super::content::known;
use super::{PIECES, byte, pattern, started, succeeded};
use crate::verdict::{expect_bytes, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/chain":
    [1, "authenc(hmac(sha1),cbc(aes)) both ways, its digest in the buffer", "Linux qat_algs.c, qat_alg_aead_init_enc_session, qat_alg_aead_init_dec_session", |ctx| authenc(ctx, Hash::Sha1)],
    [2, "authenc(hmac(sha256),cbc(aes)) both ways, its digest in the buffer", "Linux qat_algs.c, qat_aeads (authenc(hmac(sha256),cbc(aes)))", |ctx| authenc(ctx, Hash::Sha256)],
    [3, "authenc(hmac(sha512),cbc(aes)) both ways, its digest in the buffer", "Linux qat_algs.c, qat_aeads (authenc(hmac(sha512),cbc(aes)))", |ctx| authenc(ctx, Hash::Sha512)],
    [4, "The other hashes in the same chain", "DPDK qat_sym_session.c, qat_sym_session_configure_auth", others],
    [5, "Hash, then cipher: the digest is of the plaintext", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_CMD_HASH_CIPHER", plaintext],
    [6, "Cipher, then hash, decrypting: the digest is of the plaintext", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_CMD_CIPHER_HASH", opened],
    [7, "A digest of fewer bytes than the hash's is its beginning", "Linux icp_qat_fw_la.h, icp_qat_fw_cipher_auth_cd_ctrl_hdr (inner_res_sz, final_sz)", truncated],
    [8, "What cipher and hash cover may overlap in any way", "Linux icp_qat_fw_la.h, icp_qat_fw_la_cipher_req_params, icp_qat_fw_la_auth_req_params", ranges],
);

const KEY: usize = 32;
const AAD: usize = 24;
const TEXT: usize = 160;

/// A message, sealed by our own hands: associated data, ciphertext, and the MAC of both.
struct Sealed {
    key: Vec<u8>,
    iv: Vec<u8>,
    mac_key: Vec<u8>,
    aad: Vec<u8>,
    plain: Vec<u8>,
    cipher: Vec<u8>,
}

fn cbc(key: &[u8], iv: &[u8], plain: &[u8]) -> Result<Vec<u8>, Stop> {
    let unfit = || Stop::skip("the check cannot compute what to expect");
    oracle::aes_cbc(Direction::Encrypt, key, iv, plain).ok_or_else(unfit)
}

fn hmac_of(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    oracle::hmac(known(hash), key, parts)
}

fn sealed(hash: Hash) -> Result<Sealed, Stop> {
    let (key, iv, plain) = (pattern(KEY, 1), pattern(16, 2), pattern(TEXT, 4));
    let cipher = cbc(&key, &iv, &plain)?;
    let mac_key = pattern(hash.digest_len(), 5);
    Ok(Sealed { key, iv, mac_key, aad: pattern(AAD, 3), plain, cipher })
}

fn authenc(ctx: &mut Context<'_>, hash: Hash) -> Outcome {
    let mut driver = started(ctx)?;
    let it = sealed(hash)?;
    let tag = hmac_of(hash, &it.mac_key, &[&it.aad, &it.cipher]);
    let open = [&it.aad[..], &it.plain, &vec![0; tag.len()]].concat();
    let closed = [&it.aad[..], &it.cipher, &tag].concat();
    for (piece, out_of_place) in PIECES.into_iter().zip([false, true, true]) {
        driver.set_piece(piece);
        let call = |command, digest, source| SymmetricCall {
            command,
            flags: digest | flag::DIGEST_IN_BUFFER,
            iv: &it.iv,
            source,
            destination: out_of_place.then_some(open.len()),
            cipher: (24, 160),
            auth: (0, 184),
            ..SymmetricCall::default()
        };
        let content = Content::default().cipher(number::AES_256, mode::CBC, false, &it.key);
        let content = content.hmac(hash, &it.mac_key, tag.len());
        let encryption = call(command::CIPHER_HASH, flag::RETURN_DIGEST, &open);
        let result = driver.symmetric(&content, &encryption)?;
        succeeded(&result.response)?;
        expect_bytes("the sealed message", &result.data, &closed)?;

        // For this direction the kernel puts the hash first in the descriptor.
        let content = Content::default().hmac(hash, &it.mac_key, tag.len());
        let content = content.cipher(number::AES_256, mode::CBC, true, &it.key);
        let decryption = call(command::HASH_CIPHER, flag::COMPARE_DIGEST, &closed);
        let result = driver.symmetric(&content, &decryption)?;
        succeeded(&result.response)?;
        expect_bytes(
            "the opened message",
            result.data.get(..184).unwrap_or_default(),
            &open[..184],
        )?;

        for at in [0, 30, 184 + tag.len() - 1] {
            let mut forged = closed.clone();
            forged[at] ^= 1;
            let forgery = SymmetricCall { source: &forged, ..decryption };
            let found = driver.symmetric(&content, &forgery)?.response.status();
            let what = format!("the status for a message that was changed at byte {at}");
            expect_hex(&what, found & status::CRYPTO, status::CRYPTO)?;
        }
    }
    Ok(())
}

fn others(ctx: &mut Context<'_>) -> Outcome {
    [Hash::Md5, Hash::Sha224, Hash::Sha384]
        .into_iter()
        .try_for_each(|hash| authenc(ctx, hash).map_err(|stop| stop.during(&format!("{hash:?}"))))
}

/// A chain with its digest beside the buffer: result and digest must be these.
fn chain(
    ctx: &Context<'_>,
    command: u8,
    decrypt: bool,
    input: &[u8],
    output: &[u8],
    tag: &[u8],
) -> Outcome {
    let it = sealed(Hash::Sha256)?;
    let mut driver = started(ctx)?;
    for piece in PIECES {
        driver.set_piece(piece);
        let content = Content::default().cipher(number::AES_256, mode::CBC, decrypt, &it.key);
        let content = content.hmac(Hash::Sha256, &it.mac_key, tag.len());
        let call = SymmetricCall {
            command,
            flags: flag::RETURN_DIGEST,
            iv: &it.iv,
            source: input,
            cipher: (0, 160),
            auth: (0, 160),
            digest: &vec![0; tag.len()],
            ..SymmetricCall::default()
        };
        let result = driver.symmetric(&content, &call)?;
        succeeded(&result.response)?;
        expect_bytes("the result", &result.data, output)?;
        expect_bytes("the digest", &result.digest, tag)?;
    }
    Ok(())
}

fn plaintext(ctx: &mut Context<'_>) -> Outcome {
    let it = sealed(Hash::Sha256)?;
    let tag = hmac_of(Hash::Sha256, &it.mac_key, &[&it.plain]);
    chain(ctx, command::HASH_CIPHER, false, &it.plain, &it.cipher, &tag)
}

fn opened(ctx: &mut Context<'_>) -> Outcome {
    let it = sealed(Hash::Sha256)?;
    let tag = hmac_of(Hash::Sha256, &it.mac_key, &[&it.plain]);
    chain(ctx, command::CIPHER_HASH, true, &it.cipher, &it.plain, &tag)
}

fn truncated(ctx: &mut Context<'_>) -> Outcome {
    let it = sealed(Hash::Sha256)?;
    let tag = hmac_of(Hash::Sha256, &it.mac_key, &[&it.cipher]);
    [4, 12, 16, 31].into_iter().try_for_each(|len| {
        let result = chain(ctx, command::CIPHER_HASH, false, &it.plain, &it.cipher, &tag[..len]);
        result.map_err(|stop| stop.during(&format!("{len} bytes")))
    })
}

fn ranges(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let it = sealed(Hash::Sha1)?;
    let content = Content::default().cipher(number::AES_256, mode::CBC, false, &it.key);
    let content = content.hmac(Hash::Sha1, &it.mac_key, 20);
    for ((start, len), (from, covered)) in [
        ((0, 64), (64, 64)),
        ((64, 64), (0, 64)),
        ((16, 96), (0, 160)),
        ((0, 160), (40, 70)),
        ((32, 64), (70, 90)),
        ((0, 160), (160, 0)),
    ] {
        let (first, end) = (usize::from(byte(start)), usize::from(byte(start + len)));
        let mut expected = it.plain.clone();
        let text = cbc(&it.key, &it.iv, &it.plain[first..end])?;
        expected[first..end].copy_from_slice(&text);
        let tag = hmac_of(Hash::Sha1, &it.mac_key, &[&expected[from..from + covered]]);
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        for piece in PIECES {
            driver.set_piece(piece);
            let call = SymmetricCall {
                command: command::CIPHER_HASH,
                flags: flag::RETURN_DIGEST,
                iv: &it.iv,
                source: &it.plain,
                cipher: (word(start), word(len)),
                auth: (word(from), word(covered)),
                digest: &[0; 20],
                ..SymmetricCall::default()
            };
            let result = driver.symmetric(&content, &call)?;
            let what = format!("cipher {start}+{len}, hash {from}+{covered}");
            let judged = succeeded(&result.response)
                .and_then(|()| expect_bytes("the result", &result.data, &expected))
                .and_then(|()| expect_bytes("the digest", &result.digest, &tag));
            judged.map_err(|stop| stop.during(&what))?;
        }
    }
    Ok(())
}
