//! An eCryptfs mount: a user inside the kernel that takes the best `cbc(aes)` there is.
//!
//! What it writes below is also computed here, so a cipher that is wrong but consistent is found.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use linux_keyutils::{KeyRing, KeyRingIdentifier};
use md5::{Digest, Md5};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::software::{self, encrypt_cbc};
use super::{Failure, crypto_list};

const LOWER: &str = "/tmp/lower";
const UPPER: &str = "/tmp/upper";

/// Sizes of the files in bytes: around nothing, an extent (eCryptfs ciphers 4 KiB at a time), many.
const FILES_BYTES: [usize; 7] = [0, 1, 4095, 4096, 4097, 100_000, 1 << 20];

const EXTENT_BYTES: usize = 4096;

/// The mount's AES key size.
const KEY_BYTES: usize = 16;

/// How the files below begin, as Linux's eCryptfs writes them for one passphrase.
mod header {
    /// The whole header; the first extent follows.
    pub(super) const BYTES: usize = 8192;
    /// OpenPGP's packet with the file's key (RFC 9580 §5.3), after size, marker, flags and extents.
    pub(super) const KEY_PACKET_AT: usize = 26;
    /// The packet's type and length, version 4, AES-128, salted and iterated, MD5.
    pub(super) const KEY_PACKET: [u8; 6] = [0x8c, 29, 4, 7, 3, 1];
    /// The key, enciphered; the salt and the count come before it.
    pub(super) const KEY_AT: usize = KEY_PACKET_AT + KEY_PACKET.len() + 9;
}

/// Names the key in the keyring and in every file's header; any 16 hex digits will do.
const SIGNATURE: [u8; 16] = *b"756e646572737475";

/// `struct ecryptfs_session_key` of `linux/ecryptfs.h`; unused, as a passphrase token is given.
#[derive(IntoBytes, FromZeros, Immutable)]
#[repr(C)]
struct SessionKey {
    flags: u32,
    encrypted_key_size: u32,
    decrypted_key_size: u32,
    encrypted_key: [u8; 512],
    decrypted_key: [u8; 64],
}

/// `struct ecryptfs_auth_tok` with its `password` token, as `linux/ecryptfs.h` lays it out.
#[derive(IntoBytes, FromZeros, Immutable)]
#[repr(C)]
struct AuthenticationToken {
    version: u16,
    token_type: u16,
    flags: u32,
    session_key: SessionKey,
    reserved: [u8; 32],
    password_bytes: u32,
    hash_algorithm: i32,
    hash_iterations: u32,
    key_encryption_key_bytes: u32,
    password_flags: u32,
    key_encryption_key: [u8; 64],
    signature: [u8; 17],
    salt: [u8; 8],
    padding: [u8; 3],
}

const _: () = assert!(size_of::<AuthenticationToken>() == 740);

impl AuthenticationToken {
    /// Major 0, minor 4: the only version kernels take.
    const VERSION: u16 = 4;
    /// OpenPGP's number (RFC 9580 §9.5) of SHA-512, which hashed the passphrase.
    const SHA512: i32 = 10;
    const HASH_ITERATIONS: u32 = 65536;
    /// `ECRYPTFS_SESSION_KEY_ENCRYPTION_KEY_SET`: the passphrase is hashed already.
    const KEY_ENCRYPTION_KEY_SET: u32 = 2;

    fn new(random: &mut ChaCha8Rng) -> Self {
        let mut token = Self::new_zeroed();
        token.version = Self::VERSION;
        token.hash_algorithm = Self::SHA512;
        token.hash_iterations = Self::HASH_ITERATIONS;
        token.key_encryption_key_bytes = 64;
        token.password_flags = Self::KEY_ENCRYPTION_KEY_SET;
        random.fill_bytes(&mut token.key_encryption_key);
        random.fill_bytes(&mut token.salt);
        token.signature[..16].copy_from_slice(&SIGNATURE);
        token
    }
}

/// Writes, looks below, mounts anew, compares; `driver` must be the one that serves the mount.
pub(super) fn check(driver: &str, seed: u64) -> Result<Value, Failure> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let token = AuthenticationToken::new(&mut random);
    add_key(&token)?;
    let files: Vec<Vec<u8>> = FILES_BYTES
        .iter()
        .map(|&size| {
            let mut content = vec![0; size];
            random.fill_bytes(&mut content);
            content
        })
        .collect();
    for directory in [LOWER, UPPER] {
        fs::create_dir_all(directory).map_err(|e| format!("{directory}: {e}"))?;
    }
    mount("tmpfs", LOWER, "tmpfs", MountFlags::empty(), None)
        .map_err(|e| format!("mount {LOWER}: {e}"))?;
    let outcome = check_mounted(driver, &token, &files);
    let cleared = unmount(LOWER, UnmountFlags::DETACH).map_err(|e| format!("unmount: {e}"));
    let refcnt = outcome?;
    cleared?;
    Ok(json!({
        "driver": driver, "refcnt": refcnt, "files": files.len(),
        "bytes": FILES_BYTES.iter().sum::<usize>(), "seed": seed,
    }))
}

