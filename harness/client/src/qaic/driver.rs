//! Sahara, the control channel, the DMA bridge.

use std::collections::BTreeMap;

use super::host::Host;
use super::request::{Activation, REQUEST, RESPONSE, Request, Transaction, sem};
use super::{dbc, mhi};
use crate::error::DriverError;
use crate::pci::Function;
use crate::platform::{Access, Activity, Interrupts, Platform};

const BRIDGE: u8 = 2;
const MAGIC: u32 = 0x4349_4151;
const HEADER: usize = 32;

/// How to use the device.
#[derive(Debug, Clone)]
pub struct Options {
    /// MSI vectors; 0 for polling.
    pub vectors: u16,
    /// Boot image.
    pub image: Vec<u8>,
    /// Runtime firmware by number.
    pub firmware: BTreeMap<u32, Vec<u8>>,
    /// Longest time that anything may take, in nanoseconds.
    pub timeout_nanos: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vectors: 32,
            image: vec![0x5b; 5000],
            firmware: BTreeMap::from([(1, vec![1; 100]), (2, vec![2; 64])]),
            timeout_nanos: 10_000_000_000,
        }
    }
}

/// A device in use.
#[derive(Debug)]
pub struct Driver<P> {
    /// MHI.
    pub host: Host<P>,
    function: Function,
    options: Options,
    sequence: u32,
    /// Messages carry CRCs; answers do.
    crc: (bool, bool),
}

impl<P: Platform> Driver<P> {
    /// Finds the device and sets up interrupts.
    ///
    /// # Errors
    /// What the device lacks.
    pub fn new(mut platform: P, options: Options) -> Result<Self, DriverError> {
        let function = Function::discover(&mut platform)?;
        if (function.vendor, function.device) != (0x17cb, 0xa100) {
            let (vendor, device) = (function.vendor, function.device);
            return Err(DriverError::WrongDevice { vendor, device });
        }
        let bars: Vec<_> = function.bars.iter().map(|bar| (bar.index, bar.is_64bit)).collect();
        if bars != [(0, true), (2, true), (4, true)] {
            return Err(DriverError::Missing("BARs 0, 2 and 4"));
        }
        function.enable(&mut platform)?;
        let kind =
            if options.vectors == 0 { Interrupts::None } else { Interrupts::Msi(options.vectors) };
        function.connect(&mut platform, kind)?;
        let host = Host::new(platform, options.timeout_nanos)?;
        Ok(Self { host, function, options, sequence: 0, crc: (true, false) })
    }

    /// The function, as discovery found it.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Boots the device, whatever it waits for, and opens the control channel.
    ///
    /// # Errors
    /// What the device did wrong.
    pub fn power_up(&mut self) -> Result<(), DriverError> {
        self.host.boot_write(mhi::INTVEC, 0)?;
        if self.host.boot_read(mhi::EXECENV)? == 0 {
            let image = self.options.image.clone();
            if self.host.load_image(&image)? != 2 {
                return Err(DriverError::Missing("use for the boot image"));
            }
        }
        self.host.start()?;
        if self.host.environment == Some(1) {
            self.sahara()?;
        }
        for channel in [10, 11] {
            if self.host.start_channel(channel)? != 1 {
                return Err(DriverError::Missing("control channel"));
            }
        }
        // Until the device tells, messages have one, and none is expected.
        self.crc = (true, false);
        let answer = self.request(0, &[Transaction::new(15, Vec::new())])?;
        let version = answer.first().map_or(0, |it| it.word(0));
        if version != 5 {
            return Err(DriverError::Missing("control protocol 5.0"));
        }
        let wanted = answer.first().is_some_and(|it| it.word(2) & 1 != 0);
        self.crc = (wanted, wanted);
        Ok(())
    }

