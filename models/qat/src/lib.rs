//! The virtual functions of Intel QuickAssist (QAT) parts of the second generation: C62x
//! (8086:37c9), C3xxx (19e3) and DH895xCC (0443).
//!
//! There is no public specification. The drivers are the authority: Linux 6.12 and later
//! (`drivers/crypto/intel/qat`) and DPDK (`drivers/common/qat` and its users), whose headers
//! describe registers, firmware messages and error codes.
//!
//! - [`layout`]: firmware requests and responses, content descriptor words, error codes.
//! - [`registers`]: the ring bundle (BAR 0) and the mailbox with its interrupts (BAR 2).
//! - [`parameters`]: what a user can choose, and what the function is as a PCI device.
//! - [`device`]: the function itself.
//! - `counters`: what it has done.
//! - `mailbox`: the messages of the physical function, which the model plays.
//! - `interrupts`: coalescing, and the one MSI vector.
//! - `queue`: a request ring and its response ring.
//! - `service`: what the firmware does: symmetric, public key, compression.
//!
//! Responses of a ring come in the order of its requests, as DPDK relies on. Each request has one
//! response, whatever is wrong with it; only rings in memory that cannot be accessed stop, until
//! they are set up anew. Symmetric requests of up to 128 KiB are executed at once; all others are
//! jobs, of which each ring has a few at a time, and requests behind them are done meanwhile.
//!
//! # Not implemented
//! - AES-F8, ARC4, GALOIS_64 and hash mode 2, which no driver uses here; ZUC-256; Cipher-CRC, key derivation and random
//!   numbers.
//! - Messages in parts (`PARTIAL`, `UPDATE_STATE`), content descriptors inside requests.
//! - AES decryption with keys that were converted by the driver, as newer parts want them.
//! - Binary curves, SM2, DSA, and primality tests; RSA key generation.
//! - Stateful compression, LZS, and the counters of CNV errors.
//! - The `RESTARTED` notification: a driver of version 5 has answered `RESTARTING_COMPLETE` by then,
//!   and physical functions tell only those that have sent `INIT` since.
//! - What follows a `FATAL_ERROR` in a part: the model only tells of it.
//! - Ring watermarks, `INT_SRCSEL`, heartbeat, and administration messages, which virtual functions
//!   do not have.
//!
//! # Where the drivers leave it open
//! - A request whose digest does not match writes nothing. A hash alone writes its digest only. Where
//!   both are written, the data are first; if the digest's address is out of reach, they stay written.
//! - Only what is used of a buffer need be in reach: of one that a cipher changes in place or a hash
//!   covers, not the bytes before.
//! - A GCM request with nothing to encrypt is GMAC over what the hash covers.
//! - Failures of symmetric requests also have the common bits for unsupported requests and invalid
//!   parameters; memory that cannot be accessed is `ERR_CODE_ENDPOINT_ERROR`.
//! - Linux's header and those of DPDK and qatlib number the error codes from -14 on in two ways. The
//!   model's are the latter: an endpoint error is -17. For qatlib the -15 of Linux's is a stream that
//!   has not ended, and that it takes for a success.
//! - The firmware version, for which a null request asks, is 4.9.0: the first with which DPDK mixes
//!   ciphers and MACs of 3GPP with those of other families.
//! - A CCM request without B0 is invalid. DPDK's length of B0 and associated data wraps to 0 at 223
//!   and 224 bytes of the latter.
//! - Compression with fixed codes stores what they would make longer; a part may write it longer.
//! - Compression that does not fit is cut at a block boundary, with all counts and checksums of what
//!   did fit.
//! - Decompression of a request with both `EOP` and `BFINAL`, as all without state have, fails with
//!   `ERR_CODE_HW_INCOMPLETE_FILE` if the input has no end, with all counts and checksums. Without
//!   `BFINAL`, as in DPDK's requests with state, it succeeds.
//! - The checksums of a stream with state go on where the last request ended, whatever the next says.
//! - Revision and class of all parts are those of C62x. The PCI Express capability of 0443 is in the
//!   list, where the part hides it and Linux adds it (`quirk_intel_qat_vf_cap`).
#![forbid(unsafe_code)]

mod counters;
pub mod device;
mod interrupts;
pub mod layout;
mod mailbox;
pub mod parameters;
mod queue;
pub mod registers;
mod service;

pub use device::Qat;
pub use parameters::{Parameters, Part};

#[cfg(test)]
mod tests;
