//! The data queues: from a byte stream to an operation of a service (virtio 1.3 §5.9.7.3).

use std::ops::Range;

use understudy_device::{Bus, Job};
use understudy_ring::Cursor;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::algorithms::{MAX_AUTH_KEY_LEN, MAX_CIPHER_KEY_LEN};
use crate::layout::{
    AeadData, AeadDataStateless, AkcipherDataStateless, ChainData, ChainDataStateless, CipherData,
    CipherDataStateless, CipherParameters, DATA_FLF_LEGACY, FLAG_SESSION_MODE, HASH_MODE_AUTH,
    HashData, HashDataStateless, MacDataStateless, OpHeader, Operation, SYM_OP_CHAINING,
    SYM_OP_CIPHER, Service, Status, SymData, SymDataStateless, feature,
};
use crate::service::aead::{self, AeadRequest};
use crate::service::akcipher::{self, AkcipherRequest, KeySource};
use crate::service::cipher::{self, ChainRequest, Iv};
use crate::service::digest::{self, Digester};
use crate::service::{Scratch, read_all};
use crate::session::{
    Aead, Authenticator, Chain, Cipher, Order, Session, Sessions, hash_algorithm, mac_key,
};
use understudy_engines::cipher::Direction;
use understudy_engines::hash::Hasher;

/// What became of a request that has not failed.
#[derive(Debug)]
pub(crate) enum Done {
    /// The result is written; so many bytes of source went into it.
    Now(u64),
    /// The result will be that of a job.
    Later(Job),
}

/// A data request being read.
pub(crate) struct Data<'a> {
    pub(crate) bus: &'a mut dyn Bus,
    pub(crate) header: OpHeader,
    /// What follows the header.
    pub(crate) readable: Cursor<'a>,
    /// All but the status byte.
    pub(crate) writable: Cursor<'a>,
    pub(crate) features: u64,
    pub(crate) max_size: u64,
    pub(crate) sessions: &'a Sessions,
    pub(crate) scratch: &'a mut Scratch,
    /// For padding: the device's seed and a number of this request.
    pub(crate) seed: (u64, u64),
}

impl<'a> Data<'a> {
    /// Runs the operation.
    pub(crate) fn run(&mut self, operation: Operation) -> Result<Done, Status> {
        match operation.service() {
            Service::Cipher => self.symmetric(operation),
            Service::Hash => self.hash(),
            Service::Mac => self.mac(),
            Service::Aead => self.aead(operation),
            Service::Akcipher => self.akcipher(operation),
        }
    }

    /// Whether the request is stateless.
    ///
    /// The flag decides the layout of the rest: a service that negotiated the stateless mode takes
    /// session mode requests too.
    pub(crate) fn is_stateless(&self, service: Service) -> Result<bool, Status> {
        let session_mode = self.header.flag.get() & FLAG_SESSION_MODE != 0;
        if self.features & feature::REVISION_1 == 0 || session_mode {
            Ok(false)
        } else if self.features & service.stateless() != 0 {
            Ok(true)
        } else {
            Err(Status::NotSupp)
        }
    }

