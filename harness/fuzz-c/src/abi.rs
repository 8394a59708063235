//! What C calls.
#![expect(unsafe_code, reason = "C passes pointers; each use says why it holds")]

use std::ffi::{CStr, c_char, c_int, c_void};

use understudy_client::{Activity, DmaBuffer, Interrupts, Platform};
use understudy_device::{DeviceModel, Nanos};
use understudy_fuzzing::{Call, Executor, FuzzPlatform, Outcome, Program, Target, targets};

use crate::supervisor;

/// `us_call`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CCall {
    what: u8,
    how_much: u16,
}

/// `us_driver`.
pub type CDriver = unsafe extern "C" fn(*mut FuzzPlatform, *const CCall, usize) -> c_int;

const FAILED: c_int = -1;

/// A driver in C as a target.
pub(crate) struct CTarget {
    pub(crate) device: String,
    driver: CDriver,
}

impl Target for CTarget {
    fn name(&self) -> &str {
        &self.device
    }

    fn model(&self) -> Result<Box<dyn DeviceModel>, String> {
        let target = targets::find(&self.device).ok_or("no such device")?;
        target.model()
    }

    fn drive(&self, device: &mut FuzzPlatform, calls: &[Call]) -> Result<(), String> {
        device.for_foreign_code();
        let calls: Vec<CCall> =
            calls.iter().map(|call| CCall { what: call.0, how_much: call.1 }).collect();
        // SAFETY: the function is what the caller of `us_run` or `us_main` passed as a driver; the
        // pointers are valid, and not used by anything else, for the time of the call.
        let code = unsafe { (self.driver)(device, calls.as_ptr(), calls.len()) };
        if code == 0 { Ok(()) } else { Err(format!("error {code}")) }
    }

    fn must_free(&self) -> bool {
        true
    }
}

/// The device behind a pointer of C.
///
/// # Safety
/// `device` is what the driver was given, and its function has not returned yet.
unsafe fn platform<'a>(device: *mut FuzzPlatform) -> Option<&'a mut FuzzPlatform> {
    // SAFETY: as promised; drivers have one thread, so nothing else uses it.
    unsafe { device.as_mut() }
}

/// Runs an access with the bytes at `data`.
///
/// # Safety
/// As [`platform`]; `data` points to `len` bytes.
unsafe fn read(
    device: *mut FuzzPlatform,
    data: *mut c_void,
    len: usize,
    access: impl FnOnce(&mut FuzzPlatform, &mut [u8]) -> bool,
) -> c_int {
    // SAFETY: as promised.
    let Some(device) = (unsafe { platform(device) }) else { return FAILED };
    let mut bytes = [0xff; 8];
    let Some(bytes) = bytes.get_mut(..len).filter(|_| !data.is_null()) else { return FAILED };
    let done = access(device, bytes);
    // SAFETY: `data` points to `len` bytes of the driver's own.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast(), len) };
    if done { 0 } else { FAILED }
}

