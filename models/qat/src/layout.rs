//! Firmware messages, as in memory: requests, responses, buffer lists (`icp_qat_fw*.h`).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::service::Failure;

/// Bytes of a symmetric or compression request (`ICP_QAT_FW_REQ_DEFAULT_SZ`).
pub const REQUEST_LEN: usize = 128;
/// Bytes of a public-key request.
pub const PUBLIC_KEY_REQUEST_LEN: usize = 64;
/// Bytes of any response (`ICP_QAT_FW_RESP_DEFAULT_SZ`).
pub const RESPONSE_LEN: usize = 32;
/// Every word of a slot without a response (`ADF_RING_EMPTY_SIG`): how drivers see one arrive.
pub const EMPTY: u32 = 0x7f7f_7f7f;

/// Service types (`icp_qat_fw_comn_request_id`).
pub mod service {
    /// Does nothing but answer.
    pub const NULL: u8 = 0;
    /// Public key.
    pub const PUBLIC_KEY: u8 = 3;
    /// Symmetric ("lookaside").
    pub const SYMMETRIC: u8 = 4;
    /// Compression.
    pub const COMPRESSION: u8 = 9;
}

/// Commands of the symmetric service (`icp_qat_fw_la_cmd_id`).
pub mod symmetric {
    /// Cipher alone.
    pub const CIPHER: u8 = 0;
    /// Hash or MAC alone.
    pub const AUTH: u8 = 1;
    /// Cipher, then hash what came out.
    pub const CIPHER_HASH: u8 = 2;
    /// Hash, then cipher.
    pub const HASH_CIPHER: u8 = 3;
}

/// Commands of the compression service (`icp_qat_fw_comp_cmd_id`).
pub mod compression {
    /// Deflate with the fixed Huffman codes.
    pub const STATIC: u8 = 0;
    /// Deflate with codes made for the data.
    pub const DYNAMIC: u8 = 1;
    /// Inflate.
    pub const DECOMPRESS: u8 = 2;
}

/// The request may be executed (`hdr_flags`).
pub const FLAG_VALID: u8 = 1 << 7;
/// In a response: the output was verified by decompression (`ICP_QAT_FW_COMN_CNV_FLAG`).
pub const FLAG_VERIFIED: u8 = 1 << 6;

/// In the response to a null request: the first word of the body is the firmware's version
/// (`ICP_QAT_FW_COMN_NULL_VERSION_FLAG`).
pub const FLAG_VERSION: u8 = 1 << 0;
/// The version that is told: 4.9.0, the first with the extended protocol flags
/// (`MIXED_CRYPTO_MIN_FW_VER` of DPDK's `qat_crypto_pmd_gen2.c`).
pub const FIRMWARE_VERSION: u32 = 0x0409_0000;

/// Bits of the common request flags.
pub mod common {
    /// Source and destination are buffer lists, not flat (`QAT_COMN_PTR_TYPE_SGL`).
    pub const BUFFER_LISTS: u8 = 1 << 0;
    /// The content descriptor is in the request (`QAT_COMN_CD_FLD_TYPE_16BYTE_DATA`).
    pub const CONTENT_INLINE: u8 = 1 << 1;
}

