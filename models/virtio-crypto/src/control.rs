//! The control queue: sessions (virtio 1.3 §5.9.7.2).

use understudy_device::Bus;
use understudy_ring::Cursor;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::algorithms::{MAX_AUTH_KEY_LEN, MAX_CIPHER_KEY_LEN};
use crate::layout::{
    AeadSession, AkcipherSession, CTRL_FLF_LEGACY, ChainSession, CipherSession, CtrlHeader,
    DestroySession, HASH_MODE_AUTH, HashSession, MacSession, SYM_OP_CHAINING, SYM_OP_CIPHER,
    Service, Status, SymSession, feature,
};
use crate::service::akcipher::{self, Akcipher};
use crate::session::{
    Aead, Authenticator, Chain, Cipher, Order, Session, Sessions, hash_algorithm, mac_key,
};

/// What a control request asks for, and so what its outcome looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Create(Service),
    Destroy(Service),
}

impl Command {
    pub(crate) fn of(opcode: u32) -> Option<Self> {
        let service = Service::of(opcode)?;
        if opcode == service.create() {
            Some(Self::Create(service))
        } else if opcode == service.destroy() {
            Some(Self::Destroy(service))
        } else {
            None
        }
    }
}

/// A control request being read.
pub(crate) struct Control<'a> {
    pub(crate) bus: &'a mut dyn Bus,
    pub(crate) readable: Cursor<'a>,
    pub(crate) features: u64,
}

impl Control<'_> {
    /// Reads the header.
    pub(crate) fn command(&mut self) -> Result<Option<Command>, Status> {
        let header: CtrlHeader = self.readable.read_struct(self.bus)?;
        Ok(Command::of(header.opcode.get()))
    }

    /// Creates a session. Returns its id.
    pub(crate) fn create(
        mut self,
        service: Service,
        sessions: &mut Sessions,
    ) -> Result<u64, Status> {
        if sessions.is_full() {
            let revision_1 = self.features & feature::REVISION_1 != 0;
            return Err(if revision_1 { Status::NoSpc } else { Status::Err });
        }
        let session = match service {
            Service::Cipher => self.symmetric()?,
            Service::Hash => {
                let flf: HashSession = self.parameters()?;
                Session::Hash(hash_algorithm(flf.algo.get())?)
            }
            Service::Mac => {
                let flf: MacSession = self.parameters()?;
                let key = self.key(flf.auth_key_len.get(), MAX_AUTH_KEY_LEN)?;
                Session::Mac(mac_key(flf.algo.get(), &key)?)
            }
            Service::Aead => {
                let flf: AeadSession = self.parameters()?;
                let key = self.key(flf.key_len.get(), MAX_CIPHER_KEY_LEN)?;
                let tag_len = flf.tag_len.get();
                Session::Aead(Aead::new(flf.algo.get(), flf.op.get(), tag_len, &key)?)
            }
            Service::Akcipher => {
                let flf: AkcipherSession = self.parameters()?;
                let der = self.key(flf.key_len.get(), akcipher::MAX_LEN)?;
                let (algo, key_type) = (flf.algo.get(), flf.key_type.get());
                Session::Akcipher(Akcipher::new(algo, key_type, &flf.parameters, &der)?.into())
            }
        };
        Ok(sessions.add(session))
    }

    fn symmetric(&mut self) -> Result<Session, Status> {
        let flf: SymSession = self.parameters()?;
        match flf.op_type.get() {
            SYM_OP_CIPHER => {
                let cipher = CipherSession::read_from_prefix(&flf.op_flf);
                let (cipher, _) = cipher.map_err(|_| Status::Err)?;
                self.cipher(&cipher).map(Session::Cipher)
            }
            SYM_OP_CHAINING => {
                let chain: ChainSession = zerocopy::transmute!(flf.op_flf);
                let order = Order::new(chain.alg_chain_order.get())?;
                let cipher = self.cipher(&chain.cipher)?;
                let mode = chain.hash_mode.get();
                // A plain hash has no key; what lies at its length then is unused.
                let key_len = if mode == HASH_MODE_AUTH { chain.mac.auth_key_len.get() } else { 0 };
                let key = self.key(key_len, MAX_AUTH_KEY_LEN)?;
                let authenticator = Authenticator::new(mode, chain.mac.algo.get(), &key)?;
                Ok(Session::Chain(Box::new(Chain { cipher, authenticator, order })))
            }
            _ => Err(Status::NotSupp),
        }
    }

    fn cipher(&mut self, flf: &CipherSession) -> Result<Cipher, Status> {
        let key = self.key(flf.key_len.get(), MAX_CIPHER_KEY_LEN)?;
        Cipher::new(flf.algo.get(), flf.op.get(), &key)
    }

    /// Destroys a session.
    pub(crate) fn destroy(
        mut self,
        service: Service,
        sessions: &mut Sessions,
    ) -> Result<(), Status> {
        let flf: DestroySession = self.parameters()?;
        sessions.remove(flf.session_id.get(), service).map(|_| ()).ok_or(Status::Err)
    }

    /// The fixed-length parameters, padded without `REVISION_1`.
    fn parameters<T>(&mut self) -> Result<T, Status>
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let flf = self.readable.read_struct(self.bus)?;
        if self.features & feature::REVISION_1 == 0 {
            self.readable.skip((CTRL_FLF_LEGACY - size_of::<T>()) as u64)?;
        }
        Ok(flf)
    }

    fn key(&mut self, len: u32, max: u32) -> Result<Vec<u8>, Status> {
        if len > max {
            return Err(Status::Err);
        }
        let mut key = vec![0; len as usize];
        self.readable.read(self.bus, &mut key)?;
        Ok(key)
    }
}
