//! NNC messages: header, transactions, and the commands within passthrough transactions.
//!
//! Wire structures are those of `drivers/accel/qaic/qaic_control.c`; commands and statuses those of
//! the vendor's open runtime (`QNncProtocol.h`).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `MANAGE_MAGIC_NUMBER`: "QAIC".
pub const MAGIC: u32 = 0x4349_4151;
/// Bytes of a header.
pub const HEADER_LEN: usize = 32;
/// Most bytes of a message to the device.
pub const REQUEST_MAX: usize = 0x1_0000;
/// Most bytes of a message from the device.
pub const REPLY_MAX: usize = 0x1000;
/// `QAIC_NO_PARTITION`
pub const NO_PARTITION: u32 = u32::MAX;

/// `struct wire_msg_hdr`
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// CRC-32 of the message, with this field 0.
    pub crc: U32,
    /// [`MAGIC`].
    pub magic: U32,
    /// Returned in the reply.
    pub sequence: U32,
    /// Bytes of the message.
    pub len: U32,
    /// Transactions.
    pub count: U32,
    /// The user.
    pub handle: U32,
    /// Partition of the device.
    pub partition: U32,
    /// 0.
    pub padding: U32,
}
const _: () = assert!(size_of::<Header>() == HEADER_LEN);

/// Types of transactions.
pub mod transaction {
    /// Reply to a passthrough.
    pub const PASSTHROUGH_FROM_DEVICE: u32 = 3;
    /// A command.
    pub const PASSTHROUGH: u32 = 4;
    /// Where the host's data lies.
    pub const DMA_TRANSFER: u32 = 6;
    /// The channel of an activation.
    pub const ACTIVATE_FROM_DEVICE: u32 = 8;
    /// Memory for the channel of an activation.
    pub const ACTIVATE: u32 = 9;
    /// The channel of an activation is free again.
    pub const DEACTIVATE_FROM_DEVICE: u32 = 11;
    /// Version of the protocol, status.
    pub const STATUS_FROM_DEVICE: u32 = 14;
    /// Asks for that.
    pub const STATUS: u32 = 15;
    /// Reply to a termination.
    pub const TERMINATE_FROM_DEVICE: u32 = 16;
    /// A user is gone.
    pub const TERMINATE: u32 = 17;
    /// The host is to send the rest of a transfer's addresses.
    pub const DMA_CONTINUE: u32 = 18;
    /// Whether there is a partition.
    pub const PARTITION_FROM_DEVICE: u32 = 19;
    /// Asks for that.
    pub const PARTITION: u32 = 20;
}

/// Commands. Each answer has the next number.
pub mod command {
    /// Constants in one go.
    pub const LOAD_CONSTANTS: u32 = 1;
    /// Answer to all that load constants.
    pub const LOAD_CONSTANTS_ANSWER: u32 = 2;
    /// A program.
    pub const LOAD_ELF: u32 = 3;
    /// Forgets constants.
    pub const UNLOAD_CONSTANTS: u32 = 5;
    /// Forgets a program.
    pub const UNLOAD_ELF: u32 = 7;
    /// Activates a program.
    pub const ACTIVATE: u32 = 9;
    /// Ends that.
    pub const DEACTIVATE: u32 = 11;
    /// What the device is and has.
    pub const STATUS: u32 = 13;
    /// Constants whose contents follow.
    pub const LOAD_CONSTANTS_EX: u32 = 15;
    /// Contents of constants.
    pub const LOAD_CONSTANTS_PAYLOAD: u32 = 16;
    /// What is free.
    pub const RESOURCE_INFO: u32 = 32;
    /// Frequencies.
    pub const PERFORMANCE_INFO: u32 = 34;
}

/// Statuses (`enum nnc_status_code`).
pub mod status {
    /// Done.
    pub const SUCCESS: i32 = 0;
    /// The host's memory cannot be accessed, or its addresses do not add up.
    pub const DMA_ERROR: i32 = -2;
    /// No such request.
    pub const UNDEFINED_REQUEST: i32 = -3;
    /// No memory is left for it, or it is larger than allowed.
    pub const MEM_ALLOC_ERROR: i32 = -4;
    /// The program is none, or none that this device can run.
    pub const METADATA_ERROR: i32 = -5;
    /// A parameter is impossible.
    pub const PARAMETER_ERROR: i32 = -6;
    /// Another user's, or in use.
    pub const OPERATION_NOT_PERMITTED: i32 = -9;
    /// The reply does not fit a message.
    pub const BUFFER_TOO_SMALL: i32 = -10;
    /// There is none of that number.
    pub const RESOURCE_NOT_FOUND: i32 = -11;
    /// All processors are in use.
    pub const NSP_ALLOC_ERROR: i32 = -13;
    /// All DMA bridge channels are in use.
    pub const VC_ALLOC_ERROR: i32 = -14;
    /// The command is too short.
    pub const CMD_LENGTH_ERROR: i32 = -17;
    /// Too many are loaded.
    pub const DATABASE_IDS_EXHAUSTED: i32 = -20;
    /// The rings that the host gave are unusable.
    pub const VC_CONFIGURE_ERROR: i32 = -35;
    /// The CRC of the message is wrong.
    pub const SAFETY_BCS_MHI_ERROR: i32 = -40;
    /// The program is well formed, and wants what the device has not got.
    pub const VER_MISMATCH_ERROR: i32 = -102;
    /// Nothing to deactivate.
    pub const NO_NETWORK_TO_DEACTIVATE: i32 = -116;
}

