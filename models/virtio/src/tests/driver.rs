//! The driver's side of a virtqueue, kept as plain as can be: a reference model.

use std::collections::BTreeMap;

use understudy_device::DeviceModel;

use super::{BAR, Guest, write};
use crate::feature;
use crate::layout::descriptor::{AVAIL, INDIRECT, NEXT, USED, WRITE};
use crate::registers::{Common, NOTIFY_MULTIPLIER, NOTIFY_OFFSET};

/// One buffer of a chain: address, length, device-writable.
pub(super) type Buffer = (u64, u32, bool);

pub(super) struct Driver {
    pub(super) queue: u16,
    pub(super) size: u16,
    features: u64,
    pub(super) desc: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    /// Descriptors of the ring in use, by id of the chain.
    chains: BTreeMap<u16, Vec<u16>>,
    /// Free descriptors (split).
    free: Vec<u16>,
    /// Free buffer ids (packed).
    ids: Vec<u16>,
    free_slots: u16,
    /// Next available position, and the wrap counter (packed).
    avail: (u16, bool),
    used: (u16, bool),
    /// Available position at the last look at whether to notify.
    notified: u16,
}

impl Driver {
    /// Sets a queue up and enables it.
    pub(super) fn new(
        model: &mut dyn DeviceModel,
        guest: &mut Guest,
        queue: u16,
        size: u16,
        features: u64,
    ) -> Self {
        let len = usize::from(size);
        let desc = guest.alloc(16 * len);
        let driver = guest.alloc(6 + 2 * len);
        let device = guest.alloc(6 + 8 * len);
        write(model, guest, Common::QueueSelect, queue.into());
        write(model, guest, Common::QueueSize, size.into());
        write(model, guest, Common::QueueMsixVector, u64::from(queue) + 1);
        write(model, guest, Common::QueueDesc, desc);
        write(model, guest, Common::QueueDriver, driver);
        write(model, guest, Common::QueueDevice, device);
        write(model, guest, Common::QueueEnable, 1);
        Self {
            queue,
            size,
            features,
            desc,
            driver,
            device,
            chains: BTreeMap::new(),
            free: (0..size).rev().collect(),
            ids: (0..size).rev().collect(),
            free_slots: size,
            avail: (0, true),
            used: (0, true),
            notified: 0,
        }
    }

    fn packed(&self) -> bool {
        self.features & feature::RING_PACKED != 0
    }

    fn event_idx(&self) -> bool {
        self.features & feature::EVENT_IDX != 0
    }

    fn step((index, wrap): (u16, bool), size: u16) -> (u16, bool) {
        if index + 1 == size { (0, !wrap) } else { (index + 1, wrap) }
    }

    /// Makes a chain available, as descriptors of the ring or in a table. `None` if it is full.
    pub(super) fn add(
        &mut self,
        guest: &mut Guest,
        buffers: &[Buffer],
        indirect: bool,
    ) -> Option<u16> {
        let table;
        let buffers = if indirect {
            table =
                [(self.table(guest, buffers), u32::try_from(buffers.len()).unwrap() * 16, false)];
            &table[..]
        } else {
            buffers
        };
        if usize::from(self.free_slots) < buffers.len() {
            return None;
        }
        self.free_slots -= u16::try_from(buffers.len()).unwrap();
        let flag = if indirect { INDIRECT } else { 0 };
        Some(if self.packed() {
            self.add_packed(guest, buffers, flag)
        } else {
            self.add_split(guest, buffers, flag)
        })
    }

    fn table(&self, guest: &mut Guest, buffers: &[Buffer]) -> u64 {
        let table = guest.alloc(16 * buffers.len());
        for (n, (addr, len, write)) in (0_u16..).zip(buffers) {
            let write = if *write { WRITE } else { 0 };
            let last = usize::from(n) + 1 == buffers.len();
            let at = table + 16 * u64::from(n);
            guest.put(at, addr.to_le_bytes());
            guest.put(at + 8, len.to_le_bytes());
            let (flags, next) = if last { (write, 0) } else { (write | NEXT, n + 1) };
            let words = if self.packed() { [0, write] } else { [flags, next] };
            guest.put(at + 12, words);
        }
        table
    }