fn check_mounted(
    driver: &str,
    token: &AuthenticationToken,
    files: &[Vec<u8>],
) -> Result<u32, Failure> {
    let idle = crypto_list::find(driver)?.refcnt;
    mount_upper()?;
    let written = write_all(driver, files, idle);
    unmount_upper()?;
    let refcnt = written?;
    for (index, content) in files.iter().enumerate() {
        check_below(token, index, content)?;
    }
    mount_upper()?;
    let read = files.iter().enumerate().try_for_each(|(index, content)| compare(index, content));
    unmount_upper()?;
    read.map(|()| refcnt)
}

fn name(directory: &str, index: usize) -> String {
    format!("{directory}/file-{index}")
}

/// Writes every file; returns the driver's reference count while they are open.
fn write_all(driver: &str, files: &[Vec<u8>], idle: u32) -> Result<u32, Failure> {
    let mut open = Vec::new();
    for (index, content) in files.iter().enumerate() {
        let name = name(UPPER, index);
        let write = || {
            let mut file = File::create(&name)?;
            file.write_all(content)?;
            file.sync_all()?;
            Ok::<_, std::io::Error>(file)
        };
        open.push(write().map_err(|e| format!("{name}: {e}"))?);
    }
    // Each open file holds a transform of whichever driver the kernel chose.
    let used = crypto_list::find(driver)?.refcnt;
    if used > idle { Ok(used) } else { Err(explain_choice(driver)) }
}

/// Why another driver may have been preferred.
fn explain_choice(driver: &str) -> Failure {
    let rivals = crypto_list::read().unwrap_or_default();
    let rivals = rivals.iter().filter(|a| a.name == "cbc(aes)");
    let rivals: Vec<String> = rivals.map(|a| format!("{} {}", a.driver, a.priority)).collect();
    format!("eCryptfs does not use {driver}; cbc(aes) drivers by priority: {}", rivals.join(", "))
}

/// The file below must be what eCryptfs makes of the content with a sound cipher.
fn check_below(token: &AuthenticationToken, index: usize, content: &[u8]) -> Result<(), Failure> {
    let name = name(LOWER, index);
    let below = fs::read(&name).map_err(|e| format!("{name}: {e}"))?;
    let key = file_key(token, &below).ok_or_else(|| format!("{name}: not eCryptfs's header"))?;
    let root = Md5::digest(key);
    let extents = below.get(header::BYTES..).unwrap_or_default().chunks(EXTENT_BYTES);
    if extents.len() != content.chunks(EXTENT_BYTES).len() {
        return Err(format!("{name}: {} bytes for {}", below.len(), content.len()));
    }
    for (number, (cipher, plain)) in extents.zip(content.chunks(EXTENT_BYTES)).enumerate() {
        // Each extent's IV is a hash of the root's and its number in decimal, 16 bytes long.
        let mut decimal = number.to_string().into_bytes();
        decimal.resize(16, 0);
        let iv = Md5::new().chain_update(root).chain_update(decimal).finalize();
        let mut plain = plain.to_vec();
        plain.resize(EXTENT_BYTES, 0);
        if encrypt_cbc(&key, &iv.into(), &plain)? != cipher {
            return Err(format!("{name}: extent {number} is not what AES-CBC makes of it"));
        }
    }
    Ok(())
}

/// The key of a file, deciphered with the token's key.
fn file_key(token: &AuthenticationToken, below: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if !below.get(header::KEY_PACKET_AT..)?.starts_with(&header::KEY_PACKET) {
        return None;
    }
    let (wrapped, _) = below.get(header::KEY_AT..)?.split_first_chunk()?;
    let (key, _) = token.key_encryption_key.split_first_chunk()?;
    Some(software::decrypt_block(*key, *wrapped))
}

fn compare(index: usize, content: &[u8]) -> Result<(), Failure> {
    let name = name(UPPER, index);
    let read = fs::read(&name).map_err(|e| format!("{name}: {e}"))?;
    if read.len() != content.len() {
        return Err(format!("{name}: {} bytes, {} were written", read.len(), content.len()));
    }
    match read.iter().zip(content).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("{name}: byte {at} and on are not what was written")),
    }
}

fn add_key(token: &AuthenticationToken) -> Result<(), Failure> {
    let signature = String::from_utf8_lossy(&SIGNATURE);
    KeyRing::from_special_id(KeyRingIdentifier::Process, true)
        .and_then(|ring| ring.add_key(&*signature, token.as_bytes()))
        .map(drop)
        .map_err(|e| format!("add_key: {e}"))
}

fn mount_upper() -> Result<(), Failure> {
    let options = format!(
        "ecryptfs_sig={},ecryptfs_cipher=aes,ecryptfs_key_bytes=16",
        String::from_utf8_lossy(&SIGNATURE)
    );
    let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
    mount(Path::new(LOWER), UPPER, "ecryptfs", MountFlags::empty(), &*options)
        .map_err(|e| format!("mount -t ecryptfs: {e}"))
}

/// Also drops the pages that were written, so what is read later was decrypted.
fn unmount_upper() -> Result<(), Failure> {
    unmount(UPPER, UnmountFlags::empty()).map_err(|e| format!("unmount {UPPER}: {e}"))
}
