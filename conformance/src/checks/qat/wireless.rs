//! Ciphers and MACs of 3GPP, with the documents' test data, for parts that have them.

use understudy_client::qat::message::{
    EXTENDED_HASH_PROTOCOL, cipher, command, flag, hash_flag, mode,
};
use understudy_client::qat::{Content, SymmetricCall, status};

use super::algorithms::need;
use super::{len32, started, succeeded};
use crate::verdict::{expect_bytes, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/wireless":
    [1, "SNOW 3G UEA2: the document's test data", "Linux icp_qat_hw.h, ICP_QAT_HW_CIPHER_ALGO_SNOW_3G_UEA2; 3GPP TS 35.217", |ctx| ciphers(ctx, &CIPHERS[0])],
    [2, "ZUC EEA3: the document's test data", "Linux icp_qat_hw.h, ICP_QAT_HW_CIPHER_ALGO_ZUC_3G_128_EEA3; 3GPP TS 35.223", |ctx| ciphers(ctx, &CIPHERS[1])],
    [3, "KASUMI F8: the document's test data", "Linux icp_qat_hw.h, ICP_QAT_HW_CIPHER_F8_MODE; 3GPP TS 35.203", |ctx| ciphers(ctx, &CIPHERS[2])],
    [4, "SNOW 3G UIA2: the document's test data", "Linux icp_qat_hw.h, ICP_QAT_HW_AUTH_ALGO_SNOW_3G_UIA2; 3GPP TS 35.217", |ctx| macs(ctx, &MACS[0])],
    [5, "ZUC EIA3: the document's test data", "Linux icp_qat_hw.h, ICP_QAT_HW_AUTH_ALGO_ZUC_3G_128_EIA3; 3GPP TS 35.223", |ctx| macs(ctx, &MACS[1])],
    [6, "KASUMI F9: the document's test data", "Linux icp_qat_hw.h, ICP_QAT_HW_AUTH_ALGO_KASUMI_F9; 3GPP TS 35.203", |ctx| macs(ctx, &MACS[2])],
    [7, "Ciphers and MACs of different families go together by extended flags", "DPDK qat_crypto_pmd_gen2.c, qat_sym_session_set_ext_hash_flags_gen2; icp_qat_fw_la.h, ICP_QAT_FW_AUTH_HDR_FLAG_ZUC_EIA3_BITPOS", mixed],
);

const KEY: &str = "2bd6459f82c5b300952c49104881ff48";
const PLAIN: &str = "7ec61272743bf1614726446a6c38ced166f6ca76eb5430044286346cef130f92922b03450d3a9975e5bd\
    2ea0eb55ad8e1b199e3ec4316020e9a1b285e762795359b7bdfd39bef4b2484583d5afe082aee638bf5fd5a606193901a08f\
    4ab41aab9b134880";

/// One test of a cipher. What follows the last whole byte is not looked at.
struct Ciphered {
    number: u32,
    mode: u32,
    flags: u16,
    key: &'static str,
    /// The key is followed by itself, with this in every byte.
    modifier: Option<u8>,
    iv: &'static str,
    plain: &'static str,
    coded: &'static str,
    bits: usize,
}

const CIPHERS: [Ciphered; 3] = [
    Ciphered {
        number: cipher::SNOW_3G,
        mode: mode::ECB,
        flags: 4 << 7,
        key: KEY,
        modifier: None,
        iv: "72a4f20f6400000072a4f20f64000000",
        plain: PLAIN,
        coded: "8ceba62943dced3a0990b06ea1b0a2c4fb3cedc71b369f42ba64c1eb6665e72aa1c9bb0deaa20fe86058\
                b8baee2c2e7f0becce48b52932a53c9d5f931a3a7c532259af4325e2a65e3084ad5f6a513b7bddc1b65f\
                0aa0d97a053db55a88c4c4f9605e4140",
        bits: 798,
    },
    Ciphered {
        number: cipher::ZUC,
        mode: mode::ECB,
        flags: 1 << 12,
        key: "173d14ba5003731d7a60049470f00a29",
        modifier: None,
        iv: "66035492780000006603549278000000",
        plain: "6cf65340735552ab0c9752fa6f9025fe0bd675d9005875b200",
        coded: "a6c85fc66afb8533aafc2518dfe784940ee1e4b030238cc800",
        bits: 193,
    },
    Ciphered {
        number: cipher::KASUMI,
        mode: mode::F8,
        flags: 0,
        key: KEY,
        modifier: Some(0x55),
        iv: "72a4f20f64000000",
        plain: PLAIN,
        coded: "d1e2de70eef86c6964fb542bc2d460aabfaa10a4a093262b7d199e706fc2d4891553296910f3a9730126\
                82e41c4e2b02be2017b7253bbf9309de5819cb42e81956f4c99bc9765caf53b1d0bb8279826adbbc5522\
                e915c120a618a5a7f5e897089339650f",
        bits: 798,
    },
];