    fn add_split(&mut self, guest: &mut Guest, buffers: &[Buffer], flag: u16) -> u16 {
        let slots: Vec<_> = buffers.iter().map(|_| self.free.pop().unwrap()).collect();
        for (n, (addr, len, write)) in buffers.iter().enumerate() {
            let at = self.desc + 16 * u64::from(slots[n]);
            let next = slots.get(n + 1).copied();
            let write = if *write { WRITE } else { 0 };
            let flags = flag | write | if next.is_some() { NEXT } else { 0 };
            guest.put(at, addr.to_le_bytes());
            guest.put(at + 8, len.to_le_bytes());
            guest.put(at + 12, [flags, next.unwrap_or(0)]);
        }
        let head = slots[0];
        let slot = u64::from(self.avail.0 % self.size);
        guest.put(self.driver + 4 + 2 * slot, head);
        self.avail.0 = self.avail.0.wrapping_add(1);
        guest.put(self.driver + 2, self.avail.0);
        self.chains.insert(head, slots);
        head
    }

    fn add_packed(&mut self, guest: &mut Guest, buffers: &[Buffer], flag: u16) -> u16 {
        let id = self.ids.pop().unwrap();
        let head = self.avail;
        let mut head_flags = 0;
        for (n, (addr, len, write)) in buffers.iter().enumerate() {
            let at = self.desc + 16 * u64::from(self.avail.0);
            let last = n + 1 == buffers.len();
            let mut flags = flag | if *write { WRITE } else { 0 } | if last { 0 } else { NEXT };
            flags |= if self.avail.1 { AVAIL } else { USED };
            guest.put(at, addr.to_le_bytes());
            guest.put(at + 8, len.to_le_bytes());
            guest.put(at + 12, id);
            if n == 0 {
                head_flags = flags;
            } else {
                guest.put(at + 14, flags);
            }
            self.avail = Self::step(self.avail, self.size);
        }
        guest.put(self.desc + 16 * u64::from(head.0) + 14, head_flags);
        self.chains.insert(id, vec![0; buffers.len()]);
        id
    }

    /// Takes the next used chain: its id and length. Panics if the device made it up.
    pub(super) fn take(&mut self, guest: &mut Guest) -> Option<(u16, u32)> {
        let (id, len) =
            if self.packed() { self.take_packed(guest)? } else { self.take_split(guest)? };
        let slots = self.chains.remove(&id).expect("used a chain that was not available");
        self.free_slots += u16::try_from(slots.len()).unwrap();
        if self.packed() {
            self.ids.push(id);
            for _ in &slots {
                self.used = Self::step(self.used, self.size);
            }
        } else {
            self.used.0 = self.used.0.wrapping_add(1);
            self.free.extend(slots);
        }
        Some((id, len))
    }

    fn take_split(&mut self, guest: &mut Guest) -> Option<(u16, u32)> {
        if guest.u16(self.device + 2) == self.used.0 {
            return None;
        }
        let at = self.device + 4 + 8 * u64::from(self.used.0 % self.size);
        let id = u32::from_le_bytes(guest.get(at));
        Some((u16::try_from(id).unwrap(), u32::from_le_bytes(guest.get(at + 4))))
    }

    fn take_packed(&mut self, guest: &mut Guest) -> Option<(u16, u32)> {
        let at = self.desc + 16 * u64::from(self.used.0);
        let flags = guest.u16(at + 14);
        let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
        if avail != used || used != self.used.1 {
            return None;
        }
        Some((guest.u16(at + 12), u32::from_le_bytes(guest.get(at + 8))))
    }

    /// Whether the device asks to be notified of what was added since the last call.
    pub(super) fn must_notify(&mut self, guest: &mut Guest) -> bool {
        if self.packed() {
            return guest.u16(self.device + 2) != 1;
        }
        let (new, old) = (self.avail.0, std::mem::replace(&mut self.notified, self.avail.0));
        if self.event_idx() {
            let event = guest.u16(self.device + 4 + 8 * u64::from(self.size));
            return new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
        }
        guest.u16(self.device) & 1 == 0
    }

    pub(super) fn notify(&self, model: &mut dyn DeviceModel, guest: &mut Guest) {
        let at = NOTIFY_OFFSET + u64::from(self.queue) * u64::from(NOTIFY_MULTIPLIER);
        model.write(guest, BAR, at, &self.queue.to_le_bytes()).unwrap();
    }

    /// Asks for an interrupt at the next used chain, or for none.
    pub(super) fn want_interrupt(&self, guest: &mut Guest, want: bool) {
        match (self.packed(), self.event_idx()) {
            (true, true) if want => {
                let wrap = if self.used.1 { 0x8000 } else { 0 };
                guest.put(self.driver, [self.used.0 | wrap, 2]);
            }
            (true, _) => guest.put(self.driver + 2, u16::from(!want)),
            (false, true) => {
                // Without a way to say "none": an event half the range away.
                let event = if want { self.used.0 } else { self.used.0.wrapping_sub(0x8000) };
                guest.put(self.driver + 4 + 2 * u64::from(self.size), event);
            }
            (false, false) => guest.put(self.driver, u16::from(!want)),
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.chains.len()
    }
}
