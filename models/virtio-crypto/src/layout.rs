//! Requests byte for byte (virtio 1.3 §5.9.7), little-endian throughout.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Feature bits of the crypto device (virtio 1.3 §5.9.3), as masks.
pub mod feature {
    /// `VIRTIO_CRYPTO_F_REVISION_1`
    pub const REVISION_1: u64 = 1 << 0;
    /// `VIRTIO_CRYPTO_F_CIPHER_STATELESS_MODE`
    pub const CIPHER_STATELESS: u64 = 1 << 1;
    /// `VIRTIO_CRYPTO_F_HASH_STATELESS_MODE`
    pub const HASH_STATELESS: u64 = 1 << 2;
    /// `VIRTIO_CRYPTO_F_MAC_STATELESS_MODE`
    pub const MAC_STATELESS: u64 = 1 << 3;
    /// `VIRTIO_CRYPTO_F_AEAD_STATELESS_MODE`
    pub const AEAD_STATELESS: u64 = 1 << 4;
    /// `VIRTIO_CRYPTO_F_AKCIPHER_STATELESS_MODE`
    pub const AKCIPHER_STATELESS: u64 = 1 << 5;
    /// All of the stateless bits. Each requires [`REVISION_1`].
    pub const STATELESS: u64 =
        CIPHER_STATELESS | HASH_STATELESS | MAC_STATELESS | AEAD_STATELESS | AKCIPHER_STATELESS;
}

/// Services (virtio 1.3 §5.9.4): bit numbers in `crypto_services`, and the high byte of opcodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Service {
    /// Symmetric ciphers, alone or chained with a hash or MAC.
    Cipher = 0,
    /// Hashes.
    Hash = 1,
    /// Message authentication codes.
    Mac = 2,
    /// Authenticated encryption with associated data.
    Aead = 3,
    /// Asymmetric ciphers.
    Akcipher = 4,
}

impl Service {
    /// Every service that this device offers.
    pub const ALL: [Self; 5] = [Self::Cipher, Self::Hash, Self::Mac, Self::Aead, Self::Akcipher];

    /// The service of an opcode.
    #[must_use]
    pub fn of(opcode: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|service| *service as u32 == opcode >> 8)
    }

    /// The opcode `VIRTIO_CRYPTO_OPCODE(service, op)`.
    #[must_use]
    pub const fn opcode(self, op: u8) -> u32 {
        (self as u32) << 8 | op as u32
    }

    /// Opcode that creates a session.
    #[must_use]
    pub const fn create(self) -> u32 {
        self.opcode(if matches!(self, Self::Akcipher) { 0x04 } else { 0x02 })
    }

    /// Opcode that destroys a session.
    #[must_use]
    pub const fn destroy(self) -> u32 {
        self.opcode(if matches!(self, Self::Akcipher) { 0x05 } else { 0x03 })
    }

    /// Feature bit of the stateless mode.
    #[must_use]
    pub const fn stateless(self) -> u64 {
        feature::CIPHER_STATELESS << self as u32
    }
}

/// What a request of a data queue asks for: service and operation of its opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Operation {
    /// `VIRTIO_CRYPTO_CIPHER_ENCRYPT`
    CipherEncrypt,
    /// `VIRTIO_CRYPTO_CIPHER_DECRYPT`
    CipherDecrypt,
    /// `VIRTIO_CRYPTO_HASH`
    Hash,
    /// `VIRTIO_CRYPTO_MAC`
    Mac,
    /// `VIRTIO_CRYPTO_AEAD_ENCRYPT`
    AeadEncrypt,
    /// `VIRTIO_CRYPTO_AEAD_DECRYPT`
    AeadDecrypt,
    /// `VIRTIO_CRYPTO_AKCIPHER_ENCRYPT`
    AkcipherEncrypt,
    /// `VIRTIO_CRYPTO_AKCIPHER_DECRYPT`
    AkcipherDecrypt,
    /// `VIRTIO_CRYPTO_AKCIPHER_SIGN`
    AkcipherSign,
    /// `VIRTIO_CRYPTO_AKCIPHER_VERIFY`
    AkcipherVerify,
}