/// Fields of the service-specific flags of symmetric requests.
pub mod flags {
    /// Not all of a message (`QAT_LA_PARTIAL`), two bits.
    pub const PARTIAL: u16 = 3;
    /// The IV is in the request, not behind a pointer (`ICP_QAT_FW_CIPH_IV_16BYTE_DATA`).
    pub const IV_INLINE: u16 = 1 << 2;
    /// Configuration words come from shared RAM (`ICP_QAT_FW_CIPH_AUTH_CFG_OFFSET_IN_SHRAM_CP`).
    pub const CONFIG_IN_SHARED_RAM: u16 = 1 << 3;
    /// Write the IV back (`ICP_QAT_FW_LA_UPDATE_STATE`).
    pub const UPDATE_STATE: u16 = 1 << 4;
    /// Write the digest (`ICP_QAT_FW_LA_RET_AUTH_RES`).
    pub const RETURN_DIGEST: u16 = 1 << 5;
    /// Compare the digest (`ICP_QAT_FW_LA_CMP_AUTH_RES`).
    pub const COMPARE_DIGEST: u16 = 1 << 6;
    /// The digest follows the hashed bytes (`ICP_QAT_FW_LA_DIGEST_IN_BUFFER`).
    pub const DIGEST_IN_BUFFER: u16 = 1 << 10;
    /// GCM: the IV is 12 bytes, not a ready-made J0 (`ICP_QAT_FW_LA_GCM_IV_LEN_12_OCTETS`).
    pub const GCM_IV_12_BYTES: u16 = 1 << 11;
    /// Single pass and newer slices: parts have none of them (bits 13 to 15). Bit 12, ZUC's, says
    /// nothing that the content descriptor does not.
    pub const OTHER_SLICES: u16 = 0xe000;
    /// The protocol, three bits from bit 7 (`QAT_LA_PROTO`).
    pub const PROTOCOL_SHIFT: u16 = 7;
    /// No protocol.
    pub const PROTOCOL_NONE: u16 = 0;
    /// CCM.
    pub const PROTOCOL_CCM: u16 = 1;
    /// GCM.
    pub const PROTOCOL_GCM: u16 = 2;
    /// SNOW 3G.
    pub const PROTOCOL_SNOW_3G: u16 = 4;
}

/// Bits of the extended protocol flags.
pub mod extended {
    /// The protocol of the hash is in its own flags, and may be another than the cipher's
    /// (`QAT_LA_USE_EXTENDED_PROTOCOL_FLAGS`).
    pub const HASH_PROTOCOL: u8 = 1 << 0;
}

/// Bits of the flags of the hash.
pub mod hash_flags {
    /// SNOW 3G UIA2 (`ICP_QAT_FW_AUTH_HDR_FLAG_SNOW3G_UIA2`).
    pub const SNOW_3G: u8 = 1 << 3;
    /// ZUC EIA3 (`ICP_QAT_FW_AUTH_HDR_FLAG_ZUC_EIA3`).
    pub const ZUC: u8 = 1 << 4;
}

/// Bits of `comn_status` in responses.
pub mod status {
    /// Symmetric: failed, or the digest did not match.
    pub const CRYPTO: u8 = 1 << 7;
    /// Public key: failed.
    pub const PUBLIC_KEY: u8 = 1 << 6;
    /// Compression: failed.
    pub const COMPRESSION: u8 = 1 << 5;
    /// Decompression: the last block has ended.
    pub const END_OF_LAST_BLOCK: u8 = 1 << 3;
    /// The part cannot do this.
    pub const UNSUPPORTED: u8 = 1 << 2;
    /// A parameter is impossible.
    pub const INVALID: u8 = 1 << 1;
}

/// Error codes of responses (`ERR_CODE_*`), as they lie in their byte. Those that the model gives.
///
/// From -14 on they are those of DPDK and qatlib. Linux's header has an older list, where
/// `ERR_CODE_ENDPOINT_ERROR` is -15; Linux looks only for an overflow.
pub mod error {
    /// None.
    pub const NONE: i8 = 0;
    /// A block of the reserved type (`INVALID_BLOCK_TYPE`).
    pub const BLOCK_TYPE: i8 = -1;
    /// The length of a stored block and its complement differ (`NO_MATCH_ONES_COMP`).
    pub const STORED_LENGTHS: i8 = -2;
    /// More length or distance codes than there are (`TOO_MANY_LEN_OR_DIS`).
    pub const TOO_MANY_CODES: i8 = -3;
    /// The code for code lengths is incomplete (`INCOMPLETE_LEN`).
    pub const CODE_LENGTHS: i8 = -4;
    /// A code length is repeated too often (`RPT_GT_SPEC_LEN`). -5 is for a repeat of nothing
    /// (`RPT_LEN_NO_FIRST_LEN`), which the codec does not tell from it.
    pub const REPEAT: i8 = -6;
    /// Bad literal and length codes (`INV_LIT_LEN_CODE_LEN`).
    pub const LITERAL_CODES: i8 = -7;
    /// Bad distance codes (`INV_DIS_CODE_LEN`).
    pub const DISTANCE_CODES: i8 = -8;
    /// Bits that are no code (`INV_LIT_LEN_DIS_IN_BLK`).
    pub const CODE: i8 = -9;
    /// A distance that reaches before the start (`DIS_TOO_FAR_BACK`).
    pub const DISTANCE: i8 = -10;
    /// The output does not fit.
    pub const OVERFLOW: i8 = -11;
    /// The request makes no sense.
    pub const FATAL: i8 = -13;
    /// The input has ended, but not the stream (`HW_INCOMPLETE_FILE`).
    pub const INCOMPLETE: i8 = -15;
    /// Memory could not be accessed.
    pub const ENDPOINT: i8 = -17;
    /// What was compressed does not decompress to the input.
    pub const CNV: i8 = -18;
}

