//! VERSION: the protocol version, the capabilities, and how two sides agree on them
//! ("VFIO_USER_VERSION").
//!
//! A server calls [`negotiate`] with the client's request. A client sends [`Offer::propose`] and
//! calls [`accept`] with the server's reply.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Errno, Problem, WireError};
use crate::header::Command;
use crate::layout::{self, Field, Payload, version};
use crate::{HEADER_SIZE, Limits};

/// The major version spoken here.
pub const MAJOR: u16 = 0;
/// The greatest minor version spoken here.
pub const MINOR: u16 = 1;

/// `max_msg_fds` of a peer that does not say.
pub const DEFAULT_MAX_MSG_FDS: u32 = 1;
/// `max_data_xfer_size` of a peer that does not say, in bytes.
pub const DEFAULT_MAX_DATA_XFER_SIZE: u32 = 1 << 20;
/// `max_dma_maps` of a peer that does not say.
pub const DEFAULT_MAX_DMA_MAPS: u32 = 65535;
/// `pgsizes` of a peer that does not say: 4 KiB pages only.
pub const DEFAULT_PGSIZES: u64 = 4096;

/// Largest `max_data_xfer_size` offered here, in bytes: QEMU refuses more.
pub const MAX_MAX_DATA_XFER_SIZE: u32 = 64 << 20;
/// Largest `max_msg_fds` offered here: QEMU refuses more.
pub const MAX_MAX_MSG_FDS: u32 = 16;
/// Largest `max_msg_fds` believed of a peer.
const PLAUSIBLE_MSG_FDS: u64 = 1024;
/// Largest capability JSON read, in bytes, without its NUL. QEMU's has about 200.
pub const MAX_JSON_SIZE: usize = 8192;

/// Where the version data starts, for errors.
const DATA: Field = Field { name: "version data", offset: version::MINOR.end(), width: 1 };

/// VERSION, request and reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// Major version; both sides must have the same.
    pub major: u16,
    /// Minor version; the server's is at most the client's.
    pub minor: u16,
    /// The version data without the NUL that ends them; `None` if there are none.
    pub json: Option<&'a str>,
}

impl<'a> Version<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::VERSION, bytes, &version::MINOR)?;
        let data = payload.tail(&version::MINOR);
        let major = payload.u16(&version::MAJOR)?;
        let minor = payload.u16(&version::MINOR)?;
        if data.is_empty() {
            return Ok(Self { major, minor, json: None });
        }
        let max = u32::try_from(MAX_JSON_SIZE + 1).unwrap_or(u32::MAX);
        payload.at_most(&DATA, data.len() as u64, max)?;
        let text =
            data.iter().position(|byte| *byte == 0).and_then(|nul| data.split_at_checked(nul));
        let Some((text, end)) = text else {
            return Err(bad_json("not ended by a NUL"));
        };
        if end.iter().any(|byte| *byte != 0) {
            return Err(bad_json("text after the NUL"));
        }
        let json = std::str::from_utf8(text).map_err(|_| bad_json("not UTF-8"))?;
        Ok(Self { major, minor, json: Some(json) })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let values = [(&version::MAJOR, self.major.into()), (&version::MINOR, self.minor.into())];
        layout::put(out, &version::MINOR, &values);
        if let Some(json) = self.json {
            out.extend_from_slice(json.as_bytes());
            out.push(0);
        }
    }

    /// The capabilities in the version data: none if there are no data.
    ///
    /// # Errors
    /// EINVAL if the data are not JSON of the specified form or a value is absurd. Unknown
    /// capabilities are ignored.
    pub fn capabilities(&self) -> Result<Capabilities, WireError> {
        let Some(json) = self.json else { return Ok(Capabilities::default()) };
        let data = VersionData::parse(json).map_err(|error| bad_json(&error))?;
        let capabilities = data.capabilities.unwrap_or_default();
        capabilities.check()?;
        Ok(capabilities)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct VersionData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
}

