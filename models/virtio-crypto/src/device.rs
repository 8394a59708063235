//! The device: configuration, queues, counters.

use understudy_device::{
    AccessError, Bar, Bus, Counter, Decoder, FinishedJob, RegisterOps, RegisterRef, RegisterState,
    ResetKind,
};
use understudy_ring::Cursor;
use understudy_virtio::feature as virtio_feature;
use understudy_virtio::{Description, Outcome, QueueSpec, Request, VirtioDevice, VirtioPci};
use zerocopy::IntoBytes;

use crate::algorithms::{
    self, AEADS, AKCIPHERS, CIPHERS, HASHES, MACS, MAX_AUTH_KEY_LEN, MAX_CIPHER_KEY_LEN,
};
use crate::control::{Command, Control};
use crate::layout::{CreateSessionInput, OpHeader, Operation, Service, Status, feature};
use crate::parameters::{Parameters, SetupError};
use crate::queue::{Data, Done};
use crate::registers::{CONFIG, Config, HW_READY};
use crate::service::Scratch;
use crate::service::akcipher::AkcipherResult;
use crate::session::Sessions;

/// Virtio device id (virtio 1.3 §5.9.1).
pub const DEVICE_ID: u16 = 20;

/// Requests, bytes of source and failures of one operation.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    requests: u64,
    bytes: u64,
    errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    operations: [Tally; Operation::ALL.len()],
    statuses: [u64; Status::ALL.len()],
    stateless: u64,
    unknown: u64,
    created: u64,
    destroyed: u64,
    refused: u64,
}

/// The crypto device behind its transport.
pub struct VirtioCrypto {
    description: Description,
    parameters: Parameters,
    features: u64,
    sessions: Sessions,
    scratch: Scratch,
    counters: Counters,
    /// Number of the last request, for its padding.
    nonce: u64,
}

