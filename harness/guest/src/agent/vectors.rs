//! `cbc(aes)` through a named driver: published vectors, random ones, and time.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use super::alg::{Direction, Transform};
use super::software::{BLOCK_BYTES, encrypt_cbc};

/// NIST SP 800-38A's CBC examples; the file names its source.
const PUBLISHED: &str = include_str!("../../../../fixtures/guest/sp800-38a-cbc-aes.json");

/// Sizes of the random vectors in bytes: around a block, a page, and what one request may hold.
const SIZES_BYTES: [usize; 12] =
    [16, 32, 48, 240, 256, 1024, 4080, 4096, 4112, 16 << 10, 65_520, 64 << 10];

/// Requests run before time is taken, at each size.
const WARM_UP: u32 = 20;

#[derive(Deserialize)]
struct Published {
    vectors: Vec<Vector>,
}

/// One published example; all fields but the name in hex.
#[derive(Deserialize)]
struct Vector {
    name: String,
    key: String,
    iv: String,
    plaintext: String,
    ciphertext: String,
}

/// Checks every published vector, then random ones over several transforms at once.
pub(super) fn check(driver: &str, transforms: u32, seed: u64) -> Result<Value, Failure> {
    let published: Published =
        serde_json::from_str(PUBLISHED).map_err(|e| format!("published vectors: {e}"))?;
    for vector in &published.vectors {
        check_published(driver, vector)?;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut open = (0..transforms.max(1))
        .map(|index| Keyed::open(driver, index, &mut random))
        .collect::<Result<Vec<_>, _>>()?;
    for size in SIZES_BYTES {
        for keyed in &mut open {
            keyed.check(size, &mut random)?;
        }
    }
    for keyed in &mut open {
        keyed.check_partial_block()?;
    }
    Ok(json!({
        "published": published.vectors.len(), "random": SIZES_BYTES.len() * open.len(), "seed": seed,
    }))
}

fn check_published(driver: &str, vector: &Vector) -> Result<(), Failure> {
    let bytes = |hex: &str| hex::decode(hex).map_err(|e| format!("{}: {e}", vector.name));
    let (key, iv) = (bytes(&vector.key)?, bytes(&vector.iv)?);
    let (plain, cipher) = (bytes(&vector.plaintext)?, bytes(&vector.ciphertext)?);
    let mut transform = Transform::open(driver, &key)?;
    for piece in [plain.len(), BLOCK_BYTES, 7] {
        let name = format!("{} in pieces of {piece}", vector.name);
        let mut run = |direction, from: &[u8], to: &[u8]| {
            let pieces: Vec<&[u8]> = from.chunks(piece).collect();
            expect(&mut transform, &name, direction, &iv, &pieces, to)
        };
        run(Direction::Encrypt, &plain, &cipher)?;
        run(Direction::Decrypt, &cipher, &plain)?;
    }
    Ok(())
}

/// A transform whose key is known, so that software can say what it must give.
struct Keyed {
    transform: Transform,
    key: Vec<u8>,
}

impl Keyed {
    /// Opens one with a random key; its size goes around with `index`.
    fn open(driver: &str, index: u32, random: &mut ChaCha8Rng) -> Result<Self, Failure> {
        let mut key = vec![0; [16, 24, 32][index as usize % 3]];
        random.fill_bytes(&mut key);
        Ok(Self { transform: Transform::open(driver, &key)?, key })
    }

    fn check(&mut self, size: usize, random: &mut ChaCha8Rng) -> Result<(), Failure> {
        let (mut iv, mut plain) = ([0; BLOCK_BYTES], vec![0; size]);
        random.fill_bytes(&mut iv);
        random.fill_bytes(&mut plain);
        let cipher = encrypt_cbc(&self.key, &iv, &plain)?;
        // At once, and cut where neither blocks nor pages end.
        for cut in [size, 1 + size / 3] {
            let name = format!("{} random bytes in pieces of {cut}", size);
            let pieces: Vec<&[u8]> = plain.chunks(cut).collect();
            expect(&mut self.transform, &name, Direction::Encrypt, &iv, &pieces, &cipher)?;
            let pieces: Vec<&[u8]> = cipher.chunks(cut).collect();
            expect(&mut self.transform, &name, Direction::Decrypt, &iv, &pieces, &plain)?;
        }
        Ok(())
    }

    /// CBC has no partial blocks: the driver must refuse. The socket keeps the refused input, so
    /// this is its last use.
    fn check_partial_block(&mut self) -> Result<(), Failure> {
        let iv = [0; BLOCK_BYTES];
        let refused = self.transform.run(Direction::Encrypt, &iv, &[&[0; 17]], &mut [0; 17]);
        match refused {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(()),
            Err(e) => Err(format!("17 bytes: expected EINVAL, got {e}")),
            Ok(()) => Err("17 bytes: expected EINVAL, but they were encrypted".to_owned()),
        }
    }
}

fn expect(
    transform: &mut Transform,
    name: &str,
    direction: Direction,
    iv: &[u8],
    pieces: &[&[u8]],
    wanted: &[u8],
) -> Result<(), Failure> {
    let mut got = vec![0; wanted.len()];
    transform
        .run(direction, iv, pieces, &mut got)
        .map_err(|e| format!("{direction:?} {name}: {e}"))?;
    match got.iter().zip(wanted).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("{direction:?} {name}: byte {at} and on differ")),
    }
}

/// Times single requests at each size; the fastest the driver can answer one at a time.
pub(super) fn time(driver: &str, operations: u32, sizes: &[u32]) -> Result<Value, Failure> {
    let mut transform = Transform::open(driver, &[0x2b; 16])?;
    let mut measured = Vec::new();
    for &size in sizes {
        let input = vec![0x6b; size as usize];
        let mut output = input.clone();
        let mut times = Vec::with_capacity(operations as usize);
        for index in 0..operations.max(1) + WARM_UP {
            let start = Instant::now();
            transform
                .run(Direction::Encrypt, &[0; BLOCK_BYTES], &[&input], &mut output)
                .map_err(|e| format!("{size} bytes: {e}"))?;
            if index >= WARM_UP {
                times.push(start.elapsed());
            }
        }
        times.sort_unstable();
        measured.push(json!({
            "bytes": size, "operations": times.len(),
            "median_us": micros(percentile(&times, 50)), "p99_us": micros(percentile(&times, 99)),
        }));
    }
    Ok(json!({ "driver": driver, "times": measured }))
}

/// The smallest of sorted times that `percent` percent of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// Microseconds, to a tenth.
fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_agrees_with_the_published_vectors() {
        let published: Published = serde_json::from_str(PUBLISHED).unwrap();
        assert_eq!(published.vectors.len(), 3);
        for vector in published.vectors {
            let [key, iv, plain] =
                [&vector.key, &vector.iv, &vector.plaintext].map(|h| hex::decode(h).unwrap());
            let cipher = encrypt_cbc(&key, &iv.try_into().unwrap(), &plain).unwrap();
            assert_eq!(hex::encode(cipher), vector.ciphertext, "{}", vector.name);
        }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50), Duration::from_micros(50));
        assert_eq!(percentile(&times, 99), Duration::from_micros(99));
        assert_eq!(percentile(&times[..1], 99), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
