//! Ring pairs: sizes, order, wrap, limits, and what goes wrong alone.

use understudy_client::DriverError;
use understudy_client::platform::{DmaBuffer, Platform};
use understudy_client::qat::ring;

use super::{
    COMPRESSION, PAIRS, PUBLIC_KEY, Qat, RINGS, SYMMETRIC, bare, null, settle, started, until,
    works,
};
use crate::verdict::{expect, expect_bytes, expect_eq, expect_hex};
use crate::{Check, Context, Outcome, Stop};

crate::checks::group!("qat/rings":
    [1, "A request comes back with its opaque value, on every pair that Linux uses", "Linux adf_transport.c, adf_send_message, adf_handle_response; icp_qat_fw.h, icp_qat_fw_comn_resp", opaque],
    [2, "Rings have any power of two of bytes from 128 to 4 MiB", "Linux adf_transport_access_macros.h, ADF_RING_SIZE_128, ADF_RING_SIZE_4M", sizes],
    [3, "Requests and responses go round their rings again and again", "Linux adf_transport.c, adf_modulo", wrap],
    [4, "One doorbell may announce many requests", "DPDK qat_qp.c, qat_enqueue_op_burst", batch],
    [5, "A ring takes all requests but one that fit", "Linux adf_transport.c, adf_send_message (max_inflights)", full],
    [6, "Responses come in the order of requests, whatever each takes", "DPDK qat_qp.c, qat_dequeue_op_burst (sw ring order)", order],
    [7, "The head of a request ring and the tail of a response ring follow the work", "Linux adf_transport_debug.c, adf_ring_show (head, tail)", pointers],
    [8, "E_STAT has a bit clear for each ring that holds messages", "Linux adf_transport.c, adf_ring_response_handler (read_csr_e_stat)", empty_status],
    [9, "A pair that the arbiter does not serve waits, and is served when it does", "Linux adf_hw_arbiter.c, adf_update_ring_arb; DPDK qat_qp.c, adf_configure_queues", arbiter],
    [10, "No more is taken than there is room for responses, and nothing is overwritten", "Linux adf_transport.c, ADF_MAX_INFLIGHTS (one slot stays empty)", no_room],
    [11, "A response is 32 bytes in a slot that was marked empty, and no other slot changes", "Linux adf_transport_access_macros.h, ADF_RING_EMPTY_SIG; icp_qat_fw.h, ICP_QAT_FW_RESP_DEFAULT_SZ", slots],
    [12, "Every response differs from the empty mark in its first word", "Linux adf_transport.c, adf_handle_response; DPDK qat_qp.c, ADF_RING_EMPTY_SIG", never_empty],
    [13, "A pair that is set up anew has nothing left of its former life", "Linux adf_transport.c, adf_remove_ring, adf_init_ring", set_up_anew],
    [14, "Pairs work at the same time", "Linux adf_cfg_strings.h, ADF_RING_SYM_TX, ADF_RING_DC_TX (rings of one bank)", together],
    [15, "A ring in memory out of reach stops alone, and works once it is set up anew", "Linux adf_transport.c, adf_init_ring (bases); PCI 3.0 §6.2.4", out_of_reach],
    [16, "Pointers beyond a ring do no harm to others", "Linux adf_transport.c, adf_modulo (offsets are below the size)", pointers_beyond],
    [17, "Rings lie at any address of 64 bits", "Linux adf_gen2_hw_csr_data.h, WRITE_CSR_RING_BASE", high_addresses],
    [18, "After a reset of the function, rings are set up and work again", "Linux adf_aer.c, adf_dev_restore; PCI Express 4.0 §6.6.2", after_reset],
    [19, "Requests work by DMA messages too, without shared memory", "vfio-user, VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE", by_messages],
    [20, "A null response that is said to tell the firmware's version does, and no other is", "DPDK icp_qat_fw.h, ICP_QAT_FW_COMN_NULL_VERSION_FLAG; qat_qp.c, qat_cq_get_fw_version", version],
);

fn len_of(pair: u16) -> usize {
    if pair < 2 { 64 } else { 128 }
}

fn opaque(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (pair, len) in PAIRS {
        for value in [0, 1, u64::MAX, 0x7f7f_7f7f_7f7f_7f7f, 0x0123_4567_89ab_cdef] {
            let response = driver.run(pair, &null(value, len))?;
            expect_hex(&format!("the opaque value on pair {pair}"), response.opaque(), value)?;
            super::well_formed(&response)?;
        }
    }
    Ok(())
}