impl VirtioCrypto {
    /// The device as a PCI function, at power-on.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(parameters: Parameters) -> Result<VirtioPci<Self>, SetupError> {
        parameters.check()?;
        let max_size = parameters.queue_size;
        let data = (0..parameters.data_queues).map(|index| format!("dataq {index}"));
        let queues = data.chain(["controlq".to_owned()]);
        let description = Description {
            name: "virtio-crypto",
            device_id: DEVICE_ID,
            // Network and computing encryption/decryption controller.
            class_code: 0x10_00_00,
            features: feature::REVISION_1 | feature::STATELESS,
            queues: queues.map(|name| QueueSpec { name, max_size }).collect(),
        };
        let max_sessions = usize::try_from(parameters.max_sessions).unwrap_or(usize::MAX);
        Ok(VirtioPci::new(Self {
            description,
            features: 0,
            sessions: Sessions::new(max_sessions),
            scratch: Scratch::new(),
            counters: Counters::default(),
            nonce: 0,
            parameters,
        })?)
    }

    /// A field of the configuration.
    fn config(&self, id: Config) -> u64 {
        let low = |mask: u64| mask & 0xffff_ffff;
        match id {
            Config::Status => HW_READY,
            Config::MaxDataqueues => self.parameters.data_queues.into(),
            Config::CryptoServices => {
                Service::ALL.iter().fold(0, |mask, service| mask | 1 << *service as u8)
            }
            Config::CipherAlgoL => low(algorithms::mask(CIPHERS)),
            Config::CipherAlgoH => algorithms::mask(CIPHERS) >> 32,
            Config::HashAlgo => algorithms::mask(HASHES),
            Config::MacAlgoL => low(algorithms::mask(MACS)),
            Config::MacAlgoH => algorithms::mask(MACS) >> 32,
            Config::AeadAlgo => algorithms::mask(AEADS),
            Config::MaxCipherKeyLen => MAX_CIPHER_KEY_LEN.into(),
            Config::MaxAuthKeyLen => MAX_AUTH_KEY_LEN.into(),
            Config::AkcipherAlgo => algorithms::mask(AKCIPHERS),
            Config::MaxSize => self.parameters.max_size,
        }
    }

    /// What a field of the configuration means, if it is not a number.
    fn meaning(&self, id: Config) -> String {
        let value = self.config(id);
        match id {
            Config::Status => "HW_READY".to_owned(),
            Config::CryptoServices => "CIPHER|HASH|MAC|AEAD|AKCIPHER".to_owned(),
            Config::CipherAlgoL => algorithms::names(CIPHERS, value),
            Config::HashAlgo => algorithms::names(HASHES, value),
            Config::MacAlgoL => algorithms::names(MACS, value),
            Config::MacAlgoH => algorithms::names(MACS, value << 32),
            Config::AeadAlgo => algorithms::names(AEADS, value),
            Config::AkcipherAlgo => algorithms::names(AKCIPHERS, value),
            _ => String::new(),
        }
    }

    fn count_status(&mut self, status: Status) {
        self.counters.statuses[status as usize] += 1;
    }

    fn control(&mut self, bus: &mut dyn Bus, request: &Request) -> Outcome {
        let mut control =
            Control { bus, readable: request.readable.cursor(), features: self.features };
        let command = control.command();
        let mut session_id = 0;
        let result = match command {
            Ok(Some(Command::Create(service))) => {
                control.create(service, &mut self.sessions).map(|id| {
                    session_id = id;
                    self.counters.created += 1;
                })
            }
            Ok(Some(Command::Destroy(service))) => {
                control.destroy(service, &mut self.sessions).map(|()| self.counters.destroyed += 1)
            }
            Ok(None) => Err(Status::NotSupp),
            Err(status) => Err(status),
        };
        let status = result.err().unwrap_or(Status::Ok);
        self.count_status(status);
        self.counters.refused += u64::from(status != Status::Ok);
        let mut writable = request.writable.cursor();
        // An unknown command has no outcome of its own; the room for it decides.
        let destroys = match command {
            Ok(Some(command)) => matches!(command, Command::Destroy(_)),
            _ => writable.remaining() < size_of::<CreateSessionInput>() as u64,
        };
        let input = CreateSessionInput {
            session_id: session_id.into(),
            status: (status as u32).into(),
            padding: 0.into(),
        };
        let outcome: &[u8] = if destroys { &[status as u8] } else { input.as_bytes() };
        match writable.write(bus, outcome) {
            Ok(()) => Outcome::Done(u32::try_from(outcome.len()).unwrap_or(0)),
            Err(_) => Outcome::Broken("no room for the outcome of a control request"),
        }
    }

    fn data(&mut self, bus: &mut dyn Bus, request: &Request) -> Outcome {
        let mut readable = request.readable.cursor();
        let header = match readable.read_struct::<OpHeader>(bus) {
            Ok(header) => header,
            Err(_) => return self.answer(bus, request, None, Err(Status::Err)),
        };
        let Some(operation) = Operation::of(header.opcode.get()) else {
            self.counters.unknown += 1;
            return self.answer(bus, request, None, Err(Status::NotSupp));
        };
        self.nonce += 1;
        let Some((writable, _)) = split_status(request) else {
            return Outcome::Broken("no room for the status of a data request");
        };
        let mut data = Data {
            bus,
            header,
            readable,
            writable,
            features: self.features,
            max_size: self.parameters.max_size,
            sessions: &self.sessions,
            scratch: &mut self.scratch,
            seed: (self.parameters.seed, self.nonce),
        };
        if data.is_stateless(operation.service()) == Ok(true) {
            self.counters.stateless += 1;
        }
        match data.run(operation) {
            Ok(Done::Later(job)) => Outcome::Pending(bus.submit(job)),
            Ok(Done::Now(bytes)) => self.answer(bus, request, Some(operation), Ok(bytes)),
            Err(status) => self.answer(bus, request, Some(operation), Err(status)),
        }
    }

    /// Counts the request and writes its status, after everything else and in the very last
    /// writable byte: Linux passes destinations that are longer than they say.
    ///
    /// All of the writable part is then reported as written, since the status is at its end.
    fn answer(
        &mut self,
        bus: &mut dyn Bus,
        request: &Request,
        operation: Option<Operation>,
        result: Result<u64, Status>,
    ) -> Outcome {
        let status = result.err().unwrap_or(Status::Ok);
        self.count_status(status);
        if let Some(operation) = operation {
            let tally = &mut self.counters.operations[operation as usize];
            tally.requests += 1;
            tally.bytes += result.unwrap_or(0);
            tally.errors += u64::from(result.is_err());
        }
        let Some((_, mut inhdr)) = split_status(request) else {
            return Outcome::Broken("no room for the status of a data request");
        };
        bus.dma_fence();
        match inhdr.write(bus, &[status as u8]) {
            Ok(()) => Outcome::Done(u32::try_from(request.writable.bytes()).unwrap_or(u32::MAX)),
            Err(_) => Outcome::Broken("the status of a data request cannot be written"),
        }
    }
}