impl Operation {
    /// Every operation with its opcode and its name in counters.
    pub const ALL: [(Self, u32, &'static str); 10] = [
        (Self::CipherEncrypt, Service::Cipher.opcode(0), "cipher.encrypt"),
        (Self::CipherDecrypt, Service::Cipher.opcode(1), "cipher.decrypt"),
        (Self::Hash, Service::Hash.opcode(0), "hash"),
        (Self::Mac, Service::Mac.opcode(0), "mac"),
        (Self::AeadEncrypt, Service::Aead.opcode(0), "aead.encrypt"),
        (Self::AeadDecrypt, Service::Aead.opcode(1), "aead.decrypt"),
        (Self::AkcipherEncrypt, Service::Akcipher.opcode(0), "akcipher.encrypt"),
        (Self::AkcipherDecrypt, Service::Akcipher.opcode(1), "akcipher.decrypt"),
        (Self::AkcipherSign, Service::Akcipher.opcode(2), "akcipher.sign"),
        (Self::AkcipherVerify, Service::Akcipher.opcode(3), "akcipher.verify"),
    ];

    /// The operation of an opcode.
    #[must_use]
    pub fn of(opcode: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, code, _)| *code == opcode).map(|(op, _, _)| op)
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(self) -> Service {
        match self {
            Self::CipherEncrypt | Self::CipherDecrypt => Service::Cipher,
            Self::Hash => Service::Hash,
            Self::Mac => Service::Mac,
            Self::AeadEncrypt | Self::AeadDecrypt => Service::Aead,
            _ => Service::Akcipher,
        }
    }
}

/// `enum VIRTIO_CRYPTO_STATUS` (virtio 1.3 §5.9.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// Any failure that is none of the others.
    Err = 1,
    /// Authentication failed (AEAD decryption).
    BadMsg = 2,
    /// Operation or algorithm is unsupported.
    NotSupp = 3,
    /// No such session.
    InvSess = 4,
    /// No free session (with `REVISION_1`).
    NoSpc = 5,
    /// Signature verification failed.
    KeyRejected = 6,
}

impl Status {
    /// Every status with its name in counters.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Ok, "ok"),
        (Self::Err, "err"),
        (Self::BadMsg, "badmsg"),
        (Self::NotSupp, "notsupp"),
        (Self::InvSess, "invsess"),
        (Self::NoSpc, "nospc"),
        (Self::KeyRejected, "key_rejected"),
    ];
}

/// `VIRTIO_CRYPTO_OP_ENCRYPT`
pub const OP_ENCRYPT: u32 = 1;
/// `VIRTIO_CRYPTO_OP_DECRYPT`
pub const OP_DECRYPT: u32 = 2;
/// `VIRTIO_CRYPTO_SYM_OP_CIPHER`
pub const SYM_OP_CIPHER: u32 = 1;
/// `VIRTIO_CRYPTO_SYM_OP_ALGORITHM_CHAINING`
pub const SYM_OP_CHAINING: u32 = 2;
/// `VIRTIO_CRYPTO_SYM_ALG_CHAIN_ORDER_HASH_THEN_CIPHER`
pub const HASH_THEN_CIPHER: u32 = 1;
/// `VIRTIO_CRYPTO_SYM_ALG_CHAIN_ORDER_CIPHER_THEN_HASH`
pub const CIPHER_THEN_HASH: u32 = 2;
/// `VIRTIO_CRYPTO_SYM_HASH_MODE_PLAIN`
pub const HASH_MODE_PLAIN: u32 = 1;
/// `VIRTIO_CRYPTO_SYM_HASH_MODE_AUTH`
pub const HASH_MODE_AUTH: u32 = 2;
/// `VIRTIO_CRYPTO_FLAG_SESSION_MODE`
pub const FLAG_SESSION_MODE: u32 = 1;
/// `VIRTIO_CRYPTO_AKCIPHER_KEY_TYPE_PUBLIC`
pub const KEY_TYPE_PUBLIC: u32 = 1;
/// `VIRTIO_CRYPTO_AKCIPHER_KEY_TYPE_PRIVATE`
pub const KEY_TYPE_PRIVATE: u32 = 2;
/// `VIRTIO_CRYPTO_RSA_RAW_PADDING`
pub const RSA_RAW_PADDING: u32 = 0;
/// `VIRTIO_CRYPTO_RSA_PKCS1_PADDING`
pub const RSA_PKCS1_PADDING: u32 = 1;