    /// Serves the second boot loader until the runtime firmware is there.
    ///
    /// # Errors
    /// What the device did wrong; [`DriverError::Timeout`] if it does not go on.
    pub fn sahara(&mut self) -> Result<(), DriverError> {
        for channel in [2, 3] {
            if self.host.start_channel(channel)? != 1 {
                return Err(DriverError::Missing("Sahara channel"));
            }
        }
        loop {
            self.host.listen(3, 0x1000)?;
            let goes_on = |it: &mut Host<P>| Ok(it.environment == Some(2) || it.has_message(3));
            self.host.wait("the next Sahara packet", goes_on)?;
            if !self.host.has_message(3) {
                break;
            }
            let message = self.host.receive(3)?;
            let word = |index: usize| {
                let bytes = message.bytes.get(index * 4..).and_then(|rest| rest.first_chunk());
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            let answer: Vec<u32> = match word(0) {
                1 => [2, 0x30, 2, 2, 0, word(5)].into_iter().chain([0; 6]).collect(),
                3 => {
                    let (offset, len) = (word(3) as usize, word(4) as usize);
                    let image = self.options.firmware.get(&word(2));
                    match image
                        .and_then(|image| image.get(offset..offset + len))
                        .map(<[u8]>::to_vec)
                    {
                        Some(part) => {
                            self.host.send(2, &[&part])?;
                            continue;
                        }
                        None => vec![7, 8],
                    }
                }
                4 if word(3) == 0 => vec![5, 8],
                6 if word(2) == 1 => break,
                // The end of an image, there or not: it may be the last one at all.
                4 | 6 => continue,
                _ => return Err(DriverError::Missing("known Sahara packet")),
            };
            let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.host.send(2, &[&bytes])?;
        }
        self.host.wait("the runtime firmware", |it| Ok(it.environment == Some(2)))?;
        for channel in [2, 3] {
            self.host.reset_channel(channel)?;
        }
        Ok(())
    }

    /// A message of these transactions, as bytes.
    #[must_use]
    pub fn encode(&mut self, handle: u32, transactions: &[Transaction]) -> Vec<u8> {
        self.sequence += 1;
        let mut message = vec![0; HEADER];
        for it in transactions {
            let len = u32::try_from(8 + it.body.len()).unwrap_or(u32::MAX);
            message.extend(it.kind.to_le_bytes());
            message.extend(len.to_le_bytes());
            message.extend(&it.body);
        }
        let count = u32::try_from(transactions.len()).unwrap_or(u32::MAX);
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let words = [0, MAGIC, self.sequence, len, count, handle, u32::MAX, 0];
        for (slot, word) in message.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        if self.crc.0 {
            let crc = crc32(&message).to_le_bytes();
            message[..4].copy_from_slice(&crc);
        }
        message
    }

    /// Sends a message and takes its answer apart.
    ///
    /// # Errors
    /// [`DriverError::Timeout`], or what is wrong with the answer.
    pub fn request(
        &mut self,
        handle: u32,
        transactions: &[Transaction],
    ) -> Result<Vec<Transaction>, DriverError> {
        let message = self.encode(handle, transactions);
        self.exchange(&message)
    }

    /// Sends bytes on the control channel and takes the answer apart.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn exchange(&mut self, message: &[u8]) -> Result<Vec<Transaction>, DriverError> {
        self.host.listen(11, 0x1000)?;
        let (header, rest) = message.split_at(message.len().min(HEADER));
        let mut pieces = vec![header];
        pieces.extend(rest.chunks(4000));
        self.host.send(10, &pieces)?;
        let answer = self.host.receive(11)?.bytes;
        let word = |at: usize| {
            let bytes = answer.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let mut plain = answer.clone();
        plain.iter_mut().take(4).for_each(|byte| *byte = 0);
        if word(4) != MAGIC || word(12) as usize != answer.len() {
            return Err(DriverError::Missing("well-formed answer"));
        }
        if self.crc.1 && crc32(&plain) != word(0) {
            return Err(DriverError::Missing("right CRC in an answer"));
        }
        let mut list = Vec::new();
        let mut at = HEADER;
        for _ in 0..word(16) {
            let (kind, len) = (word(at), word(at + 4) as usize);
            let body = answer.get(at + 8..at + len);
            let body = body.ok_or(DriverError::Missing("whole transaction"))?.to_vec();
            list.push(Transaction { kind, body });
            at += len;
        }
        Ok(list)
    }

    /// Loads a program, its memory given in pieces of so many bytes, so many of them in a message.
    /// Its number, or the status.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn load(
        &mut self,
        handle: u32,
        program: &[u8],
        piece: usize,
        pieces: usize,
    ) -> Result<Result<u32, i32>, DriverError> {
        let buffer = self.host.platform.dma_alloc(program.len().max(1), 4096)?;
        self.host.platform.dma_write(buffer.iova, program)?;
        let all: Vec<(u64, u64)> = (0..program.len())
            .step_by(piece.max(1))
            .map(|at| (buffer.at(at), piece.min(program.len() - at) as u64))
            .collect();
        let chunk = u32::from(all.len() > pieces);
        let mut command = vec![0; 96];
        for (at, word) in [(0, 3_u32), (4, 77), (8, 1)] {
            command[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        command[80..88].copy_from_slice(&(program.len() as u64).to_le_bytes());
        let mut first = Some(Transaction::new(4, command));
        let mut answer = Vec::new();
        for part in all.chunks(pieces.max(1)) {
            let mut transactions: Vec<Transaction> = first.take().into_iter().collect();
            transactions.push(transfer(77, chunk, part));
            answer = self.request(handle, &transactions)?;
        }
        self.host.platform.dma_free(buffer);
        Ok(match answer.first() {
            Some(it) if it.kind == 3 && it.word(2) == 0 => Ok(it.word(1)),
            Some(it) if it.kind == 3 => Err(it.word(2).cast_signed()),
            // Refused as a message.
            Some(it) => Err(it.word(1).cast_signed()),
            None => return Err(DriverError::Missing("answer to a load")),
        })
    }

    /// Activates a program, or tells the status.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn activate(
        &mut self,
        handle: u32,
        program: u32,
        elements: u32,
    ) -> Result<Result<Activation, i32>, DriverError> {
        let count = elements as usize;
        let len = (count * (REQUEST + RESPONSE) + 256).next_multiple_of(4096);
        let queues = self.host.platform.dma_alloc(len, 4096)?;
        let responses = queues.at(len - count * RESPONSE);
        let minus_one = u32::MAX;
        let command =
            Transaction::command(&[9, 1, 0, program, 0, minus_one, 1, minus_one, 1, 0, 0, 0]);
        let mut body = queues.iova.to_le_bytes().to_vec();
        body.extend(responses.to_le_bytes());
        for word in [elements, elements, u32::try_from(len).unwrap_or(0), 0] {
            body.extend(word.to_le_bytes());
        }
        let answer = self.request(handle, &[command, Transaction::new(9, body)])?;
        let [command, channel] = answer.as_slice() else {
            return Err(DriverError::Missing("answer to an activation"));
        };
        let status = command.word(1).cast_signed();
        if status != channel.word(0).cast_signed() {
            return Err(DriverError::Missing("one status of an activation"));
        }
        if status != 0 {
            self.host.platform.dma_free(queues);
            return Ok(Err(status));
        }
        Ok(Ok(Activation {
            id: command.word(2),
            channel: channel.word(1),
            memory: command.long(16),
            doorbells: command.long(32),
            queues,
            elements,
            responses,
        }))
    }

    /// Ends an activation. The status.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn deactivate(&mut self, handle: u32, it: Activation) -> Result<i32, DriverError> {
        let answer = self.request(handle, &[Transaction::command(&[11, it.id, 1, 0])])?;
        let status = answer.first().map_or(-1, |it| it.word(1).cast_signed());
        if status == 0 {
            let freed = answer.get(1).filter(|back| back.kind == 11);
            if freed.is_none_or(|back| back.word(1) != it.channel) {
                return Err(DriverError::Missing("channel of a deactivation"));
            }
            self.host.platform.dma_free(it.queues);
        }
        Ok(status)
    }