impl VersionData {
    /// Reads version data; names that occur twice count once.
    fn parse(json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        // Derived readers also take an array for a structure, field by field.
        let objects = ["", "/capabilities", "/capabilities/twin_socket", "/capabilities/migration"];
        for path in objects {
            if value.pointer(path).is_some_and(Value::is_array) {
                return Err(format!("an array instead of an object at \"{path}\""));
            }
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// The capabilities one side sent. `None` is "not mentioned".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Most descriptors that the sender can receive with one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_msg_fds: Option<u64>,
    /// Most bytes that a data transfer message may carry, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_data_xfer_size: Option<u64>,
    /// Most DMA mappings that can be valid at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_dma_maps: Option<u64>,
    /// Page sizes of DMA mappings, or'ed together, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgsizes: Option<u64>,
    /// A second socket for commands from the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin_socket: Option<TwinSocket>,
    /// Whether REGION_WRITE_MULTI may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_multiple: Option<bool>,
    /// Migration parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
}

/// The `twin_socket` capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinSocket {
    /// Whether the sender supports it, or in a reply, uses it.
    #[serde(default)]
    pub supported: bool,
    /// In a reply: which of the descriptors beside the message is the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd_index: Option<u64>,
}

/// The `migration` capability (not in the specification; QEMU and libvfio-user send it).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Granularity of dirty page tracking, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgsize: Option<u64>,
    /// Largest dirty bitmap, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitmap_size: Option<u64>,
}

impl Capabilities {
    /// Refuses values that no honest peer has.
    fn check(&self) -> Result<(), WireError> {
        if self.max_msg_fds.is_some_and(|fds| fds > PLAUSIBLE_MSG_FDS) {
            return Err(bad_json("max_msg_fds is more than 1024"));
        }
        let size = self.max_data_xfer_size.unwrap_or(DEFAULT_MAX_DATA_XFER_SIZE.into());
        if size == 0 || u32::try_from(size).is_err() {
            return Err(bad_json("max_data_xfer_size is not between 1 and 4294967295"));
        }
        if self.max_dma_maps == Some(0) {
            return Err(bad_json("max_dma_maps is 0"));
        }
        let migration = self.migration.as_ref().and_then(|migration| migration.pgsize);
        for (name, pages) in [("pgsizes", self.pgsizes), ("migration.pgsize", migration)] {
            if pages.is_some_and(|pages| pages == 0 || pages % 4096 != 0) {
                return Err(bad_json(&format!("{name} is not a multiple of 4096")));
            }
        }
        Ok(())
    }

    fn to_json(&self) -> String {
        let data = VersionData { capabilities: Some(self.clone()) };
        // Plain numbers and booleans: this cannot fail, and an empty object is a safe answer.
        serde_json::to_string(&data).unwrap_or_else(|_| String::from("{}"))
    }
}

/// What one side can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Most descriptors that can be received with one message, 1 to [`MAX_MAX_MSG_FDS`].
    pub max_msg_fds: u32,
    /// Most bytes that a data transfer message may carry, 1 to [`MAX_MAX_DATA_XFER_SIZE`].
    pub max_data_xfer_size: u32,
    /// Most DMA mappings, 1 to [`DEFAULT_MAX_DMA_MAPS`].
    pub max_dma_maps: u32,
    /// Page sizes of DMA mappings, or'ed together: multiples of 4096.
    pub pgsizes: u64,
    /// Whether a second socket for commands from the server is supported.
    pub twin_socket: bool,
    /// Whether REGION_WRITE_MULTI may be used. Off by default: a QEMU (10.1 to 11) that is granted
    /// it hands every message to its I/O thread instead of sending it at once, because its flag for
    /// this (0x16) contains the one for queued sends (0x4).
    pub write_multiple: bool,
    /// Granularity of dirty page tracking in bytes, if migration is supported.
    pub migration_pgsize: Option<u64>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            max_msg_fds: MAX_MAX_MSG_FDS,
            max_data_xfer_size: DEFAULT_MAX_DATA_XFER_SIZE,
            max_dma_maps: DEFAULT_MAX_DMA_MAPS,
            pgsizes: DEFAULT_PGSIZES,
            twin_socket: false,
            write_multiple: false,
            migration_pgsize: None,
        }
    }
}

impl Offer {
    /// The bounds for decoding what the other side sends.
    pub fn limits(&self) -> Limits {
        Limits { max_data_xfer_size: self.max_data_xfer_size }
    }

