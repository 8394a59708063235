//! Throughput of the engines at the request sizes of disks and networks, and of the alternatives
//! that were not chosen (`rustcrypto`). Run with `cargo bench -p understudy-engines`.
#![cfg(test)]

use std::hint::black_box;

use cipher::array::Array;
use cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit, StreamCipher};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use understudy_engines::aead::{self, Nonce};
use understudy_engines::cipher::{Algorithm, Direction, Key};
use understudy_engines::rsa::PrivateKey;
use understudy_engines::vectors::rsa_keys;
use understudy_engines::{hash, mac};

const SIZES: [usize; 2] = [16 << 10, 64 << 10];

/// Runs `work` over a buffer of each size.
fn throughput(criterion: &mut Criterion, name: &str, mut work: impl FnMut(&mut [u8])) {
    let mut group = criterion.benchmark_group(name);
    for size in SIZES {
        let mut data = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{} KiB", size >> 10), |bencher| {
            bencher.iter(|| work(black_box(&mut data)));
        });
    }
    group.finish();
}

fn ciphers(criterion: &mut Criterion) {
    for (name, algorithm, key_len) in [
        ("aes-128-ecb", Algorithm::AesEcb, 16),
        ("aes-128-cbc", Algorithm::AesCbc, 16),
        ("aes-256-cbc", Algorithm::AesCbc, 32),
        ("aes-128-ctr", Algorithm::AesCtr, 16),
        ("aes-128-xts", Algorithm::AesXts, 32),
        ("aes-256-xts", Algorithm::AesXts, 64),
        ("sm4-cbc", Algorithm::Sm4Cbc, 16),
        ("tdes-cbc", Algorithm::TdesCbc, 24),
    ] {
        let key = Key::new(algorithm, &[7; 64][..key_len]).unwrap();
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            throughput(criterion, &format!("{name} {direction:?}"), |data| {
                key.apply(direction, &[1; 16][..algorithm.iv_len()], data).unwrap();
            });
        }
    }
}

fn rustcrypto(criterion: &mut Criterion) {
    let (key, iv) = ([7; 16].into(), [1; 16].into());
    throughput(criterion, "aes-128-cbc Encrypt rustcrypto", |data| {
        let blocks = Array::slice_as_chunks_mut(data).0;
        cbc::Encryptor::<aes::Aes128>::new(&key, &iv).encrypt_blocks(blocks);
    });
    throughput(criterion, "aes-128-cbc Decrypt rustcrypto", |data| {
        let blocks = Array::slice_as_chunks_mut(data).0;
        cbc::Decryptor::<aes::Aes128>::new(&key, &iv).decrypt_blocks(blocks);
    });
    throughput(criterion, "aes-128-ctr rustcrypto", |data| {
        ctr::Ctr128BE::<aes::Aes128>::new(&key, &iv).apply_keystream(data);
    });
    let cipher = || aes::Aes128::new(&key);
    let xts = xts_mode::Xts128::new(cipher(), cipher());
    throughput(criterion, "aes-128-xts xts-mode", |data| xts.encrypt_sector(data, iv));
}

fn aeads(criterion: &mut Criterion) {
    for (name, algorithm, key_len, iv_len) in [
        ("aes-128-gcm", aead::Algorithm::AesGcm, 16, 12),
        ("aes-128-gcm, iv of 16", aead::Algorithm::AesGcm, 16, 16),
        ("aes-128-ccm", aead::Algorithm::AesCcm, 16, 12),
        ("chacha20-poly1305", aead::Algorithm::ChaCha20Poly1305, 32, 12),
    ] {
        let key = aead::Key::new(algorithm, &[7; 32][..key_len]).unwrap();
        let mut tag = [0; 16];
        throughput(criterion, name, |data| {
            key.encrypt(Nonce::Bytes(&[1; 16][..iv_len]), b"aad", data, &mut tag).unwrap();
        });
    }
}

fn digests(criterion: &mut Criterion) {
    for algorithm in [
        hash::Algorithm::Sha1,
        hash::Algorithm::Sha256,
        hash::Algorithm::Sha512,
        hash::Algorithm::Sha3_256,
    ] {
        let mut digest = vec![0; algorithm.digest_len()];
        throughput(criterion, &format!("{algorithm:?}"), |data| {
            hash::digest(algorithm, data, &mut digest).unwrap();
        });
    }
    for algorithm in [mac::Algorithm::Hmac(hash::Algorithm::Sha256), mac::Algorithm::CmacAes] {
        let key = mac::Key::new(algorithm, &[7; 16]).unwrap();
        let mut tag = vec![0; algorithm.mac_len()];
        throughput(criterion, &format!("{algorithm:?}"), |data| {
            key.mac(&[], data, &mut tag).unwrap();
        });
    }
}

fn rsa(criterion: &mut Criterion) {
    // With and without primes.
    let keys = rsa_keys().unwrap().into_iter().filter(|key| !key.private_key.is_empty());
    for key in keys.filter(|key| key.name.contains("2048") || key.name.contains("4096")) {
        let private = PrivateKey::from_der(&key.private_key).unwrap();
        criterion.bench_function(&format!("rsa raw, {}", key.name), |bencher| {
            bencher.iter(|| private.raw(black_box(&[0x42; 100])).unwrap());
        });
        criterion.bench_function(&format!("rsa public, {}", key.name), |bencher| {
            bencher.iter(|| private.public().raw(black_box(&[0x42; 100])).unwrap());
        });
    }
}

criterion_group!(benches, ciphers, rustcrypto, aeads, digests, rsa);
criterion_main!(benches);
