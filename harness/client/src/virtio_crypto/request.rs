//! Sessions and operations, and how they look to the device (§5.9.7.2 to §5.9.7.8).
//!
//! Every encoder writes what it is told: whether a device refuses nonsense is for tests to see.

use crate::virtio_crypto::{akcipher, feature, service};

/// Fixed-length fields of a control request before revision 1.
const LEGACY_CONTROL: usize = 56;
/// Fixed-length fields of a data request before revision 1.
const LEGACY_DATA: usize = 48;
const SESSION_MODE: u32 = 1;

/// Why the device did not do what it was asked (§5.9.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Status {
    /// `VIRTIO_CRYPTO_ERR`.
    #[error("the device failed the request (ERR)")]
    Err = 1,
    /// `VIRTIO_CRYPTO_BADMSG`.
    #[error("authentication failed (BADMSG)")]
    BadMsg = 2,
    /// `VIRTIO_CRYPTO_NOTSUPP`.
    #[error("not supported (NOTSUPP)")]
    NotSupp = 3,
    /// `VIRTIO_CRYPTO_INVSESS`.
    #[error("no such session (INVSESS)")]
    InvSess = 4,
    /// `VIRTIO_CRYPTO_NOSPC`.
    #[error("no room for another session (NOSPC)")]
    NoSpc = 5,
    /// `VIRTIO_CRYPTO_KEY_REJECTED`.
    #[error("the signature is wrong (KEY_REJECTED)")]
    KeyRejected = 6,
}

impl Status {
    /// `Ok(None)` is success. `Err` gives back a value that the services here never return.
    pub(crate) fn from_wire(value: u32) -> Result<Option<Self>, u32> {
        match value {
            0 => Ok(None),
            1 => Ok(Some(Self::Err)),
            2 => Ok(Some(Self::BadMsg)),
            3 => Ok(Some(Self::NotSupp)),
            4 => Ok(Some(Self::InvSess)),
            5 => Ok(Some(Self::NoSpc)),
            6 => Ok(Some(Self::KeyRejected)),
            other => Err(other),
        }
    }
}

/// Which way a cipher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Encrypt.
    Encrypt = 1,
    /// Decrypt.
    Decrypt = 2,
}

/// A cipher and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CipherKey {
    /// One of [`cipher`](crate::virtio_crypto::cipher).
    pub algorithm: u32,
    /// Direction that the session is for.
    pub direction: Direction,
    /// Key.
    pub key: Vec<u8>,
}

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKey {
    /// One of [`hash`](crate::virtio_crypto::hash).
    pub algorithm: u32,
    /// Bytes of the digest asked for.
    pub result_len: u32,
}

/// A MAC and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacKey {
    /// One of [`mac`](crate::virtio_crypto::mac).
    pub algorithm: u32,
    /// Bytes of the tag asked for.
    pub result_len: u32,
    /// Key.
    pub key: Vec<u8>,
}

/// An AEAD algorithm and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AeadKey {
    /// One of [`aead`](crate::virtio_crypto::aead).
    pub algorithm: u32,
    /// Direction that the session is for.
    pub direction: Direction,
    /// Key.
    pub key: Vec<u8>,
    /// Bytes of the tag.
    pub tag_len: u32,
    /// Bytes of additional authenticated data.
    pub aad_len: u32,
}

/// What comes first in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Hash, then cipher.
    HashThenCipher = 1,
    /// Cipher, then hash.
    CipherThenHash = 2,
}

/// What the hash of a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashMode {
    /// A plain hash; the algorithm is one of [`hash`](crate::virtio_crypto::hash).
    Plain = 1,
    /// A MAC; the algorithm is one of [`mac`](crate::virtio_crypto::mac).
    Auth = 2,
    /// A nested hash.
    Nested = 3,
}

/// A cipher chained with a hash or MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainKey {
    /// What comes first.
    pub order: Order,
    /// The cipher.
    pub cipher: CipherKey,
    /// Hash or MAC.
    pub mode: HashMode,
    /// Its algorithm, key (empty for a plain hash) and result length.
    pub hash: MacKey,
    /// Bytes of additional authenticated data.
    pub aad_len: u32,
}

/// Which half of a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Public.
    Public = 1,
    /// Private.
    Private = 2,
}

