//! Content descriptors and requests, as bytes.

/// Cipher algorithms.
pub mod cipher {
    /// Leaves the data as it is.
    pub const NULL: u32 = 0;
    /// DES.
    pub const DES: u32 = 1;
    /// 3DES.
    pub const TDES: u32 = 2;
    /// AES-128.
    pub const AES_128: u32 = 3;
    /// AES-192.
    pub const AES_192: u32 = 4;
    /// AES-256.
    pub const AES_256: u32 = 5;
    /// KASUMI.
    pub const KASUMI: u32 = 7;
    /// SNOW 3G.
    pub const SNOW_3G: u32 = 8;
    /// ZUC.
    pub const ZUC: u32 = 9;
}

/// Extended protocol flag: the protocol of the hash is in its own flags, which are in byte 5 of
/// [`Content::control`].
pub const EXTENDED_HASH_PROTOCOL: u8 = 1 << 0;

/// Flags of the hash.
pub mod hash_flag {
    /// SNOW 3G UIA2.
    pub const SNOW_3G: u8 = 1 << 3;
    /// ZUC EIA3.
    pub const ZUC: u8 = 1 << 4;
}

/// Cipher modes.
pub mod mode {
    /// ECB.
    pub const ECB: u32 = 0;
    /// CBC.
    pub const CBC: u32 = 1;
    /// CTR.
    pub const CTR: u32 = 2;
    /// F8.
    pub const F8: u32 = 3;
    /// XTS.
    pub const XTS: u32 = 6;
}

/// Hash algorithms.
pub mod hash {
    /// A digest of zeros.
    pub const NULL: u32 = 0;
    /// SHA-1.
    pub const SHA_1: u32 = 1;
    /// MD5.
    pub const MD5: u32 = 2;
    /// SHA-224.
    pub const SHA_224: u32 = 3;
    /// SHA-256.
    pub const SHA_256: u32 = 4;
    /// SHA-384.
    pub const SHA_384: u32 = 5;
    /// SHA-512.
    pub const SHA_512: u32 = 6;
    /// AES-XCBC and AES-CMAC.
    pub const AES_XCBC: u32 = 7;
    /// CBC-MAC of CCM.
    pub const AES_CBC_MAC: u32 = 8;
    /// GHASH.
    pub const GALOIS_128: u32 = 10;
    /// SHA3-256.
    pub const SHA3_256: u32 = 17;
}

/// Commands.
pub mod command {
    /// Symmetric: cipher.
    pub const CIPHER: u8 = 0;
    /// Symmetric: hash.
    pub const AUTH: u8 = 1;
    /// Symmetric: cipher, then hash.
    pub const CIPHER_HASH: u8 = 2;
    /// Symmetric: hash, then cipher.
    pub const HASH_CIPHER: u8 = 3;
    /// Compression: fixed codes.
    pub const STATIC: u8 = 0;
    /// Compression: dynamic codes.
    pub const DYNAMIC: u8 = 1;
    /// Compression: decompress.
    pub const DECOMPRESS: u8 = 2;
}

/// Flags of symmetric requests.
pub mod flag {
    /// The IV is in the request.
    pub const IV_INLINE: u16 = 1 << 2;
    /// Write the digest.
    pub const RETURN_DIGEST: u16 = 1 << 5;
    /// Compare the digest.
    pub const COMPARE_DIGEST: u16 = 1 << 6;
    /// CCM.
    pub const CCM: u16 = 1 << 7;
    /// GCM.
    pub const GCM: u16 = 2 << 7;
    /// The digest follows the hashed bytes.
    pub const DIGEST_IN_BUFFER: u16 = 1 << 10;
    /// The IV of GCM has 12 bytes.
    pub const IV_12_BYTES: u16 = 1 << 11;
}

/// Flags of compression requests.
pub mod compression_flag {
    /// First of a stream.
    pub const START: u32 = 1 << 0;
    /// Last of a stream.
    pub const END: u32 = 1 << 1;
    /// The last block is final.
    pub const FINAL_BLOCK: u32 = 1 << 6;
    /// Verify the output.
    pub const VERIFY: u32 = 1 << 16;
}

const VALID: u8 = 1 << 7;
const SERVICE_PUBLIC_KEY: u8 = 3;
const SERVICE_SYMMETRIC: u8 = 4;
const SERVICE_COMPRESSION: u8 = 9;
const LISTS: u8 = 1;
const CONTENT_INLINE: u8 = 2;

/// A length as a byte. Those that do not fit are for the device to refuse.
fn byte(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

/// A content descriptor, and the control words that say where things lie in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The descriptor. Its parts are in the order in which they were added.
    pub bytes: Vec<u8>,
    /// The last five words of a request.
    pub control: [u8; 20],
}

