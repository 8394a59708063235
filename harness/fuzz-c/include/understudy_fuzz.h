/* Fuzzing drivers in C against Understudy's device models.
 *
 * A driver is one function, us_drive. It finds the device, does what it is asked, lets the device
 * go, and gives all DMA memory back. It reaches the device through the calls below and nothing
 * else; the device behind them follows a fuzz input. A driver that returns an error has done well:
 * devices may be broken. A driver is wrong if it crashes, does not end, touches DMA memory that is
 * not its own, or says so itself (us_wrong).
 *
 * With libFuzzer (clang -fsanitize=fuzzer,address):
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
 *     {
 *         return us_run("virtio-crypto", data, size, us_drive);
 *     }
 *
 *     size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed)
 *     {
 *         return us_mutate(data, size, room, seed);
 *     }
 *
 * With our own engine (any compiler):
 *
 *     int main(int argc, char **argv)
 *     {
 *         return us_main(argc, argv, "virtio-crypto", us_drive);
 *     }
 *
 * Calls return 0, or a negative number if the access failed: as on a bus, at any time. Buffers that
 * are passed in are not kept. One thread. All numbers in memory are as the device has them,
 * little-endian.
 */
#ifndef UNDERSTUDY_FUZZ_H
#define UNDERSTUDY_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. */
#define US_VERSION 1

/* A PCI function, seen from its driver. */
typedef struct us_device us_device;

/* Something that the driver is asked to do. The numbers mean what the driver wants them to. */
typedef struct us_call {
    uint8_t what;
    uint16_t how_much;
} us_call;

/* A driver. The return value is for people. */
typedef int (*us_driver)(us_device *device, const us_call *calls, size_t count);

/* Yours. */
int us_drive(us_device *device, const us_call *calls, size_t count);

/* Config space and BARs: 1, 2, 4 or 8 bytes. */
int us_config_read(us_device *device, uint64_t offset, void *into, size_t len);
int us_config_write(us_device *device, uint64_t offset, const void *from, size_t len);
int us_bar_read(us_device *device, uint8_t bar, uint64_t offset, void *into, size_t len);
int us_bar_write(us_device *device, uint8_t bar, uint64_t offset, const void *from, size_t len);

/* Zeroed memory that the device can reach at *iova; align is a power of two. NULL if none is left.
 * Bytes before and after it must stay as they are. */
void *us_dma_alloc(us_device *device, size_t len, size_t align, uint64_t *iova);
void us_dma_free(us_device *device, void *memory);

/* Lets the device work for up to so many nanoseconds of its own time. 1: it may do more; 0: it is
 * idle and stays so until the driver acts; negative: the driver has waited too often. */
int us_wait(us_device *device, uint64_t nanos);

/* Receives so many MSI-X vectors; 0 for none. The driver has set MSI-X up in the function. */
int us_connect_msix(us_device *device, uint16_t vectors);

/* Takes one interrupt of a vector, or waits. 1: it came; 0: it did not; negative: as us_wait. */
int us_wait_interrupt(us_device *device, uint16_t vector, uint64_t nanos);

/* The device's clock, in nanoseconds. It passes with accesses and waits. */
uint64_t us_now(us_device *device);

/* The driver is wrong by its own account: what must not be. The same text for the same mistake. */
void us_wrong(us_device *device, const char *clause);

/* Runs a driver once on a fresh device ("virtio-crypto", "qat"). If the driver is wrong, says why
 * and aborts: as fuzzing engines want it. Any input will do. Returns 0. */
int us_run(const char *device, const uint8_t *input, size_t len, us_driver driver);

/* Changes an input so that it stays an input (a program, as JSON), for libFuzzer and others: in
 * place, from len bytes to at most room. Returns how many there are now. An empty input, or one of
 * any bytes, becomes a new one. */
size_t us_mutate(uint8_t *data, size_t len, size_t room, uint32_t seed);

/* Our own engine: `fuzz [--seed N] [--runs N] [--time SECONDS] [--out DIR]`, `replay FILE`.
 * Returns the process' exit code: 0, 1 if there is a finding, 2 for a wrong command line. */
int us_main(int argc, char **argv, const char *device, us_driver driver);

#ifdef __cplusplus
}
#endif

#endif