/// Bytes of `op_flf` in control requests without `REVISION_1`.
pub const CTRL_FLF_LEGACY: usize = 56;
/// Bytes of `op_flf` in data requests without `REVISION_1`.
pub const DATA_FLF_LEGACY: usize = 48;

/// Declares a wire structure of `le32` fields and asserts its size.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident $size:literal {
        $($(#[$field_doc:meta])* $field:ident,)*
    }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: U32,)*
        }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

words! {
    /// `struct virtio_crypto_ctrl_header`
    CtrlHeader 16 {
        /// Service and operation.
        opcode,
        /// Algorithm; the one that counts is in the parameters.
        algo,
        /// Unused.
        flag,
        /// Reserved; Linux writes a queue index.
        reserved,
    }
}

/// `struct virtio_crypto_create_session_input`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CreateSessionInput {
    /// The session, if the status is OK.
    pub session_id: U64,
    /// [`Status`].
    pub status: U32,
    /// Zero.
    pub padding: U32,
}
const _: () = assert!(size_of::<CreateSessionInput>() == 16);

/// `struct virtio_crypto_destroy_session_flf`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DestroySession {
    /// The session.
    pub session_id: U64,
}
const _: () = assert!(size_of::<DestroySession>() == 8);

words! {
    /// `struct virtio_crypto_hash_create_session_flf`
    HashSession 8 {
        /// Hash.
        algo,
        /// Result in bytes.
        hash_result_len,
    }
}

words! {
    /// `struct virtio_crypto_mac_create_session_flf`
    MacSession 16 {
        /// MAC.
        algo,
        /// Result in bytes.
        hash_result_len,
        /// Key in bytes.
        auth_key_len,
        /// Unused.
        padding,
    }
}

words! {
    /// `struct virtio_crypto_cipher_session_flf`
    CipherSession 16 {
        /// Cipher.
        algo,
        /// Key in bytes.
        key_len,
        /// Direction.
        op,
        /// Unused.
        padding,
    }
}

/// `struct virtio_crypto_alg_chain_session_flf`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChainSession {
    /// [`HASH_THEN_CIPHER`] or [`CIPHER_THEN_HASH`].
    pub alg_chain_order: U32,
    /// [`HASH_MODE_PLAIN`] or [`HASH_MODE_AUTH`].
    pub hash_mode: U32,
    /// The cipher.
    pub cipher: CipherSession,
    /// A [`HashSession`] or [`MacSession`]; the former is a prefix of the latter.
    pub mac: MacSession,
    /// Additional data in bytes; the length in each request counts.
    pub aad_len: U32,
    /// Unused.
    pub padding: U32,
}
const _: () = assert!(size_of::<ChainSession>() == 48);

/// `struct virtio_crypto_sym_create_session_flf`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SymSession {
    /// A [`CipherSession`] or [`ChainSession`].
    pub op_flf: [u8; 48],
    /// [`SYM_OP_CIPHER`] or [`SYM_OP_CHAINING`].
    pub op_type: U32,
    /// Unused.
    pub padding: U32,
}
const _: () = assert!(size_of::<SymSession>() == 56);

