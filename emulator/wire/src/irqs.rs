//! DEVICE_SET_IRQS ("VFIO_USER_DEVICE_SET_IRQS"; `struct vfio_irq_set` in `<linux/vfio.h>`).

use crate::device::IrqIndex;
use crate::error::{Problem, WireError};
use crate::header::Command;
use crate::layout::{self, Payload, set_irqs};

const DATA_NONE: u32 = 1 << 0;
const DATA_BOOL: u32 = 1 << 1;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_MASK: u32 = 1 << 3;
const ACTION_UNMASK: u32 = 1 << 4;
const ACTION_TRIGGER: u32 = 1 << 5;
const DATA: u32 = DATA_NONE | DATA_BOOL | DATA_EVENTFD;
const ACTION: u32 = ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER;

/// What is to happen, or with eventfds, what is to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IrqAction {
    /// Mask.
    Mask,
    /// Unmask.
    Unmask,
    /// Raise; with eventfds, where the device's interrupts go.
    Trigger,
}

/// What comes with the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IrqData<'a> {
    /// Nothing: the action applies to the whole range. A count of 0 with [`IrqAction::Trigger`]
    /// disables every interrupt of the index.
    None,
    /// One byte for each interrupt: the action applies where it is not 0.
    Bool(&'a [u8]),
    /// One descriptor for each interrupt beside the message, or none at all, which takes the
    /// range's eventfds away.
    Eventfd,
}

/// DEVICE_SET_IRQS request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetIrqs<'a> {
    /// Interrupt type.
    pub index: IrqIndex,
    /// First interrupt of the range.
    pub start: u32,
    /// Number of interrupts; `start + count` does not overflow.
    pub count: u32,
    /// What is to happen.
    pub action: IrqAction,
    /// What comes with it.
    pub data: IrqData<'a>,
}

impl<'a> SetIrqs<'a> {
    /// Disables every interrupt of a type.
    pub fn disable(index: IrqIndex) -> Self {
        Self { index, start: 0, count: 0, action: IrqAction::Trigger, data: IrqData::None }
    }

    /// Whether this disables every interrupt of the type.
    pub fn is_disable_all(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let payload = Payload::new(Command::DEVICE_SET_IRQS, bytes, &set_irqs::COUNT)?;
        let argsz = payload.argsz(&set_irqs::ARGSZ, set_irqs::COUNT.end())?;
        let flags = payload.u32(&set_irqs::FLAGS)?;
        let set = Self {
            index: IrqIndex(payload.u32(&set_irqs::INDEX)?),
            start: payload.u32(&set_irqs::START)?,
            count: payload.u32(&set_irqs::COUNT)?,
            action: action(&payload, flags)?,
            data: data(&payload, flags)?,
        };
        set.check_lengths(&payload, argsz)?;
        set.check_counts(&payload)?;
        Ok(set)
    }

    /// The data are as long as the count says, and `argsz` covers them.
    fn check_lengths(&self, payload: &Payload<'_>, argsz: u32) -> Result<(), WireError> {
        let count = u64::from(self.count);
        let expected = if let IrqData::Bool(_) = self.data { count } else { 0 };
        payload.exactly(&set_irqs::COUNT, expected, &set_irqs::COUNT, count)?;
        let min = set_irqs::COUNT.end() as u64 + expected;
        if u64::from(argsz) < min {
            let problem = Problem::TooSmall { value: argsz.into(), min };
            return Err(payload.reject(&set_irqs::ARGSZ, problem));
        }
        Ok(())
    }

    /// The range does not wrap; an empty one is only good for disabling.
    fn check_counts(&self, payload: &Payload<'_>) -> Result<(), WireError> {
        if self.start.checked_add(self.count).is_none() {
            let rule = "the range wraps around";
            return Err(payload.forbid(&set_irqs::COUNT, self.count.into(), rule));
        }
        if self.count != 0 {
            return Ok(());
        }
        if self.start != 0 {
            let rule = "start must be 0 if count is 0";
            return Err(payload.forbid(&set_irqs::START, self.start.into(), rule));
        }
        if self.action != IrqAction::Trigger || self.data != IrqData::None {
            let rule = "a count of 0 needs the trigger action without data";
            return Err(payload.forbid(&set_irqs::COUNT, 0, rule));
        }
        Ok(())
    }