/// The writable part without its last byte, and that byte.
fn split_status(request: &Request) -> Option<(Cursor<'_>, Cursor<'_>)> {
    let mut rest = request.writable.cursor();
    let results = rest.take(rest.remaining().checked_sub(1)?).ok()?;
    Some((results, rest))
}

impl RegisterOps<Config> for VirtioCrypto {
    fn load(&mut self, _: &mut dyn Bus, at: RegisterRef<Config>) -> u64 {
        self.config(at.id)
    }

    fn store(&mut self, _: &mut dyn Bus, _: RegisterRef<Config>, _: u64, _: u64) {}
}

impl VirtioDevice for VirtioCrypto {
    fn description(&self) -> &Description {
        &self.description
    }

    fn withheld(&self) -> u64 {
        if self.parameters.packed_queues { 0 } else { virtio_feature::RING_PACKED }
    }

    fn accepts(&self, features: u64) -> bool {
        features & feature::STATELESS == 0 || features & feature::REVISION_1 != 0
    }

    fn start(&mut self, features: u64) {
        self.features = features;
    }

    fn read_config(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), AccessError> {
        let decoder = Decoder(&CONFIG);
        decoder.read(self, bus, offset, data).map_err(|_| AccessError::Unmapped { offset })
    }

    fn write_config(
        &mut self,
        bus: &mut dyn Bus,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let decoder = Decoder(&CONFIG);
        decoder.write(self, bus, offset, data).map_err(|_| AccessError::Unmapped { offset })
    }

    fn execute(&mut self, bus: &mut dyn Bus, request: &mut Request) -> Outcome {
        if request.queue() == self.parameters.data_queues {
            self.control(bus, request)
        } else {
            self.data(bus, request)
        }
    }

    /// The length of an asymmetric result is told by the bytes written (virtio 1.3 §5.9.7.8):
    /// result and status, though the status may lie further behind.
    fn finish(&mut self, bus: &mut dyn Bus, request: &mut Request, done: FinishedJob) -> Outcome {
        let Some(AkcipherResult { operation, bytes, output }) = done.into_output() else {
            return Outcome::Broken("a job returned something else");
        };
        let written = match &output {
            Ok(result) => request.writable.cursor().write(bus, result).map_err(Status::from),
            Err(status) => Err(*status),
        };
        match self.answer(bus, request, Some(operation), written.map(|()| bytes)) {
            Outcome::Done(_) => {
                let len = if written.is_ok() { output.map_or(0, |result| result.len()) } else { 0 };
                Outcome::Done(u32::try_from(len + 1).unwrap_or(u32::MAX))
            }
            other => other,
        }
    }

    fn reset(&mut self, kind: ResetKind) {
        self.features = 0;
        self.counters.destroyed += self.sessions.len() as u64;
        self.sessions.clear();
        if kind == ResetKind::PowerOn {
            self.counters = Counters::default();
            self.nonce = 0;
        }
    }

    fn config_state(&self, bar: Bar, base: u64) -> Vec<RegisterState> {
        let mut state = CONFIG.describe(bar, base, |at| self.config(at.id));
        for (register, at) in state.iter_mut().zip(CONFIG.elements()) {
            register.meaning = self.meaning(at.id);
        }
        state
    }

    fn counters(&self) -> Vec<Counter> {
        let counters = &self.counters;
        let mut list = Vec::new();
        let mut add = |name: String, value| list.push(Counter { name, value });
        for (operation, _, name) in Operation::ALL {
            let tally = counters.operations[operation as usize];
            add(format!("{name}.requests"), tally.requests);
            add(format!("{name}.bytes"), tally.bytes);
            add(format!("{name}.errors"), tally.errors);
        }
        for (status, name) in Status::ALL {
            add(format!("status.{name}"), counters.statuses[status as usize]);
        }
        add("requests.stateless".to_owned(), counters.stateless);
        add("requests.unknown".to_owned(), counters.unknown);
        add("sessions.created".to_owned(), counters.created);
        add("sessions.destroyed".to_owned(), counters.destroyed);
        add("sessions.open".to_owned(), self.sessions.len() as u64);
        add("control.errors".to_owned(), counters.refused);
        list
    }
}