/// Parameters of an asymmetric algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RSA with one of the paddings and digests of [`akcipher`].
    Rsa {
        /// Padding.
        padding: u32,
        /// Digest named in signatures.
        hash: u32,
    },
    /// ECDSA on one of the curves of [`akcipher`].
    Ecdsa {
        /// Curve.
        curve: u32,
    },
}

/// An asymmetric key, encoded as §5.9.7.2.1.6 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AkcipherKey {
    /// Algorithm and its parameters.
    pub scheme: Scheme,
    /// Which half.
    pub kind: KeyKind,
    /// The encoded key.
    pub key: Vec<u8>,
}

/// What a session is created with, or a stateless request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameters {
    /// A cipher.
    Cipher(CipherKey),
    /// A cipher chained with a hash or MAC (also of the cipher service).
    Chain(ChainKey),
    /// A hash.
    Hash(HashKey),
    /// A MAC.
    Mac(MacKey),
    /// Authenticated encryption.
    Aead(AeadKey),
    /// Asymmetric.
    Akcipher(AkcipherKey),
}

impl Parameters {
    /// One of [`service`].
    #[must_use]
    pub fn service(&self) -> u32 {
        match self {
            Self::Cipher(_) | Self::Chain(_) => service::CIPHER,
            Self::Hash(_) => service::HASH,
            Self::Mac(_) => service::MAC,
            Self::Aead(_) => service::AEAD,
            Self::Akcipher(_) => service::AKCIPHER,
        }
    }

    fn algorithm(&self) -> u32 {
        match self {
            Self::Cipher(key) => key.algorithm,
            Self::Chain(key) => key.cipher.algorithm,
            Self::Hash(key) => key.algorithm,
            Self::Mac(key) => key.algorithm,
            Self::Aead(key) => key.algorithm,
            Self::Akcipher(key) => key.scheme.algorithm(),
        }
    }
}

impl Scheme {
    fn algorithm(self) -> u32 {
        match self {
            Self::Rsa { .. } => akcipher::RSA,
            Self::Ecdsa { .. } => akcipher::ECDSA,
        }
    }

    fn words(self) -> [u32; 2] {
        match self {
            Self::Rsa { padding, hash } => [padding, hash],
            Self::Ecdsa { curve } => [curve, 0],
        }
    }
}

/// A session that the device has created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// What the device calls it.
    pub id: u64,
    /// Its service, one of [`service`].
    pub service: u32,
}

/// Where a data request gets its parameters from.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A session.
    Session(Session),
    /// The request itself.
    Stateless(&'a Parameters),
}

/// A part of the source data, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length.
    pub len: u32,
}

/// What to do with a chained request's data.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// Direction of the cipher.
    pub direction: Direction,
    /// Initialisation vector.
    pub iv: &'a [u8],
    /// Additional authenticated data.
    pub aad: &'a [u8],
    /// Source data.
    pub src: &'a [u8],
    /// What the cipher covers.
    pub cipher: Span,
    /// What the hash covers.
    pub hash: Span,
    /// Room for destination data, in bytes.
    pub dst_len: u32,
    /// Room for the hash, in bytes.
    pub hash_len: u32,
}

/// Operations of the akcipher service with one input and one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Akcipher {
    /// Encrypt.
    Encrypt = 0,
    /// Decrypt.
    Decrypt = 1,
    /// Sign.
    Sign = 2,
}

/// What a data request asks for.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// Encrypt or decrypt; the result is as long as the source.
    Cipher {
        /// Direction.
        direction: Direction,
        /// Initialisation vector, counter or tweak.
        iv: &'a [u8],
        /// Source data.
        src: &'a [u8],
    },
    /// Encrypt or decrypt, and hash. The result is the destination data and the hash.
    Chain(Chain<'a>),
    /// Hash.
    Hash {
        /// Source data.
        src: &'a [u8],
        /// Room for the digest, in bytes.
        result_len: u32,
    },
    /// Authenticate.
    Mac {
        /// Source data.
        src: &'a [u8],
        /// Room for the tag, in bytes.
        result_len: u32,
    },
    /// Encrypt (the result ends in the tag) or decrypt (the source ends in the tag).
    Aead {
        /// Direction.
        direction: Direction,
        /// Nonce.
        iv: &'a [u8],
        /// Additional authenticated data.
        aad: &'a [u8],
        /// Source data.
        src: &'a [u8],
        /// Bytes of the tag.
        tag_len: u32,
    },
    /// Encrypt, decrypt or sign.
    Akcipher {
        /// Which.
        operation: Akcipher,
        /// Source data.
        src: &'a [u8],
        /// Room for the result, in bytes. The result may be shorter.
        dst_len: u32,
    },
    /// Check a signature. There is no result beyond the status.
    Verify {
        /// Signature.
        signature: &'a [u8],
        /// What was signed.
        digest: &'a [u8],
    },
}