words! {
    /// `struct virtio_crypto_aead_create_session_flf`
    AeadSession 24 {
        /// AEAD.
        algo,
        /// Key in bytes.
        key_len,
        /// Tag in bytes.
        tag_len,
        /// Additional data in bytes; the length in each request counts.
        aad_len,
        /// Direction.
        op,
        /// Unused.
        padding,
    }
}

words! {
    /// `struct virtio_crypto_rsa_session_para` or `struct virtio_crypto_ecdsa_session_para`, as the
    /// algorithm says.
    AkcipherParameters 8 {
        /// RSA: [`RSA_RAW_PADDING`] or [`RSA_PKCS1_PADDING`]. ECDSA: the curve.
        padding_or_curve,
        /// RSA: hash whose digest is signed. ECDSA: unused.
        hash_algo,
    }
}

/// `struct virtio_crypto_akcipher_create_session_flf`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AkcipherSession {
    /// Algorithm.
    pub algo: U32,
    /// [`KEY_TYPE_PUBLIC`] or [`KEY_TYPE_PRIVATE`].
    pub key_type: U32,
    /// DER of the key in bytes.
    pub key_len: U32,
    /// Parameters of the algorithm.
    pub parameters: AkcipherParameters,
    /// Rest of `algo_flf`.
    pub unused: [u8; 36],
}
const _: () = assert!(size_of::<AkcipherSession>() == 56);

/// `struct virtio_crypto_op_header`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OpHeader {
    /// Service and operation.
    pub opcode: U32,
    /// Algorithm; the one that counts is in the session or the parameters.
    pub algo: U32,
    /// Session, in session mode.
    pub session_id: U64,
    /// [`FLAG_SESSION_MODE`], with `REVISION_1`.
    pub flag: U32,
    /// Unused.
    pub padding: U32,
}
const _: () = assert!(size_of::<OpHeader>() == 24);

words! {
    /// `struct virtio_crypto_hash_data_flf`, also of the MAC service.
    HashData 8 {
        /// Source in bytes.
        src_data_len,
        /// Result in bytes.
        hash_result_len,
    }
}

words! {
    /// `struct virtio_crypto_hash_data_flf_stateless`
    HashDataStateless 16 {
        /// Hash.
        algo,
        /// Source in bytes.
        src_data_len,
        /// Result in bytes.
        hash_result_len,
        /// Unused.
        reserved,
    }
}

words! {
    /// `struct virtio_crypto_mac_data_flf_stateless`
    MacDataStateless 16 {
        /// MAC.
        algo,
        /// Key in bytes.
        auth_key_len,
        /// Source in bytes.
        src_data_len,
        /// Result in bytes.
        hash_result_len,
    }
}

words! {
    /// `struct virtio_crypto_cipher_data_flf`
    CipherData 16 {
        /// IV in bytes.
        iv_len,
        /// Source in bytes.
        src_data_len,
        /// Destination in bytes.
        dst_data_len,
        /// Unused.
        padding,
    }
}

words! {
    /// `struct virtio_crypto_alg_chain_data_flf`
    ChainData 40 {
        /// IV in bytes.
        iv_len,
        /// Source in bytes.
        src_data_len,
        /// Destination in bytes.
        dst_data_len,
        /// Where the cipher starts in the source.
        cipher_start_src_offset,
        /// Bytes the cipher covers.
        len_to_cipher,
        /// Where the hash starts in the source.
        hash_start_src_offset,
        /// Bytes the hash covers.
        len_to_hash,
        /// Additional data in bytes.
        aad_len,
        /// Result of the hash in bytes.
        hash_result_len,
        /// Unused.
        reserved,
    }
}

/// `struct virtio_crypto_sym_data_flf`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SymData {
    /// A [`CipherData`] or [`ChainData`].
    pub op_type_flf: [u8; 40],
    /// [`SYM_OP_CIPHER`] or [`SYM_OP_CHAINING`].
    pub op_type: U32,
    /// Unused.
    pub padding: U32,
}
const _: () = assert!(size_of::<SymData>() == 48);

