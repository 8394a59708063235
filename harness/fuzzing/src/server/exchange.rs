//! One conversation on a connection: what is sent, what comes back, and whether anybody asked for it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use understudy_client::vfio_user::{ClientError, Connection};
use understudy_wire::{
    Command, DeviceInfo, DmaAccess, DmaLayout, Header, Kind, Limits, Reply, Request, Side,
};

use super::{PATIENCE, ServerFuzzer};
use crate::defect::without_numbers;
use crate::message::Conversation;

/// Id of the question that ends a conversation.
const LAST_ID: u16 = 0xfffe;

impl ServerFuzzer {
    /// Sends all of it, and the question after it, and takes what comes back.
    pub(super) fn exchange(
        &mut self,
        connection: &mut Connection,
        conversation: &Conversation,
    ) -> Result<Ended, ClientError> {
        let start = Instant::now();
        let deadline = start + self.patience;
        let mut batch: Vec<u8> = Vec::new();
        let mut asked = Asked::default();
        let mut out_of_step = conversation.cut > 0;
        let count = conversation.messages.len();
        for (index, message) in conversation.messages.iter().enumerate() {
            let id = u16::try_from(index + 1).unwrap_or(u16::MAX);
            let mut encoded = message.encode(id);
            out_of_step |= encoded.out_of_step;
            keep_last_id(&mut encoded.bytes);
            asked.add(&encoded.bytes);
            self.stats.messages += 1;
            if index + 1 == count {
                let left = encoded.bytes.len().saturating_sub(conversation.cut.into()).max(1);
                encoded.bytes.truncate(left);
            }
            if !encoded.memory && encoded.events == 0 {
                batch.extend_from_slice(&encoded.bytes);
                continue;
            }
            // Descriptors go with the first byte of their own message.
            match connection.send(&batch, &[], deadline) {
                Ok(()) => batch.clear(),
                Err(ClientError::Closed) => return Ok(Ended::Closed),
                Err(error) => return Err(error),
            }
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let events: Vec<OwnedFd> =
                (0..encoded.events).filter_map(|_| eventfd(0, flags).ok()).collect();
            let memory = encoded.memory.then_some(&self.memory);
            let fds: Vec<_> = memory.into_iter().chain(&events).map(AsFd::as_fd).collect();
            match connection.send(&encoded.bytes, &fds, deadline) {
                Ok(()) => {}
                Err(ClientError::Closed) => return Ok(Ended::Closed),
                Err(error) => return Err(error),
            }
        }
        if !out_of_step {
            Request::GetInfo(DeviceInfo::request()).encode(LAST_ID, false, &mut batch);
        }
        match connection.send(&batch, &[], deadline) {
            Ok(()) => {}
            Err(ClientError::Closed) => return Ok(Ended::Closed),
            Err(error) => return Err(error),
        }
        if out_of_step {
            // What the rest of such a message means as messages, nobody asked for.
            asked.anything = true;
            connection.shutdown(std::net::Shutdown::Write);
        }
        let ended = self.listen(connection, &mut asked, conversation.answers, deadline);
        self.stats.slow += u64::from(start.elapsed() > PATIENCE);
        ended
    }

    /// Takes replies until the last question is answered, or the server closes.
    fn listen(
        &mut self,
        connection: &mut Connection,
        asked: &mut Asked,
        answers: u8,
        deadline: Instant,
    ) -> Result<Ended, ClientError> {
        loop {
            let message = match connection.receive(deadline) {
                Ok(message) => message,
                Err(ClientError::Closed) => return Ok(Ended::Closed),
                Err(ClientError::Malformed(error)) => {
                    let clause = format!("a malformed message: {error}");
                    return Ok(Ended::Wrong(without_numbers(&clause)));
                }
                Err(error) => return Err(error),
            };
            if message.header.kind() != Kind::Reply {
                self.stats.dma += 1;
                if !answer(connection, &message.header, &message.payload, answers, deadline)? {
                    return Ok(Ended::Closed);
                }
                continue;
            }
            self.stats.replies += 1;
            self.stats.errors += u64::from(message.header.errno().is_some());
            let Header { id, command, .. } = message.header;
            if id == LAST_ID && command == Command::DEVICE_GET_INFO {
                return Ok(Ended::InStep);
            }
            if !asked.take(&message.header) {
                let clause = format!("a reply to {} that nobody asked for", message.header.command);
                return Ok(Ended::Wrong(clause));
            }
        }
    }
}

/// The id of the last question is its own: an edited message that has it gets another.
fn keep_last_id(bytes: &mut [u8]) {
    if let Some(id) = bytes.first_chunk_mut()
        && u16::from_le_bytes(*id) == LAST_ID
    {
        *id = (LAST_ID - 1).to_le_bytes();
    }
}

/// How an exchange ended.
pub(super) enum Ended {
    InStep,
    Closed,
    Wrong(String),
}

/// Ids under which something was asked, as often as it was.
#[derive(Default)]
struct Asked {
    ids: Vec<u16>,
    /// Any reply is expected.
    anything: bool,
}

impl Asked {
    fn add(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.ids.push(Header::from_bytes(head).id);
        }
    }

    fn take(&mut self, header: &Header) -> bool {
        let found = self.ids.iter().position(|id| *id == header.id);
        found.map(|at| self.ids.swap_remove(at)).is_some() || self.anything
    }
}

/// Answers a DMA message of the server, rightly or not. `false` if the connection is gone.
fn answer(
    connection: &mut Connection,
    header: &Header,
    payload: &[u8],
    how: u8,
    deadline: Instant,
) -> Result<bool, ClientError> {
    let mut out = Vec::new();
    let error = || Header::error_reply(header.id, header.command, understudy_wire::Errno::INVAL);
    match Request::decode(Side::Server, header, payload, &Limits::default()) {
        Ok(Request::DmaRead(DmaAccess { address, count })) => {
            let count = usize::try_from(count).unwrap_or(0).min(1 << 20);
            let data = vec![how; count];
            Reply::encode_dma_read(header.id, address, &data, DmaLayout::Standard, &mut out);
        }
        Ok(Request::DmaWrite(access, _)) => {
            Reply::DmaWrite(Some(access)).encode(header.id, &mut out)
        }
        _ => out.extend_from_slice(&error().to_bytes()),
    }
    match how % 8 {
        1 => out = error().to_bytes().to_vec(),
        2 => {
            let len = out.len();
            Edit::apply_all(&mut out, how, len);
        }
        3 => out.extend_from_slice(&error().to_bytes()),
        _ => {}
    }
    match connection.send(&out, &[], deadline) {
        Ok(()) => Ok(true),
        Err(ClientError::Closed) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes of a reply, by one number.
struct Edit;

impl Edit {
    fn apply_all(out: &mut [u8], how: u8, len: usize) {
        // Never the length: the server would wait for the rest, and rightly so.
        let at = 16 + usize::from(how >> 3) % len.saturating_sub(16).max(1);
        if let Some(byte) = out.get_mut(at) {
            *byte ^= how | 1;
        }
    }
}