impl Operation<'_> {
    /// One of [`service`].
    #[must_use]
    pub fn service(&self) -> u32 {
        match self {
            Self::Cipher { .. } | Self::Chain(_) => service::CIPHER,
            Self::Hash { .. } => service::HASH,
            Self::Mac { .. } => service::MAC,
            Self::Aead { .. } => service::AEAD,
            Self::Akcipher { .. } | Self::Verify { .. } => service::AKCIPHER,
        }
    }

    fn opcode(&self) -> u32 {
        let op = match self {
            Self::Cipher { direction, .. }
            | Self::Aead { direction, .. }
            | Self::Chain(Chain { direction, .. }) => *direction as u32 - 1,
            Self::Hash { .. } | Self::Mac { .. } => 0,
            Self::Akcipher { operation, .. } => *operation as u32,
            Self::Verify { .. } => 3,
        };
        self.service() << 8 | op
    }
}

/// A request as bytes for the device to read and room for it to write. Tests may change the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Header, fixed-length fields, variable-length fields.
    pub readable: Vec<Vec<u8>>,
    /// Lengths of the results, then of the status field.
    pub writable: Vec<u32>,
    /// Whether [`writable`](Self::writable) must be filled on success.
    pub exact: bool,
}

/// Little-endian fields, one after the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn words(mut self, words: &[u32]) -> Self {
        self.0.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Zeroes up to `len` bytes in all.
    fn pad(mut self, len: usize) -> Self {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        self
    }
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Encodes the creation of a session.
#[must_use]
pub fn create_session(features: u64, parameters: &Parameters) -> Encoded {
    let op = if parameters.service() == service::AKCIPHER { 0x04 } else { 0x02 };
    let header = control_header(parameters.service() << 8 | op, parameters.algorithm());
    let (flf, keys) = session_fields(parameters);
    let mut readable = vec![finish_control(header, flf, features)];
    readable.extend(keys.into_iter().filter(|key| !key.is_empty()).map(<[u8]>::to_vec));
    // struct virtio_crypto_create_session_input
    Encoded { readable, writable: vec![16], exact: true }
}

/// Encodes the destruction of a session.
#[must_use]
pub fn destroy_session(features: u64, session: Session) -> Encoded {
    let op = if session.service == service::AKCIPHER { 0x05 } else { 0x03 };
    let header = control_header(session.service << 8 | op, 0);
    let flf = Fields::default().u64(session.id);
    // struct virtio_crypto_destroy_session_input
    let readable = vec![finish_control(header, flf, features)];
    Encoded { readable, writable: vec![1], exact: true }
}

fn control_header(opcode: u32, algorithm: u32) -> Fields {
    Fields::default().words(&[opcode, algorithm, 0, 0])
}

fn finish_control(mut header: Fields, flf: Fields, features: u64) -> Vec<u8> {
    let revision_1 = features & feature::REVISION_1 != 0;
    header.0.extend(flf.pad(if revision_1 { 0 } else { LEGACY_CONTROL }).0);
    header.0
}