words! {
    /// `sess_para` of `struct virtio_crypto_cipher_data_flf_stateless`
    CipherParameters 12 {
        /// Cipher.
        algo,
        /// Key in bytes.
        key_len,
        /// Direction.
        op,
    }
}

/// `struct virtio_crypto_cipher_data_flf_stateless`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CipherDataStateless {
    /// What a session would hold.
    pub cipher: CipherParameters,
    /// IV in bytes.
    pub iv_len: U32,
    /// Source in bytes.
    pub src_data_len: U32,
    /// Destination in bytes.
    pub dst_data_len: U32,
}
const _: () = assert!(size_of::<CipherDataStateless>() == 24);

/// `struct virtio_crypto_alg_chain_data_flf_stateless`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChainDataStateless {
    /// [`HASH_THEN_CIPHER`] or [`CIPHER_THEN_HASH`].
    pub alg_chain_order: U32,
    /// Additional data in bytes; the one in `data` counts.
    pub aad_len: U32,
    /// The cipher.
    pub cipher: CipherParameters,
    /// Hash or MAC.
    pub hash_algo: U32,
    /// Key of the MAC in bytes.
    pub auth_key_len: U32,
    /// [`HASH_MODE_PLAIN`] or [`HASH_MODE_AUTH`].
    pub hash_mode: U32,
    /// The rest, as with a session.
    pub data: ChainData,
}
const _: () = assert!(size_of::<ChainDataStateless>() == 72);

/// `struct virtio_crypto_sym_data_flf_stateless`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SymDataStateless {
    /// A [`CipherDataStateless`] or [`ChainDataStateless`].
    pub op_type_flf: [u8; 72],
    /// [`SYM_OP_CIPHER`] or [`SYM_OP_CHAINING`].
    pub op_type: U32,
}
const _: () = assert!(size_of::<SymDataStateless>() == 76);

words! {
    /// `struct virtio_crypto_aead_data_flf`
    AeadData 24 {
        /// Nonce in bytes.
        iv_len,
        /// Additional data in bytes.
        aad_len,
        /// Source in bytes; when decrypting with the tag.
        src_data_len,
        /// Destination in bytes; when encrypting with the tag.
        dst_data_len,
        /// Tag in bytes; 0 for that of the session (Linux's header lacks the field).
        tag_len,
        /// Unused.
        reserved,
    }
}

words! {
    /// `struct virtio_crypto_aead_data_flf_stateless`
    AeadDataStateless 32 {
        /// AEAD.
        algo,
        /// Key in bytes.
        key_len,
        /// Direction.
        op,
        /// Nonce in bytes.
        iv_len,
        /// Tag in bytes.
        tag_len,
        /// Additional data in bytes.
        aad_len,
        /// Source in bytes.
        src_data_len,
        /// Destination in bytes.
        dst_data_len,
    }
}

words! {
    /// `struct virtio_crypto_akcipher_data_flf`
    AkcipherData 8 {
        /// Source in bytes; when verifying, the signature.
        src_data_len,
        /// Destination in bytes; when verifying, the signed digest, which follows the source.
        dst_data_len,
    }
}

/// `struct virtio_crypto_akcipher_data_flf_stateless`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AkcipherDataStateless {
    /// Algorithm.
    pub algo: U32,
    /// [`KEY_TYPE_PUBLIC`] or [`KEY_TYPE_PRIVATE`].
    pub key_type: U32,
    /// DER of the key in bytes.
    pub key_len: U32,
    /// Parameters of the algorithm.
    pub parameters: AkcipherParameters,
    /// Source and destination.
    pub data: AkcipherData,
}
const _: () = assert!(size_of::<AkcipherDataStateless>() == 28);