    /// The version data of a client's request: everything, so that the server may answer with any
    /// of it.
    pub fn propose(&self) -> String {
        let migration = |pgsize| Migration { pgsize: Some(pgsize), max_bitmap_size: None };
        let capabilities = Capabilities {
            max_msg_fds: Some(self.max_msg_fds.into()),
            max_data_xfer_size: Some(self.max_data_xfer_size.into()),
            max_dma_maps: Some(self.max_dma_maps.into()),
            pgsizes: Some(self.pgsizes),
            twin_socket: self.twin_socket.then_some(TwinSocket { supported: true, fd_index: None }),
            write_multiple: Some(self.write_multiple),
            migration: self.migration_pgsize.map(migration),
        };
        capabilities.to_json()
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Minor version.
    pub minor: u16,
    /// Most descriptors that the other side can receive with one message; can be 0.
    pub peer_max_msg_fds: u32,
    /// Most bytes that a data transfer message to the other side may carry or ask for.
    pub peer_max_data_xfer_size: u32,
    /// Most DMA mappings at the same time.
    pub max_dma_maps: u32,
    /// Page sizes of DMA mappings, or'ed together, in bytes; not 0.
    pub pgsizes: u64,
    /// Whether the server sends its commands over a second socket.
    pub twin_socket: bool,
    /// Whether REGION_WRITE_MULTI may be used.
    pub write_multiple: bool,
    /// Granularity of dirty page tracking in bytes, if both sides support migration.
    pub migration_pgsize: Option<u64>,
}

/// A server's answer to VERSION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionReply {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// The version data, if any.
    pub json: Option<String>,
}

impl VersionReply {
    /// The message.
    pub fn as_version(&self) -> Version<'_> {
        Version { major: self.major, minor: self.minor, json: self.json.as_deref() }
    }
}

/// The server's part: agrees with a client's request, and forms the reply.
///
/// QEMU receives the reply into the buffer of its request, so the reply is never larger than the
/// request. It only mentions what the client mentioned, or what restricts the client (a limit below
/// the default), and not what is the default anyway; if even that is too much, the least important
/// goes first, and what went counts as not agreed. A request without version data gets a reply
/// without.
///
/// # Errors
/// EINVAL if the major version differs, the capabilities are malformed or absurd, or no page size
/// is common. Reply with the error and close the connection.
pub fn negotiate(
    offer: &Offer,
    request: &Version<'_>,
) -> Result<(Negotiated, VersionReply), WireError> {
    check_major(request.major)?;
    let asked = request.capabilities()?;
    let minor = request.minor.min(MINOR);
    let pgsizes = common_pgsizes(offer, &asked)?;
    let told = tell(offer, &asked, pgsizes, request.json.map(str::len));
    let negotiated = Negotiated {
        minor,
        peer_max_msg_fds: or_default(asked.max_msg_fds, DEFAULT_MAX_MSG_FDS),
        peer_max_data_xfer_size: or_default(asked.max_data_xfer_size, DEFAULT_MAX_DATA_XFER_SIZE),
        max_dma_maps: or_default(asked.max_dma_maps, DEFAULT_MAX_DMA_MAPS).min(offer.max_dma_maps),
        pgsizes,
        twin_socket: told.twin_socket.is_some(),
        write_multiple: told.write_multiple == Some(true),
        migration_pgsize: told.migration.as_ref().and_then(|migration| migration.pgsize),
    };
    let json = request.json.map(|asked| {
        let json = told.to_json();
        // Only a client that proposed nothing, in fewer bytes than our least answer, gets this.
        if json.len() > asked.len() { String::from("{}") } else { json }
    });
    Ok((negotiated, VersionReply { major: MAJOR, minor, json }))
}

/// The capabilities of the reply: as many as fit `room` bytes of JSON, the most important first.
fn tell(offer: &Offer, asked: &Capabilities, pgsizes: u64, room: Option<usize>) -> Capabilities {
    let lower = |own: u32, peer: Option<u64>, default: u32| {
        let agreed = u64::from(own).min(peer.unwrap_or(default.into()));
        (agreed < u64::from(default)).then_some(agreed)
    };
    let twin = offer.twin_socket && asked.twin_socket.as_ref().is_some_and(|twin| twin.supported);
    let migration = offer.migration_pgsize.filter(|_| asked.migration.is_some());
    let full = Capabilities {
        max_data_xfer_size: lower(
            offer.max_data_xfer_size,
            asked.max_data_xfer_size,
            DEFAULT_MAX_DATA_XFER_SIZE,
        )
        .or_else(|| more_data(offer, asked)),
        max_dma_maps: lower(offer.max_dma_maps, asked.max_dma_maps, DEFAULT_MAX_DMA_MAPS),
        pgsizes: (pgsizes != DEFAULT_PGSIZES).then_some(pgsizes),
        twin_socket: twin.then_some(TwinSocket { supported: true, fd_index: Some(0) }),
        write_multiple: (offer.write_multiple && asked.write_multiple == Some(true))
            .then_some(true),
        max_msg_fds: asked.max_msg_fds.map(|_| offer.max_msg_fds.into()),
        migration: migration
            .map(|pgsize| Migration { pgsize: Some(pgsize), max_bitmap_size: None }),
    };
    let room = room.unwrap_or(0);
    let mut told = Capabilities::default();
    let add: [fn(&mut Capabilities, &Capabilities); 7] = [
        |told, full| told.max_data_xfer_size = full.max_data_xfer_size,
        |told, full| told.max_dma_maps = full.max_dma_maps,
        |told, full| told.pgsizes = full.pgsizes,
        |told, full| told.twin_socket.clone_from(&full.twin_socket),
        |told, full| told.max_msg_fds = full.max_msg_fds,
        |told, full| told.write_multiple = full.write_multiple,
        |told, full| told.migration.clone_from(&full.migration),
    ];
    for add in add {
        let mut next = told.clone();
        add(&mut next, &full);
        if next.to_json().len() <= room {
            told = next;
        }
    }
    told
}

