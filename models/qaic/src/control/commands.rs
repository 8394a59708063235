//! Commands that change what users hold, but for loads of programs.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::{
    Activation, Answering, Channels, Constants, Control, LOADED_MAX, PROCESSORS, activate_answer,
};
use crate::bridge::{Channel, Memory};
use crate::message::{ActivateCommand, Malformed, command, long, number, status, transaction};
use crate::workload::{Workload, memory_len};

impl Control {
    pub(super) fn load_constants(
        &mut self,
        it: &mut Answering,
        tag: u32,
        owner: u32,
    ) -> Result<(), i32> {
        let data = it.data.remove(&tag).ok_or(status::DMA_ERROR)?;
        self.add_constants(it, data.len() as u64, owner)
    }

    pub(super) fn add_constants(
        &mut self,
        it: &mut Answering,
        bytes: u64,
        owner: u32,
    ) -> Result<(), i32> {
        if self.constants.len() >= LOADED_MAX {
            return Err(status::DATABASE_IDS_EXHAUSTED);
        }
        if !self.has_room(bytes) {
            return Err(status::MEM_ALLOC_ERROR);
        }
        let id = self.id();
        self.constants.insert(id, Constants { owner, bytes });
        it.reply.answer(&[command::LOAD_CONSTANTS_ANSWER, id, 0, 0]);
        Ok(())
    }

    /// `AICConstantDescriptor` begins with the sizes of the static and dynamic parts.
    pub(super) fn reserve_constants(
        &mut self,
        it: &mut Answering,
        body: &[u8],
        owner: u32,
    ) -> Result<Result<(), i32>, Malformed> {
        let (descriptor_len, fixed, dynamic) =
            (number(body, 72)?, long(body, 80)?, long(body, 88)?);
        if descriptor_len < 16 {
            return Ok(Err(status::PARAMETER_ERROR));
        }
        let bytes = fixed.checked_add(dynamic);
        Ok(bytes.map_or(Err(status::MEM_ALLOC_ERROR), |bytes| self.add_constants(it, bytes, owner)))
    }

    pub(super) fn fill_constants(
        &mut self,
        it: &mut Answering,
        body: &[u8],
        owner: u32,
    ) -> Result<Result<(), i32>, Malformed> {
        let (tag, id) = (number(body, 8)?, number(body, 12)?);
        let (len, offset) = (long(body, 16)?, long(body, 24)?);
        let found = match self.constants.get(&id) {
            None => Err(status::RESOURCE_NOT_FOUND),
            Some(constants) if constants.owner != owner => Err(status::OPERATION_NOT_PERMITTED),
            Some(constants) => Ok(constants.bytes),
        };
        let data = it.data.remove(&tag).ok_or(status::DMA_ERROR);
        Ok(found.and_then(|bytes| {
            let inside = offset.checked_add(len).is_some_and(|end| end <= bytes);
            if data?.len() as u64 != len || !inside {
                return Err(status::PARAMETER_ERROR);
            }
            it.reply.answer(&[command::LOAD_CONSTANTS_ANSWER, id, 0, 0]);
            Ok(())
        }))
    }

    pub(super) fn unload_program(&mut self, id: u32, handle: u32) -> Result<(), i32> {
        let program = self.programs.get(&id).ok_or(status::RESOURCE_NOT_FOUND)?;
        if program.owner != handle || self.activations.values().any(|it| it.program == id) {
            return Err(status::OPERATION_NOT_PERMITTED);
        }
        self.programs.remove(&id);
        Ok(())
    }

    pub(super) fn unload_constants(&mut self, id: u32, handle: u32) -> Result<(), i32> {
        let constants = self.constants.get(&id).ok_or(status::RESOURCE_NOT_FOUND)?;
        if constants.owner != handle || self.activations.values().any(|it| it.constants == id) {
            return Err(status::OPERATION_NOT_PERMITTED);
        }
        self.constants.remove(&id);
        Ok(())
    }

    pub(super) fn activate(
        &mut self,
        channels: &mut Channels,
        it: &mut Answering,
        command: &ActivateCommand,
    ) -> Result<(), i32> {
        let handle = it.header.handle.get();
        let (id, constants) = (command.elf.get(), command.constants.get());
        let program = self.programs.get(&id).ok_or(status::RESOURCE_NOT_FOUND)?;
        let foreign = self.constants.get(&constants).is_some_and(|it| it.owner != handle);
        if program.owner != handle || foreign {
            return Err(status::OPERATION_NOT_PERMITTED);
        }
        if constants != 0 && !self.constants.contains_key(&constants) {
            return Err(status::RESOURCE_NOT_FOUND);
        }
        if command.with_channel.get() == 0 || it.activated.is_some() {
            return Err(status::PARAMETER_ERROR);
        }
        let given = it.channel_memory.ok_or(status::PARAMETER_ERROR)?;
        let memory = Memory {
            requests: given.requests.get(),
            responses: given.responses.get(),
            request_elements: given.request_elements.get(),
            response_elements: given.response_elements.get(),
        };
        if !memory.is_usable() {
            return Err(status::VC_CONFIGURE_ERROR);
        }
        let network = Arc::clone(&program.network);
        let bytes = memory_len(&network).filter(|bytes| self.has_room(*bytes));
        let bytes = bytes.ok_or(status::MEM_ALLOC_ERROR)?;
        if self.activations.len() >= PROCESSORS {
            return Err(status::NSP_ALLOC_ERROR);
        }
        let free = channels.iter().position(Option::is_none).ok_or(status::VC_ALLOC_ERROR)?;
        let channel = u16::try_from(free).map_err(|_| status::VC_ALLOC_ERROR)?;
        let workload = Workload::new(network, channel).ok_or(status::MEM_ALLOC_ERROR)?;
        channels[free] = Some(Box::new(Channel::new(channel, memory, workload)));
        let activation = self.id();
        let (owner, program) = (handle, id);
        let entry = Activation { owner, program, constants, channel, bytes };
        self.activations.insert(activation, entry);
        self.tally.activated += 1;
        it.activated = Some((status::SUCCESS, channel));
        let answer = activate_answer(status::SUCCESS, activation, channel);
        it.reply.push(transaction::PASSTHROUGH_FROM_DEVICE, answer.as_bytes());
        Ok(())
    }

    pub(super) fn deactivate(
        &mut self,
        channels: &mut Channels,
        id: u32,
        handle: u32,
    ) -> (Result<(), i32>, Option<u16>) {
        let Some(activation) = self.activations.get(&id) else {
            return (Err(status::NO_NETWORK_TO_DEACTIVATE), None);
        };
        let channel = activation.channel;
        if activation.owner != handle {
            // Its channel is not the asking user's to know.
            return (Err(status::OPERATION_NOT_PERMITTED), None);
        }
        self.release(channels, id);
        (Ok(()), Some(channel))
    }

    pub(super) fn release(&mut self, channels: &mut Channels, id: u32) {
        let Some(activation) = self.activations.remove(&id) else { return };
        self.tally.deactivated += 1;
        if let Some(channel) = channels.get_mut(usize::from(activation.channel)) {
            *channel = None;
        }
    }
}