/// A transaction of a request.
#[derive(Debug)]
pub(crate) enum Transaction {
    Command(Vec<u8>),
    Transfer { tag: u32, chunk: u32, pieces: Vec<(u64, u64)> },
    Activate(ActivateTransaction),
    Status,
    Terminate(u32),
    Partition(u32),
    Unknown,
}

/// `struct wire_trans_activate_to_dev`, without its header.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ActivateTransaction {
    pub(crate) requests: U64,
    pub(crate) responses: U64,
    pub(crate) request_elements: U32,
    pub(crate) response_elements: U32,
    pub(crate) buffer_len: U32,
    pub(crate) options: U32,
}

/// `nnc_cmd_activate_request`
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ActivateCommand {
    pub(crate) kind: U32,
    pub(crate) process: U32,
    pub(crate) constants: U32,
    pub(crate) elf: U32,
    pub(crate) reservation_type: U32,
    pub(crate) reservation: U32,
    pub(crate) with_channel: U32,
    pub(crate) channel_reservation: U32,
    pub(crate) initial_state: U32,
    pub(crate) dma_type: U32,
    pub(crate) datapath_switching: u8,
    padding: [u8; 7],
}
const _: () = assert!(size_of::<ActivateCommand>() == 48);

/// `nnc_cmd_activate_response`
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ActivateAnswer {
    pub(crate) kind: U32,
    pub(crate) status: U32,
    pub(crate) activation: U32,
    pub(crate) channel: U32,
    pub(crate) memory: U64,
    pub(crate) dynamic_memory: U64,
    pub(crate) doorbells: U64,
    pub(crate) doorbells_dma: U64,
    pub(crate) dma_type: U32,
    pub(crate) dma_mask: U32,
    pub(crate) polling_address: U64,
    pub(crate) polling_len: U32,
    pub(crate) polling_data: U32,
    pub(crate) command_doorbell: U64,
    pub(crate) command_doorbell_len: u8,
    pub(crate) command_doorbell_valid: u8,
    pub(crate) processors: U32,
    pub(crate) padding: [u8; 2],
}
const _: () = assert!(size_of::<ActivateAnswer>() == 88);

/// `host_api_resource_info_internal_t`
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ResourceInfo {
    pub(crate) memory_mb: U32,
    pub(crate) memory_free_mb: U32,
    pub(crate) fragmentation: U32,
    pub(crate) channels: u8,
    pub(crate) channels_free: u8,
    pub(crate) processors: u8,
    pub(crate) processors_free: u8,
    pub(crate) multicast: U32,
    pub(crate) multicast_free: U32,
    pub(crate) semaphores: U32,
    pub(crate) semaphores_free: U32,
    pub(crate) physical_channels: u8,
    pub(crate) physical_channels_reserved: u8,
    pub(crate) padding: [u8; 6],
}
const _: () = assert!(size_of::<ResourceInfo>() == 40);

/// Why a message is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The header of a message.
pub(crate) fn header(message: &[u8]) -> Option<Header> {
    Header::read_from_prefix(message).ok().map(|(header, _)| header)
}

/// The CRC that a message should have.
pub(crate) fn crc(message: &[u8]) -> u32 {
    let start = zlib_rs::crc32::crc32(0, &[0; 4]);
    zlib_rs::crc32::crc32(start, message.get(4..).unwrap_or_default())
}

