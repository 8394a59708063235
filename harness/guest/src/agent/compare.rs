//! Two drivers of one algorithm, side by side over `AF_ALG`: what they compute must be the same.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Failure;
use super::alg::{Aead, Direction, Transform};
use crate::protocol::Shape;

/// Sizes in bytes: around a block, a page, and what a request may hold.
const SIZES_BYTES: [usize; 10] = [16, 32, 48, 240, 512, 4080, 4096, 4112, 16 << 10, 32 << 10];
/// Bytes of associated data, as IPsec has them and more.
const AAD_BYTES: [usize; 3] = [8, 20, 256];
const IV_BYTES: usize = 16;

/// `CRYPTO_AUTHENC_KEYA_PARAM` of `crypto/authenc.h`.
const KEY_PARAMETER: u16 = 1;

/// Compares everything that `shape` allows.
pub(super) fn check(
    driver: &str,
    reference: &str,
    shape: &Shape,
    seed: u64,
) -> Result<Value, Failure> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut compared = 0;
    match shape {
        Shape::Cipher { keys_bytes } => {
            for len in keys_bytes {
                compared += ciphers(driver, reference, *len as usize, &mut random)?;
            }
        }
        Shape::Authenc { auth_key_bytes, tag_bytes } => {
            for key_len in [16, 24, 32] {
                let key = authenc_key(*auth_key_bytes as usize, key_len, &mut random);
                compared += aeads([driver, reference], &key, *tag_bytes as usize, &mut random)?;
            }
        }
    }
    Ok(json!({ "driver": driver, "reference": reference, "compared": compared, "seed": seed }))
}

fn bytes(len: usize, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill_bytes(&mut bytes);
    bytes
}

fn ciphers(
    driver: &str,
    reference: &str,
    key_len: usize,
    random: &mut ChaCha8Rng,
) -> Result<u32, Failure> {
    let key = bytes(key_len, random);
    let mut both = [Transform::open(driver, &key)?, Transform::open(reference, &key)?];
    let mut compared = 0;
    for size in SIZES_BYTES {
        let (iv, input) = (bytes(IV_BYTES, random), bytes(size, random));
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let what = format!("{direction:?} {size} bytes with a key of {key_len}");
            let mut outputs = Vec::new();
            for transform in &mut both {
                let mut output = vec![0; size];
                transform
                    .run(direction, &iv, &[&input], &mut output)
                    .map_err(|e| format!("{what}: {e}"))?;
                outputs.push(output);
            }
            same(&outputs, &what)?;
            compared += 1;
        }
    }
    Ok(compared)
}

/// The keys of `authenc` in one: a routing attribute with the cipher key's length, then both.
fn authenc_key(auth_len: usize, cipher_len: usize, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut key = Vec::new();
    key.extend(8_u16.to_ne_bytes());
    key.extend(KEY_PARAMETER.to_ne_bytes());
    key.extend(u32::try_from(cipher_len).unwrap_or_default().to_be_bytes());
    key.extend(bytes(auth_len + cipher_len, random));
    key
}

fn aeads(
    drivers: [&str; 2],
    key: &[u8],
    tag_len: usize,
    random: &mut ChaCha8Rng,
) -> Result<u32, Failure> {
    let open = |driver| Aead::open(driver, key, tag_len);
    let mut both = [open(drivers[0])?, open(drivers[1])?];
    let mut compared = 0;
    for (index, size) in SIZES_BYTES.into_iter().enumerate() {
        let aad = AAD_BYTES[index % AAD_BYTES.len()];
        let (iv, plain) = (bytes(IV_BYTES, random), bytes(aad + size, random));
        let what = format!("{size} bytes with {aad} associated");
        let mut run = |direction, input: &[u8], len| {
            let outputs = both.iter_mut().map(|one| one.run(direction, &iv, aad, input, len));
            outputs.collect::<Vec<_>>()
        };
        let sealed = all(run(Direction::Encrypt, &plain, plain.len() + tag_len), &what)?;
        same(&sealed, &what)?;
        let Some(sealed) = sealed.first() else { continue };
        let opened = all(run(Direction::Decrypt, sealed, plain.len()), &what)?;
        same(&[opened, vec![plain.clone()]].concat(), &what)?;
        let mut forged = sealed.clone();
        if let Some(byte) = forged.last_mut() {
            *byte ^= 1;
        }
        for refused in run(Direction::Decrypt, &forged, plain.len()) {
            match refused {
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BADMSG.raw_os_error()) => {}
                other => return Err(format!("forged {what}: {:?}", other.map(|o| o.len()))),
            }
        }
        compared += 3;
    }
    Ok(compared)
}

fn all(outputs: Vec<std::io::Result<Vec<u8>>>, what: &str) -> Result<Vec<Vec<u8>>, Failure> {
    outputs.into_iter().collect::<Result<_, _>>().map_err(|e| format!("{what}: {e}"))
}

fn same(outputs: &[Vec<u8>], what: &str) -> Result<(), Failure> {
    let differs = outputs.windows(2).any(|pair| pair[0] != pair[1]);
    if differs { Err(format!("{what}: the drivers disagree")) } else { Ok(()) }
}