fn version(ctx: &mut Context<'_>) -> Outcome {
    const TOLD: u8 = 1;
    let mut driver = started(ctx)?;
    let response = driver.run(SYMMETRIC, &null(1, 128))?;
    if response.flags() & TOLD == 0 {
        return Err(Stop::skip("the part does not tell its firmware's version"));
    }
    let version = response.word(16);
    expect(version != 0, "a version other than 0", || version.to_string())?;
    let mut other = null(2, 128);
    // A service that there is not: an answer, but to no null request.
    if let Some(service) = other.get_mut(2) {
        *service = 0x7e;
    }
    let flags = driver.run(SYMMETRIC, &other)?.flags();
    expect_hex("the version flag of another response", flags & TOLD, 0)
}

fn sizes(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    // The response ring is as long in slots; both have 128 bytes at least.
    for slots in [4, 8, 64, 1024, 32768] {
        driver.open(SYMMETRIC, slots, 128)?;
        for _ in 0..6 {
            let what = format!("{slots} slots");
            works(&mut driver, SYMMETRIC).map_err(|stop| stop.during(&what))?;
        }
        driver.close(SYMMETRIC)?;
    }
    driver.open(PUBLIC_KEY, 65536, 64)?;
    works(&mut driver, PUBLIC_KEY)
}

fn wrap(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    for (pair, len) in PAIRS {
        driver.open(pair, 4, len)?;
        for round in 0..50 {
            let what = format!("pair {pair}, round {round}");
            works(&mut driver, pair).map_err(|stop| stop.during(&what))?;
        }
    }
    Ok(())
}

/// Takes responses in order; their opaque values must be these.
fn take(driver: &mut Qat, pair: u16, wanted: impl IntoIterator<Item = u64>) -> Outcome {
    for value in wanted {
        let found = driver.wait(pair)?.opaque();
        expect_hex("the next opaque value", found, value)?;
    }
    Ok(())
}

fn batch(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for (pair, len) in PAIRS {
        // Past the end of the ring in the second round.
        for _ in 0..3 {
            let requests: Vec<_> = (0..40).map(|value| null(value, len)).collect();
            driver.submit_burst(pair, requests.iter().map(Vec::as_slice))?;
            let mut values = Vec::new();
            driver.wait_burst(pair, 40, |response| values.push(response.opaque()))?;
            expect_eq("opaque values", &values, &(0..40).collect())?;
        }
    }
    Ok(())
}

fn full(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    driver.open(SYMMETRIC, 16, 128)?;
    for _ in 0..4 {
        for value in 0..15 {
            driver.submit(SYMMETRIC, &null(value, 128))?;
        }
        take(&mut driver, SYMMETRIC, 0..15)?;
    }
    Ok(())
}

fn order(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let data = super::pattern(30_000, 0);
    let source = driver.platform.dma_alloc(30_000, 64)?;
    let target = driver.platform.dma_alloc(40_000, 64)?;
    driver.platform.dma_write(source.iova, &data)?;
    for value in 0..48 {
        let long = super::compression::flat(value, source, target);
        let message = if value % 3 == 0 { long } else { null(value, 128) };
        driver.submit(COMPRESSION, &message)?;
    }
    take(&mut driver, COMPRESSION, 0..48)
}

fn pointers(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    driver.open(SYMMETRIC, 8, 128)?;
    for round in 1..20_u32 {
        works(&mut driver, SYMMETRIC)?;
        let head = driver.read(RINGS, ring::HEAD + 8)?;
        expect_hex("the head of the request ring", head, round % 8 * 128)?;
        let tail = driver.read(RINGS, ring::TAIL + 40)?;
        expect_hex("the tail of the response ring", tail, round % 8 * 32)?;
    }
    Ok(())
}

fn empty_status(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let status = |driver: &mut Qat| Ok::<u32, Stop>(driver.read(RINGS, ring::E_STAT)? & 0xffff);
    expect_hex("E_STAT", status(&mut driver)?, 0xffff)?;
    driver.write(RINGS, ring::ARBITER, 0)?;
    driver.submit(SYMMETRIC, &null(1, 128))?;
    expect_hex("E_STAT with a request", status(&mut driver)?, 0xffff & !(1 << 2))?;
    driver.write(RINGS, ring::ARBITER, 1 << 2)?;
    until(ctx, &mut driver, "a response", |driver| Ok(status(driver)? & 1 << 10 == 0))?;
    expect_hex("E_STAT with a response", status(&mut driver)?, 0xffff & !(1 << 10))?;
    driver.wait(SYMMETRIC)?;
    expect_hex("E_STAT with nothing", status(&mut driver)?, 0xffff)
}

fn arbiter(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    driver.write(RINGS, ring::ARBITER, 1 << COMPRESSION)?;
    driver.submit(SYMMETRIC, &null(7, 128))?;
    works(&mut driver, COMPRESSION)?;
    settle(&mut driver)?;
    let early = driver.take(SYMMETRIC)?;
    expect(early.is_none(), "no response from a pair that is not served", || "one".into())?;
    driver.write(RINGS, ring::ARBITER, 1 << COMPRESSION | 1 << SYMMETRIC)?;
    take(&mut driver, SYMMETRIC, [7])
}