    /// A user is gone.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn terminate(&mut self, handle: u32) -> Result<(), DriverError> {
        let mut body = handle.to_le_bytes().to_vec();
        body.extend([0; 4]);
        let answer = self.request(handle, &[Transaction::new(17, body)])?;
        match answer.first() {
            Some(it) if it.kind == 16 && it.word(0) == 0 => Ok(()),
            _ => Err(DriverError::Missing("answer to a termination")),
        }
    }

    /// A register of a DMA bridge channel.
    ///
    /// # Errors
    /// If the access fails.
    pub fn bridge_read(&mut self, channel: u32, offset: u64) -> Result<u32, DriverError> {
        Ok(self.host.platform.bar_u32(BRIDGE, dbc(channel) + offset)?)
    }

    /// Writes a register of a DMA bridge channel.
    ///
    /// # Errors
    /// If the access fails.
    pub fn bridge_write(
        &mut self,
        channel: u32,
        offset: u64,
        value: u32,
    ) -> Result<(), DriverError> {
        let at = dbc(channel) + offset;
        Ok(self.host.platform.bar_write(BRIDGE, at, &value.to_le_bytes())?)
    }

    /// A register that points into a ring.
    fn pointer(&mut self, it: &Activation, offset: u64) -> Result<u32, DriverError> {
        let value = self.bridge_read(it.channel, offset)?;
        if value >= it.elements {
            return Err(DriverError::Missing("pointer inside its ring"));
        }
        Ok(value)
    }

    /// Puts requests into the ring and tells the device.
    ///
    /// # Errors
    /// [`DriverError::QueueFull`]; if an access fails.
    pub fn submit(&mut self, it: &Activation, requests: &[Request]) -> Result<(), DriverError> {
        let head = self.bridge_read(it.channel, 0)?;
        let mut tail = self.pointer(it, 4)?;
        for request in requests {
            let next = (tail + 1) % it.elements;
            if next == head {
                return Err(DriverError::QueueFull { queue: it.queue() });
            }
            let at = it.queues.at(tail as usize * REQUEST);
            self.host.platform.dma_write(at, &request.encode())?;
            tail = next;
        }
        self.host.platform.fence();
        self.bridge_write(it.channel, 4, tail)
    }

    /// Takes a response, if there is one: id and status.
    ///
    /// # Errors
    /// If an access fails.
    pub fn take(&mut self, it: &Activation) -> Result<Option<(u16, u16)>, DriverError> {
        let head = self.pointer(it, 8)?;
        if head == self.pointer(it, 12)? {
            return Ok(None);
        }
        self.host.platform.fence();
        let mut bytes = [0; RESPONSE];
        self.host
            .platform
            .dma_read(it.responses + u64::from(head) * RESPONSE as u64, &mut bytes)?;
        self.bridge_write(it.channel, 8, (head + 1) % it.elements)?;
        let [a, b, c, d] = bytes;
        Ok(Some((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))))
    }

    /// Waits for a response: by interrupt if there are any.
    ///
    /// # Errors
    /// [`DriverError::Timeout`].
    pub fn wait_response(&mut self, it: &Activation) -> Result<(u16, u16), DriverError> {
        let deadline = self.host.now().plus(self.options.timeout_nanos);
        let vectors = self.options.vectors;
        loop {
            if let Some(found) = self.take(it)? {
                return Ok(found);
            }
            let platform = &mut self.host.platform;
            let quiet = if vectors == 0 {
                platform.idle(deadline)? == Activity::Quiet
            } else {
                let wanted = u16::try_from(it.channel + 1).unwrap_or(0);
                let vector = if wanted < vectors { wanted } else { 0 };
                !platform.wait_interrupt(vector, deadline)?
            };
            if quiet || platform.now() >= deadline {
                let found = self.take(it)?;
                return found.ok_or(DriverError::Timeout("a response"));
            }
        }
    }

    /// Runs a network once: its inputs, and the bytes of its outputs. Each starts at a multiple of
    /// 4096 of the activation's memory.
    ///
    /// # Errors
    /// [`DriverError::Timeout`]; [`DriverError::BadStatus`].
    pub fn infer(
        &mut self,
        it: &Activation,
        inputs: &[&[u8]],
        outputs: &[usize],
    ) -> Result<Vec<Vec<u8>>, DriverError> {
        let mut at = it.memory;
        let mut requests = Vec::new();
        let mut buffers = Vec::new();
        let mut results = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            let buffer = self.host.platform.dma_alloc(input.len().max(1), 64)?;
            self.host.platform.dma_write(buffer.iova, input)?;
            buffers.push(buffer);
            let len = u32::try_from(input.len()).unwrap_or(u32::MAX);
            let last = index + 1 == inputs.len();
            let mut request = Request {
                id: 1,
                command: 0x19,
                source: buffer.iova,
                destination: at,
                len,
                ..Request::default()
            };
            request.semaphores[0] = if last { sem::post(sem::INC, 0, 0) } else { 0 };
            requests.push(request);
            at = (at + u64::from(len)).next_multiple_of(4096);
        }
        if inputs.is_empty() {
            // Nothing goes in that could start the run.
            let semaphores = [sem::post(sem::INC, 0, 0), 0, 0, 0];
            requests.push(Request { id: 1, command: 0x18, semaphores, ..Request::default() });
        }
        for (index, &len) in outputs.iter().enumerate() {
            let buffer = self.host.platform.dma_alloc(len.max(1), 64)?;
            buffers.push(buffer);
            results.push(buffer);
            let last = index + 1 == outputs.len();
            let wait = if last { sem::pre(sem::P, 1, 0) } else { sem::pre(sem::AT_LEAST, 1, 1) };
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            let mut request = Request {
                id: 2,
                command: 0x1a,
                source: at,
                destination: buffer.iova,
                len,
                ..Request::default()
            };
            request.semaphores[0] = wait;
            requests.push(request);
            at = (at + u64::from(len)).next_multiple_of(4096);
        }
        self.submit(it, &requests)?;
        let mut result = Ok(Vec::new());
        for _ in 0..requests.len() {
            match self.wait_response(it) {
                Ok((_, 0)) => {}
                Ok((_, status)) => {
                    let queue = it.queue();
                    result = Err(DriverError::BadStatus { queue, status: status.into() });
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if result.is_ok() {
            let mut found = Vec::new();
            for (buffer, &len) in results.iter().zip(outputs) {
                let mut bytes = vec![0; len];
                self.host.platform.dma_read(buffer.iova, &mut bytes)?;
                found.push(bytes);
            }
            result = Ok(found);
        }
        buffers.into_iter().for_each(|buffer| self.host.platform.dma_free(buffer));
        result
    }

    /// Gives the platform back.
    pub fn into_platform(self) -> P {
        self.host.platform
    }
}

/// Where data lies.
fn transfer(tag: u32, chunk: u32, pieces: &[(u64, u64)]) -> Transaction {
    let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    let mut it = Transaction::command(&[tag, count, chunk, 0]);
    it.kind = 6;
    for (address, len) in pieces {
        it.body.extend(address.to_le_bytes());
        it.body.extend(len.to_le_bytes());
    }
    it
}

/// CRC-32 of IEEE 802.3, as the kernel's `crc32_le` with its usual inversions.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    })
}
