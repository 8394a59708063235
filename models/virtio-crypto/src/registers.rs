//! The device configuration (virtio 1.3 §5.9.5, `struct virtio_crypto_config`).

use understudy_device::{Register, RegisterBlock, Width};

/// `VIRTIO_CRYPTO_S_HW_READY`
pub const HW_READY: u64 = 1;

/// Fields of `struct virtio_crypto_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum Config {
    Status,
    MaxDataqueues,
    CryptoServices,
    CipherAlgoL,
    CipherAlgoH,
    HashAlgo,
    MacAlgoL,
    MacAlgoH,
    AeadAlgo,
    MaxCipherKeyLen,
    MaxAuthKeyLen,
    AkcipherAlgo,
    MaxSize,
}

/// The configuration; all of it is read-only.
pub static CONFIG: RegisterBlock<Config> = RegisterBlock::new(
    "config",
    0x38,
    &[
        Register::ro(Config::Status, "status", 0x00, Width::B4),
        Register::ro(Config::MaxDataqueues, "max_dataqueues", 0x04, Width::B4),
        Register::ro(Config::CryptoServices, "crypto_services", 0x08, Width::B4),
        Register::ro(Config::CipherAlgoL, "cipher_algo_l", 0x0c, Width::B4),
        Register::ro(Config::CipherAlgoH, "cipher_algo_h", 0x10, Width::B4),
        Register::ro(Config::HashAlgo, "hash_algo", 0x14, Width::B4),
        Register::ro(Config::MacAlgoL, "mac_algo_l", 0x18, Width::B4),
        Register::ro(Config::MacAlgoH, "mac_algo_h", 0x1c, Width::B4),
        Register::ro(Config::AeadAlgo, "aead_algo", 0x20, Width::B4),
        Register::ro(Config::MaxCipherKeyLen, "max_cipher_key_len", 0x24, Width::B4),
        Register::ro(Config::MaxAuthKeyLen, "max_auth_key_len", 0x28, Width::B4),
        Register::ro(Config::AkcipherAlgo, "akcipher_algo", 0x2c, Width::B4),
        Register::ro(Config::MaxSize, "max_size", 0x30, Width::B8),
    ],
);