    /// Checks the range against the device: `available` is how many interrupts the index has.
    ///
    /// # Errors
    /// EINVAL if the range is not within them, or if the action is not one the index can have
    /// (errors and requests can only be triggered).
    pub fn check_range(&self, available: u32) -> Result<(), WireError> {
        let payload = Payload { command: Command::DEVICE_SET_IRQS, bytes: &[] };
        if self.start >= available {
            let problem = Problem::Mismatch {
                value: self.start.into(),
                expected: available.into(),
                what: "interrupts of this type exist",
            };
            return Err(payload.reject(&set_irqs::START, problem));
        }
        if self.count > available - self.start {
            let max = u64::from(available - self.start);
            let problem = Problem::TooBig { value: self.count.into(), max };
            return Err(payload.reject(&set_irqs::COUNT, problem));
        }
        let only_trigger = matches!(self.index, IrqIndex::ERR | IrqIndex::REQ);
        if only_trigger && self.action != IrqAction::Trigger {
            let rule = "error and request interrupts cannot be masked";
            return Err(payload.forbid(&set_irqs::FLAGS, self.flags().into(), rule));
        }
        Ok(())
    }

    /// Checks the number of descriptors that came with the message.
    pub(crate) fn check_fds(&self, count: usize) -> Result<(), WireError> {
        let payload = Payload { command: Command::DEVICE_SET_IRQS, bytes: &[] };
        let count = count as u64;
        if count == 0 {
            return Ok(());
        }
        if self.data != IrqData::Eventfd {
            let rule = "descriptors need the eventfd data type";
            return Err(payload.forbid(&set_irqs::FLAGS, self.flags().into(), rule));
        }
        if count != u64::from(self.count) {
            let what = "descriptors came with the message";
            let problem = Problem::Mismatch { value: self.count.into(), expected: count, what };
            return Err(payload.reject(&set_irqs::COUNT, problem));
        }
        Ok(())
    }

    /// The flags word: one data bit and one action bit.
    pub fn flags(&self) -> u32 {
        let data = match self.data {
            IrqData::None => DATA_NONE,
            IrqData::Bool(_) => DATA_BOOL,
            IrqData::Eventfd => DATA_EVENTFD,
        };
        let action = match self.action {
            IrqAction::Mask => ACTION_MASK,
            IrqAction::Unmask => ACTION_UNMASK,
            IrqAction::Trigger => ACTION_TRIGGER,
        };
        data | action
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let data = if let IrqData::Bool(data) = self.data { data } else { &[] };
        let values = [
            (&set_irqs::ARGSZ, (set_irqs::COUNT.end() + data.len()) as u64),
            (&set_irqs::FLAGS, self.flags().into()),
            (&set_irqs::INDEX, self.index.0.into()),
            (&set_irqs::START, self.start.into()),
            (&set_irqs::COUNT, self.count.into()),
        ];
        layout::put(out, &set_irqs::COUNT, &values);
        out.extend_from_slice(data);
    }
}

fn action(payload: &Payload<'_>, flags: u32) -> Result<IrqAction, WireError> {
    match flags & !DATA {
        ACTION_MASK => Ok(IrqAction::Mask),
        ACTION_UNMASK => Ok(IrqAction::Unmask),
        ACTION_TRIGGER => Ok(IrqAction::Trigger),
        _ => {
            let rule = "exactly one of mask, unmask and trigger (bits 3 to 5) must be set";
            Err(payload.forbid(&set_irqs::FLAGS, flags.into(), rule))
        }
    }
}

fn data<'a>(payload: &Payload<'a>, flags: u32) -> Result<IrqData<'a>, WireError> {
    match flags & !ACTION {
        DATA_NONE => Ok(IrqData::None),
        DATA_BOOL => Ok(IrqData::Bool(payload.tail(&set_irqs::COUNT))),
        DATA_EVENTFD => Ok(IrqData::Eventfd),
        _ => {
            let rule = "exactly one of none, bool and eventfd (bits 0 to 2) must be set";
            Err(payload.forbid(&set_irqs::FLAGS, flags.into(), rule))
        }
    }
}