/// What every request starts with (`icp_qat_fw_comn_req_hdr`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    reserved: u8,
    /// Command of the service; reserved in public-key requests.
    pub command: u8,
    /// One of [`service`].
    pub service: u8,
    /// [`FLAG_VALID`].
    pub flags: u8,
    /// See [`flags`]. In public-key requests, the common flags.
    pub specific: U16,
    /// See [`common`].
    pub common: u8,
    /// See [`extended`].
    pub extended: u8,
}

/// Symmetric request (`icp_qat_fw_la_bulk_req`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SymmetricRequest {
    /// Header.
    pub header: Header,
    /// I/O virtual address of the content descriptor.
    pub content: U64,
    reserved_1: U16,
    /// Length of the content descriptor in 8-byte words.
    pub content_words: u8,
    reserved_2: [u8; 5],
    /// Where the data is.
    pub buffers: Buffers,
    /// Cipher parameters.
    pub cipher: CipherParameters,
    /// Hash parameters.
    pub auth: AuthParameters,
    /// Where things lie in the content descriptor.
    pub control: ContentControl,
}

/// Source and destination (`icp_qat_fw_comn_req_mid`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Buffers {
    /// Returned in the response.
    pub opaque: U64,
    /// Address of the source or its list.
    pub source: U64,
    /// Address of the destination or its list. The source's for a request in place.
    pub destination: U64,
    /// Bytes of a flat source.
    pub source_len: U32,
    /// Bytes of a flat destination.
    pub destination_len: U32,
}

/// What the cipher covers (`icp_qat_fw_la_cipher_req_params`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CipherParameters {
    /// First byte.
    pub offset: U32,
    /// Bytes.
    pub len: U32,
    /// The IV, or its address in the first 8 bytes.
    pub iv: [u8; 16],
}

/// What the hash covers and where its result is (`icp_qat_fw_la_auth_req_params`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AuthParameters {
    /// First byte.
    pub offset: U32,
    /// Bytes.
    pub len: U32,
    /// Address of the associated data.
    pub aad: U64,
    /// Address of the digest, unless it is in the buffer.
    pub result: U64,
    /// Bytes of associated data, padded to whole blocks.
    pub aad_len: u8,
    reserved: u8,
    /// Words of associated data or saved state.
    pub state_words: u8,
    /// Bytes of the digest.
    pub result_len: u8,
}

/// Where things lie in the content descriptor (`icp_qat_fw_cipher_auth_cd_ctrl_hdr`). Offsets and
/// sizes ending in `words` are in units of 8 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContentControl {
    /// The IV.
    pub iv_words: u8,
    /// The key.
    pub key_words: u8,
    /// Offset of the cipher's configuration.
    pub cipher_words: u8,
    /// Next and current slice of the cipher.
    pub cipher_slices: u8,
    padding_words: u8,
    /// See [`hash_flags`]; nested hashing and others.
    pub hash_flags: u8,
    /// Offset of the hash's configuration.
    pub hash_words: u8,
    /// Next and current slice of the hash.
    pub hash_slices: u8,
    reserved_1: u8,
    /// Bytes of the outer prefix.
    pub outer_prefix_len: u8,
    /// Bytes of the digest.
    pub digest_len: u8,
    /// Bytes of the inner digest.
    pub inner_len: u8,
    reserved_2: u8,
    /// Bytes of the first state.
    pub state1_len: u8,
    /// Offset of the second state.
    pub state2_words: u8,
    /// Bytes of the second state.
    pub state2_len: u8,
    outer: [u8; 4],
}