impl Content {
    /// Adds a cipher, with its key. Decryption has the key converted, as both drivers do.
    #[must_use]
    pub fn cipher(mut self, algorithm: u32, mode: u32, decrypt: bool, key: &[u8]) -> Self {
        let config = algorithm | mode << 4 | u32::from(decrypt) << 8 | u32::from(decrypt) << 9;
        let iv_len = if matches!(algorithm, cipher::DES | cipher::TDES) { 8 } else { 16 };
        self.control[0] = iv_len / 8;
        self.control[1] = byte(key.len() / 8);
        self.control[2] = byte(self.bytes.len() / 8);
        self.bytes.extend(config.to_le_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(key);
        self.pad()
    }

    /// Adds a hash: its mode (0 plain, 1 keyed), the bytes hashed before the states, and these.
    #[must_use]
    pub fn auth(
        mut self,
        algorithm: u32,
        mode: u32,
        counter: u32,
        states: [&[u8]; 2],
        digest_len: u8,
    ) -> Self {
        let config =
            algorithm & 0xf | mode << 4 | u32::from(digest_len) << 8 | (algorithm >> 4 & 3) << 22;
        let start = self.bytes.len();
        self.bytes.extend(config.to_le_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(counter.to_be_bytes());
        self.bytes.extend([0; 4]);
        let [state1, state2] = states;
        self.bytes.extend(state1);
        self = self.pad();
        self.control[6] = byte(start / 8);
        self.control[10] = digest_len;
        self.control[11] = digest_len;
        self.control[13] = byte(state1.len().next_multiple_of(8));
        self.control[14] = byte(self.bytes.len() / 8);
        self.control[15] = byte(state2.len().next_multiple_of(8));
        self.bytes.extend(state2);
        self.pad()
    }

    fn pad(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self
    }
}

/// Where data is: opaque value, addresses and lengths of source and destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buffers {
    /// Comes back in the response.
    pub opaque: u64,
    /// Address of the source or its list.
    pub source: u64,
    /// Address of the destination or its list.
    pub destination: u64,
    /// Bytes of a flat source.
    pub source_len: u32,
    /// Bytes of a flat destination.
    pub destination_len: u32,
    /// Both are lists.
    pub lists: bool,
}

impl Buffers {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [self.opaque, self.source, self.destination] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.source_len.to_le_bytes());
        bytes.extend(self.destination_len.to_le_bytes());
        bytes
    }
}

/// A symmetric request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Symmetric {
    /// Command.
    pub command: u8,
    /// Flags.
    pub flags: u16,
    /// Address of the content descriptor.
    pub content: u64,
    /// Its length in bytes.
    pub content_len: usize,
    /// Its control words.
    pub control: [u8; 20],
    /// Where data is.
    pub buffers: Buffers,
    /// First byte and length of what is ciphered.
    pub cipher: (u32, u32),
    /// The IV.
    pub iv: [u8; 16],
    /// First byte and length of what is hashed.
    pub auth: (u32, u32),
    /// Address of associated data.
    pub aad: u64,
    /// Its padded length in bytes.
    pub aad_len: u8,
    /// Address of the digest.
    pub digest: u64,
    /// Extended protocol flags.
    pub extended: u8,
}

impl Symmetric {
    /// The request as it lies in the ring.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, self.command, SERVICE_SYMMETRIC, VALID];
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend([u8::from(self.buffers.lists) * LISTS, self.extended]);
        bytes.extend(self.content.to_le_bytes());
        bytes.extend([0, 0, byte(self.content_len / 8), 0, 0, 0, 0, 0]);
        bytes.extend(self.buffers.bytes());
        bytes.extend(self.cipher.0.to_le_bytes());
        bytes.extend(self.cipher.1.to_le_bytes());
        bytes.extend(self.iv);
        bytes.extend(self.auth.0.to_le_bytes());
        bytes.extend(self.auth.1.to_le_bytes());
        bytes.extend(self.aad.to_le_bytes());
        bytes.extend(self.digest.to_le_bytes());
        bytes.extend([self.aad_len, 0, self.aad_len / 8, self.control[10]]);
        bytes.extend(self.control);
        bytes
    }
}

/// A public-key request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Number of the function.
    pub function: u32,
    /// Operands, each of the length that the function wants.
    pub operands: Vec<Vec<u8>>,
    /// Lengths of the results in bytes.
    pub results: Vec<usize>,
}

impl PublicKey {
    /// The request as it lies in the ring, with its tables at these addresses.
    #[must_use]
    pub fn encode(&self, opaque: u64, source: u64, destination: u64) -> Vec<u8> {
        let mut bytes = vec![0, 0, SERVICE_PUBLIC_KEY, VALID, 0, 0, 0, 0];
        bytes.extend([0; 12]);
        bytes.extend(self.function.to_le_bytes());
        for word in [opaque, source, destination] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([byte(self.results.len()), byte(self.operands.len())]);
        bytes.resize(64, 0);
        bytes
    }
}

/// A compression request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compression {
    /// Command.
    pub command: u8,
    /// The session has state, kept at this address.
    pub state: Option<u64>,
    /// Search depth, 0 to 4.
    pub depth: u32,
    /// Where data is.
    pub buffers: Buffers,
    /// Bytes to take.
    pub len: u32,
    /// Bytes to fill at most.
    pub room: u32,
    /// Flags.
    pub flags: u32,
}

impl Compression {
    /// The request as it lies in the ring. Checksums start from their usual values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, self.command, SERVICE_COMPRESSION, VALID];
        bytes.extend((u16::from(self.state.is_some()) << 2).to_le_bytes());
        bytes.extend([CONTENT_INLINE | (u8::from(self.buffers.lists) * LISTS), 0]);
        let direction = u32::from(self.command == command::DECOMPRESS);
        bytes.extend(((direction << 4) | (self.depth << 28)).to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(self.buffers.bytes());
        for word in [self.len, self.room, 0, 1, self.flags, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0; 24]);
        let state = self.state.unwrap_or(0);
        bytes.extend(state.to_le_bytes());
        bytes.extend(state.to_le_bytes());
        bytes.resize(128, 0);
        bytes
    }
}