/// As [`read`], the other way.
///
/// # Safety
/// As [`platform`]; `data` points to `len` bytes.
unsafe fn write(
    device: *mut FuzzPlatform,
    data: *const c_void,
    len: usize,
    access: impl FnOnce(&mut FuzzPlatform, &[u8]) -> bool,
) -> c_int {
    // SAFETY: as promised.
    let Some(device) = (unsafe { platform(device) }) else { return FAILED };
    let mut bytes = [0; 8];
    let Some(bytes) = bytes.get_mut(..len).filter(|_| !data.is_null()) else { return FAILED };
    // SAFETY: `data` points to `len` bytes of the driver's own.
    unsafe { std::ptr::copy_nonoverlapping(data.cast(), bytes.as_mut_ptr(), len) };
    if access(device, bytes) { 0 } else { FAILED }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_config_read(
    device: *mut FuzzPlatform,
    offset: u64,
    into: *mut c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller's promise is the same.
    unsafe { read(device, into, len, |device, bytes| device.config_read(offset, bytes).is_ok()) }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_config_write(
    device: *mut FuzzPlatform,
    offset: u64,
    from: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller's promise is the same.
    unsafe { write(device, from, len, |device, bytes| device.config_write(offset, bytes).is_ok()) }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_bar_read(
    device: *mut FuzzPlatform,
    bar: u8,
    offset: u64,
    into: *mut c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller's promise is the same.
    unsafe { read(device, into, len, |device, bytes| device.bar_read(bar, offset, bytes).is_ok()) }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_bar_write(
    device: *mut FuzzPlatform,
    bar: u8,
    offset: u64,
    from: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller's promise is the same.
    unsafe {
        write(device, from, len, |device, bytes| device.bar_write(bar, offset, bytes).is_ok())
    }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_dma_alloc(
    device: *mut FuzzPlatform,
    len: usize,
    align: usize,
    iova: *mut u64,
) -> *mut c_void {
    // SAFETY: the caller's promise is the same.
    let Some(device) = (unsafe { platform(device) }) else { return std::ptr::null_mut() };
    let Ok(buffer) = device.dma_alloc(len, align) else { return std::ptr::null_mut() };
    let (memory, base) = device.memory();
    let offset = usize::try_from(buffer.iova.wrapping_sub(base)).unwrap_or(0);
    if !iova.is_null() {
        // SAFETY: not null, so it points to a number of the driver's.
        unsafe { iova.write(buffer.iova) };
    }
    memory.wrapping_add(offset).cast()
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_dma_free(device: *mut FuzzPlatform, memory: *mut c_void) {
    // SAFETY: the caller's promise is the same.
    let Some(device) = (unsafe { platform(device) }) else { return };
    if memory.is_null() {
        return;
    }
    let (start, base) = device.memory();
    let offset = (memory.addr()).wrapping_sub(start.addr());
    device.dma_free(DmaBuffer { iova: base.wrapping_add(offset as u64), len: 0 });
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_wait(device: *mut FuzzPlatform, nanos: u64) -> c_int {
    // SAFETY: the caller's promise is the same.
    let Some(device) = (unsafe { platform(device) }) else { return FAILED };
    let deadline = device.now().plus(nanos);
    match device.idle(deadline) {
        Ok(Activity::Active) => 1,
        Ok(Activity::Quiet) => 0,
        Err(_) => FAILED,
    }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_connect_msix(device: *mut FuzzPlatform, vectors: u16) -> c_int {
    // SAFETY: the caller's promise is the same.
    let Some(device) = (unsafe { platform(device) }) else { return FAILED };
    let kind = if vectors == 0 { Interrupts::None } else { Interrupts::Msix(vectors) };
    if device.connect_interrupts(kind).is_ok() { 0 } else { FAILED }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_wait_interrupt(
    device: *mut FuzzPlatform,
    vector: u16,
    nanos: u64,
) -> c_int {
    // SAFETY: the caller's promise is the same.
    let Some(device) = (unsafe { platform(device) }) else { return FAILED };
    let deadline = device.now().plus(nanos);
    device.wait_interrupt(vector, deadline).map_or(FAILED, c_int::from)
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_now(device: *mut FuzzPlatform) -> u64 {
    // SAFETY: the caller's promise is the same.
    let Nanos(now) = unsafe { platform(device) }.map_or(Nanos(0), |device| device.now());
    now
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_wrong(device: *mut FuzzPlatform, clause: *const c_char) {
    // SAFETY: the caller's promises are the same.
    let (device, clause) = unsafe { (platform(device), text(clause)) };
    if let Some(device) = device {
        device.wrong(&clause, "");
    }
}

/// A string of C's.
///
/// # Safety
/// `text` is null or ends in a NUL.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as promised.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_run(
    device: *const c_char,
    input: *const u8,
    len: usize,
    driver: CDriver,
) -> c_int {
    // SAFETY: the caller's promises are the same.
    let device = unsafe { text(device) };
    let input = if input.is_null() || len == 0 {
        &[]
    } else {
        // SAFETY: not null, so it points to `len` bytes, which nobody changes during the call.
        unsafe { std::slice::from_raw_parts(input, len) }
    };
    let target = CTarget { device, driver };
    let outcome =
        Executor::new(&target).and_then(|mut executor| executor.run(&Program::from_bytes(input)));
    match outcome {
        Ok(Outcome::Defect(defect)) => {
            eprintln!("understudy: {defect}");
            std::process::abort()
        }
        Ok(_) => 0,
        Err(error) => {
            eprintln!("understudy: {error}: {}: virtio-crypto or qat", target.device);
            std::process::exit(2)
        }
    }
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_mutate(data: *mut u8, len: usize, room: usize, seed: u32) -> usize {
    if data.is_null() || len > room {
        return 0;
    }
    // SAFETY: not null, so it points to `room` bytes, of which `len` have been written, and which
    // nobody else uses during the call.
    let bytes = unsafe {
        data.add(len).write_bytes(0, room - len);
        std::slice::from_raw_parts_mut(data, room)
    };
    understudy_fuzzing::mutate_bytes(bytes, len, seed)
}

/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn us_main(
    argc: c_int,
    argv: *const *const c_char,
    device: *const c_char,
    driver: CDriver,
) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: `argv` holds `argc` strings, as `main` got them.
    let arguments = (0..count).map(|index| unsafe { text(*argv.add(index)) }).collect();
    // SAFETY: the caller's promise is the same.
    let device = unsafe { text(device) };
    c_int::from(supervisor::main(arguments, &CTarget { device, driver }))
}