/// Public-key request (`icp_qat_fw_pke_request`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PublicKeyRequest {
    /// Header.
    pub header: Header,
    content: U64,
    reserved_1: U32,
    /// What to compute (`icp_qat_fw_mmp_ids.h`).
    pub function: U32,
    /// Returned in the response.
    pub opaque: U64,
    /// Address of a table of addresses of operands.
    pub source: U64,
    /// Address of a table of addresses of results.
    pub destination: U64,
    /// Results.
    pub outputs: u8,
    /// Operands.
    pub inputs: u8,
    reserved_2: [u8; 6],
    next: U64,
}

/// Compression request (`icp_qat_fw_comp_req`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompressionRequest {
    /// Header.
    pub header: Header,
    /// Configuration of the slice: direction, algorithm, search depth.
    pub config: U32,
    reserved_1: [U32; 3],
    /// Where the data is.
    pub buffers: Buffers,
    /// Bytes of source to take.
    pub len: U32,
    /// Bytes of destination to fill at most.
    pub room: U32,
    /// CRC-32 to start from.
    pub crc32: U32,
    /// Adler-32 to start from.
    pub adler32: U32,
    /// See [`compression_flags`].
    pub flags: U32,
    reserved_2: U32,
    intermediate: U64,
    reserved_3: U64,
    bank_flags: U16,
    config_offset: u8,
    slices: u8,
    reserved_4: U32,
    /// Address of saved state, which names a stateful stream.
    pub state: U64,
    /// Address of the history of a stateful stream.
    pub history: U64,
    translator: U64,
}

/// Bits of the flags of compression requests.
pub mod compression_flags {
    /// First request of a stream (`SOP`).
    pub const START: u32 = 1 << 0;
    /// Last request of a stream (`EOP`).
    pub const END: u32 = 1 << 1;
    /// Mark the last block as final (`BFINAL`). Decompression with [`END`] expects such a block.
    pub const FINAL_BLOCK: u32 = 1 << 6;
    /// Decompress the output and compare (`CNV`).
    pub const VERIFY: u32 = 1 << 16;
    /// In the service-specific flags: the session has state (`ICP_QAT_FW_COMP_STATEFUL_SESSION`).
    pub const STATEFUL: u16 = 1 << 2;
}

/// A response of any service (`icp_qat_fw_comn_resp`, `icp_qat_fw_comp_resp`,
/// `icp_qat_fw_pke_resp`). Its first byte is never that of [`EMPTY`].
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
// Aligned, so that it is copied by whole words.
#[repr(C, align(8))]
pub struct Response {
    reserved: u8,
    /// 1, the firmware's; 0 in public-key responses.
    pub source: u8,
    /// The service of the request.
    pub service: u8,
    /// [`FLAG_VALID`] and [`FLAG_VERIFIED`].
    pub flags: u8,
    /// [`error`] of the translator; of the whole public-key request.
    pub translator_error: i8,
    /// [`error`] of the compressor. In public-key responses this byte is the status.
    pub error: i8,
    /// See [`status`]; 0 in public-key responses.
    pub status: u8,
    /// The command of the request.
    pub command: u8,
    /// As in the request.
    pub opaque: U64,
    /// Counters and checksums; addresses of the tables in public-key responses.
    pub body: [U32; 4],
}

/// What a list of buffers starts with (`qat_alg_buf_list`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListHeader {
    reserved: U64,
    /// Buffers that follow.
    pub count: U32,
    mapped: U32,
}

/// One buffer of a list (`qat_alg_buf`).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListEntry {
    /// Bytes.
    pub len: U32,
    reserved: U32,
    /// Address.
    pub address: U64,
}