fn session_fields(parameters: &Parameters) -> (Fields, Vec<&[u8]>) {
    let fields = Fields::default();
    match parameters {
        Parameters::Cipher(key) => {
            let fields = fields.words(&cipher_session(key)).pad(48).words(&[1, 0]);
            (fields, vec![&key.key])
        }
        Parameters::Chain(key) => {
            let fields = fields
                .words(&[key.order as u32, key.mode as u32])
                .words(&cipher_session(&key.cipher))
                .words(&mac_session(&key.hash))
                .words(&[key.aad_len, 0])
                .pad(48)
                .words(&[2, 0]);
            (fields, vec![&key.cipher.key, &key.hash.key])
        }
        Parameters::Hash(key) => (fields.words(&[key.algorithm, key.result_len]), vec![]),
        Parameters::Mac(key) => (fields.words(&mac_session(key)), vec![&key.key]),
        Parameters::Aead(key) => {
            let (len, op) = (len32(&key.key), key.direction as u32);
            let words = [key.algorithm, len, key.tag_len, key.aad_len, op, 0];
            (fields.words(&words), vec![&key.key])
        }
        Parameters::Akcipher(key) => {
            let words = [key.scheme.algorithm(), key.kind as u32, len32(&key.key)];
            (fields.words(&words).words(&key.scheme.words()).pad(56), vec![&key.key])
        }
    }
}

/// struct virtio_crypto_cipher_session_flf
fn cipher_session(key: &CipherKey) -> [u32; 4] {
    [key.algorithm, len32(&key.key), key.direction as u32, 0]
}

/// struct virtio_crypto_mac_create_session_flf; its start is the hash's.
fn mac_session(key: &MacKey) -> [u32; 4] {
    [key.algorithm, key.result_len, len32(&key.key), 0]
}

/// Encodes a data request. `None` if parameters and operation are of different kinds.
#[must_use]
pub fn data_request(
    features: u64,
    target: Target<'_>,
    operation: &Operation<'_>,
) -> Option<Encoded> {
    let opcode = operation.opcode();
    let (header, flf, keys) = match target {
        Target::Session(session) => {
            let header = data_header(opcode, 0, session.id, SESSION_MODE);
            (header, session_mode_fields(operation), vec![])
        }
        Target::Stateless(parameters) => {
            let header = data_header(opcode, parameters.algorithm(), 0, 0);
            let (flf, keys) = stateless_fields(parameters, operation)?;
            (header, flf, keys)
        }
    };
    let revision_1 = features & feature::REVISION_1 != 0;
    let mut head = header.0;
    head.extend(flf.pad(if revision_1 { 0 } else { LEGACY_DATA }).0);
    let stateless = matches!(target, Target::Stateless(_));
    let (inputs, mut writable) = variable_fields(operation, stateless);
    let parts = keys.into_iter().chain(inputs).filter(|part| !part.is_empty());
    let readable = std::iter::once(head).chain(parts.map(<[u8]>::to_vec)).collect();
    writable.retain(|len| *len > 0);
    // struct virtio_crypto_inhdr
    writable.push(1);
    Some(Encoded { readable, writable, exact: !matches!(operation, Operation::Akcipher { .. }) })
}

fn data_header(opcode: u32, algorithm: u32, session: u64, flag: u32) -> Fields {
    Fields::default().words(&[opcode, algorithm]).u64(session).words(&[flag, 0])
}

fn session_mode_fields(operation: &Operation<'_>) -> Fields {
    let fields = Fields::default();
    match operation {
        Operation::Cipher { iv, src, .. } => {
            let words = [len32(iv), len32(src), len32(src), 0];
            fields.words(&words).pad(40).words(&[1, 0])
        }
        Operation::Chain(chain) => fields.words(&chain_words(chain)).words(&[2, 0]),
        Operation::Hash { src, result_len } | Operation::Mac { src, result_len } => {
            fields.words(&[len32(src), *result_len])
        }
        Operation::Aead { direction, iv, aad, src, tag_len } => {
            let dst = aead_dst(*direction, src, *tag_len);
            fields.words(&[len32(iv), len32(aad), len32(src), dst, *tag_len, 0])
        }
        Operation::Akcipher { src, dst_len, .. } => fields.words(&[len32(src), *dst_len]),
        Operation::Verify { signature, digest } => fields.words(&[len32(signature), len32(digest)]),
    }
}