/// A data size above the default, if both sides want one.
fn more_data(offer: &Offer, asked: &Capabilities) -> Option<u64> {
    let agreed = asked.max_data_xfer_size?.min(offer.max_data_xfer_size.into());
    (agreed > u64::from(DEFAULT_MAX_DATA_XFER_SIZE)).then_some(agreed)
}

/// The client's part: checks the server's reply to what `offer` proposed.
///
/// # Errors
/// If the version is not acceptable, the capabilities are malformed or absurd, or something was
/// agreed to that was not proposed. Close the connection.
pub fn accept(offer: &Offer, reply: &Version<'_>) -> Result<Negotiated, WireError> {
    check_major(reply.major)?;
    if reply.minor > MINOR {
        let problem = Problem::TooBig { value: reply.minor.into(), max: MINOR.into() };
        return Err(version::MINOR.reject(Command::VERSION, Errno::INVAL, problem));
    }
    let told = reply.capabilities()?;
    let twin_socket = told.twin_socket.as_ref().is_some_and(|twin| twin.supported);
    if twin_socket && !offer.twin_socket {
        return Err(bad_json("twin_socket was not proposed"));
    }
    let has_fd = told.twin_socket.as_ref().is_some_and(|twin| twin.fd_index.is_some());
    if twin_socket && !has_fd {
        return Err(bad_json("twin_socket lacks fd_index"));
    }
    let migration = told.migration.as_ref().and_then(|migration| migration.pgsize);
    Ok(Negotiated {
        minor: reply.minor,
        peer_max_msg_fds: or_default(told.max_msg_fds, DEFAULT_MAX_MSG_FDS),
        peer_max_data_xfer_size: or_default(told.max_data_xfer_size, DEFAULT_MAX_DATA_XFER_SIZE),
        max_dma_maps: or_default(told.max_dma_maps, DEFAULT_MAX_DMA_MAPS).min(offer.max_dma_maps),
        pgsizes: common_pgsizes(offer, &told)?,
        twin_socket,
        write_multiple: offer.write_multiple && told.write_multiple == Some(true),
        migration_pgsize: offer.migration_pgsize.and(migration),
    })
}

fn check_major(major: u16) -> Result<(), WireError> {
    if major == MAJOR {
        return Ok(());
    }
    let problem = Problem::Mismatch {
        value: major.into(),
        expected: MAJOR.into(),
        what: "is the only major version",
    };
    Err(version::MAJOR.reject(Command::VERSION, Errno::INVAL, problem))
}

fn common_pgsizes(offer: &Offer, peer: &Capabilities) -> Result<u64, WireError> {
    let common = offer.pgsizes & peer.pgsizes.unwrap_or(DEFAULT_PGSIZES);
    if common == 0 { Err(bad_json("pgsizes have nothing in common")) } else { Ok(common) }
}

fn or_default(value: Option<u64>, default: u32) -> u32 {
    value.map_or(default, |value| u32::try_from(value).unwrap_or(u32::MAX))
}

/// Longest error text kept, in characters: it may quote the peer.
const MAX_ERROR_TEXT: usize = 200;

fn bad_json(text: &str) -> WireError {
    let text = text.chars().take(MAX_ERROR_TEXT).collect();
    DATA.reject(Command::VERSION, Errno::INVAL, Problem::Json(text))
}

const _: () = assert!(HEADER_SIZE + version::MINOR.end() == 20);
