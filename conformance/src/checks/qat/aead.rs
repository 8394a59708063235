//! GCM, GMAC and CCM, in the layouts that DPDK gives them.

use understudy_client::qat::message::{command, flag};
use understudy_client::qat::{Content, SymmetricCall, status};
use understudy_engines::vectors::{Algorithm, Case};
use understudy_engines::{aead, mac};

use super::content::{ccm, sample};
use super::{PIECES, Qat, len32, pattern, started, succeeded};
use crate::verdict::{expect_bytes, expect_hex};
use crate::{Check, Context, Outcome};

crate::checks::group!("qat/aead":
    [1, "AES-GCM: published vectors both ways", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_GCM_PROTO", |ctx| gcm_vectors(ctx, true)],
    [2, "AES-GCM: published forgeries are found out", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_GCM_PROTO, ICP_QAT_FW_LA_CMP_AUTH_RES", |ctx| gcm_vectors(ctx, false)],
    [3, "AES-GCM takes a first counter block that is ready made", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_GCM_IV_LEN_NOT_12_OCTETS", ready_made],
    [4, "AES-GMAC: published vectors", "DPDK qat_sym_session.c, RTE_CRYPTO_AUTH_AES_GMAC", gmac],
    [5, "AES-CCM: published vectors both ways", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_CCM_PROTO", |ctx| ccm_vectors(ctx, true)],
    [6, "AES-CCM: published forgeries are found out", "Linux icp_qat_fw_la.h, ICP_QAT_FW_LA_CCM_PROTO, ICP_QAT_FW_LA_CMP_AUTH_RES", |ctx| ccm_vectors(ctx, false)],
);

/// One message: all of it ciphered and hashed.
fn call<'a>(
    protocol: u16,
    (command, digest): (u8, u16),
    iv: &'a [u8],
    aad: &'a [u8],
    source: &'a [u8],
    tag: &'a [u8],
) -> SymmetricCall<'a> {
    let all = (0, len32(source));
    let flags = protocol | digest;
    SymmetricCall {
        command,
        flags,
        iv,
        source,
        cipher: all,
        auth: all,
        aad,
        digest: tag,
        ..SymmetricCall::default()
    }
}

/// Command and flag of GCM's directions.
const GCM_SEAL: (u8, u16) = (command::CIPHER_HASH, flag::RETURN_DIGEST);
const GCM_OPEN: (u8, u16) = (command::HASH_CIPHER, flag::COMPARE_DIGEST);
/// And of CCM's, whose MAC is over the plaintext.
const CCM_SEAL: (u8, u16) = (command::HASH_CIPHER, flag::RETURN_DIGEST);
const CCM_OPEN: (u8, u16) = (command::CIPHER_HASH, flag::COMPARE_DIGEST);

/// Result and digest must be these.
fn gives(
    driver: &mut Qat,
    content: &Content,
    call: &SymmetricCall<'_>,
    output: &[u8],
    tag: Option<&[u8]>,
) -> Outcome {
    let result = driver.symmetric(content, call)?;
    succeeded(&result.response)?;
    expect_bytes("the result", &result.data, output)?;
    tag.map_or(Ok(()), |tag| expect_bytes("the tag", &result.digest, tag))
}

fn is_forgery(driver: &mut Qat, content: &Content, call: &SymmetricCall<'_>) -> Outcome {
    let found = driver.symmetric(content, call)?.response.status();
    expect_hex("the status for a forgery", found & status::CRYPTO, status::CRYPTO)
}

fn gcm_vectors(ctx: &mut Context<'_>, valid: bool) -> Outcome {
    let mut driver = started(ctx)?;
    let usable = |case: &Case| case.valid == valid && case.iv.len() == 12 && case.aad.len() <= 240;
    let all = sample(Algorithm::Aead(aead::Algorithm::AesGcm), usable)?;
    for (case, piece) in all.iter().zip(PIECES.iter().cycle()) {
        driver.set_piece(*piece);
        let (content, aad) = Content::gcm(&case.key, &case.aad, case.tag.len());
        let protocol = flag::GCM | flag::IV_12_BYTES;
        let mut both = || {
            let open = call(protocol, GCM_OPEN, &case.iv, &aad, &case.output, &case.tag);
            if !valid {
                return is_forgery(&mut driver, &content, &open);
            }
            gives(&mut driver, &content, &open, &case.input, None)?;
            let room = vec![0; case.tag.len()];
            let seal = call(protocol, GCM_SEAL, &case.iv, &aad, &case.input, &room);
            gives(&mut driver, &content, &seal, &case.output, Some(&case.tag))
        };
        both().map_err(|stop| stop.during(&case.name))?;
    }
    Ok(())
}

fn ready_made(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let (key, data, iv) = (pattern(32, 1), pattern(100, 2), pattern(12, 3));
    let (content, aad) = Content::gcm(&key, b"associated", 16);
    let first = [iv.as_slice(), &[0, 0, 0, 1]].concat();
    let short = call(flag::GCM | flag::IV_12_BYTES, GCM_SEAL, &iv, &aad, &data, &[0; 16]);
    let short = driver.symmetric(&content, &short)?;
    succeeded(&short.response)?;
    let long = call(flag::GCM, GCM_SEAL, &first, &aad, &data, &[0; 16]);
    gives(&mut driver, &content, &long, &short.data, Some(&short.digest))
}

fn gmac(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let usable = |case: &Case| case.valid && case.iv.len() == 12;
    let all = sample(Algorithm::Mac(mac::Algorithm::GmacAes), usable)?;
    for (case, piece) in all.iter().zip(PIECES.iter().cycle()) {
        driver.set_piece(*piece);
        let (content, _) = Content::gcm(&case.key, &[], case.tag.len());
        let room = vec![0; case.tag.len()];
        let protocol = flag::GCM | flag::IV_12_BYTES;
        let mac = call(protocol, GCM_SEAL, &case.iv, &[], &case.input, &room);
        let mac = SymmetricCall { cipher: (0, 0), ..mac };
        gives(&mut driver, &content, &mac, &case.input, Some(&case.tag))
            .map_err(|stop| stop.during(&case.name))?;
    }
    Ok(())
}

fn ccm_vectors(ctx: &mut Context<'_>, valid: bool) -> Outcome {
    let mut driver = started(ctx)?;
    let usable = |case: &Case| {
        case.valid == valid
            && case.key.len() == 16
            && (7..=13).contains(&case.iv.len())
            && case.aad.len() <= 200
            && case.output.len() <= 200
            && [4, 6, 8, 10, 12, 14, 16].contains(&case.tag.len())
    };
    let all = sample(Algorithm::Aead(aead::Algorithm::AesCcm), usable)?;
    for case in &all {
        let (iv, aad, content) = ccm(case, case.output.len());
        let mut both = || {
            let open = call(flag::CCM, CCM_OPEN, &iv, &aad, &case.output, &case.tag);
            if !valid {
                return is_forgery(&mut driver, &content, &open);
            }
            gives(&mut driver, &content, &open, &case.input, None)?;
            let room = vec![0; case.tag.len()];
            let seal = call(flag::CCM, CCM_SEAL, &iv, &aad, &case.input, &room);
            gives(&mut driver, &content, &seal, &case.output, Some(&case.tag))
        };
        both().map_err(|stop| stop.during(&case.name))?;
    }
    Ok(())
}
