//! An eCryptfs mount: a user inside the kernel that takes the best `cbc(aes)` there is.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use linux_keyutils::{KeyRing, KeyRingIdentifier};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{Failure, crypto_list};

const LOWER: &str = "/tmp/lower";
const UPPER: &str = "/tmp/upper";

/// Sizes of the files in bytes: around nothing, an extent (eCryptfs ciphers 4 KiB at a time), many.
const FILES_BYTES: [usize; 7] = [0, 1, 4095, 4096, 4097, 100_000, 1 << 20];

const EXTENT_BYTES: usize = 4096;

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
    add_key(&AuthenticationToken::new(&mut random))?;
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
    let outcome = check_mounted(driver, &files);
    let cleared = unmount(LOWER, UnmountFlags::DETACH).map_err(|e| format!("unmount: {e}"));
    let refcnt = outcome?;
    cleared?;
    Ok(json!({
        "driver": driver, "refcnt": refcnt, "files": files.len(),
        "bytes": FILES_BYTES.iter().sum::<usize>(), "seed": seed,
    }))
}

fn check_mounted(driver: &str, files: &[Vec<u8>]) -> Result<u32, Failure> {
    let idle = crypto_list::find(driver)?.refcnt;
    mount_upper()?;
    let written = write_all(driver, files, idle);
    unmount_upper()?;
    let refcnt = written?;
    files.iter().enumerate().try_for_each(|(index, content)| check_below(index, content))?;
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

/// The file below must be longer than the content (it has a header) and hold none of its extents.
fn check_below(index: usize, content: &[u8]) -> Result<(), Failure> {
    let name = name(LOWER, index);
    let below = fs::read(&name).map_err(|e| format!("{name}: {e}"))?;
    if below.len() < content.len() + EXTENT_BYTES {
        return Err(format!("{name}: {} bytes, too short to be encrypted", below.len()));
    }
    let probe_bytes = 16;
    for start in content.chunks(EXTENT_BYTES).filter(|extent| extent.len() >= probe_bytes) {
        if below.chunks(EXTENT_BYTES).any(|extent| extent.starts_with(&start[..probe_bytes])) {
            return Err(format!("{name}: plain text was found"));
        }
    }
    Ok(())
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