/// A pair whose response ring has four slots, while its driver puts in more requests.
fn no_room(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    driver.open(SYMMETRIC, 32, 128)?;
    let config = ring::CONFIG + 4 * 10;
    driver.write(RINGS, config, 1)?;
    for value in 0..20 {
        driver.submit(SYMMETRIC, &null(value, 128))?;
    }
    settle(&mut driver)?;
    let head = driver.read(RINGS, ring::HEAD + 8)?;
    expect(head <= 4 * 128, "at most 4 requests taken", || format!("{}", head / 128))?;
    let mut seen = Vec::new();
    let base = u64::from(driver.read(RINGS, ring::LOW_BASE + 40)?)
        | u64::from(driver.read(RINGS, ring::HIGH_BASE + 40)?) << 32;
    while seen.len() < 20 {
        let at = (seen.len() % 4) as u64 * 32;
        let mut slot = [0; 32];
        until(ctx, &mut driver, "the next response", |driver| {
            driver.platform.dma_read((base << 6) + at, &mut slot)?;
            let there = slot[..4] != [0x7f; 4];
            if !there {
                driver.read(RINGS, ring::E_STAT)?;
            }
            Ok(there)
        })?;
        driver.platform.dma_read((base << 6) + at, &mut slot)?;
        driver.platform.dma_write((base << 6) + at, &[0x7f; 32])?;
        seen.push(u64::from(slot[8]));
        let head = u32::try_from(seen.len() % 4 * 32).unwrap_or(0);
        driver.write(RINGS, ring::HEAD + 40, head)?;
    }
    expect_eq("opaque values", &seen, &(0..20).collect())
}

fn slots(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    driver.open(SYMMETRIC, 16, 128)?;
    let base = u64::from(driver.read(RINGS, ring::LOW_BASE + 40)?)
        | u64::from(driver.read(RINGS, ring::HIGH_BASE + 40)?) << 32;
    for taken in 0..16_usize {
        driver.submit(SYMMETRIC, &null(5, 128))?;
        until(ctx, &mut driver, "a response", |driver| {
            Ok(driver.read(RINGS, ring::E_STAT)? & 1 << 10 == 0)
        })?;
        let mut all = [0; 16 * 32];
        driver.platform.dma_read(base << 6, &mut all)?;
        for (slot, bytes) in all.chunks(32).enumerate().filter(|(slot, _)| *slot != taken) {
            expect_bytes(&format!("slot {slot}"), bytes, &[0x7f; 32])?;
        }
        let response = driver.wait(SYMMETRIC)?;
        let marks = response.bytes.chunks(4).filter(|word| *word == [0x7f; 4]).count();
        expect(marks == 0, "all of the slot written", || format!("{marks} words as before"))?;
    }
    Ok(())
}

fn never_empty(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    // Whatever a request has where its response's first word is.
    for (pair, len) in PAIRS {
        let mut message = null(3, len);
        message[..3].fill(0x7f);
        let what = format!("a response on pair {pair} to an unknown service");
        driver.run(pair, &message).map_err(|error| Stop::from(error).during(&what))?;
    }
    Ok(())
}

/// Memory that requests of compression use.
struct Work {
    source: DmaBuffer,
    target: DmaBuffer,
}

impl Work {
    fn new(driver: &mut Qat) -> Result<Self, Stop> {
        let source = driver.platform.dma_alloc(30_000, 64)?;
        let target = driver.platform.dma_alloc(40_000, 64)?;
        driver.platform.dma_write(source.iova, &super::pattern(30_000, 0))?;
        Ok(Self { source, target })
    }

    /// Submits eight requests to a pair. On that of compression, two of them take long.
    fn submit(&self, driver: &mut Qat, pair: u16) -> Outcome {
        for value in 100..108 {
            let long = super::compression::flat(value, self.source, self.target);
            let is_long = pair == COMPRESSION && value % 4 == 0;
            let message = if is_long { long } else { null(value, len_of(pair)) };
            driver.submit(pair, &message)?;
        }
        Ok(())
    }

    /// Has the driver use the target for something else.
    fn reuse(&self, driver: &mut Qat) -> Outcome {
        Ok(driver.platform.dma_write(self.target.iova, &[0xee; 40_000])?)
    }

    /// Nothing wrote to the target since then.
    fn is_untouched(&self, driver: &mut Qat) -> Outcome {
        let mut found = vec![0; 40_000];
        driver.platform.dma_read(self.target.iova, &mut found)?;
        expect_bytes("memory that was given to the requests before", &found, &[0xee; 40_000])
    }
}