fn stateless_fields<'a>(
    parameters: &'a Parameters,
    operation: &Operation<'_>,
) -> Option<(Fields, Vec<&'a [u8]>)> {
    let fields = Fields::default();
    Some(match (parameters, operation) {
        (Parameters::Cipher(key), Operation::Cipher { direction, iv, src }) => {
            let session = [key.algorithm, len32(&key.key), *direction as u32];
            let words = [len32(iv), len32(src), len32(src)];
            (fields.words(&session).words(&words).pad(72).words(&[1]), vec![&key.key])
        }
        (Parameters::Chain(key), Operation::Chain(chain)) => {
            let fields = fields.words(&stateless_chain(key, chain)).words(&chain_words(chain));
            (fields.pad(72).words(&[2]), vec![&key.cipher.key, &key.hash.key])
        }
        (Parameters::Hash(key), Operation::Hash { src, result_len }) => {
            (fields.words(&[key.algorithm, len32(src), *result_len, 0]), vec![])
        }
        (Parameters::Mac(key), Operation::Mac { src, result_len }) => {
            let words = [key.algorithm, len32(&key.key), len32(src), *result_len];
            (fields.words(&words), vec![&key.key])
        }
        (Parameters::Aead(key), Operation::Aead { direction, iv, aad, src, tag_len }) => {
            let dst = aead_dst(*direction, src, *tag_len);
            let session = [key.algorithm, len32(&key.key), *direction as u32];
            let words = [len32(iv), *tag_len, len32(aad), len32(src), dst];
            (fields.words(&session).words(&words), vec![&key.key])
        }
        (Parameters::Akcipher(key), Operation::Akcipher { src, dst_len, .. }) => {
            (stateless_akcipher(key, len32(src), *dst_len), vec![&key.key])
        }
        (Parameters::Akcipher(key), Operation::Verify { signature, digest }) => {
            (stateless_akcipher(key, len32(signature), len32(digest)), vec![&key.key])
        }
        _ => return None,
    })
}

/// `sess_para` of struct virtio_crypto_alg_chain_data_flf_stateless.
fn stateless_chain(key: &ChainKey, chain: &Chain<'_>) -> [u32; 8] {
    let (cipher, hash) = (&key.cipher, &key.hash);
    [
        key.order as u32,
        key.aad_len,
        cipher.algorithm,
        len32(&cipher.key),
        chain.direction as u32,
        hash.algorithm,
        len32(&hash.key),
        key.mode as u32,
    ]
}

/// struct virtio_crypto_akcipher_data_flf_stateless
fn stateless_akcipher(key: &AkcipherKey, src: u32, dst: u32) -> Fields {
    let session = [key.scheme.algorithm(), key.kind as u32, len32(&key.key)];
    Fields::default().words(&session).words(&key.scheme.words()).words(&[src, dst])
}

/// struct virtio_crypto_alg_chain_data_flf
fn chain_words(chain: &Chain<'_>) -> [u32; 10] {
    [
        len32(chain.iv),
        len32(chain.src),
        chain.dst_len,
        chain.cipher.start,
        chain.cipher.len,
        chain.hash.start,
        chain.hash.len,
        len32(chain.aad),
        chain.hash_len,
        0,
    ]
}

/// Room for ciphertext and tag, or for the plaintext.
fn aead_dst(direction: Direction, src: &[u8], tag_len: u32) -> u32 {
    match direction {
        Direction::Encrypt => len32(src).saturating_add(tag_len),
        Direction::Decrypt => len32(src).saturating_sub(tag_len),
    }
}

/// What follows the keys, in order, and the lengths of the results.
fn variable_fields<'a>(operation: &Operation<'a>, stateless: bool) -> (Vec<&'a [u8]>, Vec<u32>) {
    match *operation {
        Operation::Cipher { iv, src, .. } => (vec![iv, src], vec![len32(src)]),
        Operation::Chain(Chain { iv, aad, src, dst_len, hash_len, .. }) => {
            // The two modes differ in the order of data and additional data.
            let inputs = if stateless { vec![iv, aad, src] } else { vec![iv, src, aad] };
            (inputs, vec![dst_len, hash_len])
        }
        Operation::Hash { src, result_len } | Operation::Mac { src, result_len } => {
            (vec![src], vec![result_len])
        }
        Operation::Aead { direction, iv, aad, src, tag_len } => {
            (vec![iv, src, aad], vec![aead_dst(direction, src, tag_len)])
        }
        Operation::Akcipher { src, dst_len, .. } => (vec![src], vec![dst_len]),
        Operation::Verify { signature, digest } => (vec![signature, digest], vec![]),
    }
}