/// One test of a MAC, and its descriptor's second state with the key at this place.
struct Authenticated {
    number: u32,
    flags: u16,
    key: &'static str,
    modifier: Option<u8>,
    state: (usize, usize),
    iv: &'static str,
    data: &'static str,
    tag: &'static str,
}

const MACS: [Authenticated; 3] = [
    Authenticated {
        number: 13,
        flags: 4 << 7,
        key: "c736c6aab22bfff91e2698d2e22ad57e",
        modifier: None,
        state: (32, 64),
        iv: "14793e410397e8fd94793e41039768fd",
        data: "d0a7d463df9fb2b278833fa02e235aa172bd970c1473e12907fb648b6599aaa0b24a038665422b20a499276a50427009",
        tag: "38b554c0",
    },
    Authenticated {
        number: 14,
        flags: 1 << 12,
        key: "c9e6cec4607c72db000aefa88385ab0a",
        modifier: None,
        state: (0, 48),
        iv: "a94059da50000000294059da50008000",
        data: "983b41d47d780c9e1ad11d7eb70391b1de0b35da2dc62f83e7b78d6306ca0ea07e941b7be91348f9fcb170e2\
               217fecd97f9f68adb16e5d7d21e569d280ed775cebde3f4093c5388100",
        tag: "24a842b3",
    },
    Authenticated {
        number: 12,
        flags: 0,
        key: KEY,
        modifier: Some(0xaa),
        state: (0, 32),
        iv: "",
        data: "38a6f05605d2ec496b227737296f393c8079353edc87e2e805d2ec49a4f2d8e2",
        tag: "f63bd72c",
    },
];

fn bytes(text: &str) -> Result<Vec<u8>, Stop> {
    hex::decode(text).map_err(|error| Stop::skip(format!("the vectors cannot be read: {error}")))
}

fn key(text: &str, modifier: Option<u8>) -> Result<Vec<u8>, Stop> {
    let mut key = bytes(text)?;
    if let Some(modifier) = modifier {
        key.extend(bytes(text)?.iter().map(|byte| byte ^ modifier));
    }
    Ok(key)
}

impl Authenticated {
    /// The second state of its descriptor.
    fn state(&self) -> Result<Vec<u8>, Stop> {
        let (at, len) = self.state;
        let mut state = vec![0; len];
        let place = state.iter_mut().skip(at);
        place.zip(key(self.key, self.modifier)?).for_each(|(to, from)| *to = from);
        Ok(state)
    }
}

fn ciphers(ctx: &mut Context<'_>, it: &Ciphered) -> Outcome {
    let mut driver = started(ctx)?;
    let content = Content::default().cipher(it.number, it.mode, false, &key(it.key, it.modifier)?);
    let (plain, coded, iv) = (bytes(it.plain)?, bytes(it.coded)?, bytes(it.iv)?);
    let call = |source| SymmetricCall {
        command: command::CIPHER,
        flags: it.flags,
        iv: &iv,
        source,
        cipher: (0, len32(&plain)),
        ..SymmetricCall::default()
    };
    need(&mut driver, &content, &call(&plain))?;
    let whole = it.bits / 8;
    for piece in [None, Some(20)] {
        driver.set_piece(piece);
        // One direction: applied again, it deciphers.
        let result = driver.symmetric(&content, &call(&plain))?;
        succeeded(&result.response)?;
        let found = result.data.get(..whole).unwrap_or_default();
        expect_bytes("the ciphertext", found, coded.get(..whole).unwrap_or_default())?;
        let again = SymmetricCall { source: &result.data, ..call(&plain) };
        let again = driver.symmetric(&content, &again)?;
        expect_bytes("the plaintext", &again.data, &plain)?;
    }
    Ok(())
}