/// The configuration word of a cipher (`ICP_QAT_HW_CIPHER_CONFIG_BUILD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherConfig(pub u32);

impl CipherConfig {
    /// Algorithm (`icp_qat_hw_cipher_algo`).
    #[must_use]
    pub const fn algorithm(self) -> u32 {
        self.0 & 0xf
    }

    /// Mode (`icp_qat_hw_cipher_mode`).
    #[must_use]
    pub const fn mode(self) -> u32 {
        self.0 >> 4 & 0xf
    }

    /// Decrypt.
    #[must_use]
    pub const fn decrypts(self) -> bool {
        self.0 >> 8 & 1 != 0
    }

    /// The key is the one for encryption and has to be converted.
    #[must_use]
    pub const fn converts_key(self) -> bool {
        self.0 >> 9 & 1 != 0
    }
}

/// The configuration word of a hash (`ICP_QAT_HW_AUTH_CONFIG_BUILD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthConfig(pub u32);

impl AuthConfig {
    /// Algorithm (`icp_qat_hw_auth_algo`): four bits, and two more that came with SHA-3.
    #[must_use]
    pub const fn algorithm(self) -> u32 {
        self.0 & 0xf | (self.0 >> 22 & 3) << 4
    }

    /// Mode (`icp_qat_hw_auth_mode`).
    #[must_use]
    pub const fn mode(self) -> u32 {
        self.0 >> 4 & 0xf
    }
}

const _: () = assert!(size_of::<SymmetricRequest>() == REQUEST_LEN);
const _: () = assert!(size_of::<CompressionRequest>() == REQUEST_LEN);
const _: () = assert!(size_of::<PublicKeyRequest>() == PUBLIC_KEY_REQUEST_LEN);
const _: () = assert!(size_of::<Response>() == RESPONSE_LEN);
const _: () = assert!(size_of::<ListHeader>() == 16 && size_of::<ListEntry>() == 16);

impl Response {
    /// Nothing at all.
    pub(crate) fn empty() -> Self {
        Self::new_zeroed()
    }

    /// The response to a request that succeeded.
    pub(crate) fn to(header: &Header, opaque: U64) -> Self {
        Self {
            source: 1,
            service: header.service,
            flags: FLAG_VALID,
            command: header.command,
            opaque,
            ..Self::empty()
        }
    }

    /// The response to a null request.
    pub(crate) fn null(header: &Header, opaque: U64) -> Self {
        let mut response = Self::to(header, opaque);
        response.flags |= FLAG_VERSION;
        response.body[0] = U32::new(FIRMWARE_VERSION);
        response
    }

    /// Makes it the response to a request that failed.
    pub(crate) fn fail(&mut self, bit: u8, failure: Failure) {
        self.status |= bit;
        match failure {
            Failure::Unsupported => self.status |= status::UNSUPPORTED,
            Failure::Invalid => self.status |= status::INVALID,
            Failure::Mismatch => {}
            Failure::Fault => self.error = error::ENDPOINT,
            Failure::Codec(code) => self.error = code,
        }
    }

    /// The response to a public-key request, with the addresses of its tables.
    pub(crate) fn public_key(
        header: &Header,
        opaque: U64,
        tables: [u64; 2],
        result: Result<(), Failure>,
    ) -> Self {
        let (status, code) = match result {
            Ok(()) => (0, error::NONE),
            Err(Failure::Unsupported) => (status::PUBLIC_KEY, error::FATAL),
            Err(Failure::Fault) => (status::PUBLIC_KEY, error::ENDPOINT),
            Err(_) => (status::PUBLIC_KEY, error::NONE),
        };
        let [source, destination] = tables;
        Self {
            service: header.service,
            flags: FLAG_VALID,
            translator_error: code,
            // The same byte, which is the status here.
            error: i8::from_le_bytes([status]),
            opaque,
            body: zerocopy::transmute!([U64::new(source), U64::new(destination)]),
            ..Self::empty()
        }
    }
}