fn set_up_anew(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let work = Work::new(&mut driver)?;
    for _ in 0..20 {
        for (pair, len) in PAIRS {
            work.submit(&mut driver, pair)?;
            driver.close(pair)?;
            // Once this is answered, nothing of the ring's former life is still on its way.
            driver.read(RINGS, ring::E_STAT)?;
            work.reuse(&mut driver)?;
            driver.open(pair, 64, len)?;
            let response = driver.run(pair, &null(1, len))?;
            expect_hex("the opaque value", response.opaque(), 1)?;
            settle(&mut driver)?;
            let more = driver.take(pair);
            let none = matches!(more, Ok(None));
            expect(none, "no response from before", || format!("{more:?}"))?;
            work.is_untouched(&mut driver)?;
        }
    }
    Ok(())
}

fn together(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    let pairs = [0, 1, 2, 3, 6, 7];
    for pair in pairs {
        driver.open(pair, 64, len_of(pair))?;
    }
    for value in 0..40 {
        for pair in pairs {
            driver.submit(pair, &null(value, len_of(pair)))?;
        }
    }
    pairs.into_iter().try_for_each(|pair| take(&mut driver, pair, 0..40))
}

fn out_of_reach(ctx: &mut Context<'_>) -> Outcome {
    for index in [u64::from(SYMMETRIC), u64::from(SYMMETRIC) + 8] {
        let mut driver = started(ctx)?;
        driver.write(RINGS, ring::HIGH_BASE + 4 * index, 0x4000)?;
        driver.submit(SYMMETRIC, &null(1, 128))?;
        settle(&mut driver)?;
        works(&mut driver, COMPRESSION).map_err(|stop| {
            stop.during(&format!("another pair, with ring {index} out of reach"))
        })?;
        driver.close(SYMMETRIC)?;
        driver.open(SYMMETRIC, 64, 128)?;
        works(&mut driver, SYMMETRIC).map_err(|stop| stop.during("the pair, set up anew"))?;
    }
    Ok(())
}

fn pointers_beyond(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    for value in [0x2000, 0x0fff_ff80, 0xffff_ffff, 0x43] {
        driver.write(RINGS, ring::TAIL + 8, value)?;
        driver.write(RINGS, ring::HEAD + 40, value)?;
        settle(&mut driver)?;
        for pair in [PUBLIC_KEY, COMPRESSION] {
            works(&mut driver, pair).map_err(|stop| stop.during(&format!("tail {value:#x}")))?;
        }
    }
    driver.close(SYMMETRIC)?;
    driver.open(SYMMETRIC, 64, 128)?;
    works(&mut driver, SYMMETRIC)
}

fn high_addresses(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = bare(ctx, false)?;
    driver.open(SYMMETRIC, 16, 128)?;
    // This client's memory is above 4 GiB.
    let lower = driver.read(RINGS, ring::LOW_BASE + 8)?;
    let probe = driver.platform.dma_alloc(64, 64)?;
    expect(probe.iova >> 32 != 0, "memory above 4 GiB", || format!("{:#x}", probe.iova))?;
    works(&mut driver, SYMMETRIC)?;
    // The same lower bits elsewhere are another ring: nothing may be taken from this one.
    driver.write(RINGS, ring::HIGH_BASE + 8, 0x100)?;
    driver.write(RINGS, ring::LOW_BASE + 8, lower)?;
    driver.submit(SYMMETRIC, &null(1, 128))?;
    settle(&mut driver)?;
    match driver.take(SYMMETRIC) {
        Ok(None) | Err(DriverError::UnknownId { .. }) => Ok(()),
        Ok(Some(_)) => Err(Stop::fail("no response to what is not in the ring", "one")),
        Err(error) => Err(error.into()),
    }
}

fn after_reset(ctx: &mut Context<'_>) -> Outcome {
    let mut driver = started(ctx)?;
    let work = Work::new(&mut driver)?;
    for (pair, _) in PAIRS {
        work.submit(&mut driver, pair)?;
    }
    driver.platform.client().reset()?;
    work.reuse(&mut driver)?;
    let function = driver.function().clone();
    function.enable(&mut driver.platform)?;
    for (pair, len) in PAIRS {
        driver.close(pair)?;
        driver.open(pair, 64, len)?;
        works(&mut driver, pair)?;
    }
    work.is_untouched(&mut driver)
}

fn by_messages(ctx: &mut Context<'_>) -> Outcome {
    let timeout_nanos = u64::try_from(ctx.left().as_nanos()).unwrap_or(u64::MAX);
    let options = understudy_client::qat::Options { timeout_nanos, ..Default::default() };
    let mut driver = Qat::new(ctx.platform(false)?, options)?;
    for (pair, len) in PAIRS {
        driver.open(pair, 16, len)?;
        works(&mut driver, pair)?;
    }
    Ok(())
}