/// The transactions of a message.
pub(crate) fn transactions(message: &[u8], header: &Header) -> Result<Vec<Transaction>, Malformed> {
    let len = usize::try_from(header.len.get()).map_err(|_| Malformed)?;
    if len > REQUEST_MAX {
        return Err(Malformed);
    }
    let mut rest = message.get(HEADER_LEN..len).ok_or(Malformed)?;
    let mut list = Vec::new();
    for _ in 0..header.count.get() {
        let ([kind, len], _) = <[U32; 2]>::read_from_prefix(rest).map_err(|_| Malformed)?;
        let len = usize::try_from(len.get()).map_err(|_| Malformed)?;
        let body = rest.get(8..len).ok_or(Malformed)?;
        rest = &rest[len..];
        list.push(transaction_of(kind.get(), body)?);
    }
    if rest.is_empty() { Ok(list) } else { Err(Malformed) }
}

fn transaction_of(kind: u32, body: &[u8]) -> Result<Transaction, Malformed> {
    let word = |index: usize| number(body, index * 4);
    Ok(match kind {
        transaction::PASSTHROUGH => Transaction::Command(body.to_vec()),
        transaction::DMA_TRANSFER => {
            let (tag, count) = (word(0)?, word(1)?);
            let chunk = word(2)?;
            let pairs = body.get(16..).ok_or(Malformed)?;
            let count = usize::try_from(count).map_err(|_| Malformed)?;
            let (pairs, rest) = pairs.as_chunks::<16>();
            if pairs.len() != count || !rest.is_empty() {
                return Err(Malformed);
            }
            let piece = |pair: &[u8; 16]| {
                let [address, len] = <[U64; 2]>::read_from_bytes(pair).unwrap_or([U64::ZERO; 2]);
                (address.get(), len.get())
            };
            Transaction::Transfer { tag, chunk, pieces: pairs.iter().map(piece).collect() }
        }
        transaction::ACTIVATE => {
            let (activate, _) =
                ActivateTransaction::read_from_prefix(body).map_err(|_| Malformed)?;
            Transaction::Activate(activate)
        }
        transaction::STATUS => Transaction::Status,
        transaction::TERMINATE => Transaction::Terminate(word(0)?),
        transaction::PARTITION => Transaction::Partition(word(0)?),
        _ => Transaction::Unknown,
    })
}

/// A little-endian word of a body.
pub(crate) fn number(body: &[u8], at: usize) -> Result<u32, Malformed> {
    let bytes = body.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Malformed)?;
    Ok(u32::from_le_bytes(*bytes))
}

/// A little-endian double word of a body.
pub(crate) fn long(body: &[u8], at: usize) -> Result<u64, Malformed> {
    let bytes = body.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Malformed)?;
    Ok(u64::from_le_bytes(*bytes))
}

/// A reply in the making.
#[derive(Debug)]
pub(crate) struct Reply {
    header: Header,
    body: Vec<u8>,
    count: u32,
}

impl Reply {
    pub(crate) fn to(request: &Header) -> Self {
        Self { header: *request, body: Vec::new(), count: 0 }
    }

    /// Appends a transaction. Its length is padded to a multiple of 8.
    pub(crate) fn push(&mut self, kind: u32, body: &[u8]) {
        let len = 8 + body.len().next_multiple_of(8);
        self.body.extend(kind.to_le_bytes());
        self.body.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        self.body.extend(body);
        self.body.resize(self.body.len().next_multiple_of(8), 0);
        self.count += 1;
    }

    /// Appends an answer to a command.
    pub(crate) fn answer(&mut self, words: &[u32]) {
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.push(transaction::PASSTHROUGH_FROM_DEVICE, &body);
    }

    /// Version of the protocol, and a status that is not 0 if the message is refused as such.
    pub(crate) fn status(&mut self, status: i32, crc: bool) {
        let (major, minor) = (U16::new(5), U16::new(0));
        let mut body = major.as_bytes().to_vec();
        body.extend(minor.as_bytes());
        body.extend(status.to_le_bytes());
        body.extend(u64::from(crc).to_le_bytes());
        self.push(transaction::STATUS_FROM_DEVICE, &body);
    }

    /// The message.
    pub(crate) fn finish(mut self, with_crc: bool) -> Vec<u8> {
        if HEADER_LEN + self.body.len() > REPLY_MAX {
            (self.body, self.count) = (Vec::new(), 0);
            self.status(status::BUFFER_TOO_SMALL, with_crc);
        }
        let len = u32::try_from(HEADER_LEN + self.body.len()).unwrap_or(u32::MAX);
        let (crc_field, magic) = (U32::ZERO, U32::new(MAGIC));
        let (len, count) = (U32::new(len), U32::new(self.count));
        self.header = Header { crc: crc_field, magic, len, count, ..self.header };
        let mut message = self.header.as_bytes().to_vec();
        message.append(&mut self.body);
        if with_crc {
            let crc = crc(&message).to_le_bytes();
            message[..4].copy_from_slice(&crc);
        }
        message
    }
}