    fn session(&self, service: Service) -> Result<&'a Session, Status> {
        self.sessions.get(self.header.session_id.get(), service).ok_or(Status::InvSess)
    }

    fn read_struct<T>(&mut self) -> Result<T, Status>
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        Ok(self.readable.read_struct(self.bus)?)
    }

    /// The fixed-length parameters of session mode, padded without `REVISION_1`.
    fn parameters<T>(&mut self) -> Result<T, Status>
    where
        T: FromBytes + IntoBytes + Immutable + KnownLayout,
    {
        let flf = self.read_struct()?;
        if self.features & feature::REVISION_1 == 0 {
            self.readable.skip((DATA_FLF_LEGACY - size_of::<T>()) as u64)?;
        }
        Ok(flf)
    }

    fn take(&mut self, len: U32) -> Result<Cursor<'a>, Status> {
        Ok(self.readable.take(len.get().into())?)
    }

    fn room(&mut self, len: U32) -> Result<Cursor<'a>, Status> {
        Ok(self.writable.take(len.get().into())?)
    }

    fn key(&mut self, len: U32, max: u32) -> Result<Vec<u8>, Status> {
        if len.get() > max {
            return Err(Status::Err);
        }
        let mut key = vec![0; len.get() as usize];
        self.readable.read(self.bus, &mut key)?;
        Ok(key)
    }

    /// The variable-length parts together against `max_size`.
    fn check_size(&self, parts: &[U32]) -> Result<(), Status> {
        let total: u64 = parts.iter().map(|len| u64::from(len.get())).sum();
        if total > self.max_size { Err(Status::Err) } else { Ok(()) }
    }

    fn symmetric(&mut self, operation: Operation) -> Result<Done, Status> {
        if self.is_stateless(Service::Cipher)? {
            let flf: SymDataStateless = self.read_struct()?;
            return match flf.op_type.get() {
                SYM_OP_CIPHER => {
                    let data = CipherDataStateless::read_from_prefix(&flf.op_type_flf);
                    self.cipher_stateless(operation, &data.map_err(|_| Status::Err)?.0)
                }
                SYM_OP_CHAINING => {
                    let data: ChainDataStateless = zerocopy::transmute!(flf.op_type_flf);
                    self.chain_stateless(operation, &data)
                }
                _ => Err(Status::NotSupp),
            };
        }
        let session = self.session(Service::Cipher)?;
        let flf: SymData = self.parameters()?;
        match (flf.op_type.get(), session) {
            (SYM_OP_CIPHER, Session::Cipher(cipher)) => {
                let data = CipherData::read_from_prefix(&flf.op_type_flf);
                let (data, _) = data.map_err(|_| Status::Err)?;
                let lens = [data.iv_len, data.src_data_len, data.dst_data_len];
                self.cipher(operation, cipher, lens)
            }
            (SYM_OP_CHAINING, Session::Chain(chain)) => {
                let data: ChainData = zerocopy::transmute!(flf.op_type_flf);
                check_direction(operation, chain.cipher.direction)?;
                self.check_chain(&data)?;
                let iv = self.take(data.iv_len)?;
                let src = self.take(data.src_data_len)?;
                let aad = self.take(data.aad_len)?;
                self.chain(chain, &data, (iv, src, aad))
            }
            (SYM_OP_CIPHER | SYM_OP_CHAINING, _) => Err(Status::InvSess),
            _ => Err(Status::NotSupp),
        }
    }

    fn cipher_key(&mut self, cipher: &CipherParameters) -> Result<Cipher, Status> {
        let key = self.key(cipher.key_len, MAX_CIPHER_KEY_LEN)?;
        Cipher::new(cipher.algo.get(), cipher.op.get(), &key)
    }

    fn cipher_stateless(
        &mut self,
        operation: Operation,
        data: &CipherDataStateless,
    ) -> Result<Done, Status> {
        let cipher = self.cipher_key(&data.cipher)?;
        self.cipher(operation, &cipher, [data.iv_len, data.src_data_len, data.dst_data_len])
    }

    fn cipher(
        &mut self,
        operation: Operation,
        cipher: &Cipher,
        lens @ [iv_len, src_len, dst_len]: [U32; 3],
    ) -> Result<Done, Status> {
        check_direction(operation, cipher.direction)?;
        self.check_size(&lens)?;
        let iv = self.take(iv_len)?;
        let iv = Iv::read(self.bus, iv)?;
        let src = self.take(src_len)?;
        let dst = self.room(dst_len)?;
        cipher::run(self.bus, cipher, &iv, src, dst, self.scratch)?;
        Ok(Done::Now(src_len.get().into()))
    }

    fn chain_stateless(
        &mut self,
        operation: Operation,
        flf: &ChainDataStateless,
    ) -> Result<Done, Status> {
        let order = Order::new(flf.alg_chain_order.get())?;
        let cipher = self.cipher_key(&flf.cipher)?;
        let mode = flf.hash_mode.get();
        let key_len = if mode == HASH_MODE_AUTH { flf.auth_key_len } else { 0.into() };
        let key = self.key(key_len, MAX_AUTH_KEY_LEN)?;
        let authenticator = Authenticator::new(mode, flf.hash_algo.get(), &key)?;
        check_direction(operation, cipher.direction)?;
        let data = &flf.data;
        self.check_chain(data)?;
        // Here, unlike in session mode, the additional data precedes the source.
        let iv = self.take(data.iv_len)?;
        let aad = self.take(data.aad_len)?;
        let src = self.take(data.src_data_len)?;
        self.chain(&Chain { cipher, authenticator, order }, data, (iv, src, aad))
    }

    fn check_chain(&self, data: &ChainData) -> Result<(), Status> {
        self.check_size(&[
            data.iv_len,
            data.src_data_len,
            data.dst_data_len,
            data.aad_len,
            data.hash_result_len,
        ])
    }

    fn chain(
        &mut self,
        chain: &Chain,
        data: &ChainData,
        (iv, src, aad): (Cursor<'a>, Cursor<'a>, Cursor<'a>),
    ) -> Result<Done, Status> {
        let request = ChainRequest {
            iv: Iv::read(self.bus, iv)?,
            src,
            aad,
            to_cipher: range(data.cipher_start_src_offset, data.len_to_cipher)?,
            to_hash: range(data.hash_start_src_offset, data.len_to_hash)?,
            dst: self.room(data.dst_data_len)?,
            result: self.room(data.hash_result_len)?,
        };
        cipher::chain(self.bus, chain, request, self.scratch)?;
        Ok(Done::Now(data.src_data_len.get().into()))
    }

    fn hash(&mut self) -> Result<Done, Status> {
        let (algorithm, src_len, result_len) = if self.is_stateless(Service::Hash)? {
            let flf: HashDataStateless = self.read_struct()?;
            (hash_algorithm(flf.algo.get())?, flf.src_data_len, flf.hash_result_len)
        } else {
            let Session::Hash(algorithm) = self.session(Service::Hash)? else {
                return Err(Status::InvSess);
            };
            let flf: HashData = self.parameters()?;
            (*algorithm, flf.src_data_len, flf.hash_result_len)
        };
        self.digest(Digester::Hash(Hasher::new(algorithm)), src_len, result_len)
    }

    fn mac(&mut self) -> Result<Done, Status> {
        if self.is_stateless(Service::Mac)? {
            let flf: MacDataStateless = self.read_struct()?;
            let key = self.key(flf.auth_key_len, MAX_AUTH_KEY_LEN)?;
            let key = mac_key(flf.algo.get(), &key)?;
            return self.digest(Digester::mac(&key)?, flf.src_data_len, flf.hash_result_len);
        }
        let Session::Mac(key) = self.session(Service::Mac)? else {
            return Err(Status::InvSess);
        };
        let flf: HashData = self.parameters()?;
        self.digest(Digester::mac(key)?, flf.src_data_len, flf.hash_result_len)
    }

    fn digest(
        &mut self,
        digester: Digester<'_>,
        src_len: U32,
        result_len: U32,
    ) -> Result<Done, Status> {
        self.check_size(&[src_len, result_len])?;
        let src = self.take(src_len)?;
        let result = self.room(result_len)?;
        digest::run(self.bus, digester, src, result, self.scratch)?;
        Ok(Done::Now(src_len.get().into()))
    }

    fn aead(&mut self, operation: Operation) -> Result<Done, Status> {
        if self.is_stateless(Service::Aead)? {
            let flf: AeadDataStateless = self.read_struct()?;
            let key = self.key(flf.key_len, MAX_CIPHER_KEY_LEN)?;
            let aead = Aead::new(flf.algo.get(), flf.op.get(), flf.tag_len.get(), &key)?;
            let lens = [flf.iv_len, flf.src_data_len, flf.aad_len, flf.dst_data_len];
            return self.seal_or_open(operation, &aead, lens);
        }
        let Session::Aead(aead) = self.session(Service::Aead)? else {
            return Err(Status::InvSess);
        };
        let flf: AeadData = self.parameters()?;
        if flf.tag_len.get() != 0 && flf.tag_len.get() != aead.tag_len {
            return Err(Status::Err);
        }
        let lens = [flf.iv_len, flf.src_data_len, flf.aad_len, flf.dst_data_len];
        self.seal_or_open(operation, aead, lens)
    }

    fn seal_or_open(
        &mut self,
        operation: Operation,
        aead: &Aead,
        lens @ [iv_len, src_len, aad_len, dst_len]: [U32; 4],
    ) -> Result<Done, Status> {
        check_direction(operation, aead.direction)?;
        self.check_size(&lens)?;
        let request = AeadRequest {
            nonce: self.take(iv_len)?,
            src: self.take(src_len)?,
            aad: self.take(aad_len)?,
            dst: self.room(dst_len)?,
        };
        aead::run(self.bus, aead, request, self.scratch)?;
        Ok(Done::Now(src_len.get().into()))
    }

    fn akcipher(&mut self, operation: Operation) -> Result<Done, Status> {
        let (key, data) = if self.is_stateless(Service::Akcipher)? {
            let flf: AkcipherDataStateless = self.read_struct()?;
            let der = self.key(flf.key_len, akcipher::MAX_LEN)?;
            let (algo, key_type) = (flf.algo.get(), flf.key_type.get());
            (KeySource::Stateless { algo, key_type, parameters: flf.parameters, der }, flf.data)
        } else {
            let Session::Akcipher(session) = self.session(Service::Akcipher)? else {
                return Err(Status::InvSess);
            };
            (KeySource::Session(session.clone()), self.parameters()?)
        };
        let (src_len, dst_len) = (data.src_data_len, data.dst_data_len);
        self.check_size(&[src_len, dst_len])?;
        if src_len.get().max(dst_len.get()) > akcipher::MAX_LEN {
            return Err(Status::Err);
        }
        let (mut src, mut digest) = (Vec::new(), Vec::new());
        let from = self.take(src_len)?;
        read_all(self.bus, from, &mut src)?;
        if operation == Operation::AkcipherVerify {
            let from = self.take(dst_len)?;
            read_all(self.bus, from, &mut digest)?;
        } else {
            self.room(dst_len)?;
        }
        let room = dst_len.get() as usize;
        let request = AkcipherRequest { operation, src, digest, room, seed: self.seed };
        Ok(Done::Later(request.into_job(key)))
    }
}

/// Opcode and parameters both say whether to encrypt; they must say the same.
fn check_direction(operation: Operation, direction: Direction) -> Result<(), Status> {
    let decrypt = matches!(operation, Operation::CipherDecrypt | Operation::AeadDecrypt);
    if decrypt == (direction == Direction::Decrypt) { Ok(()) } else { Err(Status::Err) }
}

fn range(start: U32, len: U32) -> Result<Range<usize>, Status> {
    let start = start.get() as usize;
    let end = start.checked_add(len.get() as usize).ok_or(Status::Err)?;
    Ok(start..end)
}