fn macs(ctx: &mut Context<'_>, it: &Authenticated) -> Outcome {
    let mut driver = started(ctx)?;
    let state = it.state()?;
    let content = Content::default().auth(it.number, 1, 0, [&[0; 8], &state], 4);
    let (data, tag, iv) = (bytes(it.data)?, bytes(it.tag)?, bytes(it.iv)?);
    let call = |digest_flag, digest| SymmetricCall {
        command: command::AUTH,
        flags: it.flags | digest_flag,
        source: &data,
        auth: (0, len32(&data)),
        aad: &iv,
        digest,
        ..SymmetricCall::default()
    };
    need(&mut driver, &content, &call(flag::RETURN_DIGEST, &[0; 4]))?;
    let result = driver.symmetric(&content, &call(flag::RETURN_DIGEST, &[0; 4]))?;
    succeeded(&result.response)?;
    expect_bytes("the MAC", &result.digest, &tag)?;
    succeeded(&driver.symmetric(&content, &call(flag::COMPARE_DIGEST, &tag))?.response)?;
    let wrong = driver.symmetric(&content, &call(flag::COMPARE_DIGEST, &[0; 4]))?;
    let found = wrong.response.status() & status::CRYPTO;
    expect_hex("the status for a wrong MAC", found, status::CRYPTO)
}

/// Each is what cipher and MAC are alone, one after the other.
fn mixed(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let [snow, zuc, _] = &CIPHERS;
    let [snow, zuc] = [snow, zuc].map(|it| (it.number, it.mode, it.flags));
    let aes = (cipher::AES_128, mode::CTR, 0);
    let [snow_mac, zuc_mac, _] = &MACS;
    let [snow_mac, zuc_mac] = [(snow_mac, hash_flag::SNOW_3G), (zuc_mac, hash_flag::ZUC)];
    for ((number, mode, flags), (mac, hash_flag)) in
        [(aes, snow_mac), (aes, zuc_mac), (zuc, snow_mac), (snow, zuc_mac)]
    {
        let state = mac.state()?;
        let states: [&[u8]; 2] = [&[0; 8], &state];
        let ciphered = Content::default().cipher(number, mode, false, &bytes(KEY)?);
        let hashed = Content::default().auth(mac.number, 1, 0, states, 4);
        let mut both = ciphered.clone().auth(mac.number, 1, 0, states, 4);
        both.control[5] |= hash_flag;

        let (plain, iv, mac_iv) = (bytes(PLAIN)?, bytes(CIPHERS[0].iv)?, bytes(mac.iv)?);
        let all = (0, len32(&plain));
        let alone = SymmetricCall {
            command: command::CIPHER,
            flags,
            iv: &iv,
            source: &plain,
            cipher: all,
            ..SymmetricCall::default()
        };
        need(&mut driver, &ciphered, &alone)?;
        let coded = driver.symmetric(&ciphered, &alone)?.data;
        let mac_alone = SymmetricCall {
            command: command::AUTH,
            flags: mac.flags | flag::RETURN_DIGEST,
            source: &coded,
            auth: all,
            aad: &mac_iv,
            digest: &[0; 4],
            ..SymmetricCall::default()
        };
        need(&mut driver, &hashed, &mac_alone)?;
        let tag = driver.symmetric(&hashed, &mac_alone)?.digest;

        let together = SymmetricCall {
            command: command::CIPHER_HASH,
            flags: flags | flag::RETURN_DIGEST,
            auth: all,
            aad: &mac_iv,
            digest: &[0; 4],
            extended: EXTENDED_HASH_PROTOCOL,
            ..alone
        };
        need(&mut driver, &both, &together)?;
        let result = driver.symmetric(&both, &together)?;
        succeeded(&result.response)?;
        expect_bytes("the ciphertext", &result.data, &coded)?;
        expect_bytes("the MAC of the ciphertext", &result.digest, &tag)?;
    }
    Ok(())
}
